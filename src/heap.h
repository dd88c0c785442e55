/* SPDX-License-Identifier: MIT */
/*
 * heap.h - the facade: all that the preload library, the tests and the benchmarks call.
 *
 * Memory functions behave as malloc(3) says for glibc, but set no errno: NULL means ENOMEM. All
 * are thread-safe and may be called before any constructor has run and after every destructor;
 * none is async-signal-safe. They keep errno.
 */
#ifndef BS_HEAP_H
#define BS_HEAP_H

#include "tcache_inl.h"

/* The slow doors: what the fast paths below could not do. bs_heap_free_slow takes any pointer. */
void *bs_heap_alloc_slow(size_t size);
void bs_heap_free_slow(void *p);

/* malloc's fast path; `slow` is called with the size when it cannot serve. Every caller names its
 * slow door, so that the call is direct and in tail position. */
BS_INLINE void *bs_heap_alloc_fast(size_t size, void *(*slow)(size_t)) {
    void *p;
    if (BS_LIKELY(size <= BS_TINY_MAX) &&
        BS_LIKELY(bs_tcache_take(bs_tcache_tops(), bs_class_of_tiny(size), &p)))
        return p;
    return slow(size);
}

/* What a slow door tries first: sizes above BS_TINY_MAX have magazines, too. */
BS_INLINE bool bs_heap_alloc_cached(size_t size, void **out) {
    return size - (BS_TINY_MAX + 1) < BS_SMALL_MAX - BS_TINY_MAX &&
           bs_tcache_take(bs_tcache_tops(), bs_class_of_medium(size), out);
}

/* calloc's fast path: a tiny block of the magazine, which is not zero. */
BS_INLINE bool bs_heap_alloc_tiny_cached(size_t size, void **out) {
    return BS_LIKELY(size <= BS_TINY_MAX) &&
           BS_LIKELY(bs_tcache_take(bs_tcache_tops(), bs_class_of_tiny(size), out));
}

/* The same for aligned blocks of any small size. align: a power of two. */
BS_INLINE bool bs_heap_alloc_aligned_cached(size_t align, size_t size, void **out) {
    /* class 0, "none", has no block: no test of its own */
    return bs_tcache_take(bs_tcache_tops(), bs_class_of_aligned(align, size), out);
}

BS_INLINE void bs_heap_free_fast(void *p, void (*slow)(void *)) {
    size_t class = bs_pagemap_near_class((uintptr_t)p);
    if (BS_UNLIKELY(!bs_tcache_put(bs_tcache_tops(), class, p)))
        slow(p);
}

static inline void *bs_heap_alloc(size_t size) {
    return bs_heap_alloc_fast(size, bs_heap_alloc_slow);
}
static inline void bs_heap_free(void *p) {
    bs_heap_free_fast(p, bs_heap_free_slow);
}

/* size bytes that read as zeros. */
void *bs_heap_alloc_zero(size_t size);
/* align: a power of two. */
void *bs_heap_alloc_aligned(size_t align, size_t size);
/* p: a block (not NULL); size > 0. NULL: no memory, p is as it was. All that bs_heap_usable says is kept, not what was
 * asked for alone: programs that ask fill it (systemd), and glibc keeps it. */
void *bs_heap_realloc(void *p, size_t size);
/* Bytes the block at p may use; 0 for NULL and for what is not a block of besom's. */
size_t bs_heap_usable(const void *p);

/* Bytes of the OS page. */
size_t bs_heap_os_page(void);

/* "out of memory: `size` bytes for `what`", then SIGABRT: for callers that can return no NULL. */
BS_COLD _Noreturn void bs_heap_no_memory(const char *what, size_t size);

/* Gives back what can be given back: this thread's cache and those of threads that sleep or are gone, waiting spans,
 * free OS pages inside spans, and free pages down to keep_bytes. True if memory went back to the OS. */
bool bs_heap_trim(size_t keep_bytes);

/* Free bytes that are kept in any case (mallopt(M_TRIM_THRESHOLD)); SIZE_MAX: nothing goes back. */
void bs_heap_set_keep(size_t bytes);

/* Bytes for mallinfo and its kin: quick sums over counters. large <= allocated <= mapped, whatever
 * other threads do meanwhile. */
struct bs_heap_totals {
    size_t mapped;    /* accessible heap */
    size_t allocated; /* blocks the program holds, in slots and pages */
    size_t cached;    /* in thread caches */
    size_t free_span; /* free slots of spans */
    size_t dirty;     /* free pages with memory, and freed large blocks that wait */
    size_t released;  /* free pages without */
    size_t large;     /* part of `allocated` in large blocks */
    size_t metadata;  /* of besom's own structures, what may be in memory */
    size_t spans;     /* spans of small blocks */
    size_t caches;    /* thread caches */
};
struct bs_heap_totals bs_heap_totals(void);

/* From now on blocks are filled: with `byte` when freed, its complement when allocated
 * (mallopt(M_PERTURB)); 0 ends it. Caches are given up for it. */
void bs_heap_set_fill(unsigned byte);

/* After the options were read, in the first thread: begins sampling if option `sample` says so. Others may be at work
 * by then, which a library's constructor has started. */
void bs_heap_start_sampling(void);

/* What *helper below says: whether somebody looks for work anyway, is to be made even if there is none, or is there and
 * wants to be told of some. */
enum { BS_HELPER_NONE, BS_HELPER_LOOKS, BS_HELPER_WANTED, BS_HELPER_RESTS };
/* The background work's way in (background.c), the only call upward: asked at slow doors when
 * there may be work, or as *helper says. Set once, before threads exist. */
void bs_heap_set_work_hook(void (*hook)(void), const uint32_t *helper);

/* While sampling is on: told of a block that is freed or resized before that is done, if it is sampled,
 * large and marked BS_SPAN_PARKED, or counted by its page (bs_pagemap_count). Set once, before threads
 * exist. */
void bs_heap_set_freed_hook(void (*hook)(void *p));
/* Blocks that are freed are held back (quarantine.h), by who knows how; libbesom.so has nobody. */
struct bs_heap_keeper {
    /* Takes a block that the program has freed: a small one of a class, a large one. True, now and then:
     * there may be work for the slow doors' hook. */
    bool (*small)(void *p, unsigned class);
    void (*large)(struct bs_span *s);
    /* A large block is to hold more or less; what it leaves is taken, too. NULL: no memory. */
    void *(*resize)(struct bs_span *s, size_t size);
    /* The program names a block to a function of that name: fatal if it is held. */
    void (*check)(const void *p, const char *verb);
    /* Lets go what it can; not `all`: only if it was given something worth a look. False: nothing was
     * done. */
    bool (*trim)(bool all);
    /* A sampled block is about to come to it, in `small`, `large` or perhaps `resize`. False: p is not
     * sampled. NULL: nobody wants to know. */
    bool (*sampled)(const void *p);
};
/* In the first thread; others may be at work by then, as above. From now on every free goes to the keeper, but for those
 * that the others have begun. For good. */
void bs_heap_set_keeper(const struct bs_heap_keeper *keeper);

/* The average bytes that rounding up to the class costs a block of the class, in 1/256 bytes, from
 * sizes sampled at the slow door; 0 without a sample. */
uint64_t bs_heap_rounding_256ths(unsigned class);

#endif
