/* SPDX-License-Identifier: MIT */
/*
 * Promise: a process that is copied without libc's fork, by syscall(SYS_clone) as bwrap does or by clone() with
 * a stack of its own as chromium does, can allocate, also while besom's helper is busy with a scan.
 *
 * One thread; the helper begins to scan when the program begins.
 */
#include "promise.h"

#include <linux/sched.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { nrounds = 100, nblocks = 300 };

static char stack[1 << 16] __attribute__((aligned(16)));

static int work(void *arg) {
    static void *blocks[nblocks];

    for (size_t i = 0; i < nblocks; i++)
        blocks[i] = malloc(i * 100 + 1);
    for (size_t i = 0; i < nblocks; i++)
        free(blocks[i]);
    malloc_trim(0);
    return *(int *)arg;
}

static void wait_for(pid_t child, int expected, const char *how) {
    int status = -1;

    BS_CHECK(child > 0, "%s", how);
    BS_CHECK(waitpid(child, &status, 0) == child, "waitpid, after %s", how);
    BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == expected, "%s: the child's status is %#x", how, status);
}

int main(void) {
    int seven = 7;

    for (int i = 0; i < nrounds; i++) {
        pid_t child = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);

        if (child == 0)
            _exit(work(&seven));
        wait_for(child, seven, "syscall(SYS_clone)");
        child = clone(work, stack + sizeof stack, SIGCHLD, &seven);
        wait_for(child, seven, "clone()");
#ifdef SYS_fork
        child = (pid_t)syscall(SYS_fork);
        if (child == 0)
            _exit(work(&seven));
        wait_for(child, seven, "syscall(SYS_fork)");
#endif
#ifdef SYS_clone3
        struct clone_args args = {.exit_signal = SIGCHLD};
        child = (pid_t)syscall(SYS_clone3, &args, sizeof args);
        if (child == 0)
            _exit(work(&seven));
        if (child > 0 || errno != ENOSYS) /* before Linux 5.3, and in containers that refuse it */
            wait_for(child, seven, "syscall(SYS_clone3)");
        BS_CHECK(syscall(SYS_clone3, NULL, sizeof args) == -1, "clone3 without arguments");
#endif
        (void)work(&seven);
    }
    BS_CHECK(syscall(SYS_getpid) == getpid(), "syscall");
    BS_CHECK(syscall(SYS_close, -1L) == -1 && errno == EBADF, "syscall and errno");
    return 0;
}
