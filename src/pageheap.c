/* SPDX-License-Identifier: MIT */
/*
 * pageheap.c - taking pages from the heap and giving them back; see pageheap.h. The index of
 * regions and its growth are pageindex.c.
 */
#include "pageheap_internal.h"

#include "counter.h"
#include "os.h"
#include "thp.h"

struct bs_pageheap bs_pageheap = {.lock = BS_LOCK_INIT(BS_RANK_PAGE_HEAP)};

/* --- bits of a range of pages, region by region ----------------------------------------------- */

/* What a step does to the pages: the bits, and what the summary is then. */
struct change {
    void (*step)(struct bs_region *r, size_t first, size_t n, uintptr_t base, void *ctx);
    struct bs_sum (*sum)(const uint64_t *alloc, size_t first, size_t n, struct bs_sum old);
};

/* Takes the step for pages [first, first+n) of region i; what its summary is then. (Inline, as its callers are: a step
 * takes as long as the calls would.) */
BS_INLINE struct bs_sum one_part_locked(size_t i, size_t first, size_t n, struct change change,
                                        void *ctx) {
    struct bs_region *r = bs_region_at(i);
    size_t runs = bs_closed_runs_near(i);
    change.step(r, first, n, bs_page_address(i * BS_REGION_PAGES + first), ctx);
    if (BS_UNLIKELY(bs_closed_runs_near(i) != runs))
        bs_pageheap_count(&bs_pageheap.counts.closed_runs, bs_closed_runs_near(i), runs);
    return change.sum(r->alloc, first, n, bs_pageheap.sums.level[0][i]);
}

/* Calls the step for each region's part of pages [page, page+n), then brings the summaries up to
 * date. */
BS_INLINE void each_part_locked(size_t page, size_t n, struct change change, void *ctx) {
    size_t region = page / BS_REGION_PAGES, first = page % BS_REGION_PAGES, i = region;
    for (;; i++, first = 0) {
        size_t part = bs_min(n, BS_REGION_PAGES - first);
        struct bs_sum sum = one_part_locked(i, first, part, change, ctx);
        if (BS_LIKELY(part == n && i == region)) {
            bs_pagesum_set(&bs_pageheap.sums, i, sum);
            return;
        }
        bs_pageheap.sums.level[0][i] = sum;
        n -= part;
        if (n == 0)
            break;
    }
    bs_pagesum_update(&bs_pageheap.sums, region, i + 1 - region);
}

static void note_dirty(struct bs_pages *out, uintptr_t base, uint64_t dirty, size_t word_page) {
    if (dirty == 0)
        return;
    uintptr_t lo = base + (word_page + bs_ctz(dirty)) * BS_PAGE_SIZE;
    uintptr_t end = base + (word_page + bs_msb(dirty) + 1) * BS_PAGE_SIZE;
    if (out->dirty_end == 0)
        out->dirty_base = lo;
    out->dirty_end = end;
}

/* In a long run most words have none or all: a count takes 12 instructions (bits.h). */
static inline size_t count_of(uint64_t bits) {
    if (bits == 0)
        return 0;
    return bits == ~(uint64_t)0 ? 64 : bs_popcount(bits);
}

BS_INLINE void take_part(struct bs_region *r, size_t first, size_t n, uintptr_t base, void *ctx) {
    struct bs_pages *out = ctx;
    uintptr_t region_base = base - first * BS_PAGE_SIZE;
    size_t nreleased = 0, w = first / 64;
    r->ndirty -= (uint32_t)n;
    for (; n != 0; w++) {
        uint64_t mask = bs_range_next(&first, &n), released = mask & r->released[w];
        uint64_t fresh = mask & r->fresh[w], closed = mask & r->closed[w];
        BS_ASSERT((r->alloc[w] & mask) == 0);
        r->alloc[w] |= mask;
        if (released != 0 || closed != 0) { /* seldom in a heap that has its size */
            /* after MADV_FREE a page may still hold what it held */
            uint64_t zero = bs_opt.advice == BS_ADVICE_FREE ? fresh : released;
            nreleased += count_of(released);
            out->nfresh += count_of(fresh);
            out->nzero += count_of(zero);
            out->nclosed += count_of(closed);
            r->released[w] &= ~mask;
            r->fresh[w] &= ~mask;
            r->closed[w] &= ~mask;
            mask &= ~zero;
        }
        note_dirty(out, region_base, mask, w * 64);
    }
    out->nreleased += nreleased;
    r->ndirty += (uint32_t)nreleased;
}

/* What pages are that come back. */
struct gift {
    bool released, closed;
};

