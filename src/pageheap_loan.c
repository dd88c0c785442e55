/* SPDX-License-Identifier: MIT */
/*
 * pageheap_loan.c - free pages that are nobody's for a moment, and come back as they were; see pageheap.h. What lies in
 * them is not touched: it is for who wants to change what lies beside them (quarantine_trim.c).
 */
#include "pageheap_internal.h"

#include <string.h>

static void change_locked(const struct bs_loan *loan, bool borrowed) {
    size_t i = bs_page_index(loan->base) / BS_REGION_PAGES, bytes = loan->npages / 8, w = loan->first / 64;
    struct bs_region *r = bs_region_at(i);
    size_t runs = bs_closed_runs_near(i), released = bs_range_count(loan->released, loan->first, loan->npages);
    memset(&r->alloc[w], borrowed ? 0xff : 0, bytes);
    if (borrowed) {
        memset(&r->released[w], 0, bytes);
        memset(&r->fresh[w], 0, bytes);
        memset(&r->closed[w], 0, bytes);
        r->ndirty -= (uint32_t)(loan->npages - released);
    } else {
        memcpy(&r->released[w], &loan->released[w], bytes);
        memcpy(&r->fresh[w], &loan->fresh[w], bytes);
        memcpy(&r->closed[w], &loan->closed[w], bytes);
        r->ndirty += (uint32_t)(loan->npages - released);
    }
    struct bs_pageheap_counts *c = &bs_pageheap.counts;
    bs_pageheap_count(&c->closed_runs, bs_closed_runs_near(i), runs);
    bs_pagesum_set(&bs_pageheap.sums, i, bs_region_summary(r->alloc));
    /* meanwhile they count as dirty, as those in the scavenger's hands */
    bs_pageheap_count(&c->dirty_pages, borrowed ? released : 0, borrowed ? 0 : released);
    bs_pageheap_count(&c->released_pages, borrowed ? 0 : released, borrowed ? released : 0);
}

bool bs_pageheap_borrow(uintptr_t region, size_t first, size_t npages, struct bs_loan *loan) {
    BS_CHECK(region % BS_REGION_SIZE == 0 && first % 64 == 0 && npages % 64 == 0 && first + npages <= BS_REGION_PAGES);
    const struct bs_arena *map = bs_pagemap_arena(region);
    bool free = false;
    bs_lock_acquire(&bs_pageheap.lock);
    if (map != NULL && map->pages != NULL) {
        const struct bs_region *r = bs_region_at(bs_page_index(region) / BS_REGION_PAGES);
        free = bs_region_part_is_free(r, first, npages);
        if (free) {
            *loan = (struct bs_loan){.base = region, .first = first, .npages = npages};
            memcpy(loan->released, r->released, sizeof loan->released);
            memcpy(loan->fresh, r->fresh, sizeof loan->fresh);
            memcpy(loan->closed, r->closed, sizeof loan->closed);
            change_locked(loan, true);
        }
    }
    bs_lock_release(&bs_pageheap.lock);
    return free;
}

void bs_pageheap_return(const struct bs_loan *loan) {
    bs_lock_acquire(&bs_pageheap.lock);
    size_t page = bs_page_index(loan->base) + loan->first;
    change_locked(loan, false);
    bs_pageheap.hint = bs_min(bs_pageheap.hint, page);
    bs_pageheap.dirty_top = bs_max(bs_pageheap.dirty_top, page / BS_REGION_PAGES + 1);
    bs_lock_release(&bs_pageheap.lock);
}
