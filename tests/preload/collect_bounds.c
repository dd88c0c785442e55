/* SPDX-License-Identifier: MIT */
/*
 * Promise: a server that leaks all the time stays within bounds under scan:collect: what it lost is used
 * again, small blocks and large ones, while threads go on with what is theirs. Without it, it would hold
 * all of it. (collect_bounds.conf makes minutes to milliseconds.)
 *
 * It loses so much between two scans, however long a busy machine takes for one, and no more where the threads
 * were late: what is held is what was lost in the last few.
 */
#include "promise.h"

#include <pthread.h>
#include <time.h>

#define THREADS 3
#define MOST_MS 300000
#define LOST_MIB 5 /* from one scan to the next */
#define BOUND_MIB 65
#define SCANS 20 /* it takes three and one for each batch */

static size_t lost; /* [atomic] */
static size_t due;  /* [atomic] */
static int end_all; /* [atomic] */

/* A request: what it needs, what it keeps for a while, and what it forgets. */
static void serve(void **kept, uint64_t *seed) {
    size_t small = 64 + rng_below(seed, 600), large = 40000 + rng_below(seed, 100000);
    char *p = malloc(small), *q = rng_below(seed, 100) == 0 ? malloc(large) : NULL;
    BS_CHECK(p != NULL, "no memory");
    memset(p, 0x5a, small);
    if (q != NULL)
        memset(q, 0x5a, large);
    (void)__atomic_fetch_add(&lost, small + (q != NULL ? large : 0), __ATOMIC_RELAXED);
    size_t i = rng_below(seed, 1000);
    if (kept[i] != NULL)
        BS_CHECK_PATTERN(kept[i], 200, i + 1);
    free(kept[i]);
    kept[i] = malloc(200 + i);
    pattern_fill(kept[i], 200, i + 1);
}

static void *worker(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg + 4711;
    void **kept = calloc(1000, sizeof *kept);
    while (!__atomic_load_n(&end_all, __ATOMIC_RELAXED)) {
        if (__atomic_load_n(&lost, __ATOMIC_RELAXED) > __atomic_load_n(&due, __ATOMIC_RELAXED))
            sleep_ms(5);
        else
            serve(kept, &seed);
    }
    for (size_t i = 0; i < 1000; i++)
        free(kept[i]);
    free(kept);
    return NULL;
}

static char path[64];

static unsigned count_scans(void) {
    char line[4096];
    unsigned scans = 0;
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        scans += strstr(line, " verdict done ") != NULL;
    if (f != NULL)
        fclose(f);
    return scans;
}

int main(void) {
    pthread_t thread[THREADS];
    size_t peak = 0;
    unsigned scans = 0;
    promise_begin_log(path, sizeof path, "collect_bounds");
    for (size_t i = 0; i < THREADS; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, worker, (void *)i) == 0, "thread");
    for (uint64_t start = now_ms(); scans < SCANS && now_ms() - start < MOST_MS; sleep_ms(100)) {
        peak = rss_bytes() > peak ? rss_bytes() : peak;
        unsigned now = count_scans();
        if (now != scans || due == 0)
            __atomic_store_n(&due, __atomic_load_n(&lost, __ATOMIC_RELAXED) + LOST_MIB * BS_MIB, __ATOMIC_RELAXED);
        scans = now;
    }
    __atomic_store_n(&end_all, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    unlink(path);
    printf("lost %zu MiB, at most %zu MiB resident, %u scans\n", lost / BS_MIB, peak / BS_MIB, scans);
    fflush(stdout);
    BS_CHECK(scans >= 3, "%u scans in %d s", scans, MOST_MS / 1000);
    BS_CHECK(peak < BOUND_MIB * BS_MIB, "%zu MiB resident of %zu MiB lost", peak / BS_MIB,
             lost / BS_MIB);
    if (scans < SCANS || lost < SCANS * LOST_MIB * BS_MIB / 10 * 7)
        promise_skip("the machine is too slow: %u scans, and %zu MiB lost, in that time", scans, lost / BS_MIB);
    _exit(0); /* no report at exit */
}
