/* SPDX-License-Identifier: MIT */
/*
 * pageindex.c - where the page heap's regions are: the index of arenas in address order, its
 * growth, and the addition of new memory. pageheap.c takes and gives pages.
 *
 * The arrays grow by copying into a larger mapping: the mapping is made before the page-heap lock
 * is taken and the old one unmapped after it was released; the grow lock, which every caller
 * holds, keeps others from doing the same meanwhile.
 */
#include "pageheap_internal.h"

#include "counter.h"
#include "meta.h"
#include "os.h"

#include <string.h>

/* Positions of the first index: 256 MiB of heap, less than 1 KiB of metadata, which lies beside other and
 * stays where it is when the index outgrows it. And of the next: 2 GiB, two OS pages. */
#define FIRST_CAPACITY 4
#define NEXT_CAPACITY 32

/* --- capacity --------------------------------------------------------------------------------- */

static size_t storage_bytes(size_t capacity) {
    return capacity * sizeof(struct bs_heap_arena *) + bs_pagesum_size(capacity * BS_ARENA_REGIONS);
}

/* Puts the index into new storage, keeping what it holds. */
static void adopt_storage_locked(char *storage, size_t capacity) {
    struct bs_heap_arena **arena = (struct bs_heap_arena **)(void *)storage;
    struct bs_pagesum sums;
    bs_pagesum_attach(&sums, arena + capacity, capacity * BS_ARENA_REGIONS);
    if (bs_pageheap.narenas != 0) {
        memcpy(arena, bs_pageheap.arena, bs_pageheap.narenas * sizeof *arena);
        bs_pagesum_adopt(&sums, &bs_pageheap.sums);
    }
    bs_pageheap.arena = arena;
    bs_pageheap.sums = sums;
    bs_pageheap.capacity = capacity;
}

static bool ensure_capacity(size_t positions) {
    size_t old = bs_pageheap.capacity, capacity = bs_max(old, FIRST_CAPACITY);
    while (capacity < positions)
        capacity = bs_max(capacity * 2, NEXT_CAPACITY);
    if (capacity == old)
        return true;
    size_t bytes = storage_bytes(capacity);
    char *storage = capacity == FIRST_CAPACITY ? bs_meta_alloc(bytes) : bs_meta_map(bytes);
    if (storage == NULL)
        return false;
    /* what will be copied to is faulted in now: everybody waits while the lock is held */
    if (old != 0)
        memset(storage, 0, bytes);
    void *old_storage = bs_pageheap.arena;
    bs_lock_acquire(&bs_pageheap.lock);
    adopt_storage_locked(storage, capacity);
    bs_lock_release(&bs_pageheap.lock);
    if (old > FIRST_CAPACITY)
        bs_meta_unmap(old_storage, storage_bytes(old));
    return true;
}

/* --- arenas ----------------------------------------------------------------------------------- */

/* [lock:grow] Made before they are linked, and where that came to nothing the next growth's. A list by `base`. */
static struct bs_heap_arena *spare;

static bool make_spare(void) {
    struct bs_heap_arena *a = bs_meta_alloc(sizeof *a);
    if (a == NULL)
        return false;
    a->base = (uintptr_t)spare;
    spare = a;
    return true;
}

static struct bs_heap_arena *take_spare(uintptr_t base) {
    struct bs_heap_arena *a = spare;
    spare = (struct bs_heap_arena *)a->base;
    a->base = base; /* what is written of the regions that are not mapped yet would be memory */
    return a;
}

static void swap_in(size_t pos, struct bs_heap_arena *a) {
    bs_pageheap.arena[pos] = a;
    if (a != NULL)
        a->pos = pos;
}

static bool adjacent(const struct bs_heap_arena *low, const struct bs_heap_arena *high) {
    return low == NULL || high == NULL || low->base + BS_ARENA_SIZE == high->base;
}

