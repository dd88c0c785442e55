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

/* Takes a block out of the bin into *out; false: the slow door's turn. (Not a NULL result: the
 * compiler would test the pointer it has just loaded.) */
BS_INLINE bool bs_tcache_take(struct bs_bin *bin, void **out) {
    uint32_t count = bin->count;
    if (BS_LIKELY(count != 0)) {
        *out = bin->blocks[count - 1];
        bs_store(&bin->count, count - 1);
        return true;
    }
    uint64_t mask = bin->run_mask;
    if (BS_LIKELY(mask != 0)) {
        bs_store(&bin->run_mask, mask & (mask - 1));
        *out = bin->run_base + (size_t)bs_ctz(mask) * bin->size;
        return true;
    }
    return false;
}

/* Puts a block into the bin. False: the magazine is full (or it is bin 0, which is always full): the
 * slow door's turn. */
BS_INLINE bool bs_tcache_put(struct bs_bin *bin, void *p) {
    uint32_t count = bin->count;
    if (BS_UNLIKELY(count == bin->cap))
        return false;
    bin->blocks[count] = p;
    /* the block is there before it counts, for a snapshot by fork (tcache.h) */
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bs_store(&bin->count, count + 1);
    return true;
}

/* The calling thread's cache. The word is read once for each operation: a borrower may exchange it
 * at any moment (tcache.h). */
BS_INLINE struct bs_tcache *bs_tcache_self(void) {
    return bs_load(&bs_self);
}

#endif