BS_INLINE void give_part(struct bs_region *r, size_t first, size_t n, uintptr_t base, void *ctx) {
    const struct gift *gift = ctx;
    (void)base;
    BS_CHECK(bs_range_is_set(r->alloc, first, n)); /* cheap: freed pages are allocated */
    bs_range_clear(r->alloc, first, n);
    if (gift->closed)
        bs_range_set(r->closed, first, n);
    if (gift->released)
        bs_range_set(r->released, first, n);
    else
        r->ndirty += (uint32_t)n;
}

static void give_locked(size_t page, size_t n, struct gift gift) {
    each_part_locked(page, n, (struct change){give_part, bs_region_gave}, &gift);
    bs_pageheap.hint = bs_min(bs_pageheap.hint, page);
    if (!gift.released)
        bs_pageheap.dirty_top =
            bs_max(bs_pageheap.dirty_top, (page + n - 1) / BS_REGION_PAGES + 1);
}

/* --- taking ----------------------------------------------------------------------------------- */

/* The lowest run of n free pages. */
static bool find_locked(size_t n, size_t *page) {
    if (bs_pageheap.narenas == 0)
        return false;
    size_t hint_region = bs_pageheap.hint / BS_REGION_PAGES, inside = hint_region;
    bool at_hint = n <= BS_REGION_PAGES &&
                   hint_region < bs_pageheap.narenas * BS_ARENA_REGIONS &&
                   bs_pageheap.sums.level[0][hint_region].max >= n;
    if (!at_hint && !bs_pagesum_find(&bs_pageheap.sums, n, page, &inside))
        return false;
    if (inside == BS_REGION_NONE)
        return true;
    size_t in_region = bs_region_find(bs_region_at(inside)->alloc, n);
    BS_CHECK(in_region != BS_REGION_NONE); /* stale summary */
    *page = inside * BS_REGION_PAGES + in_region;
    return true;
}

static void take_bits_locked(size_t page, size_t n, struct bs_pages *out) {
    *out = (struct bs_pages){.base = bs_page_address(page), .npages = n};
    each_part_locked(page, n, (struct change){take_part, bs_region_took}, out);
    if (page == bs_pageheap.hint)
        bs_pageheap.hint = page + n;
}

static void take_locked(size_t page, size_t n, struct bs_pages *out) {
    take_bits_locked(page, n, out);
    struct bs_pageheap_counts *c = &bs_pageheap.counts;
    bs_pageheap_count(&c->span_pages, n, 0);
    bs_pageheap_count(&c->released_pages, 0, out->nreleased);
    bs_pageheap_count(&c->dirty_pages, 0, n - out->nreleased);
    if (c->span_pages > c->peak_pages)
        bs_store(&c->peak_pages, c->span_pages);
    bs_store(&c->activity, c->activity + 1);
}

/* Pages given back that are wanted again: each costs a fault. */
static void count_reuse(const struct bs_pages *out) {
    if (out->nreleased != out->nfresh)
        bs_count(reused_released_bytes, (out->nreleased - out->nfresh) * BS_PAGE_SIZE);
}

/* True if it holds for each region's part of these pages. */
BS_INLINE bool every_part_locked(size_t page, size_t n,
                                 bool (*holds)(const struct bs_region *r, size_t first, size_t n)) {
    for (size_t part; n != 0; page += part, n -= part) {
        size_t first = page % BS_REGION_PAGES;
        part = bs_min(n, BS_REGION_PAGES - first);
        if (!holds(bs_region_at(page / BS_REGION_PAGES), first, part))
            return false;
    }
    return true;
}

/* Of free pages: they have memory. */
BS_INLINE bool part_is_warm(const struct bs_region *r, size_t first, size_t n) {
    return bs_range_is_clear(r->released, first, n);
}
static void give_dirty_locked(const struct bs_run *run) {
    struct bs_pageheap_counts *c = &bs_pageheap.counts;
    give_locked(bs_page_index(run->base), run->npages, (struct gift){false, false});
    bs_pageheap_count(&c->span_pages, 0, run->npages);
    bs_pageheap_count(&c->dirty_pages, run->npages, 0);
}

