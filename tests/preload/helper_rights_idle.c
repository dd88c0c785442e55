/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program that gives up its rights and then does nothing keeps its reports: the thread of besom that still had
 * them goes on without. Before, it ended, and another one would have been made when the program allocates. Another
 * process looks, so that nothing is done here. Skipped without rights to give up.
 */
#include "promise.h"

#include <grp.h>
#include <sys/types.h>
#include <sys/wait.h>

enum { nobody = 65534, limit_ms = 60000, sees_it = 7 };

static int of_other_thread(pid_t pid, char *text, size_t cap) {
    char buf[1024], path[100];
    int other = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    BS_CHECK(fd >= 0, "%s", path);
    long n = syscall(SYS_getdents64, fd, buf, sizeof buf);
    for (long at = 0; at < n; at += *(unsigned short *)(void *)(buf + at + 16)) {
        int tid = atoi(buf + at + 19);
        other = tid != 0 && tid != pid ? tid : other;
    }
    close(fd);
    text[0] = '\0';
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)pid, other);
    fd = other != 0 ? open(path, O_RDONLY) : -1;
    ssize_t got = fd >= 0 ? read(fd, text, cap - 1) : -1;
    text[got > 0 ? got : 0] = '\0';
    if (fd >= 0)
        close(fd);
    return other;
}

/* All that it had is what the program has now. */
static void watch(pid_t pid) {
    char text[4096];
    int before = of_other_thread(pid, text, sizeof text);
    BS_CHECK(before != 0, "no thread of besom's");
    for (uint64_t end = now_ms() + limit_ms; now_ms() < end; sleep_ms(20)) {
        int tid = of_other_thread(pid, text, sizeof text);
        BS_CHECK(tid == before, "besom's thread has ended, or is another one");
        if (strstr(text, "\nUid:\t65534\t65534\t65534\t65534\n") != NULL && strstr(text, "\nGid:\t65534\t65534\t65534\t65534\n") != NULL &&
            strstr(text, "\nGroups:\t65534 65535 \n") != NULL && strstr(text, "\nCapPrm:\t0000000000000000\n") != NULL &&
            strstr(text, "\nCapEff:\t0000000000000000\n") != NULL)
            _exit(sees_it);
    }
    BS_CHECK(false, "besom's thread has rights still: %.700s", text);
}

int main(void) {
    static const gid_t groups[] = {nobody, nobody + 1};
    int status, ready[2];
    if (geteuid() != 0)
        promise_skip("this user has no rights to give up");
    sleep_ms(50);
    pid_t self = getpid();
    BS_CHECK(pipe(ready) == 0, "pipe");
    pid_t child = fork();
    BS_CHECK(child >= 0, "fork");
    if (child == 0) {
        char byte;
        close(ready[1]);
        BS_CHECK(read(ready[0], &byte, 1) == 0, "the parent");
        watch(self);
    }
    BS_CHECK(setgroups(2, groups) == 0 && setresgid(nobody, nobody, nobody) == 0 && setresuid(nobody, nobody, nobody) == 0,
             "the rights are not given up");
    close(ready[1]);
    BS_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == sees_it,
             "the watcher's status is %#x", (unsigned)status);
    return 0;
}
