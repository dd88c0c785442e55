/* SPDX-License-Identifier: MIT */
/*
 * Promise: a process that is copied by the system call itself, which nobody sees, while besom's helper is busy with a scan,
 * allocates, trims and forks, and so does its child. It has no helper, and what the helper had it gets after a while.
 *
 * One thread; the helper begins to scan when the program begins.
 */
#include "raw_copy.h"

#include <malloc.h>
#include <sys/wait.h>

enum { nrounds = 40, nblocks = 3000 };

static void work(bool much) {
    static void *blocks[nblocks];

    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < nblocks; i++)
            blocks[i] = malloc(i * 7 % 9000 + 1);
        for (size_t i = 0; i < nblocks; i++)
            free(blocks[i]);
    }
    if (much) { /* so much that there is work for a helper */
        void *block = calloc(20, 1 << 20);
        BS_CHECK(block != NULL, "calloc");
        memset(block, 1, 20 << 20);
        free(block);
    }
}

static void wait_for(pid_t child, const char *who) {
    int status = -1;

    BS_CHECK(child > 0, "no %s", who);
    BS_CHECK(waitpid(child, &status, 0) == child, "waitpid for the %s", who);
    BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the %s's status is %#x", who, (unsigned)status);
}

static void live_as_copy(void) {
    alarm(PROMISE_CHILD_LIMIT_S);
    work(false);
    pid_t child = fork();
    if (child == 0) {
        alarm(PROMISE_CHILD_LIMIT_S);
        work(true);
        malloc_trim(0);
        _exit(7);
    }
    wait_for(child, "copy's child");
    work(false);
    malloc_trim(0);
    _exit(7);
}

int main(void) {
    uint64_t seed = 1;

    for (unsigned i = 0; i < nrounds; i++) {
        work(true);
        usleep((useconds_t)rng_below(&seed, 3000));
        pid_t copy = (pid_t)copy_process();
        if (copy == 0)
            live_as_copy();
        wait_for(copy, "copy");
    }
    return 0;
}
