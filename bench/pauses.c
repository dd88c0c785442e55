/* SPDX-License-Identifier: MIT */
/*
 * pauses.c - a program with so much memory and so many threads, for bench/pauses.py: how long scans stop it.
 *
 *     pauses THREADS MIB SECONDS small|pages|huge|shuffled|busy
 *
 * small: blocks of 64 to 1024 bytes, in a list; pages and huge: blocks of 64 MiB, for which the kernel is asked
 * for pages of 4 KiB or huge ones; shuffled: blocks of 16 to 256 bytes, in a list that visits them in random order.
 * One thread in 16 works with the heap, the others sleep. A pause that it notices itself is printed: the longest
 * time between two looks at the clock, of a thread that only looks. busy: shuffled, and the first thread does not
 * look but replaces blocks at random as fast as it can; what a page fault costs it is printed.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define LARGE ((size_t)64 << 20)
#define STEP 256        /* blocks that are replaced between two looks at the clock */
#define SHUFFLED_MEAN 136

static int end_all;
static void **block; /* of shuffled and busy, in the order of the list */
static size_t nblocks;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void *fill_small(size_t bytes) {
    void **list = NULL;
    uint64_t seed = 1;
    while (bytes > 1024) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t size = 64 + (seed >> 40) % 961;
        void **p = malloc(size);
        if (p == NULL)
            exit(1);
        memset(p, 0, size);
        *p = list;
        list = p;
        bytes -= size;
    }
    return list;
}

static void *fill_large(size_t bytes, int advice) {
    void **list = NULL;
    for (; bytes >= LARGE; bytes -= LARGE) {
        char *p = malloc(LARGE);
        if (p == NULL)
            exit(1);
        uintptr_t start = ((uintptr_t)p + 4095) & ~(uintptr_t)4095;
        (void)madvise((void *)start, (LARGE - (start - (uintptr_t)p)) & ~(size_t)4095, advice);
        memset(p, 0, LARGE);
        *(void **)(void *)p = list;
        list = (void **)(void *)p;
    }
    return list;
}

static uint64_t next(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 32;
}

static void *make(uint64_t *seed, void *content) {
    size_t size = 16 + next(seed) % 241;
    void **p = malloc(size);
    if (p == NULL)
        exit(1);
    memset(p, 0, size);
    *p = content;
    return p;
}

/* Each block leads to the one behind it in the table, which was shuffled. */
static void *fill_shuffled(size_t bytes) {
    uint64_t seed = 1;
    nblocks = bytes / SHUFFLED_MEAN;
    block = calloc(nblocks, sizeof *block);
    if (block == NULL)
        exit(1);
    for (size_t i = 0; i < nblocks; i++)
        block[i] = make(&seed, NULL);
    for (size_t i = nblocks - 1; i > 0; i--) {
        size_t j = next(&seed) % (i + 1);
        void *p = block[i];
        block[i] = block[j];
        block[j] = p;
    }
    for (size_t i = 0; i + 1 < nblocks; i++)
        *(void **)block[i] = block[i + 1];
    return block[0];
}

static long faults(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_minflt;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static double median(double *a, size_t n) {
    qsort(a, n, sizeof *a, by_value);
    return n != 0 ? a[n / 2] : 0;
}

/* Steps without a fault say what a step takes, steps with one in 8 blocks and more what a fault adds. */
static void keep_busy(int seconds) {
    static double quiet[1 << 16], faulty[1 << 16];
    static long nfaults[1 << 16];
    size_t nquiet = 0, nfaulty = 0, steps = 0;
    uint64_t seed = 7;
    double end = now_ms() + seconds * 1e3;
    for (double last = now_ms(), t; last < end; last = t, steps++) {
        long before = faults();
        last = now_ms();
        for (unsigned i = 0; i < STEP; i++) {
            size_t place = next(&seed) % nblocks;
            void *next_block = *(void **)block[place];
            free(block[place]);
            block[place] = make(&seed, next_block);
            if (place > 0)
                *(void **)block[place - 1] = block[place];
        }
        t = now_ms();
        long n = faults() - before;
        if (n == 0 && nquiet < sizeof quiet / sizeof *quiet)
            quiet[nquiet++] = t - last;
        if (n >= STEP / 8 && nfaulty < sizeof faulty / sizeof *faulty) {
            nfaults[nfaulty] = n;
            faulty[nfaulty++] = t - last;
        }
    }
    double step = median(quiet, nquiet);
    for (size_t i = 0; i < nfaulty; i++)
        faulty[i] = (faulty[i] - step) / (double)nfaults[i];
    printf("steps %zu ns %.0f faulty %zu fault_ns %.0f\n", steps, step * 1e6, nfaulty, median(faulty, nfaulty) * 1e6);
}

static void *work(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    void *kept[256] = {NULL};
    while (!__atomic_load_n(&end_all, __ATOMIC_RELAXED)) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        void **place = &kept[seed >> 56];
        free(*place);
        *place = malloc(16 + (seed >> 40) % 500);
        if ((seed >> 32) % 64 == 0)
            usleep(1000);
    }
    return NULL;
}

static void *rest(void *arg) {
    while (!__atomic_load_n(&end_all, __ATOMIC_RELAXED))
        usleep(100000);
    return arg;
}

static void *fill(const char *kind, size_t bytes) {
    if (strcmp(kind, "small") == 0)
        return fill_small(bytes);
    if (strcmp(kind, "shuffled") == 0 || strcmp(kind, "busy") == 0)
        return fill_shuffled(bytes);
    return fill_large(bytes, strcmp(kind, "huge") == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

static void look_at_clock(int seconds) {
    double start = now_ms(), last = start, longest = 0;
    while (last < start + seconds * 1e3) {
        usleep(200);
        double t = now_ms();
        longest = t - last > longest ? t - last : longest;
        last = t;
    }
    printf("longest %.2f ms\n", longest);
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    int threads = atoi(argv[1]), seconds = atoi(argv[3]);
    size_t bytes = (size_t)atoi(argv[2]) << 20;
    static void *volatile all;
    all = fill(argv[4], bytes);
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, i % 16 == 0 ? work : rest, (void *)(uintptr_t)i) != 0)
            return 1;
    }
    if (strcmp(argv[4], "busy") == 0)
        keep_busy(seconds);
    else
        look_at_clock(seconds);
    fflush(stdout);
    if (threads != 0) /* they use the heap */
        _exit(0);
    return all == NULL;
}
