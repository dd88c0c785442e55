/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program of one thread forks while a copy of it is searched for leaks, and does not wait for the end of that
 * search. The copy is stopped here, so that it has none.
 */
#include "promise.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>

enum { nblocks = 400000, limit_ms = 100000, patience_ms = 6000 };

struct node {
    struct node *next;
    unsigned long rest[7];
};
static struct node *list;

/* Of /proc/PID/stat: is it a copy of this process that besom made, and stands it? */
static bool is_copy(const char *pid, bool *stands) {
    char path[300], text[200] = "", *at;
    int fd = snprintf(path, sizeof path, "/proc/%s/stat", pid) > 0 ? open(path, O_RDONLY) : -1;
    if (fd < 0)
        return false;
    (void)!read(fd, text, sizeof text - 1);
    close(fd);
    at = strstr(text, "(besom scan) ");
    *stands = at != NULL && at[13] == 'T';
    return at != NULL && at[13] != 'Z' && atoi(at + 15) == getpid();
}

static pid_t find_copy(void) {
    bool stands;
    pid_t pid = 0;
    DIR *dir = opendir("/proc");
    BS_CHECK(dir != NULL, "/proc");
    for (struct dirent *e; pid == 0 && (e = readdir(dir)) != NULL;)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && is_copy(e->d_name, &stands))
            pid = atoi(e->d_name);
    closedir(dir);
    return pid;
}

static bool stop_copy(pid_t pid) {
    char name[16];
    bool stands = false;
    snprintf(name, sizeof name, "%d", (int)pid);
    if (kill(pid, SIGSTOP) != 0)
        return false;
    for (unsigned i = 0; i < 1000 && is_copy(name, &stands) && !stands; i++)
        sleep_ms(1);
    return stands;
}

int main(void) {
    pid_t copy = 0;
    for (unsigned i = 0; i < nblocks; i++) {
        struct node *node = malloc(sizeof *node);
        BS_CHECK(node != NULL, "malloc");
        node->next = list;
        list = node;
    }
    uint64_t start = now_ms();
    while ((copy = find_copy()) == 0 || !stop_copy(copy))
        BS_CHECK(now_ms() - start < limit_ms, "no copy was found");
    uint64_t before = now_ms();
    pid_t child = fork();
    if (child == 0)
        _exit(5);
    uint64_t took = now_ms() - before;
    kill(copy, SIGCONT);
    int status;
    BS_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5, "the child");
    BS_CHECK(took < patience_ms, "fork took %u ms", (unsigned)took);
    _exit(0);
}
