/* SPDX-License-Identifier: MIT */
/*
 * Promise: a thread that cannot be made leaves nothing behind, however often that is tried, and those that can be made
 * get their arguments.
 */
#include "promise.h"

#include <malloc.h>
#include <pthread.h>

enum { ntries = 3000, nthreads = 20 }; /* the first: more than besom has places for threads that begin */

static void *give_back(void *arg) {
    return arg;
}

static void refuse(const pthread_attr_t *attr) {
    pthread_t thread;
    int error = pthread_create(&thread, attr, give_back, NULL);

    BS_CHECK(error == EAGAIN || error == ENOMEM, "a stack of 64 TiB: %d", error);
}

int main(void) {
    pthread_attr_t attr;
    pthread_t threads[nthreads];
    int argument[nthreads];

    BS_CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, (size_t)1 << 46) == 0, "attr");
    refuse(&attr);
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < ntries; i++)
        refuse(&attr);
    BS_CHECK(mallinfo2().uordblks == before, "%zu bytes are left", mallinfo2().uordblks - before);
    for (int i = 0; i < nthreads; i++)
        BS_CHECK(pthread_create(&threads[i], NULL, give_back, &argument[i]) == 0, "no thread");
    for (int i = 0; i < nthreads; i++) {
        void *got = NULL;
        BS_CHECK(pthread_join(threads[i], &got) == 0 && got == &argument[i], "thread %d", i);
    }
    return 0;
}
