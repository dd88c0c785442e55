/* SPDX-License-Identifier: MIT */
/*
 * Promise: fork works from every thread at any time. Eight threads allocate and free; each of them
 * forks 25 times while the others go on. Every child checks the blocks of its thread, frees them,
 * allocates, starts a grandchild that does the same, and both end with status 0.
 *
 * A child that deadlocks is ended by its alarm, which is the failure. The threads share no blocks.
 */
#include "promise.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { nthreads = 8, nforks_each = 25, nblocks = 300 };

struct owner {
    uint64_t seed;
    void *blocks[nblocks];
    size_t sizes[nblocks];
};

static void replace(struct owner *owner, size_t i) {
    if (owner->blocks[i] != NULL)
        BS_CHECK_PATTERN(owner->blocks[i], owner->sizes[i], (uint64_t)i);
    free(owner->blocks[i]);
    size_t bound = rng_below(&owner->seed, 40) == 0 ? 300000 : 1500;

    owner->sizes[i] = 1 + rng_below(&owner->seed, bound);
    owner->blocks[i] = malloc(owner->sizes[i]);
    BS_CHECK(owner->blocks[i] != NULL, "malloc(%zu) gave NULL", owner->sizes[i]);
    pattern_fill(owner->blocks[i], owner->sizes[i], (uint64_t)i);
}

static void churn(struct owner *owner, int n) {
    while (n-- > 0)
        replace(owner, rng_below(&owner->seed, nblocks));
}

static void expect_status_zero(pid_t pid, const char *who) {
    int status;
    pid_t got;

    while ((got = waitpid(pid, &status, 0)) == -1 && errno == EINTR)
        ;
    BS_CHECK(got == pid, "waitpid for the %s", who);
    BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0,
             "the %s ended with status %#x (signal %d: %s)", who, (unsigned)status,
             WTERMSIG(status), WTERMSIG(status) == SIGALRM ? "deadlock" : "crash");
}

/* Depth 0 is the child, 1 the grandchild. Half of them leave by exit, which runs handlers. */
__attribute__((noreturn)) static void descend(struct owner *owner, int depth) {
    alarm(PROMISE_CHILD_LIMIT_S);
    churn(owner, 200);
    if (depth == 0) {
        pid_t pid = fork();

        BS_CHECK(pid >= 0, "no grandchild");
        if (pid == 0)
            descend(owner, 1);
        churn(owner, 200);
        expect_status_zero(pid, "grandchild");
    }
    for (size_t i = 0; i < nblocks; i++) {
        BS_CHECK_PATTERN(owner->blocks[i], owner->sizes[i], (uint64_t)i);
        free(owner->blocks[i]);
    }
    if (rng_below(&owner->seed, 2) == 0)
        exit(0);
    _exit(0);
}

static void *work(void *arg) {
    struct owner *owner = arg;

    for (size_t i = 0; i < nblocks; i++)
        replace(owner, i);
    for (int n = 0; n < nforks_each; n++) {
        churn(owner, 500);
        pid_t pid = fork();

        BS_CHECK(pid >= 0, "no child");
        if (pid == 0)
            descend(owner, 0);
        churn(owner, 100);
        expect_status_zero(pid, "child");
    }
    for (size_t i = 0; i < nblocks; i++)
        free(owner->blocks[i]);
    return NULL;
}

int main(void) {
    static struct owner owners[nthreads];
    pthread_t threads[nthreads];

    for (size_t i = 0; i < nthreads; i++) {
        owners[i].seed = i + 1;
        BS_CHECK(pthread_create(&threads[i], NULL, work, &owners[i]) == 0, "no thread");
    }
    for (size_t i = 0; i < nthreads; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
