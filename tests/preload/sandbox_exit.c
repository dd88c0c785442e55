/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program in a sandbox as that of sshd, in which nothing can be opened and most other calls end the
 * process, ends as it would without a log: the report and the scan at exit are left out.
 *
 * The filter allows what libc's malloc, stdio and exit need. One thread, and no helper.
 */
#include "promise.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOWED(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

int main(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOWED(SYS_read), ALLOWED(SYS_write), ALLOWED(SYS_close), ALLOWED(SYS_brk),
        ALLOWED(SYS_mmap), ALLOWED(SYS_munmap), ALLOWED(SYS_mprotect), ALLOWED(SYS_mremap),
        ALLOWED(SYS_madvise), ALLOWED(SYS_futex), ALLOWED(SYS_getpid), ALLOWED(SYS_gettid),
        ALLOWED(SYS_clock_gettime), ALLOWED(SYS_rt_sigprocmask), ALLOWED(SYS_exit), ALLOWED(SYS_exit_group),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    enum { nblocks = 1000 };
    static void *blocks[nblocks];

    for (size_t i = 0; i < nblocks; i++)
        blocks[i] = malloc(i);
    BS_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "prctl");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 77; /* a kernel without filters */
    for (size_t i = 0; i < nblocks; i++)
        free(blocks[i]);
    return 0;
}
