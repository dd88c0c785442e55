/* SPDX-License-Identifier: MIT */
/*
 * workload.c - workload NAME NUMBER...: runs one program of bench/rss in this process; see
 * workload.h. The families are in workload_*.c.
 *
 * Single-threaded itself; the families start and join their own threads.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_NUMBERS = 4, MAX_STAY_SECONDS = 150 };

static const struct bs_workload *const FAMILIES[] = {bs_workload_return, bs_workload_steady,
                                                     bs_workload_comb};
#define NFAMILIES (sizeof FAMILIES / sizeof FAMILIES[0])

struct bs_bench_rng bs_workload_rng = {88172645463325252u};

void *bs_workload_block(size_t size_bytes) {
    return memset(bs_bench_need(malloc(size_bytes), size_bytes), 0x5a, size_bytes);
}

void bs_workload_say_idle(void) {
    puts("idle");
    fflush(stdout);
}

static bool has_watcher(void) {
    struct stat status;
    return fstat(STDIN_FILENO, &status) == 0 && S_ISFIFO(status.st_mode);
}

bool bs_workload_stay_for(unsigned seconds) {
    struct pollfd reader = {.fd = STDIN_FILENO, .events = POLLIN};
    if (has_watcher())
        return poll(&reader, 1, (int)seconds * 1000) == 0;
    sleep(seconds);
    return false;
}

void bs_workload_stay(void) {
    if (has_watcher())
        (void)bs_workload_stay_for(MAX_STAY_SECONDS);
}

void bs_workload_idle(unsigned seconds) {
    bs_workload_say_idle();
    sleep(seconds);
    bs_workload_stay();
}

double bs_workload_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void bs_workload_shuffle(void **p, size_t *with, size_t n) {
    for (size_t i = n - 1; i > 0; i--) {
        size_t k = bs_bench_next(&bs_workload_rng) % (i + 1);
        void *other = p[k];
        p[k] = p[i];
        p[i] = other;
        if (with != NULL) {
            size_t number = with[k];
            with[k] = with[i];
            with[i] = number;
        }
    }
}

/* --- the OS pages of live blocks -------------------------------------------------------------- */

/* A set of page numbers: open addressing, 0 is empty (no block lies in page 0). */
struct page_set {
    uint64_t *slot;
    size_t mask, count;
};

static void add_page(struct page_set *set, uint64_t page) {
    size_t at = (size_t)(page * 0x9e3779b97f4a7c15u >> 20) & set->mask;
    while (set->slot[at] != 0 && set->slot[at] != page)
        at = (at + 1) & set->mask;
    set->count += set->slot[at] == 0;
    set->slot[at] = page;
}

void bs_workload_print_live(void *const *block, const size_t *size_bytes, size_t n) {
    uint64_t os_page = (uint64_t)sysconf(_SC_PAGESIZE), blocks = 0, pages = 0;
    for (size_t i = 0; i < n; i++)
        if (block[i] != NULL) {
            blocks += size_bytes[i];
            pages += size_bytes[i] / os_page + 2;
        }
    struct page_set set = {.mask = 1023};
    while (set.mask < 2 * pages)
        set.mask = set.mask * 2 + 1;
    size_t table_bytes = (set.mask + 1) * sizeof *set.slot;
    set.slot = bs_bench_table(table_bytes);
    for (size_t i = 0; i < n; i++) {
        uint64_t first = (uintptr_t)block[i] / os_page;
        uint64_t last = ((uintptr_t)block[i] + size_bytes[i] - 1) / os_page;
        for (uint64_t page = first; block[i] != NULL && page <= last; page++)
            add_page(&set, page);
    }
    munmap(set.slot, table_bytes); /* it must not count in what is measured next */
    printf("live_blocks_bytes %" PRIu64 "\nlive_pages_bytes %" PRIu64 "\n", blocks,
           set.count * os_page);
}

/* --- main ------------------------------------------------------------------------------------- */

static unsigned number(const char *text) {
    char *end;
    errno = 0;
    unsigned long x = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || x > 1000000000)
        bs_bench_die("\"%s\": a number up to 1000000000 is wanted", text);
    return (unsigned)x;
}

static int count_words(const char *text) {
    int n = 0;
    for (; *text != '\0'; text++)
        n += *text != ' ' && (text[1] == ' ' || text[1] == '\0');
    return n;
}

static int print_usage(void) {
    fputs("usage:\n", stderr);
    for (size_t f = 0; f < NFAMILIES; f++)
        for (const struct bs_workload *w = FAMILIES[f]; w->name != NULL; w++)
            fprintf(stderr, "  workload %s %s\n", w->name, w->arguments);
    return 2;
}

int main(int argc, char **argv) {
    static char out[4096]; /* so that stdio takes no block of the allocator's */
    unsigned numbers[MAX_NUMBERS] = {0};

    setvbuf(stdout, out, _IOFBF, sizeof out);
    for (int i = 2; i < argc && i - 2 < MAX_NUMBERS; i++)
        numbers[i - 2] = number(argv[i]);
    for (size_t f = 0; f < NFAMILIES && argc > 1; f++)
        for (const struct bs_workload *w = FAMILIES[f]; w->name != NULL; w++)
            if (strcmp(w->name, argv[1]) == 0 && argc - 2 == count_words(w->arguments)) {
                w->run(numbers);
                return 0;
            }
    return print_usage();
}
