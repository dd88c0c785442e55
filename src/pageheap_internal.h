/* SPDX-License-Identifier: MIT */
/*
 * pageheap_internal.h - the page heap's state, shared by pageheap.c (taking and giving pages), pageheap_loan.c, pageheap_valid.c (tests
 * ask it) and pageindex.c (where regions are, how the heap gets more of them). Nobody else includes it.
 */
#ifndef BS_PAGEHEAP_INTERNAL_H
#define BS_PAGEHEAP_INTERNAL_H

#include "lock.h"
#include "opt.h"
#include "pageheap.h"
#include "pagemap.h"

struct bs_region {
    uint64_t alloc[BS_REGION_WORDS];    /* set: in a span, or held by the scavenger */
    uint64_t released[BS_REGION_WORDS]; /* set: free and without physical memory */
    uint64_t fresh[BS_REGION_WORDS];    /* set: released, and never in use; subset of released */
    uint64_t closed[BS_REGION_WORDS];   /* set: free, and inaccessible until used (decommit:hard) */
    uint32_t ndirty;                    /* free pages that are not released */
    uint32_t dense_epoch; /* of the scavenger, in which the region was found dense; 0: it was not */
    uint32_t sparse_epoch[BS_REGION_HUGES]; /* the same: the huge page had free pages; 0: it had not */
    bool mapped;                        /* accessible; else its words are all 0, and its summary says that none is free */
};

/* One arena's regions. */
struct bs_heap_arena {
    uintptr_t base;
    size_t pos; /* its place in the index: regions pos*16 ... pos*16+15 */
    struct bs_region region[BS_ARENA_REGIONS];
};

/* All fields [lock:page heap] unless said otherwise. */
struct bs_pageheap {
    struct bs_lock lock;
    struct bs_heap_arena **arena; /* by position, in address order; NULL is a gap of addresses */
    size_t narenas, capacity;     /* positions used / allocated; capacity changes under grow too */
    struct bs_pagesum sums;       /* capacity * 16 leaves */
    size_t hint;                  /* page index: every page below it is allocated */
    size_t dirty_top;             /* region index: no region at or above it has a dirty page */
    struct bs_pageheap_counts counts; /* written under the lock, read without (relaxed) */
};

BS_LOCAL extern struct bs_pageheap bs_pageheap;

BS_INLINE struct bs_region *bs_region_at(size_t index) {
    struct bs_heap_arena *a = bs_pageheap.arena[index / BS_ARENA_REGIONS];
    return a != NULL ? &a->region[index % BS_ARENA_REGIONS] : NULL;
}
/* Mapped, and none of the region's pages [first, first+n) is in use. NULL: there is no region. */
BS_INLINE bool bs_region_part_is_free(const struct bs_region *r, size_t first, size_t n) {
    return r != NULL && r->mapped && bs_range_is_clear(r->alloc, first, n);
}
/* Changes one of the counts, under the lock; others read them without. */
BS_INLINE void bs_pageheap_count(size_t *counter, size_t plus, size_t minus) {
    bs_store(counter, *counter + plus - minus);
}
/* Runs of closed pages that begin in region i; and those with one that begins with the next region: all that a
 * change in region i can change. With decommit:hard alone. */
BS_LOCAL size_t bs_closed_runs_from(size_t i);
BS_LOCAL size_t bs_closed_runs_counted(size_t i);
BS_INLINE size_t bs_closed_runs_near(size_t i) {
    return BS_LIKELY(bs_opt.decommit != BS_DECOMMIT_HARD) ? 0 : bs_closed_runs_counted(i);
}
/* Page index <-> address; the address must belong to a known arena. */
BS_INLINE uintptr_t bs_page_address(size_t page) {
    const struct bs_heap_arena *a = bs_pageheap.arena[page / BS_ARENA_PAGES];
    return a->base + page % BS_ARENA_PAGES * BS_PAGE_SIZE;
}
BS_INLINE size_t bs_page_index(uintptr_t address) {
    const struct bs_heap_arena *a = bs_pagemap_arena(address)->pages;
    return a->pos * BS_ARENA_PAGES + (address - a->base) / BS_PAGE_SIZE;
}

#endif
