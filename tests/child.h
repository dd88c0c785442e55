/* SPDX-License-Identifier: MIT */
/*
 * child.h - runs a function in a forked child of a unit test, bounded in time, and brings back how
 * it ended and what it wrote to stderr. For what must abort, for what needs a fresh process, and
 * for what may hang.
 *
 * It is NOT for the product. The caller has one thread. A child that does not end in time is
 * killed, which shows as a status of SIGKILL. Expectations inside the child use CHILD_CHECK, since
 * libcheck's own would report to the wrong process.
 */
#ifndef BS_TESTS_CHILD_H
#define BS_TESTS_CHILD_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct outcome {
    int status; /* of waitpid */
    size_t len;
    char err[8192]; /* what was written to stderr, cut, with a NUL */
};

/* In the child: ends it with a message that names the broken expectation. */
#define CHILD_CHECK(c) \
    ((c) ? (void)0 : (dprintf(2, "%s:%d: not so: %s\n", __FILE__, __LINE__, #c), _exit(99)))

static inline int child_ms_left(const struct timespec *start, int seconds) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long ms = (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
    return ms < seconds * 1000L ? (int)(seconds * 1000L - ms) : 0;
}

/* Collects stderr until all writers are gone; false when the time is over. */
static inline bool child_collect(int fd, struct outcome *o, int seconds) {
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, child_ms_left(&start, seconds)) <= 0)
            return false;
        char junk[1024];
        size_t room = sizeof o->err - 1 - o->len;
        ssize_t n = read(fd, room != 0 ? o->err + o->len : junk, room != 0 ? room : sizeof junk);
        if (n <= 0)
            return true;
        if (room != 0)
            o->len += (size_t)n;
    }
}

static inline struct outcome child_run(void (*fn)(void *), void *arg, int seconds) {
    struct outcome o = {0};
    int fds[2];
    if (pipe(fds) != 0)
        abort();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0) {
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        fn(arg);
        _exit(0);
    }
    close(fds[1]);
    if (!child_collect(fds[0], &o, seconds))
        kill(pid, SIGKILL);
    close(fds[0]);
    waitpid(pid, &o.status, 0);
    o.err[o.len] = '\0';
    return o;
}

static inline bool child_aborted(const struct outcome *o) {
    return WIFSIGNALED(o->status) && WTERMSIG(o->status) == SIGABRT;
}
static inline bool child_ended_well(const struct outcome *o) {
    return WIFEXITED(o->status) && WEXITSTATUS(o->status) == 0;
}

#endif
