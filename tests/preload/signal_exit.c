/* SPDX-License-Identifier: MIT */
/*
 * Promise: a signal handler may end the process with _exit at any moment, also in the middle of
 * malloc, free or realloc, with other threads at work: the process ends at once with its status.
 *
 * 100 children; each is struck by a timer after another number of microseconds. A child that hangs
 * is killed by its alarm, which is the failure. The parent has one thread, a child three.
 */
#include "promise.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { nchildren = 100, status_wanted = 43 };

static void leave(int signal_number) {
    (void)signal_number;
    _exit(status_wanted);
}

static void *churn(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    void *blocks[200] = {NULL};

    for (;;) {
        size_t i = rng_below(&seed, 200);

        if (rng_below(&seed, 3) == 0) {
            blocks[i] = realloc(blocks[i], 1 + rng_below(&seed, 100000));
        } else {
            free(blocks[i]);
            blocks[i] = malloc(1 + rng_below(&seed, rng_below(&seed, 50) == 0 ? BS_MIB : 2000));
        }
    }
    return NULL;
}

__attribute__((noreturn)) static void child(unsigned delay_us) {
    struct sigaction action = {.sa_handler = leave};
    struct itimerval timer = {.it_value = {0, (suseconds_t)delay_us}};
    pthread_t thread;

    alarm(PROMISE_CHILD_LIMIT_S);
    sigaction(SIGPROF, &action, NULL);
    sigaction(SIGVTALRM, &action, NULL);
    pthread_create(&thread, NULL, churn, (void *)(uintptr_t)1);
    pthread_create(&thread, NULL, churn, (void *)(uintptr_t)2);
    setitimer(delay_us % 2 ? ITIMER_PROF : ITIMER_VIRTUAL, &timer, NULL);
    churn((void *)(uintptr_t)delay_us);
    _exit(1);
}

int main(void) {
    for (unsigned i = 0; i < nchildren; i++) {
        int status;
        pid_t pid = fork();

        BS_CHECK(pid >= 0, "no child");
        if (pid == 0)
            child(100 + i * 331);
        BS_CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
        BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == status_wanted,
                 "child %u ended with status %#x (signal %d: %s)", i, (unsigned)status,
                 WTERMSIG(status), WTERMSIG(status) == SIGALRM ? "it hung" : "it crashed");
    }
    return 0;
}
