/* SPDX-License-Identifier: MIT */
/*
 * tcache_internal.h - what the files of the thread caches share. Nobody else includes it.
 */
#ifndef BS_TCACHE_INTERNAL_H
#define BS_TCACHE_INTERNAL_H

#include "tcache_inl.h"

struct bs_meta_pool;

BS_LOCAL extern bool bs_tcache_disabled; /* [atomic] no new caches; set while options are read, or by mallopt */

/* Slots of one refill, at most: bounded in bytes as well, so that no thread takes a span's worth of large
 * blocks for one of them. */
BS_INLINE uint32_t bs_tcache_max_claim(uint32_t size) {
    return (uint32_t)bs_max(1, bs_min(BS_CLAIM_MAX, BS_CLAIM_MAX_BYTES / size));
}

/* A new magazine is closed, full without a block, until its thread allocates of the class (bs_tcache_refill). What a
 * thread frees before was handed to it, often by who gave the neighbours on the same cache line to other
 * threads: the first such block goes back instead of being used by this thread beside them. After that
 * it is open in any case: a thread that only frees shall not come here each time. */
BS_INLINE bool bs_tcache_is_closed(const struct bs_tcache *tc, unsigned class) {
    return tc->tops.limit[class] == tc->bin[class].blocks - 1;
}
BS_INLINE void bs_tcache_open(struct bs_tcache *tc, unsigned class) {
    bs_store(&tc->tops.limit[class], tc->bin[class].blocks - 1 + tc->bin[class].cap);
}

/* Fills the cache, which has nothing of the class, with at most `want` slots; one of them, or NULL. */
void *bs_tcache_refill(struct bs_tcache *tc, unsigned class, unsigned want);

BS_INLINE bool bs_tcache_is_real(const struct bs_tcache *tc) {
    return tc != &bs_tcache_empty && tc != &bs_tcache_none;
}

/* This thread's cache: made now if it has none and may have one. bs_tcache_none without memory. */
struct bs_tcache *bs_tcache_own(void);
/* What the word leads to when nobody has borrowed it. */
struct bs_tcache *bs_tcache_look_again(void);
/* The calling thread, which has none, gets a cache; bs_tcache_none: there is no memory, or it may have none. */
struct bs_tcache *bs_tcache_make(void);
/* Where magazines of so many blocks lie, which have grown. */
struct bs_meta_pool *bs_tcache_storage(uint32_t cap);

#endif
