/* SPDX-License-Identifier: MIT */
/*
 * unit.h - what the unit tests of the core share: random numbers that repeat, a cheap assertion
 * for inner loops, the proof that a crime ends in SIGABRT with the right words, and main().
 *
 * It is NOT about besom: it includes nothing of src/. libcheck runs each test in a process of its
 * own, so every test begins with an empty heap.
 */
#ifndef BS_TESTS_UNIT_H
#define BS_TESTS_UNIT_H

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(BS_SANITIZE_THREAD) && BS_SANITIZE_THREAD
#include "tsan_unit.h"
#endif

/* Up to it nothing is besom's, and AddressSanitizer's shadow lies there: each mmap of ours cuts that since gcc 13. */
#if defined(BS_SANITIZED) && BS_SANITIZED && defined(__x86_64__)
#define UNIT_SHADOW_LAST ((uintptr_t)0x10007fff7fff)
#else
#define UNIT_SHADOW_LAST ((uintptr_t)0)
#endif

/* Mappings of this process. Nothing is allocated for it: AddressSanitizer takes more memory for what is, and what is
 * freed it keeps, so that its mappings become more. Nor does a test that compares two counts assert more than it has
 * to between them (require below is for that), since each assertion allocates. */
static inline size_t count_mappings(void) {
    static char text[16384];
    size_t n = 0;
    uintptr_t start = 0;
    bool is_start = true;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t got; (got = read(fd, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < got; i++) {
            if (text[i] == '\n') {
                is_start = true;
                start = 0;
            } else if (is_start && text[i] == '-') {
                is_start = false;
                n += start > UNIT_SHADOW_LAST;
            } else if (is_start) {
                start = start << 4 | (uintptr_t)(text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10);
            }
        }
    close(fd);
    return n;
}

/* Of a vector register that nothing uses any more a thread that is made gets a copy: gcc 12 copies words by them on arm64.
 * (preload/shim_thread.c does the same for each thread.) */
static inline void wipe_vectors(void) {
#if defined(__aarch64__)
    __asm__ volatile("movi v0.2d, #0; movi v1.2d, #0; movi v2.2d, #0; movi v3.2d, #0;"
                     "movi v4.2d, #0; movi v5.2d, #0; movi v6.2d, #0; movi v7.2d, #0;"
                     "movi v16.2d, #0; movi v17.2d, #0; movi v18.2d, #0; movi v19.2d, #0;"
                     "movi v20.2d, #0; movi v21.2d, #0; movi v22.2d, #0; movi v23.2d, #0;"
                     "movi v24.2d, #0; movi v25.2d, #0; movi v26.2d, #0; movi v27.2d, #0;"
                     "movi v28.2d, #0; movi v29.2d, #0; movi v30.2d, #0; movi v31.2d, #0" ::
                         : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21",
                           "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#endif
}

/* ck_assert notes every success in a file: too slow where a test asks a million times. */
#define require(condition, ...)        \
    do {                               \
        if (!(condition))              \
            ck_abort_msg(__VA_ARGS__); \
    } while (0)
#define require_uint_eq(x, y)                                                                            \
    do {                                                                                                 \
        uintmax_t is_ = (x), wanted_ = (y);                                                              \
        require(is_ == wanted_, "%s is %ju, not %ju", #x, is_, wanted_);                                 \
    } while (0)

#if defined(BS_SANITIZED) && BS_SANITIZED
#define UNIT_TIMEOUT_S 120
#define UNIT_SLOWNESS 4 /* what a sanitizer costs: loops are shorter by it */
#else
#define UNIT_TIMEOUT_S 30
#define UNIT_SLOWNESS 1
#endif

/* What a child may take that does most of a test's work: a little less than the test, whose limit is multiplied by
 * run-unit.sh. */
static inline int unit_child_limit_s(void) {
    const char *times = getenv("CK_TIMEOUT_MULTIPLIER");
    return UNIT_TIMEOUT_S * (times != NULL && atoi(times) > 0 ? atoi(times) : 1) - 5;
}

/* Waits, 60 s at most, until the kernel finds thread tid of this process asleep in the system call, with a
 * first argument from low to below high. That a thread has said it will sleep is not enough for a test that
 * asks who sleeps: on a busy machine any time may lie between the two. */
static inline void wait_until_in_call(int tid, long call, uintptr_t low, uintptr_t high) {
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    for (unsigned tries = 0; tries < 60000; tries++) {
        unsigned long number, argument;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
        if (fd >= 0)
            close(fd);
        line[n > 0 ? n : 0] = '\0';
        if (sscanf(line, "%lu 0x%lx", &number, &argument) == 2 && number == (unsigned long)call &&
            argument >= low && argument < high)
            return;
        usleep(1000);
    }
    ck_abort_msg("thread %d does not fall asleep; %s says \"%s\"", tid, path, line);
}
/* The same for a wait at a word of the object, a semaphore say. */
static inline void wait_until_asleep(int tid, const void *at, size_t bytes) {
    wait_until_in_call(tid, SYS_futex, (uintptr_t)at, (uintptr_t)at + bytes);
}

/* splitmix64: the same numbers in every run, so that a failure can be seen again. */
static inline uint64_t random_next(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
static inline size_t random_below(uint64_t *state, size_t n) {
    return (size_t)(random_next(state) % n);
}
/* Small numbers are likely, each power of two as likely as the next. */
static inline size_t random_skewed(uint64_t *state, unsigned max_bits) {
    unsigned bits = (unsigned)random_below(state, max_bits + 1);
    return random_below(state, (size_t)1 << bits);
}

/* Runs crime(arg) in a child: it must die of SIGABRT after a line on stderr that holds `text`. */
static inline void expect_abort(void (*crime)(void *arg), void *arg, const char *text) {
    char said[2048];
    size_t len = 0;
    ssize_t n;
    int fd[2], status;
    ck_assert_int_eq(pipe(fd), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(fd[1], STDERR_FILENO);
        close(fd[0]);
        close(fd[1]);
        crime(arg);
        _exit(0);
    }
    close(fd[1]);
    while ((n = read(fd[0], said + len, sizeof said - 1 - len)) > 0)
        len += (size_t)n;
    said[len] = '\0';
    close(fd[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT,
                  "no SIGABRT (wait status 0x%x), stderr: %s", (unsigned)status, said);
    ck_assert_msg(strstr(said, text) != NULL, "stderr says \"%s\", not \"%s\"", said, text);
}

static inline TCase *add_case(Suite *suite, const char *name) {
    TCase *tc = tcase_create(name);
    tcase_set_timeout(tc, UNIT_TIMEOUT_S);
#if defined(BS_SANITIZE_THREAD) && BS_SANITIZE_THREAD
    tcase_add_checked_fixture(tc, tsan_be_alone, NULL);
#endif
    suite_add_tcase(suite, tc);
    return tc;
}

/* In a handler that is to be interrupted: ThreadSanitizer has blocked all signals. */
static inline void unit_handler_begins(int signo) {
#if defined(BS_SANITIZE_THREAD) && BS_SANITIZE_THREAD
    tsan_handler_begins(signo);
#else
    (void)signo;
#endif
}

/* A test of which ThreadSanitizer would see nothing, for one thread is in it, or that cannot be under it, and why; it
 * is left out there, and the log says so. */
static inline bool unit_tsan_passes(const char *test, const char *why) {
#if defined(BS_SANITIZE_THREAD) && BS_SANITIZE_THREAD
    printf("left out under ThreadSanitizer: %s: %s\n", test, why);
    return true;
#else
    (void)test, (void)why;
    return false;
#endif
}
#define UNIT_ALONE "one thread"
#define add_but_tsan(tc, test, why)            \
    do {                                       \
        if (!unit_tsan_passes(#test, why))     \
            tcase_add_test(tc, test);          \
    } while (0)
#define add_loop_but_tsan(tc, test, from, to, why)  \
    do {                                            \
        if (!unit_tsan_passes(#test, why))          \
            tcase_add_loop_test(tc, test, from, to); \
    } while (0)

static inline int run_suite(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
