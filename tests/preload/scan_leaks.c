/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:leak what was lost is reported, by the stack it came from and no other, and what is
 * in use is not: lists that several threads change all the time, blocks that only a thread-local
 * variable, a register or an epoll descriptor knows. Words that dead frames left on stacks hide nothing.
 * The program has a SIGCHLD handler, waits for children, and counts descriptors: it notices nothing of
 * the scans.
 *
 * The heap grows on the way, so that scans are made in place first, and then while the program runs, or in
 * a copy (the second run, which has an argument).
 * scan_leaks.conf asks for a scan a second, and this program reads its own log, until it has seen enough:
 * on a busy machine stops fail, and a copy gets what CPU time is left over.
 */
#include "promise.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>

#define THREADS 4
#define LOST 50
#define MOST_MS 100000 /* that is waited for scans */
#define ALL_LOST (LOST + 2) /* and one of a thread that ends, one of a thread that stays */

static volatile sig_atomic_t nchildren;
static int end_all, deep_is_lost; /* [atomic] */
static __thread void *in_tls;

static void count_child(int signo) {
    (void)signo;
    nchildren++;
}

/* Names that the log does not know, and addresses that it does. */
__attribute__((noinline)) static void lose(size_t bytes) {
    void **volatile p = malloc(bytes), **volatile hangs = malloc(bytes);
    memset(p, 0, bytes);
    memset(hangs, 0, bytes);
    p[1] = hangs;
    p = hangs = NULL;
}
__attribute__((noinline)) static void wipe(void) {
    volatile char junk[8192];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}

/* A lost block, and words about it where dead frames were: far below what the thread calls next. */
__attribute__((noinline)) static void leave_words(void **block, unsigned depth) {
    void **volatile left[64];
    for (size_t i = 0; i < 64; i++)
        left[i] = block;
    if (depth != 0)
        leave_words(block, depth - 1);
    (void)left[63];
}
__attribute__((noinline)) static void lose_deep(unsigned depth) {
    volatile char room[1024];
    room[0] = 0;
    if (depth != 0) {
        lose_deep(depth - 1);
    } else {
        void **p = calloc(1, 300);
        p[1] = calloc(1, 300);
        leave_words(p, 8);
    }
    (void)room[0];
}
static void *lose_and_end(void *arg) {
    lose_deep(2);
    return arg;
}
static void *lose_and_stay(void *arg) {
    lose_deep(20);
    __atomic_store_n(&deep_is_lost, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&end_all, __ATOMIC_RELAXED))
        usleep(10000);
    return arg;
}

static void *shuffle(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg + 1;
    void **list = NULL;
    size_t n = 0;
    in_tls = malloc(1000);
    while (!__atomic_load_n(&end_all, __ATOMIC_RELAXED)) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        if (n < 20000 && (seed >> 40) % 2 == 0) {
            void **p = calloc(1, 16 + (seed >> 44) % 300);
            *p = list;
            list = p;
            n++;
        } else if (list != NULL) {
            void **p = list;
            list = *p;
            free(p);
            n--;
        }
        if ((seed >> 40) % 1024 == 0)
            usleep(1000);
    }
    while (list != NULL) {
        void **p = list;
        list = *p;
        free(p);
    }
    free(in_tls);
    return NULL;
}

static int count_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* A scan that is under way has descriptors of its own for a moment: what stays is the fewest of several counts. */
static int count_lasting_fds(void) {
    int fewest = count_fds();
    for (int i = 0; i < 50; i++, usleep(2000)) {
        int n = count_fds();
        fewest = n < fewest ? n : fewest;
    }
    return fewest;
}

static void give_to_epoll(int epoll, int fd) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = malloc(700)};
    BS_CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0, "epoll_ctl");
    e.data.ptr = NULL;
}

/* The number behind " name " in the line. */
static unsigned long number(const char *line, const char *name) {
    char word[64];
    snprintf(word, sizeof word, " %s ", name);
    const char *at = strstr(line, word);
    BS_CHECK(at != NULL, "no %s in: %s", name, line);
    return strtoul(at + strlen(word), NULL, 10);
}

static unsigned scans, verdicts, reports, copies; /* the last: scans that were not made in place */
static bool by_copy;                              /* scan_way:copy; else they may be concurrent */
static unsigned late_scans = 1; /* this verdict is the first that saw all */
static unsigned early; /* verdicts that were there when all was lost, and one that may have been under way */

