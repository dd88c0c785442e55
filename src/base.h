/* SPDX-License-Identifier: MIT */
/*
 * base.h - attributes, sizes, alignment arithmetic and assertions for every file of besom.
 *
 * It holds no state and declares no function but bs_assert_failed(). It is NOT a place for helpers
 * that belong to one module. Every other file includes it, directly or not.
 */
#ifndef BS_BASE_H
#define BS_BASE_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How much is verified: 0 cheap checks only, 1 arguments, 2 structures touched, 3 whole structures. */
#ifndef BS_DEBUG
#define BS_DEBUG 0
#endif
/* Built with a sanitizer: memory comes through libc so that the sanitizer sees it. */
#ifndef BS_SANITIZED
#define BS_SANITIZED 0
#endif
#ifndef BS_SANITIZE_THREAD
#define BS_SANITIZE_THREAD 0
#endif
/* Test builds only: the nth system call can be made to fail (see os.h). */
#ifndef BS_FAULTS
#define BS_FAULTS 0
#endif
/* Builds that measure locks only: see lockprof.h. */
#ifndef BS_LOCK_PROFILE
#define BS_LOCK_PROFILE 0
#endif

#define BS_LIKELY(x) __builtin_expect(!!(x), 1)
#define BS_UNLIKELY(x) __builtin_expect(!!(x), 0)
/* Runs in every process, in a file whose other functions seldom do: it lies with its like, so that a
 * small program has few pages of besom's text in memory (src/Makefile.am orders the rest). */
#define BS_ALWAYS __attribute__((section(".text.hot.besom")))
#define BS_NOINLINE __attribute__((noinline))
#define BS_COLD __attribute__((cold, noinline))
#define BS_INLINE static inline __attribute__((always_inline))
/* For declarations of objects: they are in this library, so a load needs no address from the global
 * offset table (-fvisibility=hidden says that of definitions only). Worth it on the fast path. */
#define BS_LOCAL __attribute__((visibility("hidden")))
#define BS_EXPORT __attribute__((visibility("default")))
#define BS_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
/* A search looks at words wherever they lie: what the sanitizers think of the memory is not asked. */
#define BS_UNCHECKED __attribute__((no_sanitize("address", "thread", "undefined")))
typedef uintptr_t __attribute__((may_alias, aligned(1))) bs_any_word;
#define BS_CACHE_LINE 64
#define BS_PADDED __attribute__((aligned(BS_CACHE_LINE)))

#define BS_KIB ((size_t)1 << 10)
#define BS_MIB ((size_t)1 << 20)
#define BS_GIB ((size_t)1 << 30)

#define BS_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* align: a power of two. The result wraps for x within align of SIZE_MAX: callers bound x first. */
BS_INLINE size_t bs_align_up(size_t x, size_t align) {
    return (x + align - 1) & ~(align - 1);
}
BS_INLINE size_t bs_align_down(size_t x, size_t align) {
    return x & ~(align - 1);
}
BS_INLINE bool bs_is_pow2(size_t x) {
    return x != 0 && (x & (x - 1)) == 0;
}
BS_INLINE size_t bs_min(size_t a, size_t b) {
    return a < b ? a : b;
}
BS_INLINE size_t bs_max(size_t a, size_t b) {
    return a > b ? a : b;
}
/* a - b, or 0 where that would wrap: unsigned underflow stalled Go's pacer twice (#15022, #57523). */
BS_INLINE size_t bs_sub_clamped(size_t a, size_t b) {
    return a > b ? a - b : 0;
}

/* Relaxed accesses: plain moves on every CPU besom runs on; they only tell the compiler and
 * ThreadSanitizer that another thread may look. What a stale value means is said at each field. */
#define bs_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define bs_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define bs_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define bs_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define bs_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define bs_sub(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)

/* What happens before, said to ThreadSanitizer where it cannot see it: the kernel orders it; or one writes
 * a byte and the other reads a word; or a handler has interrupted a call that waits, where the sanitizer passes over
 * atomics (but not over what they order). */
#if BS_SANITIZE_THREAD
extern void __tsan_acquire(void *), __tsan_release(void *);
#define bs_tsan_acquire(p) __tsan_acquire(p)
#define bs_tsan_release(p) __tsan_release(p)
#else
#define bs_tsan_acquire(p) ((void)0)
#define bs_tsan_release(p) ((void)0)
#endif

/* Prints the broken condition with its place and aborts. Takes no lock, allocates nothing. */
BS_COLD _Noreturn void bs_assert_failed(const char *what, const char *file, int line);

/* BS_CHECK is always compiled in; BS_ASSERT at BS_DEBUG >= 1; BS_ASSERT_FULL at 3. */
#define BS_CHECK(c) (BS_LIKELY(c) ? (void)0 : bs_assert_failed(#c, __FILE__, __LINE__))
#if BS_DEBUG >= 1
#define BS_ASSERT(c) BS_CHECK(c)
#else
#define BS_ASSERT(c) ((void)sizeof(c))
#endif
#if BS_DEBUG >= 3
#define BS_ASSERT_FULL(c) BS_CHECK(c)
#else
#define BS_ASSERT_FULL(c) ((void)sizeof(c))
#endif

#endif
