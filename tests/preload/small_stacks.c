/* SPDX-License-Identifier: MIT */
/*
 * Promise: a thread gets by with the smallest stack that libc gives it: libbesom-scan.so, which calls a few
 * functions before the thread's own, needs no room that belongs to the program, and writes nothing below
 * the stack. Thread-local variables use up most of it here; under AddressSanitizer it would not do.
 */
#include "promise.h"

#include <limits.h>
#include <pthread.h>

#define STEP 512
#define MOST (256 * BS_KIB)
#define TLS 9000

static __thread char variables[TLS];

static void *touch(void *arg) {
    variables[0] = variables[TLS - 1] = 1;
    return arg;
}

static bool runs(pthread_attr_t *attr) {
    pthread_t thread;
    void *result = NULL;
    int error = pthread_create(&thread, attr, touch, variables);
    BS_CHECK(error == 0 || error == EINVAL, "pthread_create: %d", error);
    if (error != 0)
        return false;
    BS_CHECK(pthread_join(thread, &result) == 0 && result == variables, "the thread's result");
    return true;
}

/* Below libc's own stacks is a guard page. */
static void try_libcs(void) {
    unsigned n = 0;
    for (size_t bytes = PTHREAD_STACK_MIN; bytes < MOST; bytes += STEP) {
        pthread_attr_t attr;
        BS_CHECK(pthread_attr_init(&attr) == 0, "pthread_attr_init");
        if (pthread_attr_setstacksize(&attr, bytes) == 0)
            n += runs(&attr);
        pthread_attr_destroy(&attr);
    }
    BS_CHECK(n != 0, "no thread");
}

/* Below the program's is what it has there. */
static void try_own(void) {
    unsigned n = 0;
    for (size_t bytes = PTHREAD_STACK_MIN; bytes < MOST; bytes += STEP) {
        pthread_attr_t attr;
        char *below = aligned_alloc(4096, 8192 + MOST);
        BS_CHECK(below != NULL, "no memory");
        pattern_fill(below, 8192, bytes);
        BS_CHECK(pthread_attr_init(&attr) == 0, "pthread_attr_init");
        if (pthread_attr_setstack(&attr, below + 8192, bytes) == 0)
            n += runs(&attr);
        BS_CHECK_PATTERN(below, 8192, bytes);
        pthread_attr_destroy(&attr);
        free(below);
    }
    BS_CHECK(n != 0, "no thread");
}

int main(void) {
    try_own();
    try_libcs();
    return 0;
}
