/* SPDX-License-Identifier: MIT */
/*
 * pauses.c - a program with so much memory and so many threads, for bench/pauses.py: how long scans stop it.
 *
 *     pauses THREADS MIB SECONDS small|pages|huge
 *
 * small: blocks of 64 to 1024 bytes, in lists; pages and huge: blocks of 64 MiB, for which the kernel is asked
 * for pages of 4 KiB or huge ones. One thread in 16 works with the heap, the others sleep. A pause that it
 * notices itself is printed: the longest time between two looks at the clock, of a thread that only looks.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LARGE ((size_t)64 << 20)

static int end_all;

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

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    int threads = atoi(argv[1]), seconds = atoi(argv[3]);
    size_t bytes = (size_t)atoi(argv[2]) << 20;
    static void *volatile all;
    all = strcmp(argv[4], "small") == 0
              ? fill_small(bytes)
              : fill_large(bytes, strcmp(argv[4], "huge") == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, i % 16 == 0 ? work : rest, (void *)(uintptr_t)i) != 0)
            return 1;
    }
    double start = now_ms(), last = start, longest = 0;
    while (last < start + seconds * 1e3) {
        usleep(200);
        double t = now_ms();
        longest = t - last > longest ? t - last : longest;
        last = t;
    }
    printf("longest %.2f ms%s\n", longest, all != NULL ? "" : ", no heap");
    _exit(0);
}
