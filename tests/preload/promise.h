/* SPDX-License-Identifier: MIT */
/*
 * What the promise programs (tests/preload) and the stress programs (tests/stress) share: the
 * check macro, proof that the library under test really serves malloc, a content pattern, a small
 * random generator, resident memory, a clock.
 *
 * It is NOT a test framework and needs no part of besom: the programs know only libc's interface,
 * so the same program can judge any malloc. Include it first in the one source of a program
 * (C or C++). Nothing in it allocates, takes a lock or uses stdio streams, so that a check may
 * fail inside a constructor, a key destructor or a forked child; a failed check ends the process
 * with status 1. run-preload.sh starts the programs and sets PROMISE_LIB.
 */
#ifndef BS_TESTS_PROMISE_H
#define BS_TESTS_PROMISE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BS_KIB ((size_t)1 << 10)
#define BS_MIB ((size_t)1 << 20)
#define PROMISE_CHILD_LIMIT_S 120 /* the alarm of a child that may hang; far above what is needed */
#define BS_EXIT_SKIP 77 /* automake's status for a test that could not run */

/* Ends the process with a line that says where, what and why when cond does not hold. */
#define BS_CHECK(cond, ...)                                       \
    do {                                                          \
        if (!(cond))                                              \
            promise_fail(__FILE__, __LINE__, #cond, __VA_ARGS__); \
    } while (0)

__attribute__((noreturn, cold, format(printf, 4, 5))) static inline void
promise_fail(const char *file, int line, const char *cond, const char *fmt, ...) {
    int err = errno;
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    dprintf(STDERR_FILENO, "%s:%d: FAILED %s: %s (errno %d, process %d)\n", file, line, cond, text,
            err, (int)getpid());
    _exit(1);
}

/* A skip is said on stdout, since stderr belongs to the library under test. */
__attribute__((noreturn, cold, format(printf, 1, 2))) static inline void
promise_skip(const char *fmt, ...) {
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    dprintf(STDOUT_FILENO, "SKIP: %s\n", text);
    _exit(BS_EXIT_SKIP);
}

/* True when the first definition of the symbol, in search order, is the library under test. */
static inline bool promise_owns(const char *symbol) {
    const char *lib = getenv("PROMISE_LIB");
    void *address = dlsym(RTLD_DEFAULT, symbol);
    struct stat want, have;
    Dl_info info;

    return lib != NULL && address != NULL && dladdr(address, &info) != 0 && stat(lib, &want) == 0 &&
           stat(info.dli_fname, &have) == 0 && want.st_dev == have.st_dev &&
           want.st_ino == have.st_ino;
}

/* A constructor, so that no program can forget it: a test that ran on libc's malloc by accident
 * would prove nothing. */
__attribute__((constructor(102))) static void promise_require_library(void) {
    BS_CHECK(getenv("PROMISE_LIB") != NULL, "start this program with run-preload.sh");
    BS_CHECK(promise_owns("malloc"), "malloc does not come from %s", getenv("PROMISE_LIB"));
    BS_CHECK(promise_owns("free"), "free does not come from %s", getenv("PROMISE_LIB"));
}

/* Hides a value from the compiler, which warns about or removes wrong calls it can see. */
static inline void *hide(void *p) {
    __asm__ volatile("" : "+r"(p));
    return p;
}

static inline size_t hide_size(size_t size) {
    __asm__ volatile("" : "+r"(size));
    return size;
}

static inline bool is_aligned(const void *p, size_t alignment) {
    return ((uintptr_t)p & (alignment - 1)) == 0;
}

static inline uint64_t now_ms(void) {
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static inline void sleep_ms(unsigned ms) {
    struct timespec ts = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};

    while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
        ;
}

/* Fills in the name of this process's log, "NAME.PID.tmp" as its .conf has it, and removes one that a process of
 * the same number has left: lines are appended. To be called first of all. */
static inline void promise_begin_log(char *path, size_t size, const char *name) {
    snprintf(path, size, "%s.%d.tmp", name, (int)getpid());
    unlink(path);
}

/* Waits, a minute at most, until the kernel finds thread tid of this process asleep in the system call; negative:
 * in any but futex, in which who is stopped for a moment waits. That a thread has said it will wait is not
 * enough: on a busy machine any time may lie between the two. Where the kernel does not tell, 300 ms must do. */
static inline void promise_wait_until_in_call(int tid, long call) {
    char path[64], text[32] = "";

    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    for (unsigned tries = 0; tries < 60000; tries++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

        if (fd >= 0)
            close(fd);
        text[n > 0 ? n : 0] = '\0';
        long found = text[0] >= '0' && text[0] <= '9' ? atol(text) : -1; /* or "running", or "-1" */
        if (n > 0 ? found >= 0 && (call >= 0 ? found == call : found != SYS_futex) : tries == 300)
            return;
        sleep_ms(1);
    }
    BS_CHECK(false, "thread %d never waits: %s", tid, text);
}

/* False where world_drive.c is to stop the program WORLD_LEAST times and has not yet, for a minute at most.
 * The driver says in the environment where it counts. */
static inline bool promise_is_stopped_enough(void) {
    static uint64_t start_ms;
    const char *least = getenv("WORLD_LEAST"), *where = getenv("WORLD_STOPS");
    void *count = NULL;

    if (least == NULL || where == NULL || sscanf(where, "%p", &count) != 1)
        return true;
    if (start_ms == 0)
        start_ms = now_ms();
    return __atomic_load_n((unsigned *)count, __ATOMIC_RELAXED) >= (unsigned)atoi(least) ||
           now_ms() - start_ms > 60000;
}

/* Resident bytes by /proc/self/statm, read without stdio: asking must not allocate. */
static inline size_t rss_bytes(void) {
    char text[128];
    unsigned long total_pages = 0, resident_pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        close(fd);
    BS_CHECK(n > 0, "/proc/self/statm cannot be read");
    text[n] = '\0';
    BS_CHECK(sscanf(text, "%lu %lu", &total_pages, &resident_pages) == 2, "statm says \"%s\"",
             text);
    return (size_t)resident_pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* splitmix64: small, fast and good enough to choose sizes; the state is the caller's. */
static inline uint64_t rng_next(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline size_t rng_below(uint64_t *state, size_t bound) {
    return (size_t)(rng_next(state) % bound);
}

static inline uint64_t pattern_word(uint64_t tag, size_t word_idx) {
    return (tag | 1) * (word_idx + 1) + (tag >> 7);
}

/* Byte k depends on tag and k only, so a prefix of a filled block checks like a block. */
static inline void pattern_fill(void *p, size_t size, uint64_t tag) {
    unsigned char *bytes = (unsigned char *)p;

    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = pattern_word(tag, at / sizeof word);

        memcpy(bytes + at, &word, size - at < sizeof word ? size - at : sizeof word);
    }
}

/* The offset of the first word that differs, or size when the pattern is whole. */
static inline size_t pattern_whole(const void *p, size_t size, uint64_t tag) {
    const unsigned char *bytes = (const unsigned char *)p;

    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = pattern_word(tag, at / sizeof word);

        if (memcmp(bytes + at, &word, size - at < sizeof word ? size - at : sizeof word) != 0)
            return at;
    }
    return size;
}

/* The offset of the first byte that is not zero, or size. */
static inline size_t zero_whole(const void *p, size_t size) {
    const unsigned char *bytes = (const unsigned char *)p;
    size_t at = 0;

    for (; at + sizeof(uint64_t) <= size; at += sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, bytes + at, sizeof word);
        if (word != 0)
            break;
    }
    while (at < size && bytes[at] == 0)
        at++;
    return at;
}

#define BS_CHECK_PATTERN(p, size, tag)                                                         \
    do {                                                                                       \
        size_t whole_ = pattern_whole((p), (size), (tag));                                     \
        BS_CHECK(whole_ == (size), "block %p of %zu bytes changed at offset %zu", (void *)(p), \
                 (size_t)(size), whole_);                                                      \
    } while (0)

#define BS_CHECK_ZERO(p, size)                                                                     \
    do {                                                                                           \
        size_t whole_ = zero_whole((p), (size));                                                   \
        BS_CHECK(whole_ == (size), "block %p of %zu bytes is not zero at offset %zu", (void *)(p), \
                 (size_t)(size), whole_);                                                          \
    } while (0)

#endif
