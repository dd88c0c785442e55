/* SPDX-License-Identifier: MIT */
/*
 * find_copy.h - for programs that do something while a copy of them is searched: it is found by the name that besom
 * gives it, and stopped, so that its search has no end.
 */
#ifndef BS_TESTS_FIND_COPY_H
#define BS_TESTS_FIND_COPY_H

#include "promise.h"

#include <dirent.h>
#include <signal.h>

/* Of /proc/PID/stat: is it a copy of process `of` that besom made, and stands it? */
static inline bool is_copy(const char *pid, pid_t of, bool *stands) {
    char path[300], text[200] = "", *at;
    int fd = snprintf(path, sizeof path, "/proc/%s/stat", pid) > 0 ? open(path, O_RDONLY) : -1;
    if (fd < 0)
        return false;
    (void)!read(fd, text, sizeof text - 1);
    close(fd);
    at = strstr(text, "(besom scan) ");
    *stands = at != NULL && at[13] == 'T';
    return at != NULL && at[13] != 'Z' && atoi(at + 15) == of;
}

static inline pid_t find_copy(pid_t of) {
    bool stands;
    pid_t pid = 0;
    DIR *dir = opendir("/proc");
    BS_CHECK(dir != NULL, "/proc");
    for (struct dirent *e; pid == 0 && (e = readdir(dir)) != NULL;)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && is_copy(e->d_name, of, &stands))
            pid = atoi(e->d_name);
    closedir(dir);
    return pid;
}

static inline bool stop_copy(pid_t pid, pid_t of) {
    char name[16];
    bool stands = false;
    snprintf(name, sizeof name, "%d", (int)pid);
    if (kill(pid, SIGSTOP) != 0)
        return false;
    for (unsigned i = 0; i < 1000 && is_copy(name, of, &stands) && !stands; i++)
        sleep_ms(1);
    return stands;
}

/* Waits for one of that process. */
static inline pid_t stop_next_copy(pid_t of, unsigned limit_ms) {
    pid_t copy = 0;
    uint64_t start = now_ms();
    while ((copy = find_copy(of)) == 0 || !stop_copy(copy, of))
        BS_CHECK(now_ms() - start < limit_ms, "no copy was found");
    return copy;
}

#endif
