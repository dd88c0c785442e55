/* SPDX-License-Identifier: MIT */
/*
 * Promise: malloc and free need little of a thread's stack, also where they do what is to be done now and then: in a heap
 * that has no helper that is giving pages back, asking the control group, asking for huge pages. A thread with the
 * smallest stack that libc allows gets by, as with glibc, and malloc_trim is no different.
 *
 * Below such a stack is a guard page, so what needs too much ends by SIGSEGV. On a stack of the test's own is seen how much
 * was used.
 */
#include "promise.h"

#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

enum { nblocks = 3000, own_bytes = 256 * 1024, most_bytes = 12 * 1024 };

static void *block[nblocks];

static void *work(void *arg) {
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < nblocks; i++) {
            block[i] = malloc(100 + (size_t)i % 1500);
            BS_CHECK(block[i] != NULL, "no memory");
            memset(block[i], 1, 100);
        }
        for (int i = 0; i < nblocks; i++)
            free(block[i]);
        char *p = malloc(BS_MIB);
        BS_CHECK(p != NULL, "no memory");
        memset(p, 1, BS_MIB);
        p = realloc(p, 3 * BS_MIB);
        BS_CHECK(p != NULL, "no memory");
        free(p);
        free(calloc(1, 5 * BS_MIB));
        (void)malloc_trim(0);
        sleep_ms(120); /* until a piece of such work is due again */
    }
    return arg;
}

static void run(const pthread_attr_t *attr) {
    pthread_t thread;
    int error = pthread_create(&thread, attr, work, NULL);
    BS_CHECK(error == 0 && pthread_join(thread, NULL) == 0, "thread: error %d", error);
}

int main(void) {
    pthread_attr_t attr;

    BS_CHECK(pthread_attr_init(&attr) == 0, "pthread_attr_init");
    BS_CHECK(pthread_attr_setstacksize(&attr, (size_t)PTHREAD_STACK_MIN) == 0, "the smallest stack is refused");
    run(&attr); /* the first: it meets what is done once */

    unsigned char *stack = mmap(NULL, own_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t untouched = 0;
    BS_CHECK(stack != MAP_FAILED, "mmap");
    memset(stack, 0xa5, own_bytes);
    BS_CHECK(pthread_attr_setstack(&attr, stack, own_bytes) == 0, "pthread_attr_setstack");
    run(&attr);
    while (untouched < own_bytes && stack[untouched] == 0xa5)
        untouched++;
    BS_CHECK(own_bytes - untouched < most_bytes, "%zu bytes of stack", (size_t)own_bytes - untouched);
    return 0;
}
