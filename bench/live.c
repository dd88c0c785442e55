/* SPDX-License-Identifier: MIT */
/*
 * live.c - a malloc to be preloaded that counts what the program has asked for and not freed: bytes as
 * asked, no rounding, no header. bench/floor reads the counts while the program runs, and knows what no
 * allocator can do without. It takes its memory from glibc, and nothing about its own RSS is meant to
 * be compared.
 *
 * BENCH_LIVE names a file of at least a page, which is mapped shared: struct counts below, in bytes.
 * Blocks of more than BENCH_LIVE_MAX bytes are not counted (programs that use large blocks sparsely).
 * Counters are atomic, so any thread may allocate; there is no lock.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* What lies below each block, so that its size is known again. */
struct header {
    size_t size;
    size_t offset; /* of the block in what glibc gave */
};

static struct counts {
    uint64_t base;   /* RSS before anything was asked for */
    uint64_t live;   /* [atomic] asked for and not freed */
    uint64_t tables; /* [atomic] what the program has populated by mmap itself */
    uint64_t peak;   /* [atomic] the largest live + tables; two threads at once may miss it by a block */
} nowhere, *counts = &nowhere;
static size_t max_bytes = SIZE_MAX;

static void add(uint64_t *counter, int64_t bytes) {
    __atomic_add_fetch(counter, bytes, __ATOMIC_RELAXED);
    uint64_t all = __atomic_load_n(&counts->live, __ATOMIC_RELAXED) +
                   __atomic_load_n(&counts->tables, __ATOMIC_RELAXED),
             peak = __atomic_load_n(&counts->peak, __ATOMIC_RELAXED);
    while (bytes > 0 && all > peak &&
           !__atomic_compare_exchange_n(&counts->peak, &peak, all, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}
static void count_block(size_t size, int sign) {
    if (size <= max_bytes)
        add(&counts->live, sign * (int64_t)size);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("BENCH_LIVE"), *max = getenv("BENCH_LIVE_MAX");
    unsigned long pages = 0;
    char text[100];
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        dprintf(STDERR_FILENO, "live: BENCH_LIVE has to name a file of a page or more\n");
        _exit(1);
    }
    close(fd);
    max_bytes = max != NULL ? strtoull(max, NULL, 10) : SIZE_MAX;
    fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[got > 0 ? got : 0] = '\0';
    if (sscanf(text, "%*u %lu", &pages) != 1)
        _exit(1);
    close(fd);
    counts = map; /* what ld.so asked for before is in the base */
    counts->base = pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* --- blocks ----------------------------------------------------------------------------------- */

static struct header *header_of(void *p) {
    return (struct header *)p - 1;
}
static void *finish(char *whole, size_t offset, size_t size) {
    if (whole == NULL)
        return NULL;
    *header_of(whole + offset) = (struct header){size, offset};
    count_block(size, +1);
    return whole + offset;
}

EXPORT void *malloc(size_t size) {
    if (size > PTRDIFF_MAX - 64) {
        errno = ENOMEM;
        return NULL;
    }
    return finish(__libc_malloc(size + sizeof(struct header)), sizeof(struct header), size);
}
EXPORT void *calloc(size_t n, size_t each) {
    size_t size;
    if (__builtin_mul_overflow(n, each, &size) || size > PTRDIFF_MAX - 64) {
        errno = ENOMEM;
        return NULL;
    }
    return finish(__libc_calloc(1, size + sizeof(struct header)), sizeof(struct header), size);
}
EXPORT void free(void *p) {
    if (p == NULL)
        return;
    count_block(header_of(p)->size, -1);
    __libc_free((char *)p - header_of(p)->offset);
}
EXPORT void *memalign(size_t align, size_t size) {
    align = align < sizeof(struct header) ? sizeof(struct header) : align;
    if (size > PTRDIFF_MAX - align) {
        errno = ENOMEM;
        return NULL;
    }
    return finish(__libc_memalign(align, size + align), align, size);
}
EXPORT void *aligned_alloc(size_t align, size_t size) {
    return memalign(align, size);
}
EXPORT int posix_memalign(void **out, size_t align, size_t size) {
    void *p = memalign(align, size);
    if (p != NULL)
        *out = p;
    return p != NULL ? 0 : ENOMEM;
}
EXPORT void *realloc(void *p, size_t size) {
    if (p == NULL)
        return malloc(size);
    if (size == 0) {
        free(p);
        return NULL;
    }
    size_t old = header_of(p)->size;
    /* The old block is gone before the new one is there: a malloc that grows blocks in place can do so. */
    count_block(old, -1);
    void *fresh = malloc(size);
    if (fresh == NULL) {
        count_block(old, +1);
        return NULL;
    }
    memcpy(fresh, p, old < size ? old : size);
    __libc_free((char *)p - header_of(p)->offset);
    return fresh;
}
EXPORT size_t malloc_usable_size(void *p) {
    return p != NULL ? header_of(p)->size : 0;
}

/* --- what the program maps itself ---------------------------------------------------------------- */

/* Populated tables are resident at once; others may never be, and are left out. */
EXPORT void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    void *p = (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
    if (p != MAP_FAILED && (flags & MAP_POPULATE) != 0)
        add(&counts->tables, (int64_t)bytes);
    return p;
}