/* Moves positions [from, narenas) up by `by`, with their summaries. */
static void shift_up_locked(size_t from, size_t by) {
    struct bs_sum *leaf = bs_pageheap.sums.level[0];
    for (size_t i = bs_pageheap.narenas; i-- > from;)
        swap_in(i + by, bs_pageheap.arena[i]);
    memmove(&leaf[(from + by) * BS_ARENA_REGIONS], &leaf[from * BS_ARENA_REGIONS],
            (bs_pageheap.narenas - from) * BS_ARENA_REGIONS * sizeof *leaf);
    memset(&leaf[from * BS_ARENA_REGIONS], 0, by * BS_ARENA_REGIONS * sizeof *leaf);
    bs_pageheap.narenas += by;
}

/* Page numbers from position pos on have changed or are new. */
static void renumbered_locked(size_t pos) {
    bs_pageheap.hint = bs_min(bs_pageheap.hint, pos * BS_ARENA_PAGES);
    bs_pageheap.dirty_top = bs_pageheap.narenas * BS_ARENA_REGIONS;
    bs_pagesum_update(&bs_pageheap.sums, pos * BS_ARENA_REGIONS,
                      (bs_pageheap.narenas - pos) * BS_ARENA_REGIONS);
}

/* Inserts the arena at its place by address, with gaps exactly where neighbours are not adjacent:
 * a run of addresses is a run of page numbers. */
static void link_arena_locked(struct bs_heap_arena *a) {
    struct bs_heap_arena **arena = bs_pageheap.arena;
    size_t pos = bs_pageheap.narenas;
    while (pos > 0 && (arena[pos - 1] == NULL || arena[pos - 1]->base > a->base))
        pos--;
    struct bs_heap_arena *low = pos > 0 ? arena[pos - 1] : NULL;
    bool gap = pos < bs_pageheap.narenas && arena[pos] == NULL; /* one is there already */
    struct bs_heap_arena *high = pos + gap < bs_pageheap.narenas ? arena[pos + gap] : NULL;
    size_t gap_below = !adjacent(low, a), gap_above = !adjacent(a, high);
    size_t by = 1 + gap_below + gap_above - gap;
    shift_up_locked(pos + gap, by);
    for (size_t i = pos; i < pos + gap + by; i++)
        arena[i] = NULL;
    swap_in(pos + gap_below, a);
    renumbered_locked(pos);
}

BS_COLD size_t bs_closed_runs_from(size_t i) {
    const struct bs_region *r = bs_region_at(i), *below = i != 0 ? bs_region_at(i - 1) : NULL;
    uint64_t carry = below != NULL ? below->closed[BS_REGION_WORDS - 1] >> 63 : 0;
    size_t runs = 0;
    for (size_t w = 0; r != NULL && w < BS_REGION_WORDS; w++) {
        runs += bs_popcount(r->closed[w] & ~(r->closed[w] << 1 | carry));
        carry = r->closed[w] >> 63;
    }
    return runs;
}

BS_COLD size_t bs_closed_runs_counted(size_t i) {
    bool last = i + 1 == bs_pageheap.narenas * BS_ARENA_REGIONS;
    const struct bs_region *r = bs_region_at(i), *above = last ? NULL : bs_region_at(i + 1);
    bool begins = above != NULL && (above->closed[0] & 1) != 0 &&
                  r->closed[BS_REGION_WORDS - 1] >> 63 == 0;
    return bs_closed_runs_from(i) + begins;
}

static bool is_linked(uintptr_t base) {
    const struct bs_arena *map = bs_pagemap_arena(base);
    return map != NULL && map->pages != NULL;
}

bool bs_pageheap_reserve(uintptr_t base, size_t bytes) {
    uintptr_t last = bs_align_down(base + bytes - 1, BS_ARENA_SIZE);
    size_t missing = 0, made = 0;
    for (uintptr_t b = bs_align_down(base, BS_ARENA_SIZE); b <= last; b += BS_ARENA_SIZE)
        missing += !is_linked(b);
    /* these arenas and a gap on each side */
    if (missing != 0 && !ensure_capacity(bs_pageheap.narenas + missing + 2))
        return false;
    for (const struct bs_heap_arena *a = spare; a != NULL; a = (const struct bs_heap_arena *)a->base)
        made++;
    for (; made < missing; made++)
        if (!make_spare())
            return false;
    return true;
}

