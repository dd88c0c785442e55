/* SPDX-License-Identifier: MIT */
/*
 * Promise: a thread whose free() searches the quarantine, and tells of it, needs little of its stack: one with the
 * smallest that libc allows gets by. (A search took 17 KiB, more than such a stack has.)
 *
 * Others sleep meanwhile, so that there is somebody to be listed, asked and stopped. Below libc's stack is a guard page, so
 * what needs too much ends by SIGSEGV. On a stack of the test's own is seen how much was used; the half
 * is libc's and the shim's.
 */
#include "promise.h"

#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>

enum { nothers = 50, nblocks = 20000, nrounds = 12, own_bytes = 32 * 1024, most_bytes = 11 * 1024 };

static void *block[nblocks];
static void *dangling[nblocks / 100];

static void *work(void *arg) {
    for (int round = 0; round < nrounds; round++) {
        for (int i = 0; i < nblocks; i++) {
            block[i] = malloc(100 + (size_t)i % 800);
            BS_CHECK(block[i] != NULL, "no memory");
            if (i % 100 == 0)
                dangling[i / 100] = block[i];
        }
        for (int i = 0; i < nblocks; i++)
            free(block[i]);
        char *p = malloc(BS_MIB);
        BS_CHECK(p != NULL, "no memory");
        memset(p, 1, BS_MIB);
        p = realloc(p, 3 * BS_MIB);
        BS_CHECK(p != NULL, "no memory");
        free(p);
    }
    return arg;
}

static void *sleep_on(void *arg) {
    for (;;)
        pause();
    return arg;
}

static void run(const pthread_attr_t *attr) {
    pthread_t thread;
    int error = pthread_create(&thread, attr, work, NULL);
    BS_CHECK(error == 0 && pthread_join(thread, NULL) == 0, "thread: error %d", error);
}

int main(void) {
    pthread_attr_t attr;
    pthread_t thread;

    /* memory that a search does not read in its place */
    char *shared = mmap(NULL, BS_MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    BS_CHECK(shared != MAP_FAILED, "mmap");
    memset(shared, 1, BS_MIB);
    BS_CHECK(pthread_attr_init(&attr) == 0, "pthread_attr_init");
    BS_CHECK(pthread_attr_setstacksize(&attr, (size_t)PTHREAD_STACK_MIN) == 0, "the smallest stack is refused");
    for (int i = 0; i < nothers; i++)
        BS_CHECK(pthread_create(&thread, NULL, sleep_on, NULL) == 0, "pthread_create");
    run(&attr); /* the first: it meets what is done once */

    unsigned char *stack = mmap(NULL, own_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t untouched = 0;
    BS_CHECK(stack != MAP_FAILED, "mmap");
    memset(stack, 0xa5, own_bytes);
    BS_CHECK(pthread_attr_setstack(&attr, stack, own_bytes) == 0, "pthread_attr_setstack");
    run(&attr);
    while (untouched < own_bytes && stack[untouched] == 0xa5)
        untouched++;
    printf("%zu bytes of stack, with libc's part\n", (size_t)own_bytes - untouched);
    BS_CHECK(own_bytes - untouched < most_bytes, "%zu bytes of stack", (size_t)own_bytes - untouched);
    return 0;
}
