/* SPDX-License-Identifier: MIT */
/*
 * tcache_inl.h - the fast path: the only inline code of malloc and free.
 *
 * No atomic instruction, no lock, no store outside the thread's cache, no "initialised?" branch.
 * doc/DESIGN.md states its instruction counts; no change goes in without new ones.
 *
 * The magazine is used first: what this thread freed last is what its CPU has cached.
 */
#ifndef BS_TCACHE_INL_H
#define BS_TCACHE_INL_H

#include "tcache.h"

/* Takes a slot of the run into *out; false: the run is used up. */
BS_INLINE bool bs_tcache_take_run(struct bs_tcache *tc, size_t class, void **out) {
    struct bs_bin *bin = &tc->bin[class];
    uint64_t mask = bin->run_mask;
    if (BS_UNLIKELY(mask == 0))
        return false;
    bs_store(&bin->run_mask, mask & (mask - 1));
    *out = bin->run_base + (size_t)bs_ctz(mask) * bin->size;
    return true;
}

/* Takes a block of the class into *out; false: the slow door's turn. (Not a NULL result: the
 * compiler would test the pointer it has just loaded.) */
BS_INLINE bool bs_tcache_take(struct bs_tcache *tc, size_t class, void **out) {
    void **top = tc->top[class], *p = *top;
    if (BS_LIKELY(p != NULL)) {
        *out = p;
        bs_store(&tc->top[class], top - 1);
        return true;
    }
    return bs_tcache_take_run(tc, class, out);
}

/* Puts a block into the magazine. False: it is full (or class 0's, which always is): the slow
 * door's turn. */
BS_INLINE bool bs_tcache_put(struct bs_tcache *tc, size_t class, void *p) {
    void **top = tc->top[class];
    if (BS_UNLIKELY(top == tc->limit[class]))
        return false;
    top[1] = p;
    /* the block is there before it counts, for a snapshot by fork (tcache.h) */
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bs_store(&tc->top[class], top + 1);
    return true;
}

/* The calling thread's cache. The word is read once for each operation: a borrower may exchange it
 * at any moment (tcache.h). */
BS_INLINE struct bs_tcache *bs_tcache_self(void) {
    return bs_load(&bs_self);
}

#endif