bool bs_pageheap_prepare(uintptr_t base, size_t bytes) {
    uintptr_t last = bs_align_down(base + bytes - 1, BS_ARENA_SIZE);
    if (!bs_pageheap_reserve(base, bytes))
        return false;
    for (uintptr_t b = bs_align_down(base, BS_ARENA_SIZE); b <= last; b += BS_ARENA_SIZE) {
        if (is_linked(b))
            continue;
        struct bs_heap_arena *a = take_spare(b);
        bs_lock_acquire(&bs_pageheap.lock);
        bs_pagemap_arena(b)->pages = a;
        link_arena_locked(a);
        bs_lock_release(&bs_pageheap.lock);
    }
    return true;
}

void bs_pageheap_insert(uintptr_t base, size_t bytes) {
    bs_lock_acquire(&bs_pageheap.lock);
    size_t first = bs_page_index(base) / BS_REGION_PAGES, n = bytes / BS_REGION_SIZE;
    for (size_t i = first; i < first + n; i++) {
        struct bs_region *r = bs_region_at(i);
        size_t runs = bs_closed_runs_near(i);
        BS_ASSERT(!r->mapped);
        memset(r->alloc, 0, sizeof r->alloc);
        memset(r->released, 0xff, sizeof r->released);
        memset(r->fresh, 0xff, sizeof r->fresh);
        if (bs_opt.decommit == BS_DECOMMIT_HARD) /* bs_os_map left it so */
            memset(r->closed, 0xff, sizeof r->closed);
        bs_store(&bs_pageheap.counts.closed_runs,
                 bs_pageheap.counts.closed_runs + bs_closed_runs_near(i) - runs);
        r->mapped = true;
        bs_pageheap.sums.level[0][i] =
            (struct bs_sum){BS_REGION_PAGES, BS_REGION_PAGES, BS_REGION_PAGES};
    }
    bs_pagesum_update(&bs_pageheap.sums, first, n);
    bs_pageheap.hint = bs_min(bs_pageheap.hint, first * BS_REGION_PAGES);
    struct bs_pageheap_counts *c = &bs_pageheap.counts;
    bs_store(&c->mapped_pages, c->mapped_pages + bytes / BS_PAGE_SIZE);
    bs_store(&c->released_pages, c->released_pages + bytes / BS_PAGE_SIZE);
    bs_store(&c->grown, c->grown + 1);
    bs_lock_release(&bs_pageheap.lock);
    bs_count(heap_grown_bytes, bytes);
}

static size_t region_index(uintptr_t p) {
    bs_lock_acquire(&bs_pageheap.lock);
    size_t index = bs_page_index(p) / BS_REGION_PAGES;
    bs_lock_release(&bs_pageheap.lock);
    return index;
}

void bs_pageheap_each_region(bs_region_visitor *visit, void *ctx) {
    bs_pageheap_each_region_from(0, visit, ctx);
}

void bs_pageheap_each_region_from(uintptr_t from, bs_region_visitor *visit, void *ctx) {
    for (size_t i = from != 0 ? region_index(from) : 0;; i++) {
        /* The lock is held for one region's copy only: the heap may grow between two visits. */
        struct bs_region copy = {.mapped = false};
        uintptr_t base = 0;
        bs_lock_acquire(&bs_pageheap.lock);
        bool end = i >= bs_pageheap.narenas * BS_ARENA_REGIONS;
        struct bs_region *r = end ? NULL : bs_region_at(i);
        if (r != NULL) {
            copy = *r;
            base = bs_page_address(i * BS_REGION_PAGES);
        }
        bs_lock_release(&bs_pageheap.lock);
        if (end)
            return;
        if (copy.mapped && !visit(ctx, base, copy.alloc, copy.released))
            return;
    }
}
