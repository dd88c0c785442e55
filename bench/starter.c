/* SPDX-License-Identifier: MIT */
/*
 * starter.c - what bench/start measures with: processes that begin, and processes that fork.
 *
 *   starter nothing                   ends at once, without a block of its own
 *   starter sizes                     "RSS private RSS private" in KiB, before its first block and
 *                                     with one block of 16 B
 *   starter spawn ROUNDS LIBRARY...   starts "starter nothing" with each library preloaded in turn
 *                                     ("-": none); a line "INDEX NS" for each, from before
 *                                     posix_spawn until the child was waited for
 *   starter fork MIB THREADS FORKS    fills MIB of small blocks, forks; a line "NS NS" for each,
 *                                     until fork returned and until the child was waited for
 *
 * It is not the comparison: bench/start calls it under every allocator and does the statistics. The
 * forked child looks at old blocks, takes and frees new ones, and says by its status whether that
 * went well. Private is what smaps calls Private_Dirty: what this process alone has in memory and
 * wrote to; the rest of RSS is files, which other processes share.
 *
 * Threads of "fork" fill their share of the heap, sleep while the main thread forks, and are
 * joined. Nothing is shared but two barriers.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64u
#define MEAN_BLOCK_BYTES 150u /* of 16 to 512 B, each doubling equally likely */
#define LOOKED_AT 64u         /* old blocks in the child, and new ones */

extern char **environ;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static unsigned parse_number(const char *text, unsigned max) {
    char *end;
    unsigned long number = strtoul(text, &end, 10);

    if (end == text || *end || number < 1 || number > max)
        bs_bench_die("%s: give a number from 1 to %u", text, max);
    return (unsigned)number;
}

/* --- sizes ------------------------------------------------------------------------------------ */

static void read_sizes(uint64_t *rss_kib, uint64_t *private_kib) {
    static const char rollup[] = "/proc/self/smaps_rollup";
    *rss_kib = bs_bench_field_kib(rollup, "\nRss:");
    *private_kib = bs_bench_field_kib(rollup, "\nPrivate_Dirty:");
}

static void sizes(void) {
    uint64_t rss[2], own[2];

    read_sizes(&rss[0], &own[0]); /* once for the pages that reading itself needs */
    read_sizes(&rss[0], &own[0]);
    void *block = bs_bench_block(16);
    read_sizes(&rss[1], &own[1]);
    dprintf(STDOUT_FILENO, "%lu %lu %lu %lu\n", (unsigned long)rss[0], (unsigned long)own[0],
            (unsigned long)rss[1], (unsigned long)own[1]);
    free(block);
}

/* --- spawn ------------------------------------------------------------------------------------ */

/* This process's environment with another LD_PRELOAD, or with none. */
static char **environment_with(const char *library) {
    size_t n = 0, out = 0;
    while (environ[n])
        n++;
    char **environment = bs_bench_table((n + 2) * sizeof *environment);
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0)
            environment[out++] = environ[i];
    if (strcmp(library, "-") != 0) {
        size_t bytes = strlen(library) + sizeof "LD_PRELOAD=";
        environment[out] = bs_bench_table(bytes);
        snprintf(environment[out], bytes, "LD_PRELOAD=%s", library);
    }
    return environment;
}

static uint64_t spawn_once(char **environment) {
    static char name[] = "starter", mode[] = "nothing";
    char *const arguments[] = {name, mode, NULL};
    pid_t child;
    int status;

    uint64_t begin = now_ns();
    int fault = posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environment);
    if (fault)
        bs_bench_die("posix_spawn: %s", strerror(fault));
    if (waitpid(child, &status, 0) != child || status != 0)
        bs_bench_die("a child ended with status %d", status);
    return now_ns() - begin;
}

