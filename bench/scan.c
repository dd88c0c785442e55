/* SPDX-License-Identifier: MIT */
/*
 * scan.c - how fast the engines of a scan read: a heap of besom's own in this process (which keeps
 * libc's malloc), filled with blocks of one shape, then marked.
 *
 *     scan [-c] [-w] [-m MIB] [-t WORKERS] [-r ROUNDS] [SHAPE...]
 *
 * Prints a line for each shape and engine: what was read, the best and the median time of the rounds,
 * and the rate of the median. -c: CPU time of the first worker instead of time on the wall. For the
 * linear engine every sixteenth small block is held.
 *
 *   numbers    blocks of 64 to 1024 bytes without pointers, all reached from one array
 *   objects    blocks of 16 to 256 bytes, a quarter of whose words point to any other
 *   tree       nodes of 48 bytes with two pointers, in random order
 *   strings    nodes of 32 bytes, each with a text of 16 to 512 bytes
 *   buffers    blocks of 64 KiB to 1 MiB, one word in 1000 points to any other
 */
#include "../src/trace.h" /* not the one here */
#include "cycle.h"
#include "heap.h"
#include "linear.h"
#include "reader.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORKERS 16
#define MAX_ROUNDS 99

static uint64_t state = 1;
static uint64_t next(void) {
    uint64_t x = state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
static int cpu;
static char *copy; /* -w: for the worker */
static double now(void) {
    struct timespec t;
    clock_gettime(cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- shapes ----------------------------------------------------------------------------------- */

static void **block;
static size_t *size, n, bytes;

static void *add(size_t s, int fill) {
    void *p = bs_heap_alloc(s);
    if (p == NULL)
        exit(1);
    memset(p, fill, s);
    block[n] = p;
    size[n++] = s;
    bytes += s;
    return p;
}
static void *any(void) {
    return block[next() % n];
}

static void numbers(size_t total) {
    while (bytes < total)
        add(64 + next() % 961, 1);
}
static void objects(size_t total) {
    while (bytes < total)
        add(16 + next() % 241, 1);
    for (size_t i = 0; i < n; i++)
        for (size_t w = next() % 4; w < size[i] / 8; w += 4)
            ((void **)block[i])[w] = any();
}
static void tree(size_t total) {
    while (bytes < total)
        add(48, 0);
    for (size_t i = n - 1; i > 0; i--) {
        size_t j = next() % (i + 1);
        void *p = block[i];
        block[i] = block[j];
        block[j] = p;
    }
    for (size_t i = 1; i < n; i++)
        ((void **)block[(i - 1) / 2])[i % 2] = block[i];
}
static void strings(size_t total) {
    for (void *before = NULL; bytes < total;) {
        void **node = add(32, 0);
        node[0] = before;
        node[2] = add(16 + next() % 497, 'x');
        before = node;
    }
}
static void buffers(size_t total) {
    while (bytes < total)
        add(65536 + next() % 983040, 1);
    for (size_t i = 0; i < n; i++)
        for (size_t w = next() % 1000; w < size[i] / 8; w += 1 + next() % 2000)
            ((void **)block[i])[w] = any();
}

static const struct shape {
    const char *name;
    void (*make)(size_t total);
    bool all; /* roots are all blocks, not the first */
} shapes[] = {{"numbers", numbers, true},
              {"objects", objects, false},
              {"tree", tree, false},
              {"strings", strings, true},
              {"buffers", buffers, true}};

/* --- measuring -------------------------------------------------------------------------------- */

static struct bs_trace trace;
static unsigned nworkers = 1;

static void *work(void *number) {
    bs_trace_work(&trace, (unsigned)(uintptr_t)number);
    return NULL;
}

static void begin(void) {
    if (!bs_cycle_prepare() || (copy == NULL && !bs_cycle_begin()))
        exit(1);
    if (copy == NULL)
        bs_cycle_spare_caches();
    else
        (void)bs_reader_begin();
}
static void end(void) {
    if (copy != NULL)
        bs_reader_end();
    bs_cycle_end();
}

static double once(const struct bs_range *root, struct bs_trace_sums *sums) {
    pthread_t thread[MAX_WORKERS];
    const struct bs_trace_rules rules = {.concurrent = copy != NULL};
    begin();
    double t = now();
    bs_trace_begin(&trace, &rules, root, 1);
    trace.copy = copy;
    for (unsigned i = 1; i < nworkers; i++)
        if (pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)i) != 0)
            exit(1);
    bs_trace_work(&trace, 0);
    for (unsigned i = 1; i < nworkers; i++)
        pthread_join(thread[i], NULL);
    bs_trace_end(&trace, sums);
    t = now() - t;
    end();
    return t;
}

static struct bs_linear linear;
static void *work_linear(void *none) {
    bs_linear_work(&linear);
    return none;
}
static double once_linear(const struct bs_range *root, enum bs_sieve_way way, struct bs_linear_sums *sums) {
    pthread_t thread[MAX_WORKERS];
    begin();
    double t = now();
    if (!bs_linear_begin(&linear, NULL, root, 1))
        exit(1);
    linear.sieve = way;
    linear.copy = copy;
    for (unsigned i = 1; i < nworkers; i++)
        if (pthread_create(&thread[i], NULL, work_linear, NULL) != 0)
            exit(1);
    bs_linear_work(&linear);
    for (unsigned i = 1; i < nworkers; i++)
        pthread_join(thread[i], NULL);
    bs_linear_end(&linear, sums);
    t = now() - t;
    end();
    return t;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A block in 16 is held: in each of the small spans, more or less. */
static void measure_linear(const struct shape *shape, const struct bs_range *root,
                           unsigned rounds) {
    double t[MAX_ROUNDS];
    struct bs_linear_sums sums;
    for (size_t i = 0; i < n; i += 16) {
        struct bs_span *s = bs_span_of((uintptr_t)block[i]);
        uint32_t slot;
        if (s->class != 0 && bs_slot_of(s, (uintptr_t)block[i], &slot) && bs_marks_make(s->base, BS_SIDE_HELD))
            (void)bs_marks_set(s->base, BS_SIDE_HELD, slot);
    }
    for (unsigned way = 0; way <= (unsigned)bs_sieve_best(); way++) {
        for (unsigned i = 0; i < rounds; i++)
            t[i] = once_linear(root, (enum bs_sieve_way)way, &sums);
        qsort(t, rounds, sizeof *t, compare);
        double mb = (double)(sums.heap_bytes + sums.root_bytes) / 1e6;
        printf("linear %u %-8s %8zu marked %8.1f MB %5.1f%% in reach, best %7.2f ms median %7.2f "
               "ms %6.2f "
               "GB/s by %u\n",
               nworkers, shape->name, sums.marked, mb, (double)sums.candidates * 8e-4 / mb,
               t[0] * 1e3, t[rounds / 2] * 1e3, mb * 1e-3 / t[rounds / 2],
               1u << way << (way != 0));
    }
    for (size_t i = 0; i < n; i += 16) { /* out of quarantine again */
        struct bs_span *s = bs_span_of((uintptr_t)block[i]);
        for (size_t w = 0; s->class != 0 && w < bs_span_words(s); w++)
            *bs_marks_word(s->base, BS_SIDE_HELD, w) = 0;
    }
}

static void measure(const struct shape *shape, size_t total, unsigned rounds) {
    double t[MAX_ROUNDS];
    struct bs_trace_sums sums;
    n = bytes = 0;
    shape->make(total);
    struct bs_range root = {(uintptr_t)block, (uintptr_t)(block + (shape->all ? n : 1))};
    if (!bs_trace_prepare(&trace, nworkers, 8192))
        exit(1);
    for (unsigned i = 0; i < rounds; i++)
        t[i] = once(&root, &sums);
    qsort(t, rounds, sizeof *t, compare);
    measure_linear(shape, &root, rounds);
    for (size_t i = 0; i < n; i++)
        bs_heap_free(block[i]);
    bs_heap_trim(0);
    double mb = (double)(sums.read_bytes + sums.root_bytes) / 1e6;
    printf(
        "trace  %u %-8s %8zu blocks %8.1f MB %5.1f%% in reach, best %7.2f ms median %7.2f ms %6.2f "
        "GB/s\n",
        nworkers, shape->name, sums.blocks, mb, (double)sums.candidates * 8e-4 / mb, t[0] * 1e3,
        t[rounds / 2] * 1e3, mb * 1e-3 / t[rounds / 2]);
    bs_trace_drop(&trace);
}

int main(int argc, char **argv) {
    size_t mib = 256;
    unsigned rounds = 5;
    for (int c; (c = getopt(argc, argv, "cwm:t:r:")) != -1;)
        switch (c) {
        case 'c':
            cpu = 1;
            break;
        case 'w':
            copy = malloc(bs_max(BS_TRACE_COPY_BYTES, BS_LINEAR_COPY_BYTES));
            break;
        case 'm':
            mib = strtoul(optarg, NULL, 10);
            break;
        case 't':
            nworkers = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            rounds = (unsigned)strtoul(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    if (mib == 0 || nworkers == 0 || (copy != NULL && nworkers != 1) || nworkers > MAX_WORKERS || rounds == 0 || rounds > MAX_ROUNDS)
        return 2;
    block = calloc(mib << 17, sizeof *block);
    size = calloc(mib << 17, sizeof *size);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bool wanted = optind == argc;
        for (int a = optind; a < argc; a++)
            wanted |= strcmp(argv[a], shapes[i].name) == 0;
        if (wanted)
            measure(&shapes[i], mib << 20, rounds);
    }
    return 0;
}
