/* SPDX-License-Identifier: MIT */
/*
 * sandbox.h - a sandbox as that of sshd: nothing can be opened, and all calls but what libc's malloc, stdio and exit
 * need end the process.
 */
#ifndef BS_TESTS_SANDBOX_H
#define BS_TESTS_SANDBOX_H

#include "promise.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SANDBOX_ALLOWS(nr) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* For good. False: a kernel without filters. */
static bool enter_sandbox(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        SANDBOX_ALLOWS(SYS_read), SANDBOX_ALLOWS(SYS_write), SANDBOX_ALLOWS(SYS_close), SANDBOX_ALLOWS(SYS_brk),
        SANDBOX_ALLOWS(SYS_mmap), SANDBOX_ALLOWS(SYS_munmap), SANDBOX_ALLOWS(SYS_mprotect),
        SANDBOX_ALLOWS(SYS_mremap), SANDBOX_ALLOWS(SYS_madvise), SANDBOX_ALLOWS(SYS_futex),
        SANDBOX_ALLOWS(SYS_getpid), SANDBOX_ALLOWS(SYS_clock_gettime), SANDBOX_ALLOWS(SYS_rt_sigprocmask),
        SANDBOX_ALLOWS(SYS_exit), SANDBOX_ALLOWS(SYS_exit_group),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    BS_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "prctl");
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

#endif
