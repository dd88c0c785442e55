/* SPDX-License-Identifier: MIT */
/*
 * mallocx.c - jemalloc's own interface, over whatever malloc the program has. Redis 8 takes the memory of its Lua
 * with mallocx and asks malloc_usable_size for its sizes: where glibc's malloc, or another, is put before jemalloc
 * alone, that one is asked for blocks it did not make, and glibc's crashes. With this behind it in LD_PRELOAD all of
 * the server's memory comes from one malloc.
 *
 * It is for the peers of besom (tools/demo.py, bench/redis.py, tests/compat/programs/redis.sh as a benchmark), NOT for
 * besom, which says of others' blocks that it can use 0 bytes of them. It is not installed. Arenas and caches that the
 * flags name are ignored; what Redis does not call is left to jemalloc. No state, no locks.
 */
#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* Of jemalloc(3): the lowest six bits are the binary logarithm of the alignment, the next asks for zeros. */
enum { LOG_ALIGNMENT = 63, ZERO = 64 };

EXPORT void *mallocx(size_t size, int flags);
EXPORT void *rallocx(void *p, size_t size, int flags);
EXPORT void dallocx(void *p, int flags);

static size_t alignment(int flags) {
    return (size_t)1 << (flags & LOG_ALIGNMENT);
}

void *mallocx(size_t size, int flags) {
    void *p = alignment(flags) > _Alignof(max_align_t) ? memalign(alignment(flags), size) : malloc(size);
    if (p != NULL && (flags & ZERO) != 0)
        memset(p, 0, size);
    return p;
}

void *rallocx(void *p, size_t size, int flags) {
    if (alignment(flags) <= _Alignof(max_align_t) && (flags & ZERO) == 0)
        return realloc(p, size);
    size_t had = malloc_usable_size(p);
    void *q = mallocx(size, flags);
    if (q != NULL) {
        memcpy(q, p, had < size ? had : size);
        free(p);
    }
    return q;
}

void dallocx(void *p, int flags) {
    (void)flags;
    free(p);
}
