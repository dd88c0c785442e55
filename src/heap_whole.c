/* SPDX-License-Identifier: MIT */
/*
 * heap_whole.c - see heap.h: what is about no block, but the heap as a whole. What is begun before there are blocks,
 * what goes back to the OS, what is done when there is no memory, and how much there is of everything. The doors that
 * blocks go through are heap.c's.
 *
 * Locks: none of its own. A trim is a round (round.h); the others take those below one at a time.
 */
#include "heap_internal.h"

#include "counter.h"
#include "density.h"
#include "holes.h"
#include "idle.h"
#include "large.h"
#include "limit.h"
#include "meta.h"
#include "opt.h"
#include "os.h"
#include "out.h"
#include "round.h"
#include "sample.h"
#include "scavenge.h"
#include "thp.h"
#include "thread.h"
#include "usage.h"
#include "waiting.h"

/* --- before there are blocks ------------------------------------------------------------------ */

static bool hide_region(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    (void)ctx, (void)alloc, (void)released;
    bs_pagemap_hide(base, BS_REGION_PAGES, BS_HIDE_ALL);
    return true;
}

void bs_heap_start_sampling(void) {
    bool all = bs_opt.sample == 1;
    if (bs_opt.sample > 1 && bs_heap_keeper == NULL)
        bs_pagemap_hide(0, 0, BS_HIDE_SOME); /* before any thread samples a block, whose page would be shown for good */
    if (!bs_sample_start())
        return;
    if (all) /* none may come from a cache */
        bs_tcache_disable();
    else
        bs_tcache_begin_sampling();
}

void bs_heap_set_keeper(const struct bs_heap_keeper *k) {
    bs_heap_keeper = k;
    bs_tcache_set_one_way();
    bs_pagemap_hide(0, 0, BS_HIDE_ALL); /* also where the heap is empty still */
    bs_pageheap_each_region(hide_region, NULL);
}

/* --- what goes back --------------------------------------------------------------------------- */

bool bs_heap_trim(size_t keep_bytes) {
    if (bs_heap_keeper != NULL)
        (void)bs_heap_keeper->trim(true);
    bs_tcache_drain_own();
    bs_round_enter(); /* nobody else holds spans or pages back while we look for them */
    struct bs_tcache *orphan;
    while ((orphan = bs_thread_take_orphan(UINT32_MAX)) != NULL)
        bs_tcache_bury(orphan);
    (void)bs_idle_drain_all();
    bs_central_give_up_empty();
    while (bs_waiting_return(BS_EMPTY_WAITING_MAX) != 0)
        ;
    struct bs_holes_work holes;
    struct bs_density_work density;
    bs_thp_refresh(bs_os_now_ns());
    (void)bs_density_round(0, true, &density);
    (void)bs_holes_round(0, SIZE_MAX, true, &holes);
    while (bs_waiting_return(BS_EMPTY_WAITING_MAX) != 0) /* emptied meanwhile */
        ;
    bool released = bs_scavenge_to(keep_bytes) + holes.bytes != 0;
    bs_round_leave();
    return released;
}

void bs_heap_set_keep(size_t bytes) {
    bs_scavenge_set_keep(bytes);
    bs_large_set_keep(bytes);
}

/* --- when there is no memory ------------------------------------------------------------------ */

/* The note that a request was refused may be taken back by another thread that was served. And who waits for another
 * thread's search finds nothing to let go, but room, which a third one may have filled by then: so that there was nothing
 * says little, and it is tried some times more. */
bool bs_heap_make_room(unsigned tries) {
    static uint64_t next_ns; /* [atomic] */
    if (!bs_opt.limit_hard || bs_limit_bytes() == BS_LIMIT_NONE)
        return false;
    uint64_t now = bs_os_now_ns(), due = bs_load(&next_ns);
    bool turn = now >= due && __atomic_compare_exchange_n(&next_ns, &due, now + BS_LIMIT_ROOM_NS,
                                                          false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    if (turn)
        (void)bs_heap_trim(0);
    if (turn || bs_heap_keeper == NULL || tries >= BS_LIMIT_ROOM_TRIES)
        return turn;
    (void)bs_heap_keeper->trim(false);
    return true;
}

void *bs_heap_settle(void *p) {
    if (!bs_limit_has_refused())
        return p;
    if (p != NULL)
        bs_limit_forget_refusal();
    else
        bs_count(limit_refusals, 1);
    return p;
}

void bs_heap_no_memory(const char *what, size_t size) {
    bs_fatal("out of memory: %zu bytes for %s", size, what);
}

/* --- how much there is ------------------------------------------------------------------------ */

/* The parts are of slightly different moments: memory that moved from a small class to a large block
 * meanwhile is counted twice. What is allocated is made to fit into the heap, counted last. */
struct bs_heap_totals bs_heap_totals(void) {
    struct bs_usage u = bs_usage_now();
    struct bs_pageheap_counts pages = bs_pageheap_counts();
    size_t mapped = pages.mapped_pages * BS_PAGE_SIZE, released = pages.released_pages * BS_PAGE_SIZE;
    size_t allocated = bs_min(u.live, mapped);
    /* pages that were free a moment ago may be in a span that waits now */
    size_t dirty = pages.dirty_pages * BS_PAGE_SIZE + bs_large_kept_bytes();
    return (struct bs_heap_totals){
        .mapped = mapped,
        .allocated = allocated,
        .cached = u.cached,
        .free_span = u.free_span,
        .dirty = bs_min(dirty, mapped - released),
        .released = released,
        .large = bs_min(u.large, allocated),
        .metadata = bs_meta_used_bytes(),
        .spans = u.spans,
        .caches = bs_thread_count(),
    };
}

size_t bs_heap_os_page(void) {
    return bs_os_page_size();
}