/* old: pages to be freed before; or NULL. */
static bool alloc_run(const struct bs_run *old, size_t npages, size_t align_pages, bool warm,
                      struct bs_pages *out) {
    bs_lock_acquire(&bs_pageheap.lock);
    if (old != NULL)
        give_dirty_locked(old);
    size_t page = 0;
    /* an aligned run lies in every run that is longer by align-1 */
    bool found = find_locked(npages + align_pages - 1, &page);
    if (found) {
        if (align_pages == 1 && npages == 1)
            bs_pageheap.hint = page; /* it is the lowest free page */
        /* arenas are aligned beyond any page index, up to the arena's own size */
        uintptr_t base = bs_page_address(page);
        uintptr_t aligned = bs_align_up(base, align_pages * BS_PAGE_SIZE);
        page += (aligned - base) / BS_PAGE_SIZE;
        found = !warm || every_part_locked(page, npages, part_is_warm);
    }
    if (found)
        take_locked(page, npages, out);
    bs_lock_release(&bs_pageheap.lock);
    if (found)
        count_reuse(out);
    return found;
}

bool bs_pageheap_alloc(size_t npages, size_t align_pages, struct bs_pages *out) {
    return alloc_run(NULL, npages, align_pages, false, out);
}

bool bs_pageheap_alloc_warm(size_t npages, size_t align_pages, struct bs_pages *out) {
    return alloc_run(NULL, npages, align_pages, true, out);
}

bool bs_pageheap_swap_warm(const struct bs_run *old, size_t npages, size_t align_pages,
                           struct bs_pages *out) {
    return alloc_run(old, npages, align_pages, true, out);
}

static bool all_free_locked(size_t page, size_t n) {
    size_t total = bs_pageheap.narenas * BS_ARENA_REGIONS * BS_REGION_PAGES;
    return page < total && n <= total - page && every_part_locked(page, n, bs_region_part_is_free);
}

bool bs_pageheap_is_free(uintptr_t base, size_t npages) {
    struct bs_arena *map = bs_pagemap_arena(base);
    if (npages == 0)
        return true;
    bs_lock_acquire(&bs_pageheap.lock);
    bool ok = map != NULL && map->pages != NULL && all_free_locked(bs_page_index(base), npages);
    bs_lock_release(&bs_pageheap.lock);
    return ok;
}

bool bs_pageheap_alloc_at(uintptr_t base, size_t npages, struct bs_pages *out) {
    struct bs_arena *map = bs_pagemap_arena(base);
    bool ok = false;
    bs_lock_acquire(&bs_pageheap.lock);
    if (map != NULL && map->pages != NULL) {
        size_t page = bs_page_index(base);
        ok = all_free_locked(page, npages);
        if (ok)
            take_locked(page, npages, out);
    }
    bs_lock_release(&bs_pageheap.lock);
    if (ok)
        count_reuse(out);
    return ok;
}

/* --- giving ----------------------------------------------------------------------------------- */

void bs_pageheap_free(const struct bs_run *runs, size_t nruns) {
    struct bs_pageheap_counts *c = &bs_pageheap.counts;
    bs_lock_acquire(&bs_pageheap.lock);
    for (size_t i = 0; i < nruns; i++)
        give_dirty_locked(&runs[i]);
    bs_store(&c->activity, c->activity + 1);
    bs_lock_release(&bs_pageheap.lock);
}

void bs_pageheap_free_closed(uintptr_t base, size_t npages) {
    struct bs_pageheap_counts *c = &bs_pageheap.counts;
    bs_lock_acquire(&bs_pageheap.lock);
    bool renewed_later = bs_opt.decommit != BS_DECOMMIT_HARD;
    give_locked(bs_page_index(base), npages, (struct gift){renewed_later, true});
    bs_pageheap_count(&c->span_pages, 0, npages);
    bs_pageheap_count(renewed_later ? &c->released_pages : &c->dirty_pages, npages, 0);
    bs_store(&c->activity, c->activity + 1);
    bs_lock_release(&bs_pageheap.lock);
}

void bs_pageheap_free_released(uintptr_t base, size_t npages) {
    struct bs_pageheap_counts *c = &bs_pageheap.counts;
    bs_lock_acquire(&bs_pageheap.lock);
    give_locked(bs_page_index(base), npages, (struct gift){true, false});
    bs_pageheap_count(&c->span_pages, 0, npages);
    bs_pageheap_count(&c->released_pages, npages, 0);
    bs_store(&c->activity, c->activity + 1);
    bs_lock_release(&bs_pageheap.lock);
}

/* --- for the scavenger ------------------------------------------------------------------------ */

/* Highest wholly free 2 MiB of the region with a dirty page in it. */
static size_t find_huge(const struct bs_region *r, size_t *n) {
    *n = BS_HUGE_PAGES;
    for (size_t first = BS_REGION_PAGES - BS_HUGE_PAGES;; first -= BS_HUGE_PAGES) {
        if (bs_range_is_clear(r->alloc, first, BS_HUGE_PAGES) &&
            bs_range_count(r->released, first, BS_HUGE_PAGES) < BS_HUGE_PAGES)
            return first;
        if (first == 0)
            return BS_REGION_NONE;
    }
}