static void spawn(unsigned nrounds, char **libraries, unsigned nlibraries) {
    char ***environments = bs_bench_table(nlibraries * sizeof *environments);

    for (unsigned i = 0; i < nlibraries; i++) {
        environments[i] = environment_with(libraries[i]);
        spawn_once(environments[i]); /* brings the file into memory */
    }
    for (unsigned round = 0; round < nrounds; round++)
        for (unsigned i = 0; i < nlibraries; i++) {
            unsigned at = (i + round) % nlibraries;
            printf("%u %lu\n", at, (unsigned long)spawn_once(environments[at]));
        }
}

/* --- fork ------------------------------------------------------------------------------------- */

struct share { /* of one thread */
    size_t nblocks;
    uint64_t **blocks;
    struct bs_bench_rng rng;
};

static pthread_barrier_t filled, forked;

static void fill(struct share *share) {
    for (size_t i = 0; i < share->nblocks; i++) {
        uint32_t random = (uint32_t)bs_bench_next(&share->rng);
        share->blocks[i] = bs_bench_block(bs_bench_size(random, 16, 5));
        share->blocks[i][0] = i;
    }
}

static void *fill_and_sleep(void *arg) {
    fill(arg);
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&forked);
    return NULL;
}

/* In the child. _exit: what libc does at the end of a process is not fork's. */
static _Noreturn void use_heap(struct share *share) {
    void *fresh[LOOKED_AT];

    for (size_t i = 0; i < LOOKED_AT; i++) {
        size_t at = bs_bench_below((uint32_t)bs_bench_next(&share->rng), (uint32_t)share->nblocks);
        if (share->blocks[at][0] != at)
            _exit(1);
        fresh[i] = bs_bench_block(16 + 16 * i);
    }
    for (size_t i = 0; i < LOOKED_AT; i++)
        free(fresh[i]);
    _exit(0);
}

static void fork_once(struct share *share) {
    int status;
    uint64_t begin = now_ns();
    pid_t child = fork();

    if (child == 0)
        use_heap(share);
    uint64_t middle = now_ns();
    if (child < 0)
        bs_bench_die("fork: %s", strerror(errno));
    if (waitpid(child, &status, 0) != child || status != 0)
        bs_bench_die("the child ended with status %d: its heap is damaged", status);
    uint64_t end = now_ns();
    printf("%lu %lu\n", (unsigned long)(middle - begin), (unsigned long)(end - begin));
}

static void fork_often(unsigned mib, unsigned nthreads, unsigned nforks) {
    struct share share[THREADS_MAX];
    pthread_t threads[THREADS_MAX];

    pthread_barrier_init(&filled, NULL, nthreads);
    pthread_barrier_init(&forked, NULL, nthreads);
    for (unsigned i = 0; i < nthreads; i++) {
        share[i].nblocks = mib * BS_BENCH_MIB / MEAN_BLOCK_BYTES / nthreads;
        share[i].blocks = bs_bench_table(share[i].nblocks * sizeof *share[i].blocks);
        share[i].rng.state = i;
    }
    for (unsigned i = 1; i < nthreads; i++)
        if (pthread_create(&threads[i], NULL, fill_and_sleep, &share[i]) != 0)
            bs_bench_die("pthread_create failed");
    fill(&share[0]);
    pthread_barrier_wait(&filled);
    for (unsigned i = 0; i < nforks; i++)
        fork_once(&share[i % nthreads]);
    pthread_barrier_wait(&forked);
    for (unsigned i = 1; i < nthreads; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "nothing") == 0)
        return 0;
    if (argc == 2 && strcmp(argv[1], "sizes") == 0)
        sizes();
    else if (argc >= 4 && strcmp(argv[1], "spawn") == 0)
        spawn(parse_number(argv[2], 1000000), argv + 3, (unsigned)argc - 3);
    else if (argc == 5 && strcmp(argv[1], "fork") == 0)
        fork_often(parse_number(argv[2], 100000), parse_number(argv[3], THREADS_MAX),
                   parse_number(argv[4], 1000000));
    else
        bs_bench_die("starter nothing | sizes | spawn ROUNDS LIBRARY... | fork MIB THREADS FORKS");
    return 0;
}
