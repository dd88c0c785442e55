/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine many more threads than there are CPUs may do nothing but allocate and free:
 * searches begin at any moment of that, come about, and no free is taken for a crime.
 * quarantine_crowd.conf sets the option.
 */
#include "promise.h"

#include <pthread.h>

#define THREADS 60

static void *worker(void *arg) {
    for (unsigned i = 0; i < 8000; i++) {
        char *p = malloc(4000);
        BS_CHECK(p != NULL, "no memory");
        memset(p, 1, 4000);
        free(hide(p));
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
    dprintf(STDOUT_FILENO, "at most %zu MiB\n", most / BS_MIB);
    BS_CHECK(most < 700 * BS_MIB, "memory grew to %zu MiB", most / BS_MIB);
    return 0;
}