/* A huge page that the kernel may have made is split when it had free pages for an epoch. */
static bool is_split_late_enough(struct bs_region *r, size_t huge, uintptr_t p, uint32_t epoch) {
    if (epoch == 0 || !bs_thp_may_be_huge(p))
        return true;
    if (bs_range_count(r->alloc, huge * BS_HUGE_PAGES, BS_HUGE_PAGES) == BS_HUGE_PAGES)
        r->sparse_epoch[huge] = 0;
    else if (r->sparse_epoch[huge] == 0)
        r->sparse_epoch[huge] = epoch;
    return r->sparse_epoch[huge] != epoch;
}

/* Highest run of free pages with dirty ones, in whole OS pages. */
static size_t find_dirty(struct bs_region *r, uintptr_t base, const struct bs_dirty_search *search,
                         size_t *n) {
    uint64_t want[BS_REGION_WORDS];
    size_t group = bs_max(1, bs_os_page_size() / BS_PAGE_SIZE); /* pages of an OS page */
    for (size_t w = 0; w < BS_REGION_WORDS; w++)
        want[w] = ~r->alloc[w] & ~r->released[w];
    for (size_t h = 0; h < BS_REGION_HUGES; h++)
        if (!is_split_late_enough(r, h, base + h * BS_HUGE_SIZE, search->epoch))
            bs_range_clear(want, h * BS_HUGE_PAGES, BS_HUGE_PAGES);
    for (size_t g = 0; group > 1 && g < BS_REGION_PAGES; g += group) {
        bool whole = bs_range_is_clear(r->alloc, g, group);
        if (whole && bs_range_count(want, g, group) != 0)
            bs_range_set(want, g, group);
        else
            bs_range_clear(want, g, group);
    }
    size_t most = bs_max(bs_align_down(search->max_pages, group), group);
    return bs_region_find_top(want, BS_REGION_PAGES, most, n);
}

static void borrow_locked(size_t region, size_t first, size_t n, struct bs_run *out) {
    struct bs_pages taken;
    take_bits_locked(region * BS_REGION_PAGES + first, n, &taken);
    /* released pages among them (a huge page may hold some) count as dirty until given back */
    bs_pageheap_count(&bs_pageheap.counts.released_pages, 0, taken.nreleased);
    bs_pageheap_count(&bs_pageheap.counts.dirty_pages, taken.nreleased, 0);
    *out = (struct bs_run){taken.base, n, n - taken.nreleased, taken.nclosed};
}

static bool rests(struct bs_region *r, uint32_t epoch) {
    if (epoch == 0)
        return false;
    if (bs_range_count(r->alloc, 0, BS_REGION_PAGES) < BS_DENSE_PAGES) {
        r->dense_epoch = 0;
        return false;
    }
    if (r->dense_epoch == 0)
        r->dense_epoch = epoch;
    return epoch - r->dense_epoch < 2;
}

/* One past the region where the search goes on. */
static size_t search_start_locked(const struct bs_dirty_search *search) {
    if (search->below == UINTPTR_MAX)
        return bs_pageheap.dirty_top;
    return bs_min(bs_pageheap.dirty_top, bs_page_index(search->below) / BS_REGION_PAGES + 1);
}

/* Tries region i; true: *out is taken from it. */
static bool take_from_locked(size_t i, struct bs_dirty_search *search, struct bs_run *out) {
    struct bs_region *r = bs_region_at(i);
    if (r == NULL || r->ndirty == 0) {
        if (i + 1 == bs_pageheap.dirty_top)
            bs_pageheap.dirty_top = i;
        return false;
    }
    if (rests(r, search->epoch))
        return false;
    size_t n, first = search->huge ? find_huge(r, &n)
                                   : find_dirty(r, bs_page_address(i * BS_REGION_PAGES), search, &n);
    if (first == BS_REGION_NONE)
        return false;
    borrow_locked(i, first, n, out);
    search->below = out->base;
    return true;
}

/* What is left of the heap may be long and hold nothing to take, so the lock is given up in between.
 * Meanwhile regions may be added; an address says where to go on, and the region that was looked at
 * last is looked at again. */
