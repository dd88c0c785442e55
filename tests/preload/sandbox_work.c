/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program of one thread that goes on to allocate in a sandbox as that of sshd, in which nothing can be
 * opened and most other calls end the process, is not killed for what besom does in it from time to time: it
 * returns empty spans and free pages, and looks for caches of threads that have ended.
 *
 * The filter allows what libc's malloc and sshd's own work need. The heap stays too small for a helper.
 */
#include "sandbox.h"

#include <sys/wait.h>

/* Two seconds of blocks of all sizes that come and go, 3 MiB at most: many times as long as besom waits from one
 * look to the next. */
static void work(void) {
    enum { nblocks = 400 };
    static void *blocks[nblocks];
    uint64_t random = 1;
    for (uint64_t end_ms = now_ms() + 2000; now_ms() < end_ms;) {
        for (size_t i = 0; i < nblocks; i++) {
            free(blocks[i]);
            blocks[i] = malloc(rng_below(&random, i % 20 == 0 ? 60000 : 4000));
        }
        for (size_t i = 0; i < nblocks; i++) {
            free(blocks[i]);
            blocks[i] = NULL;
        }
    }
}

int main(void) {
    int status;
    free(hide(malloc(1))); /* what besom sets up once */
    pid_t child = fork(); /* as sshd's, which has its parent's memory */
    if (child == 0) {
        if (!enter_sandbox())
            _exit(BS_EXIT_SKIP);
        work();
        _exit(0);
    }
    BS_CHECK(waitpid(child, &status, 0) == child, "waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == BS_EXIT_SKIP)
        return BS_EXIT_SKIP;
    BS_CHECK(status == 0, "the child ended with %#x", (unsigned)status);
    return 0;
}
