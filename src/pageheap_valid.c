/* SPDX-License-Identifier: MIT */
/*
 * pageheap_valid.c - are the page heap's invariants (pageheap.h) true at this moment? For tests: each region's bits
 * against its summary and counts, and these against the heap's.
 */
#include "pageheap_internal.h"

static bool region_is_valid(size_t i, size_t *free_pages, size_t *dirty) {
    const struct bs_region *r = bs_region_at(i);
    struct bs_sum leaf = bs_pageheap.sums.level[0][i];
    if (r == NULL || !r->mapped)
        return leaf.max == 0;
    struct bs_sum sum = bs_region_summary(r->alloc);
    size_t ndirty = 0;
    for (size_t w = 0; w < BS_REGION_WORDS; w++) {
        if ((r->alloc[w] & (r->released[w] | r->closed[w])) != 0)
            return false; /* invariant 4 */
        *free_pages += bs_popcount(~r->alloc[w]);
        ndirty += bs_popcount(~r->alloc[w] & ~r->released[w]);
    }
    *dirty += ndirty;
    return ndirty == r->ndirty && sum.start == leaf.start && sum.max == leaf.max &&
           sum.end == leaf.end && (ndirty == 0 || i < bs_pageheap.dirty_top);
}

bool bs_pageheap_is_valid(void) {
    size_t free_pages = 0, dirty = 0, runs = 0, n;
    bs_lock_acquire(&bs_pageheap.lock);
    const struct bs_pageheap_counts *c = &bs_pageheap.counts;
    n = bs_pageheap.narenas * BS_ARENA_REGIONS;
    bool ok = n == 0 || bs_pagesum_is_valid(&bs_pageheap.sums);
    for (size_t i = 0; ok && i < n; i++) {
        ok = region_is_valid(i, &free_pages, &dirty);
        runs += bs_closed_runs_from(i);
    }
    for (size_t page = 0; ok && page < bs_pageheap.hint; page++) {
        const struct bs_region *r = bs_region_at(page / BS_REGION_PAGES);
        ok = r == NULL || !r->mapped || bs_bit_test(r->alloc, page % BS_REGION_PAGES);
    }
    ok = ok && c->span_pages + c->dirty_pages + c->released_pages == c->mapped_pages &&
         (runs == c->closed_runs || bs_opt.decommit != BS_DECOMMIT_HARD) &&
         dirty <= c->dirty_pages && free_pages - dirty == c->released_pages;
    bs_lock_release(&bs_pageheap.lock);
    return ok;
}