bool bs_pageheap_take_dirty(struct bs_dirty_search *search, struct bs_run *out) {
    bool found = false;
    bs_lock_acquire(&bs_pageheap.lock);
    size_t i = search_start_locked(search);
    for (unsigned looks = 0; i > 0 && !found;) {
        found = take_from_locked(--i, search, out);
        if (found || bs_region_at(i) == NULL || ++looks % BS_DIRTY_LOOKS != 0)
            continue; /* a gap has no address */
        search->below = bs_page_address(i * BS_REGION_PAGES);
        bs_lock_breathe(&bs_pageheap.lock);
        i = search_start_locked(search);
    }
    bs_lock_release(&bs_pageheap.lock);
    return found;
}

void bs_pageheap_scavenged(const struct bs_run *run, enum bs_fate fate) {
    struct bs_pageheap_counts *c = &bs_pageheap.counts;
    bool released = fate != BS_RUN_KEPT;
    /* what was closed in part is treated as closed: opening all of it does no harm */
    struct gift gift = {released, fate == BS_RUN_CLOSED || run->nclosed != 0};
    bs_lock_acquire(&bs_pageheap.lock);
    size_t page = bs_page_index(run->base);
    give_locked(page, run->npages, gift);
    struct bs_region *r = bs_region_at(page / BS_REGION_PAGES); /* a run lies in one */
    if (r->ndirty == 0)
        r->dense_epoch = 0; /* what is freed next rests anew */
    if (released) {
        bs_pageheap_count(&c->dirty_pages, 0, run->npages);
        bs_pageheap_count(&c->released_pages, run->npages, 0);
    }
    bs_lock_release(&bs_pageheap.lock);
}

size_t bs_pageheap_note_resident(uintptr_t base, const uint64_t resident[BS_HUGE_PAGES / 64]) {
    struct bs_pageheap_counts *c = &bs_pageheap.counts;
    size_t found = 0;
    bs_lock_acquire(&bs_pageheap.lock);
    size_t page = bs_page_index(base), region = page / BS_REGION_PAGES;
    struct bs_region *r = bs_region_at(region);
    for (size_t i = 0, w = page % BS_REGION_PAGES / 64; i < BS_HUGE_PAGES / 64; i++, w++) {
        uint64_t there = resident[i] & r->released[w]; /* free ones only: invariant 4 */
        r->released[w] &= ~there;
        r->fresh[w] &= ~there;
        found += bs_popcount(there);
    }
    r->ndirty += (uint32_t)found;
    if (found != 0)
        bs_pageheap.dirty_top = bs_max(bs_pageheap.dirty_top, region + 1);
    bs_pageheap_count(&c->dirty_pages, found, 0);
    bs_pageheap_count(&c->released_pages, 0, found);
    bs_lock_release(&bs_pageheap.lock);
    return found;
}

/* --- questions -------------------------------------------------------------------------------- */

struct bs_pageheap_counts bs_pageheap_counts(void) {
    struct bs_pageheap_counts c;
    bs_lock_acquire(&bs_pageheap.lock);
    c = bs_pageheap.counts;
    bs_lock_release(&bs_pageheap.lock);
    return c;
}

size_t bs_pageheap_take_peak(void) {
    bs_lock_acquire(&bs_pageheap.lock);
    size_t peak = bs_pageheap.counts.peak_pages;
    bs_store(&bs_pageheap.counts.peak_pages, bs_pageheap.counts.span_pages);
    bs_lock_release(&bs_pageheap.lock);
    return peak;
}

uint64_t bs_pageheap_grown(void) {
    return bs_load_acquire(&bs_pageheap.counts.grown);
}

uint64_t bs_pageheap_activity(void) {
    return bs_load(&bs_pageheap.counts.activity);
}

size_t bs_pageheap_closed_runs(void) {
    return bs_load(&bs_pageheap.counts.closed_runs);
}

size_t bs_pageheap_dirty_bytes(void) {
    return bs_load(&bs_pageheap.counts.dirty_pages) * BS_PAGE_SIZE;
}

size_t bs_pageheap_used_bytes(void) {
    return (bs_load(&bs_pageheap.counts.span_pages) + bs_load(&bs_pageheap.counts.dirty_pages)) *
           BS_PAGE_SIZE;
}

void bs_pageheap_lock(void) {
    bs_lock_acquire(&bs_pageheap.lock);
}
void bs_pageheap_unlock(void) {
    bs_lock_release(&bs_pageheap.lock);
}
void bs_pageheap_reset_lock(void) {
    bs_lock_reset(&bs_pageheap.lock);
}
bool bs_pageheap_is_locked(void) {
    return bs_load(&bs_pageheap.lock.word) != 0;
}
