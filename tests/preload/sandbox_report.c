/* SPDX-License-Identifier: MIT */
/*
 * Promise: where a sandbox refuses mincore, as that of man does, the report says that it cannot tell what of the
 * heap is in memory, and nothing else is wrong.
 */
#include "promise.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int refuse_mincore(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mincore, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    BS_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "prctl");
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(void) {
    char path[64], line[4096];
    bool noted = false;
    int status;
    promise_begin_log(path, sizeof path, "sandbox_report");
    memset(hide(malloc(1 << 20)), 1, 1 << 20);
    pid_t child = fork();
    if (child == 0)
        return refuse_mincore() == 0 ? 0 : BS_EXIT_SKIP;
    BS_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status), "the child");
    snprintf(path, sizeof path, "sandbox_report.%d.tmp", (int)child);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        noted |= strstr(line, " exit: rss ") != NULL && strstr(line, " note mincore is refused") != NULL;
    if (f != NULL)
        fclose(f);
    unlink(path);
    BS_CHECK(WEXITSTATUS(status) != 0 || noted, "the report does not say so");
    if (WEXITSTATUS(status) == 0)
        _exit(0);
    return WEXITSTATUS(status);
}
