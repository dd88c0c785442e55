/* SPDX-License-Identifier: MIT */
/*
 * workload_return.c - programs that take much memory, free most of it, and then only sleep: does it
 * go back, without a call?
 *
 *   churn SECONDS           300 000 small blocks, 1 in 20 survives
 *   rest SECONDS            the same; after each half of the time a child is forked that only exits, so
 *                           that an allocator which reports at exit reports of each
 *   sleepers SECONDS        200 threads that allocate and free 5 MB each and then sleep
 *   sleepers-none SECONDS   the same threads without an allocation
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- churn ------------------------------------------------------------------------------------ */

static void leave_one_in_twenty(void) {
    static const struct {
        size_t n, size_bytes;
    } kind[] = {{150000, 512}, {100000, 1024}, {50000, 2048}};
    size_t total = 300000, at = 0;
    void **block = bs_bench_table(total * sizeof *block);
    size_t *size = bs_bench_table(total * sizeof *size);

    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < kind[k].n; i++)
            size[at++] = kind[k].size_bytes;
    bs_workload_shuffle(block, size, total); /* sizes in random order */
    for (size_t i = 0; i < total; i++)
        block[i] = bs_workload_block(size[i]);
    bs_workload_shuffle(block, size, total); /* and so are the frees */
    for (size_t i = 0; i < total; i++)
        if (i % 20 != 0) {
            free(block[i]);
            block[i] = NULL;
        }
    bs_workload_print_live(block, size, total);
    munmap(block, total * sizeof *block);
    munmap(size, total * sizeof *size);
}

static void churn(const unsigned *numbers) {
    leave_one_in_twenty();
    bs_workload_idle(numbers[0]);
}

static void rest(const unsigned *numbers) {
    leave_one_in_twenty();
    bs_workload_say_idle();
    for (unsigned i = 1; bs_workload_stay_for(numbers[0] / 2) || i < 2; i++) {
        pid_t child = fork();
        if (child == 0)
            exit(0);
        if (child < 0 || waitpid(child, NULL, 0) != child)
            bs_bench_die("fork or wait failed");
    }
}

/* --- sleepers --------------------------------------------------------------------------------- */

enum { SLEEPERS = 200, SLEEPER_BYTES = 5000000 };

static pthread_barrier_t all_ready, all_over;
static unsigned sleep_seconds;

static void *sleeper(void *arg) {
    if (arg != NULL) {
        struct bs_bench_rng own = {0x9e3779b97f4a7c15u * (uintptr_t)arg};
        size_t n = 0, table_bytes = SLEEPER_BYTES / 64 * sizeof(void *);
        void **block = bs_bench_table(table_bytes);
        for (size_t bytes = 0; bytes < SLEEPER_BYTES;) {
            size_t size = (size_t)64 << bs_bench_next(&own) % 7; /* 64 B ... 4 KiB */
            block[n++] = bs_workload_block(size);
            bytes += size;
        }
        while (n > 0)
            free(block[--n]);
        munmap(block, table_bytes);
    }
    pthread_barrier_wait(&all_ready);
    sleep(sleep_seconds);
    pthread_barrier_wait(&all_over);
    return NULL;
}

static void run_sleepers(unsigned seconds, bool allocate) {
    pthread_t thread[SLEEPERS];
    pthread_attr_t attr;

    sleep_seconds = seconds;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 128 << 10);
    pthread_barrier_init(&all_ready, NULL, SLEEPERS + 1);
    pthread_barrier_init(&all_over, NULL, SLEEPERS + 1);
    for (uintptr_t i = 0; i < SLEEPERS; i++)
        if (pthread_create(&thread[i], &attr, sleeper, allocate ? (void *)(i + 1) : NULL) != 0)
            bs_bench_die("pthread_create failed");
    pthread_barrier_wait(&all_ready);
    bs_workload_idle(seconds);
    pthread_barrier_wait(&all_over);
    for (size_t i = 0; i < SLEEPERS; i++)
        pthread_join(thread[i], NULL);
}

static void sleepers(const unsigned *numbers) {
    run_sleepers(numbers[0], true);
}

static void sleepers_none(const unsigned *numbers) {
    run_sleepers(numbers[0], false);
}

const struct bs_workload bs_workload_return[] = {
    {"churn", "SECONDS", churn},
    {"rest", "SECONDS", rest},
    {"sleepers", "SECONDS", sleepers},
    {"sleepers-none", "SECONDS", sleepers_none},
    {NULL, NULL, NULL},
};
