/* SPDX-License-Identifier: MIT */
/*
 * small_stack.h - for programs whose threads have little stack: work that has to get by with the smallest that libc
 * allows, and how much of one it uses.
 */
#ifndef BS_TESTS_SMALL_STACK_H
#define BS_TESTS_SMALL_STACK_H

#include "promise.h"

#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>

typedef void *small_stack_work(void *arg);

static inline void work_with(const pthread_attr_t *attr, small_stack_work *work) {
    pthread_t thread;
    int error = pthread_create(&thread, attr, work, NULL);
    BS_CHECK(error == 0 && pthread_join(thread, NULL) == 0, "thread: error %d", error);
}

/* Below libc's stack is a guard page, so what needs too much ends by SIGSEGV. */
static inline void work_on_smallest_stack(small_stack_work *work) {
    pthread_attr_t attr;
    BS_CHECK(pthread_attr_init(&attr) == 0, "pthread_attr_init");
    BS_CHECK(pthread_attr_setstacksize(&attr, (size_t)PTHREAD_STACK_MIN) == 0, "the smallest stack is refused");
    work_with(&attr, work);
}

/* On a stack of the test's own, of so many bytes: how many were used, with libc's part. */
static inline size_t stack_used_by(small_stack_work *work, size_t bytes) {
    pthread_attr_t attr;
    unsigned char *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t untouched = 0;
    BS_CHECK(stack != MAP_FAILED, "mmap");
    memset(stack, 0xa5, bytes);
    BS_CHECK(pthread_attr_init(&attr) == 0, "pthread_attr_init");
    BS_CHECK(pthread_attr_setstack(&attr, stack, bytes) == 0, "pthread_attr_setstack");
    work_with(&attr, work);
    while (untouched < bytes && stack[untouched] == 0xa5)
        untouched++;
    return bytes - untouched;
}

#endif