/* Of the early ones little is known: on a busy machine the first scan may come before the program has begun. */
static void judge_line(char *line) {
    if (strstr(line, " scan: ") != NULL) {
        scans++;
        if (strstr(line, " verdict done ") == NULL)
            return;
        verdicts++;
        copies += strstr(line, " way copy ") != NULL || (!by_copy && strstr(line, " way concurrent ") != NULL);
        unsigned long leaks = number(line, "leaks"), lost = number(line, "lost_blocks");
        if (verdicts <= early && lost < 2 * ALL_LOST)
            late_scans = verdicts + 1;
        else
            BS_CHECK(lost == 2 * ALL_LOST, "lost %lu blocks, not %d: %s", lost, 2 * ALL_LOST, line);
        if (verdicts == 1)
            BS_CHECK(leaks == 0, "leaks %lu: %s", leaks, line);
        else if (verdicts > late_scans)
            BS_CHECK(leaks == ALL_LOST, "leaks %lu: %s", leaks, line);
    }
    if (strstr(line, " leak: ") != NULL && verdicts > late_scans) {
        reports++;
        unsigned long n = number(line, "leaks");
        BS_CHECK((n == LOST || n == 1) && number(line, "bytes") == n * 300 &&
                     number(line, "indirect_blocks") == n,
                 "another leak: %s", line);
    }
}

/* The lines that are whole. */
static void judge(const char *path) {
    static char text[1 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    scans = verdicts = reports = copies = 0;
    late_scans = 1;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        judge_line(line);
    }
}

static void sleep_until(time_t end) {
    while (time(NULL) < end) {
        BS_CHECK(usleep(50000) == 0 || errno == EINTR, "usleep");
        BS_CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child that is not ours");
    }
}

int main(int argc, char **argv) {
    static int fds[2], epoll; /* not on the stack: nothing there may look like a pointer */
    static char path[64];
    pthread_t thread[THREADS], ends, stays;
    (void)argv;
    by_copy = argc > 1;
    promise_begin_log(path, sizeof path, "scan_leaks");
    signal(SIGCHLD, count_child);
    epoll = epoll_create1(0);
    BS_CHECK(pipe(fds) == 0, "pipe");
    give_to_epoll(epoll, fds[0]);
    for (volatile size_t i = 0; i < LOST; i++) /* volatile: gcc 14 makes two calls of it else, and so two stacks */
        lose(300);
    for (size_t i = 0; i < THREADS; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, shuffle, (void *)i) == 0, "thread");
    BS_CHECK(pthread_create(&ends, NULL, lose_and_end, NULL) == 0, "thread");
    pthread_join(ends, NULL);
    BS_CHECK(pthread_create(&stays, NULL, lose_and_stay, NULL) == 0, "thread");
    while (!__atomic_load_n(&deep_is_lost, __ATOMIC_ACQUIRE))
        usleep(1000);
    wipe();
    int nfds = count_lasting_fds();
    uint64_t start_ms = now_ms();
    early = UINT_MAX;
    judge(path);
    early = verdicts + 1;
    do {
        sleep_until(time(NULL) + 2);
        judge(path);
    } while (verdicts < early + 1 && now_ms() < start_ms + MOST_MS);
    /* from now on scans are not made in place; volatile, or the compiler leaves the variable out */
    static void *volatile ballast;
    ballast = malloc(16 << 20);
    memset(ballast, 1, 16 << 20);
    do {
        sleep_until(time(NULL) + 2);
        judge(path);
    } while ((copies < 2 || verdicts < 4) && now_ms() < start_ms + 2 * MOST_MS);
    __atomic_store_n(&end_all, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    pthread_join(stays, NULL);
    BS_CHECK(nchildren == 0, "%d times SIGCHLD", (int)nchildren);
    for (unsigned i = 0; i < 6000 && count_fds() != nfds; i++)
        usleep(10000); /* a scan may be under way */
    BS_CHECK(count_fds() == nfds, "%d descriptors, not %d", count_fds(), nfds);
    judge(path);
    BS_CHECK(verdicts >= 4 && reports >= verdicts - late_scans && copies >= 1 && (!by_copy || copies < verdicts),
             "%u scans, %u verdicts, %u reports, %u not in place", scans, verdicts, reports, copies);
    unlink(path);
    _exit(0); /* no report at exit */
}
