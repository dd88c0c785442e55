/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine,quarantine_mode:sound a block to which a pointer exists is never handed
 * out where no copy of the process can be made either: the search is done while all stand. (The argument:
 * seconds.)
 */
#include "quarantine_moves.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Who cannot wait for a copy makes none. */
static bool refuse_waiting(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_wait4, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

int main(int argc, char **argv) {
    if (!refuse_waiting()) {
        dprintf(STDOUT_FILENO, "SKIP: no system call can be refused here (errno %d)\n", errno);
        return 77;
    }
    return must_catch_nothing(argc, argv);
}
