/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program that gives up its rights keeps its reports: the thread of besom that still has them ends,
 * and another one is there soon, without them, although nothing is to be given back. Skipped without rights
 * to give up.
 */
#include "promise.h"

#include <dirent.h>
#include <sys/types.h>

enum { nobody = 65534 };

/* The effective user of a thread that is not the first one; -1: there is none. */
static long other_thread_user(void) {
    long user = -1;
    DIR *dir = opendir("/proc/self/task");
    BS_CHECK(dir != NULL, "/proc/self/task");
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[300], text[4096];
        if (atoi(e->d_name) == 0 || atoi(e->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
        int fd = open(path, O_RDONLY);
        ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
        text[got > 0 ? got : 0] = '\0';
        const char *line = strstr(text, "\nUid:");
        long effective;
        if (line != NULL && sscanf(line, "\nUid: %*d %ld", &effective) == 1)
            user = effective;
        if (fd >= 0)
            close(fd);
    }
    closedir(dir);
    return user;
}

/* At a slow door each time, with next to nothing in use. */
static void wait_for_user(long user) {
    for (uint64_t end = now_ms() + 60000; other_thread_user() != user; sleep_ms(5)) {
        free(hide(malloc(100000)));
        BS_CHECK(now_ms() < end, "besom's thread is user %ld's, not %ld's", other_thread_user(), user);
    }
}

int main(void) {
    if (geteuid() != 0)
        promise_skip("this user has no rights to give up");
    wait_for_user(0);
    BS_CHECK(setresuid(nobody, nobody, 0) == 0, "setresuid");
    wait_for_user(nobody);
    return 0;
}
