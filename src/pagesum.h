/* SPDX-License-Identifier: MIT */
/*
 * pagesum.h - the radix tree of summaries over all regions: where is the lowest run of n free
 * pages? (After Go's page allocator, proposal 35112, over a dense index instead of the address
 * space: the page heap numbers its regions in address order and puts an all-allocated gap
 * where addresses are not contiguous, so no virtual reservation is needed.)
 *
 *   level 0: one summary a region; level k: one for 8 of level k-1; the top level has <= 8.
 *   Invariant 3: each summary equals its bitmap's, each parent the merge of its children.
 *
 * Plain data under the page-heap lock. No system call: bs_pagesum_size/_attach let the owner
 * bring the memory.
 */
#ifndef BS_PAGESUM_H
#define BS_PAGESUM_H

#include "pagebits.h"

#define BS_SUM_FANOUT 8
#define BS_SUM_LEVELS 10

struct bs_pagesum {
    struct bs_sum *level[BS_SUM_LEVELS];
    size_t count[BS_SUM_LEVELS]; /* entries of each level */
    unsigned nlevels;
};

/* Bytes of storage for nregions (a power of two >= 8). */
size_t bs_pagesum_size(size_t nregions);
/* Lays the tree over zeroed storage: everything is allocated. */
void bs_pagesum_attach(struct bs_pagesum *t, void *storage, size_t nregions);
/* Takes over all that `old` says, whose leaves are the first of this one's (and 8^k times a power of
 * two, so that every node of both has all its children). */
void bs_pagesum_adopt(struct bs_pagesum *t, const struct bs_pagesum *old);

/* Sets the summary of region i, and those above it. */
void bs_pagesum_set(struct bs_pagesum *t, size_t i, struct bs_sum sum);
/* Sets the summaries of regions [first, first+n) (leaf values already stored in level[0]) up to
 * the top. */
void bs_pagesum_update(struct bs_pagesum *t, size_t first, size_t n);

/* Finds the lowest run of npages free pages. True with *page = region*512 + page when the run is
 * known; when it lies inside one region, *inside is that region and the caller searches its
 * bitmap, else *inside is BS_REGION_NONE. */
bool bs_pagesum_find(const struct bs_pagesum *t, size_t npages, size_t *page, size_t *inside);

/* Debug: every parent is the merge of its children. */
bool bs_pagesum_is_valid(const struct bs_pagesum *t);

#endif
