/* SPDX-License-Identifier: MIT */
/*
 * Promise: where a sandbox refuses mincore, as that of man does, the report says that it cannot tell what of the
 * heap is in memory, and nothing else is wrong.
 */
#include "promise.h"

#include "../refuse_call.h"

#include <sys/syscall.h>
#include <sys/wait.h>

int main(void) {
    char path[64], line[4096];
    bool noted = false;
    int status;
    promise_begin_log(path, sizeof path, "sandbox_report");
    memset(hide(malloc(1 << 20)), 1, 1 << 20);
    pid_t child = fork();
    if (child == 0)
        return refuse_call(SYS_mincore) ? 0 : BS_EXIT_SKIP;
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
