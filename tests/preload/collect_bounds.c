/* SPDX-License-Identifier: MIT */
/*
 * Promise: a server that leaks all the time stays within bounds under scan:collect: what it lost is used
 * again, small blocks and large ones, while threads go on with what is theirs. Without it, it would hold
 * all of it. (collect_bounds.conf makes minutes to milliseconds.)
 */
#include "promise.h"

#include <pthread.h>
#include <time.h>

#define THREADS 3
#define SECONDS 20
#define LOST_MIB 100 /* in all that time */
#define BOUND_MIB 65
#define SCANS 10 /* it takes three and one for each batch; with less nothing follows */

static size_t lost; /* [atomic] */
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
    uint64_t seed = (uint64_t)(uintptr_t)arg + 4711, start = now_ms();
    void **kept = calloc(1000, sizeof *kept);
    while (!__atomic_load_n(&end_all, __ATOMIC_RELAXED)) {
        size_t due = LOST_MIB * BS_MIB / (SECONDS * 1000) * (now_ms() - start);
        if (__atomic_load_n(&lost, __ATOMIC_RELAXED) > due)
            sleep_ms(5);
        else
            serve(kept, &seed);
    }
    for (size_t i = 0; i < 1000; i++)
        free(kept[i]);
    free(kept);
    return NULL;
}

static unsigned count_scans(void) {
    char path[64], line[4096];
    unsigned scans = 0;
    snprintf(path, sizeof path, "collect_bounds.%d.tmp", (int)getpid());
    FILE *f = fopen(path, "r");
    BS_CHECK(f != NULL, "no log %s", path);
    while (fgets(line, sizeof line, f) != NULL)
        scans += strstr(line, " verdict done ") != NULL;
    fclose(f);
    unlink(path);
    return scans;
}

int main(void) {
    pthread_t thread[THREADS];
    size_t peak = 0;
    for (size_t i = 0; i < THREADS; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, worker, (void *)i) == 0, "thread");
    for (uint64_t end = now_ms() + SECONDS * 1000; now_ms() < end; sleep_ms(100))
        peak = rss_bytes() > peak ? rss_bytes() : peak;
    __atomic_store_n(&end_all, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    unsigned scans = count_scans();
    printf("lost %zu MiB, at most %zu MiB resident, %u scans\n", lost / BS_MIB, peak / BS_MIB, scans);
    fflush(stdout);
    if (lost < LOST_MIB * BS_MIB / 10 * 9 || scans < SCANS)
        promise_skip("the machine is too slow: %zu MiB, %u scans", lost / BS_MIB, scans);
    BS_CHECK(peak < BOUND_MIB * BS_MIB, "%zu MiB resident of %zu MiB lost", peak / BS_MIB,
             lost / BS_MIB);
    _exit(0); /* no report at exit */
}
