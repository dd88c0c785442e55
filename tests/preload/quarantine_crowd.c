/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine many more threads than there are CPUs may do nothing but allocate and free:
 * searches begin at any moment of that, come about, and no free is taken for a crime.
 * quarantine_crowd.conf sets the option.
 *
 * Where others want the CPUs as well, some stops fail, each a little later than the one before, and memory grows
 * for so long: when it has come to HIGH the threads go on slowly, until it is back. That may happen sometimes;
 * if no search came about while they work at full speed it would happen nine times.
 */
#include "promise.h"

#include <malloc.h>
#include <pthread.h>

#define THREADS 60
#define BLOCKS 8000
#define HIGH (300 * BS_MIB)
#define LOW (100 * BS_MIB)
#define MOST_MS 60000
#define MOST_TIMES 5

static unsigned times; /* [atomic] that memory came to HIGH */
static bool is_high;   /* [atomic] */

static void use_one(void) {
    char *p = malloc(4000);
    BS_CHECK(p != NULL, "no memory");
    memset(p, 1, 4000);
    free(hide(p));
}

static void wait_if_high(void) {
    if (!__atomic_load_n(&is_high, __ATOMIC_RELAXED)) {
        if (mallinfo2().uordblks < HIGH || __atomic_exchange_n(&is_high, true, __ATOMIC_RELAXED))
            return;
        __atomic_add_fetch(&times, 1, __ATOMIC_RELAXED);
    }
    for (uint64_t end = now_ms() + MOST_MS; __atomic_load_n(&is_high, __ATOMIC_RELAXED); sleep_ms(50)) {
        use_one(); /* who frees is who searches */
        if (mallinfo2().uordblks < LOW)
            __atomic_store_n(&is_high, false, __ATOMIC_RELAXED);
        BS_CHECK(now_ms() < end, "no search for a minute: %zu bytes", mallinfo2().uordblks);
    }
}

static void *worker(void *arg) {
    for (unsigned i = 0; i < BLOCKS; i++) {
        use_one();
        if (i % 200 == 0)
            wait_if_high();
    }
    return arg;
}

int main(void) {
    pthread_t thread[THREADS];
    size_t most = 0;
    for (unsigned i = 0; i < THREADS; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, worker, NULL) == 0, "no thread");
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        size_t now = rss_bytes();
        most = now > most ? now : most;
    }
    dprintf(STDOUT_FILENO, "at most %zu MiB, %u times too many\n", most / BS_MIB, times);
    BS_CHECK(times <= MOST_TIMES, "memory came to %zu MiB %u times", HIGH / BS_MIB, times);
    BS_CHECK(most < 700 * BS_MIB, "memory grew to %zu MiB", most / BS_MIB);
    return 0;
}
