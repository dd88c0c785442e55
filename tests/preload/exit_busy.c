/* SPDX-License-Identifier: MIT */
/*
 * Promise: a process ends normally while other threads are in the middle of allocating: exit runs
 * atexit handlers and destructors that allocate, nothing waits for the background thread, nothing
 * crashes, and the exit status is main's.
 *
 * 40 children with three busy threads each; a quarter of them have a heap large enough for
 * background work. A child that hangs is killed by its alarm, which is the failure.
 */
#include "promise.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { nchildren = 40, nthreads = 3, status_wanted = 44 };

static void *churn(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    void *blocks[500] = {NULL};

    for (;;) {
        size_t i = rng_below(&seed, 500);

        free(blocks[i]);
        blocks[i] = malloc(1 + rng_below(&seed, rng_below(&seed, 100) == 0 ? BS_MIB : 3000));
        if (blocks[i] != NULL)
            memset(blocks[i], 1, 1);
    }
    return NULL;
}

static void at_exit(void) {
    for (size_t i = 1; i < 2000; i++) {
        void *p = malloc(i);

        BS_CHECK(p != NULL, "malloc(%zu) in atexit gave NULL", i);
        memset(p, 1, i);
        free(p);
    }
}

__attribute__((noreturn)) static void child(unsigned n) {
    pthread_t thread;

    alarm(PROMISE_CHILD_LIMIT_S);
    atexit(at_exit);
    for (uintptr_t i = 0; i < nthreads; i++)
        BS_CHECK(pthread_create(&thread, NULL, churn, (void *)(i + n)) == 0, "no thread");
    if (n % 4 == 0) {
        char *large = malloc(64 * BS_MIB);

        BS_CHECK(large != NULL, "malloc(64 MiB) gave NULL");
        memset(large, 1, 64 * BS_MIB);
        free(large);
    }
    sleep_ms(n % 7 * 3);
    exit(status_wanted);
}

int main(void) {
    for (unsigned i = 0; i < nchildren; i++) {
        int status;
        pid_t pid = fork();

        BS_CHECK(pid >= 0, "no child");
        if (pid == 0)
            child(i);
        BS_CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
        BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == status_wanted,
                 "child %u ended with status %#x (signal %d: %s)", i, (unsigned)status,
                 WTERMSIG(status), WTERMSIG(status) == SIGALRM ? "it hung" : "it crashed");
    }
    return 0;
}
