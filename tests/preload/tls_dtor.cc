/* SPDX-License-Identifier: MIT */
/*
 * Promise: a thread may allocate and free until its very end: in destructors of C++ thread_local
 * objects and of pthread keys, in every round of key destructors (so also after the allocator's
 * own end-of-thread work has run), and what such a thread held is not lost for the process.
 *
 * Keys are made before and after the library has its own, and each destructor sets its key again
 * until the last round. 2000 short threads; resident memory after the first hundred must not grow.
 */
#include "promise.h"

#include <atomic>
#include <limits.h>
#include <pthread.h>

enum { nkeys = 8, nthreads = 2000, nwarm = 200 };

static pthread_key_t keys[nkeys];
static std::atomic<long> nrounds, nobjects;

/* One use of the heap: small and large, with a free of what an earlier phase left. */
static void *exercise(void *left) {
    void *held[12];

    if (left != nullptr) {
        BS_CHECK_PATTERN(left, 200, 42);
        free(left);
    }
    for (size_t i = 0; i < 12; i++) {
        size_t size = i * 157 + 1;

        held[i] = malloc(size);
        BS_CHECK(held[i] != nullptr, "malloc(%zu) gave NULL", size);
        pattern_fill(held[i], size, i);
    }
    for (size_t i = 0; i < 12; i++) {
        BS_CHECK_PATTERN(held[i], i * 157 + 1, i);
        free(held[i]);
    }
    free(malloc(50000));
    left = malloc(200);
    BS_CHECK(left != nullptr, "malloc(200) gave NULL");
    pattern_fill(left, 200, 42);
    return left;
}

struct round {
    int idx, n;
    void *left;
};

static void key_destructor(void *value) {
    struct round *round = static_cast<struct round *>(value);

    nrounds++;
    round->left = exercise(round->left);
    if (++round->n < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(keys[round->idx], round);
        return;
    }
    BS_CHECK_PATTERN(round->left, 200, 42);
    free(round->left);
    free(round);
}

struct local {
    void *left = exercise(nullptr);

    ~local() {
        left = exercise(left);
        free(left);
        nobjects++;
    }
};

static thread_local struct local object;

static void *work(void *) {
    hide(object.left);
    for (int i = 0; i < nkeys; i++) {
        struct round *round = static_cast<struct round *>(calloc(1, sizeof *round));

        BS_CHECK(round != nullptr, "calloc gave NULL");
        round->idx = i;
        round->left = exercise(nullptr);
        pthread_setspecific(keys[i], round);
    }
    return malloc(100);
}

static void run_threads(int n) {
    pthread_t threads[4];

    for (int i = 0; i < n; i += 4) {
        for (pthread_t &thread : threads)
            BS_CHECK(pthread_create(&thread, nullptr, work, nullptr) == 0, "no thread");
        for (pthread_t thread : threads) {
            void *result;

            pthread_join(thread, &result);
            free(result);
        }
    }
}

/* Runs before the library's constructor: this key has a lower number than any of its own. */
static void first_key() {
    pthread_key_create(&keys[0], key_destructor);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)() = first_key;

int main() {
    for (int i = 1; i < nkeys; i++)
        BS_CHECK(pthread_key_create(&keys[i], key_destructor) == 0, "no key");
    run_threads(nwarm);
    size_t warm = rss_bytes();

    run_threads(nthreads - nwarm);
    size_t after = rss_bytes();

    BS_CHECK(after < warm + 12 * BS_MIB, "RSS grew from %zu to %zu over %d threads", warm, after,
             nthreads - nwarm);
    BS_CHECK(nobjects == nthreads, "%ld of %d thread_local destructors ran", nobjects.load(),
             nthreads);
    BS_CHECK(nrounds == long{nthreads} * nkeys * PTHREAD_DESTRUCTOR_ITERATIONS,
             "%ld key destructors ran", nrounds.load());
    return 0;
}
