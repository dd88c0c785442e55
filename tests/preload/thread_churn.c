/* SPDX-License-Identifier: MIT */
/*
 * Promise: threads that end leave nothing behind. 1000 threads made and joined fifty at a time,
 * each using blocks of many sizes and handing some to others, do not grow resident memory; then
 * 1000 threads alive at once end, and memory is bounded after them. The fifty wait for one another when
 * they hold most, so that what they need together is the same each time, however they get their CPUs.
 *
 * It is NOT about end-of-thread destructors: see tls_dtor.cc.
 */
#include "promise.h"

#include <malloc.h>
#include <pthread.h>

enum { nthreads = 1000, ntogether = 50, nblocks = 300 };

static pthread_barrier_t all_there, all_full;

/* Blocks of its own, of which it leaves ten to be freed by the joiner. */
static void *work(void *arg, pthread_barrier_t *full) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    void *blocks[nblocks];
    size_t sizes[nblocks];
    void **left = malloc(10 * sizeof *left);

    BS_CHECK(left != NULL, "malloc gave NULL");
    for (int i = 0; i < nblocks; i++) {
        sizes[i] = 1 + rng_below(&seed, i % 30 == 0 ? 60000 : 2000);
        blocks[i] = malloc(sizes[i]);
        BS_CHECK(blocks[i] != NULL, "malloc(%zu) gave NULL", sizes[i]);
        pattern_fill(blocks[i], sizes[i], (uint64_t)(uintptr_t)blocks[i]);
    }
    if (full != NULL)
        pthread_barrier_wait(full);
    for (int i = 0; i < nblocks; i++) {
        BS_CHECK_PATTERN(blocks[i], sizes[i], (uint64_t)(uintptr_t)blocks[i]);
        if (i < 10)
            left[i] = blocks[i];
        else
            free(blocks[i]);
    }
    return left;
}

static void *work_in_step(void *arg) {
    return work(arg, &all_full);
}

static void *work_together(void *arg) {
    void *left = work(arg, NULL);

    pthread_barrier_wait(&all_there);
    return left;
}

static void join(pthread_t thread) {
    void *result;

    BS_CHECK(pthread_join(thread, &result) == 0, "pthread_join");
    void **left = result;

    for (int i = 0; i < 10; i++)
        free(left[i]);
    free(left);
}

static void run(int n, void *(*body)(void *)) {
    static pthread_t threads[nthreads];
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 128 * BS_KIB);
    for (int i = 0; i < n; i++) {
        int err = pthread_create(&threads[i], &attr, body, (void *)(uintptr_t)(i + 1));

        BS_CHECK(err == 0, "thread %d cannot be made: %s", i, strerror(err));
    }
    for (int i = 0; i < n; i++)
        join(threads[i]);
    pthread_attr_destroy(&attr);
}

int main(void) {
    pthread_barrier_init(&all_full, NULL, ntogether);
    for (int i = 0; i < nthreads / ntogether / 4; i++)
        run(ntogether, work_in_step);
    size_t warm = rss_bytes();

    for (int i = 0; i < nthreads / ntogether; i++)
        run(ntogether, work_in_step);
    size_t after = rss_bytes();

    BS_CHECK(after < warm + 16 * BS_MIB, "RSS grew from %zu to %zu over %d threads", warm, after,
             nthreads);
    pthread_barrier_init(&all_there, NULL, nthreads);
    run(nthreads, work_together);
    malloc_trim(0);
    size_t last = rss_bytes();

    /* glibc keeps up to 40 MiB of stacks of ended threads, of which two pages each were used. */
    BS_CHECK(last < warm + 48 * BS_MIB, "RSS is %zu after 1000 threads at once, %zu before", last,
             warm);
    return 0;
}
