/* SPDX-License-Identifier: MIT */
/*
 * meta.h - memory for besom's own structures, away from the user's blocks.
 *
 * Memory comes from mappings of its own and is never unmapped; an object that is given back goes
 * to the pool it came from and is only ever used again as the same kind of object (type-stable),
 * and is not zeroed, because a lock-free reader may still look at it (design invariant 7).
 *
 * Thread-safe: one leaf lock (BS_RANK_META). May make system calls, so it is never called under
 * the page-heap lock. NULL when the OS gives no memory.
 */
#ifndef BS_META_H
#define BS_META_H

#include "base.h"

/* A pool of objects of one size. Initialise with BS_META_POOL_INIT(bytes). */
struct bs_meta_pool {
    size_t bytes;        /* [init] of one object, a multiple of 16 */
    struct bs_free *free; /* [lock:meta] objects given back, LIFO */
    size_t in_use;       /* [lock:meta] objects handed out */
};
#define BS_META_POOL_INIT(size) {((size) + 15) & ~(size_t)15, NULL, 0}

/* The first object memory is zeroed; a reused one holds what it held, but for its first word. */
void *bs_meta_pool_alloc(struct bs_meta_pool *pool);
void bs_meta_pool_free(struct bs_meta_pool *pool, void *object);

/* `bytes` zeroed, aligned to a cache line, for ever. */
void *bs_meta_alloc(size_t bytes);
/* A mapping of its own, zeroed; may be returned by bs_meta_unmap once no reader can exist. */
void *bs_meta_map(size_t bytes);
void bs_meta_unmap(void *addr, size_t bytes);
/* The same for one that is much larger than what will be in memory of it, `used` bytes by all likelihood:
 * that is what counts for a limit. */
void *bs_meta_map_sparse(size_t bytes, size_t used);
void bs_meta_unmap_sparse(void *addr, size_t bytes, size_t used);
/* A mapping counted as metadata that another module made (the page map's table). */
void bs_meta_note_mapping(void *addr, size_t bytes);

/* Bytes mapped for metadata in [start, end), and how many of them, whole pages, are in memory now (slow: asks the
 * kernel). */
size_t bs_meta_mapped_within(uintptr_t start, uintptr_t end);
size_t bs_meta_resident_within(uintptr_t start, uintptr_t end);
/* For tests: wherever they are. */
size_t bs_meta_mapped_bytes(void);
size_t bs_meta_resident_bytes(void);
/* Bytes handed out ever and mapped by themselves, less what was unmapped: what may be in memory.
 * Cheap. */
size_t bs_meta_used_bytes(void);
/* The mappings of metadata, at most `max` of them, in no order; the number that there are. */
struct bs_range;
size_t bs_meta_ranges(struct bs_range *range, size_t max);

/* Around fork: rank order is the caller's duty. */
void bs_meta_lock(void);
void bs_meta_unlock(void);
void bs_meta_reset_lock(void);

#endif
