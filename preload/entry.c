/* SPDX-License-Identifier: MIT */
/*
 * entry.c - the malloc family by its names, on top of the heap facade.
 *
 * Thin: it checks arguments as the man pages say, sets errno (nothing below preload/ does), and
 * calls. Behaviour is glibc's where programs rely on it: realloc(p, 0) frees, malloc(0)
 * returns a unique block. No constructor need have run, and none is waited for. Any thread, but no
 * handler of a signal that interrupted one of them.
 */
#include "doors.h"
#include "heap.h"
#include "record.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* Not in this libc's headers (yet, or any more). */
void free_sized(void *p, size_t size);
void free_aligned_sized(void *p, size_t align, size_t size);
void cfree(void *p);

/* The two fast paths' slow doors: tail calls, so the hit path needs no stack frame. */
static BS_NOINLINE void *alloc_uncached(size_t size) {
    void *p = bs_door_recorded(BS_RECORD_MALLOC, bs_heap_alloc_slow(size), size, 1);
    if (BS_UNLIKELY(p == NULL))
        errno = ENOMEM;
    return p;
}

static BS_NOINLINE void *alloc_slow(size_t size) {
    void *p;
    return BS_LIKELY(bs_heap_alloc_cached(size, &p)) ? p : alloc_uncached(size);
}

BS_NOINLINE void bs_door_free(void *p) {
    if (bs_record_is_on())
        bs_record_freed(p);
    bs_heap_free_slow(p);
}

static BS_NOINLINE void *zero_slow(size_t size) {
    void *p = bs_door_recorded(BS_RECORD_CALLOC, bs_heap_alloc_zero(size), size, 1);
    if (BS_UNLIKELY(p == NULL))
        errno = ENOMEM;
    return p;
}

BS_NOINLINE void *bs_door_alloc_aligned_slow(size_t align, size_t size) {
    return bs_door_recorded(BS_RECORD_ALIGNED, bs_heap_alloc_aligned(align, size), size, align);
}

/* A realloc of a block is one call of the program's, whatever it does inside. */
static BS_NOINLINE void *recorded_realloc(void *p, size_t size) {
    uint64_t number = bs_record_resizing(p);
    void *q = bs_heap_realloc(p, size);
    bs_record_resized(number, p, q, size);
    return q;
}

static inline void *or_enomem(void *p) {
    if (BS_UNLIKELY(p == NULL))
        errno = ENOMEM;
    return p;
}

BS_EXPORT void *malloc(size_t size) {
    return bs_heap_alloc_fast(size, alloc_slow);
}

BS_EXPORT void free(void *p) {
    bs_heap_free_fast(p, bs_door_free);
}

BS_EXPORT void *calloc(size_t n, size_t size) {
    size_t bytes;
    if (BS_UNLIKELY(__builtin_mul_overflow(n, size, &bytes)))
        return or_enomem(NULL);
    void *p;
    if (bs_heap_alloc_tiny_cached(bytes, &p))
        return memset(p, 0, bytes);
    return zero_slow(bytes);
}

BS_EXPORT void *realloc(void *p, size_t size) {
    if (p == NULL)
        return malloc(size);
    if (size == 0) {
        free(p);
        return NULL;
    }
    return or_enomem(bs_record_is_on() ? recorded_realloc(p, size) : bs_heap_realloc(p, size));
}

BS_EXPORT void *reallocarray(void *p, size_t n, size_t size) {
    size_t bytes;
    if (BS_UNLIKELY(__builtin_mul_overflow(n, size, &bytes)))
        return or_enomem(NULL);
    return realloc(p, bytes);
}

/* --- alignment -------------------------------------------------------------------------------- */

/* One copy for all but posix_memalign: each would be 200 bytes of text in every process. */
static BS_NOINLINE void *alloc_aligned(size_t align, size_t size) {
    return or_enomem(bs_door_alloc_aligned(align, size));
}

BS_EXPORT int posix_memalign(void **out, size_t align, size_t size) {
    if (!bs_is_pow2(align) || align % sizeof(void *) != 0)
        return EINVAL;
    void *p = bs_door_alloc_aligned(align, size);
    if (p == NULL)
        return ENOMEM;
    *out = p;
    return 0;
}

/* As glibc: an alignment that is no power of two is rounded up to one. */
BS_EXPORT void *memalign(size_t align, size_t size) {
    if (align > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t pow2 = align <= sizeof(void *) ? sizeof(void *) : (size_t)2 << bs_msb(align - 1);
    return alloc_aligned(pow2, size);
}

BS_EXPORT void *aligned_alloc(size_t align, size_t size) {
    if (!bs_is_pow2(align)) {
        errno = EINVAL;
        return NULL;
    }
    return alloc_aligned(align, size);
}

BS_EXPORT void *valloc(size_t size) {
    return alloc_aligned(bs_heap_os_page(), size);
}

BS_EXPORT void *pvalloc(size_t size) {
    size_t page = bs_heap_os_page();
    if (size > BS_REQUEST_MAX - page)
        return or_enomem(NULL);
    return alloc_aligned(page, bs_align_up(bs_max(size, 1), page));
}

/* --- the rest --------------------------------------------------------------------------------- */

BS_EXPORT size_t malloc_usable_size(void *p) {
    return bs_heap_usable(p);
}

/* C23: the sizes are the program's word; the page map knows better and is asked instead. */
BS_EXPORT void free_sized(void *p, size_t size) {
    (void)size;
    free(p);
}
BS_EXPORT void free_aligned_sized(void *p, size_t align, size_t size) {
    (void)align, (void)size;
    free(p);
}
BS_EXPORT void cfree(void *p) {
    free(p);
}

/* glibc's own names for the same functions, called by programs that wrap malloc. */
#ifdef __clang__ /* it needs no `copy` to keep gcc from a warning, and has none */
#define ALIAS(name) BS_EXPORT __attribute__((alias(#name)))
#else
#define ALIAS(name) BS_EXPORT __attribute__((alias(#name), copy(name)))
#endif
ALIAS(malloc) void *__libc_malloc(size_t size);
ALIAS(free) void __libc_free(void *p);
ALIAS(cfree) void __libc_cfree(void *p);
ALIAS(calloc) void *__libc_calloc(size_t n, size_t size);
ALIAS(realloc) void *__libc_realloc(void *p, size_t size);
ALIAS(reallocarray) void *__libc_reallocarray(void *p, size_t n, size_t size);
ALIAS(memalign) void *__libc_memalign(size_t align, size_t size);
ALIAS(valloc) void *__libc_valloc(size_t size);
ALIAS(pvalloc) void *__libc_pvalloc(size_t size);
ALIAS(posix_memalign) int __posix_memalign(void **out, size_t align, size_t size);
