/* SPDX-License-Identifier: MIT */
/*
 * tcache_internal.h - what tcache.c and tcache_life.c share. Nobody else includes it.
 */
#ifndef BS_TCACHE_INTERNAL_H
#define BS_TCACHE_INTERNAL_H

#include "lock.h"
#include "tcache_inl.h"

struct bs_meta_pool;

BS_LOCAL extern struct bs_lock bs_tcache_borrowing;
BS_LOCAL extern bool bs_tcache_disabled; /* [atomic] no new caches; set while options are read, or by mallopt */

/* Slots of one refill, at most: bounded in bytes as well, so that no thread takes a span's worth of large
 * blocks for one of them. */
BS_INLINE uint32_t bs_tcache_max_claim(uint32_t size) {
    return (uint32_t)bs_max(1, bs_min(BS_CLAIM_MAX, BS_CLAIM_MAX_BYTES / size));
}

BS_INLINE bool bs_tcache_is_real(const struct bs_tcache *tc) {
    return tc != &bs_tcache_empty && tc != &bs_tcache_none;
}

/* What the word leads to when nobody has borrowed it. */
struct bs_tcache *bs_tcache_look_again(void);
/* The calling thread, which has none, gets a cache; bs_tcache_none: there is no memory, or it may have none. */
struct bs_tcache *bs_tcache_make(void);
/* Where magazines of so many blocks lie, which have grown. */
struct bs_meta_pool *bs_tcache_storage(uint32_t cap);

#endif
