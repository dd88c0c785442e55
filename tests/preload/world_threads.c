/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program with many threads is stopped 20 times a second and runs on: most of its threads
 * sleep, some of them work with the heap now and then, threads come and go. Arguments: THREADS
 * SECONDS. With WORLD_REPORT=1 the driver (world_drive.c) says how long the stops took; that is how the
 * figures of doc/DESIGN.md were made.
 */
#include "promise.h"

#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t end = PTHREAD_COND_INITIALIZER;
static bool ended;
static uint64_t nops;

static void *sleeper(void *arg) {
    pthread_mutex_lock(&mutex);
    while (!ended)
        pthread_cond_wait(&end, &mutex);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static void work(uint64_t *seed) {
    void *block[50];
    size_t size[50];
    for (int i = 0; i < 50; i++) {
        size[i] = 1 + rng_below(seed, 3000);
        block[i] = malloc(size[i]);
        BS_CHECK(block[i] != NULL, "malloc");
        pattern_fill(block[i], size[i], (uint64_t)i);
    }
    for (int i = 0; i < 50; i++) {
        BS_CHECK_PATTERN(block[i], size[i], (uint64_t)i);
        free(block[i]);
    }
    __atomic_add_fetch(&nops, 1, __ATOMIC_RELAXED);
}

static void *worker(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    while (!__atomic_load_n(&ended, __ATOMIC_RELAXED)) {
        work(&seed);
        sleep_ms(4);
    }
    return NULL;
}
static void *brief(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    work(&seed);
    return NULL;
}

int main(int argc, char **argv) {
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 64, seconds = argc > 2 ? (unsigned)atoi(argv[2]) : 2;
    pthread_attr_t small;
    pthread_t *thread = calloc(n, sizeof *thread), other;

    BS_CHECK(n >= 1 && n <= 4096 && thread != NULL, "THREADS from 1 to 4096");
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 * BS_KIB);
    for (unsigned i = 0; i < n; i++)
        BS_CHECK(pthread_create(&thread[i], &small, i % 64 == 0 ? worker : sleeper, (void *)(uintptr_t)(i + 1)) == 0,
                 "no thread %u", i);
    for (uint64_t end_ms = now_ms() + seconds * 1000; now_ms() < end_ms || !promise_is_stopped_enough();
         sleep_ms(20)) {
        BS_CHECK(pthread_create(&other, &small, brief, (void *)(uintptr_t)end_ms) == 0, "no thread");
        pthread_join(other, NULL);
    }
    pthread_mutex_lock(&mutex);
    __atomic_store_n(&ended, true, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&end);
    pthread_mutex_unlock(&mutex);
    for (unsigned i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    dprintf(STDOUT_FILENO, "%u threads, %llu operations\n", n, (unsigned long long)nops);
    free(thread);
    return 0;
}
