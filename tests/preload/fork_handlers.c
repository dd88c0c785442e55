/* SPDX-License-Identifier: MIT */
/*
 * Promise: handlers of fork may allocate, whoever has registered them and when. A library that the program is
 * linked with begins before a preloaded one, and so does the program itself here (.preinit_array): its handlers are
 * registered before any constructor has run, and take, in front of each fork and behind it, more than a thread's
 * cache has.
 *
 * A second thread goes on allocating, so that besom's locks are needed.
 */
#include "promise.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { nblocks = 5000, nforks = 20 };

static void *blocks[nblocks];
static unsigned calls;

static void allocate(void) {
    alarm(PROMISE_CHILD_LIMIT_S); /* who waits for itself ends */
    for (size_t i = 0; i < nblocks; i++) {
        free(blocks[i]);
        blocks[i] = malloc(i % 1000 == 0 ? 3 * BS_MIB : 16 + i % 3000);
        BS_CHECK(blocks[i] != NULL, "no memory in a handler of fork");
        *(char *)blocks[i] = 1;
    }
    calls++;
}

static void begin(void) {
    BS_CHECK(pthread_atfork(allocate, allocate, allocate) == 0, "pthread_atfork");
}
__attribute__((section(".preinit_array"), used)) static void (*const first)(void) = begin;

static void *go_on(void *stop) {
    while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED))
        free(malloc(1000));
    return NULL;
}

int main(void) {
    pthread_t thread;
    int stop = 0, status;

    BS_CHECK(pthread_create(&thread, NULL, go_on, &stop) == 0, "thread");
    for (unsigned i = 0; i < nforks; i++) {
        pid_t child = fork();

        if (child == 0) {
            allocate();
            _exit(7);
        }
        BS_CHECK(child > 0 && waitpid(child, &status, 0) == child, "fork");
        BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the child's status is %#x", (unsigned)status);
    }
    BS_CHECK(calls == 2 * nforks, "the handlers were called %u times", calls);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    BS_CHECK(pthread_join(thread, NULL) == 0, "join");
    return 0;
}
