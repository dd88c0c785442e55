/* SPDX-License-Identifier: MIT */
/*
 * older.c - a launcher: the program sees a kernel before 6.7, which has no ioctl PAGEMAP_SCAN and no userfaultfd
 * that notes what is written. For older.sh. 77: there are no filters here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGEMAP_SCAN 0xc0606610u
#define UFFDIO_API 0xc018aa3fu

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_NOT(k, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), 0, (skip))
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, (what))

int main(int argc, char **argv) {
    struct sock_filter filter[] = {LOAD(nr),
                                   IF_NOT(SYS_ioctl, 5),
                                   LOAD(args[1]),
                                   IF_NOT(PAGEMAP_SCAN, 1),
                                   ANSWER(SECCOMP_RET_ERRNO | ENOTTY),
                                   IF_NOT(UFFDIO_API, 1),
                                   ANSWER(SECCOMP_RET_ERRNO | EINVAL),
                                   ANSWER(SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (argc < 2)
        return 2;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 77;
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}
