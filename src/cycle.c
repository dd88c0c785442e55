/* SPDX-License-Identifier: MIT */
/*
 * cycle.c - see cycle.h: the tables' making and end, the walk over the heap, the order of it all.
 *
 * The walk goes page by page: a page map entry is only a hint, and a step of more than one page
 * could be taken from a descriptor that changes at this moment.
 */
#include "cycle.h"

#include "central.h"
#include "counter.h"
#include "large.h"
#include "lock.h"
#include "meta.h"
#include "os.h"
#include "tcache_kept.h"
#include "thread.h"
#include "waiting.h"

/* Mappings with tables: one, and one more each time that the heap grew before the beginning. */
#define MAX_CHUNKS 8

static struct {
    struct bs_lock lock;
    uintptr_t cursor; /* [lock] below it all is swept */
    struct {          /* [lock:round] */
        struct bs_marks *tables;
        size_t bytes;
    } chunk[MAX_CHUNKS];
    unsigned nchunks; /* [lock:round] */
    bool prepared;    /* [lock:round] */
} cycle = {.lock = BS_LOCK_INIT(BS_RANK_CYCLE)};

/* --- tables ----------------------------------------------------------------------------------- */

static const enum bs_side sides[] = {BS_SIDE_MARK, BS_SIDE_IDLE};
#define NSIDES BS_ARRAY_LEN(sides)

/* Arenas without tables are counted, or given the next ones as long as there are some. */
struct arenas {
    size_t missing;
    uintptr_t last;        /* number of the arena counted last */
    struct bs_marks *next; /* NULL: count only */
    size_t left;
};

static bool visit_arena(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    struct arenas *a = ctx;
    (void)alloc, (void)released;
    if (bs_marks_table(base, sides[0]) != NULL)
        return true;
    if (a->next == NULL || a->left == 0) {
        a->missing += a->missing == 0 || base >> BS_ARENA_SHIFT != a->last;
        a->last = base >> BS_ARENA_SHIFT;
        return true;
    }
    for (size_t i = 0; i < NSIDES; i++) /* sides[0] last: it says that all are there */
        bs_marks_set_table(base, sides[NSIDES - 1 - i], a->next++);
    a->left--;
    return true;
}

static size_t count_missing(void) {
    struct arenas a = {.missing = 0};
    bs_pageheap_each_region(visit_arena, &a);
    return a.missing;
}

static bool withdraw_tables(void *ctx, uintptr_t base, const uint64_t *alloc,
                            const uint64_t *released) {
    (void)ctx, (void)alloc, (void)released;
    for (size_t i = 0; i < NSIDES; i++)
        bs_marks_set_table(base, sides[i], NULL);
    return true;
}

/* All spans are swept, to the end, or no cycle has begun: nobody reads them. */
static void drop_tables(void) {
    bs_pageheap_each_region(withdraw_tables, NULL);
    for (unsigned i = 0; i < cycle.nchunks; i++)
        bs_meta_unmap(cycle.chunk[i].tables, cycle.chunk[i].bytes);
    cycle.nchunks = 0;
    cycle.prepared = false;
}

/* For all arenas that are there now, in one mapping. */
static bool make_tables(void) {
    size_t n = count_missing(), bytes = n * NSIDES * sizeof(struct bs_marks);
    if (n == 0)
        return true;
    struct bs_marks *tables = cycle.nchunks < MAX_CHUNKS ? bs_meta_map(bytes) : NULL;
    if (tables == NULL)
        return false;
    cycle.chunk[cycle.nchunks].tables = tables;
    cycle.chunk[cycle.nchunks++].bytes = bytes;
    struct arenas a = {.next = tables, .left = n};
    bs_pageheap_each_region(visit_arena, &a);
    return true;
}

/* --- the walk --------------------------------------------------------------------------------- */

struct walk {
    size_t max_spans, swept, regions_left;
    uint64_t deadline_ns; /* 0: none */
    bool stopped;
    struct bs_span *empty[BS_EMPTY_BATCH]; /* of one class, on their way to the waiting list */
    unsigned nempty, class;
};

static void give_empty(struct walk *w) {
    if (w->nempty != 0)
        bs_waiting_add(w->class, w->empty, w->nempty);
    w->nempty = 0;
}

static void sweep_span(struct walk *w, struct bs_span *s) {
    struct bs_found found;
    unsigned class = bs_load(&s->class);
    bool swept;
    if (class == 0) {
        (void)bs_large_sweep(s, &found, &swept);
    } else if (bs_central_sweep(s, class, &found, &swept)) {
        if (w->class != class || w->nempty == BS_EMPTY_BATCH)
            give_empty(w);
        w->class = class;
        w->empty[w->nempty++] = s;
    }
    if (!swept)
        return;
    w->swept++;
    bs_settle_report(&found);
}

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                         const uint64_t *released) {
    struct walk *w = ctx;
    uintptr_t end = base + BS_REGION_SIZE, p = bs_max(base, cycle.cursor);
    (void)released;
    while (p < end && !w->stopped) {
        size_t page = (p - base) / BS_PAGE_SIZE;
        if (alloc[page / 64] == 0) {
            p = base + bs_align_up(page + 1, 64) * BS_PAGE_SIZE;
            continue;
        }
        struct bs_span *s = bs_span_in_region(alloc, base, page);
        /* one that a refill is sweeping, too: its class's lock says when that is over, and the tables may go */
        if (s != NULL && !bs_span_is_swept(s))
            sweep_span(w, s);
        p += BS_PAGE_SIZE;
        w->stopped = w->swept == w->max_spans;
    }
    cycle.cursor = bs_max(cycle.cursor, p); /* an arena below may have come meanwhile: all is new */
    w->stopped |= --w->regions_left == 0 ||
                  (w->deadline_ns != 0 && bs_os_now_ns() >= w->deadline_ns);
    return !w->stopped;
}

static void walk_locked(struct walk *w) {
    BS_ASSERT_HELD(&cycle.lock);
    bs_pageheap_each_region_from(bs_sub_clamped(cycle.cursor, 1), visit_region, w);
    give_empty(w);
}

/* For a thread whose class has no slot left; leaves the end of the cycle to a round. */
static void help(void) {
    struct walk w = {.max_spans = BS_SWEEP_REFILL_MAX - 1, .regions_left = BS_SWEEP_REFILL_REGIONS};
    if (!bs_lock_try(&cycle.lock))
        return;
    if (bs_cycle_is_under_way())
        walk_locked(&w);
    bs_lock_release(&cycle.lock);
    bs_count(spans_swept_on_demand, w.swept);
}

static void end_locked(void) {
    /* release: pairs with the owner of a large block (large.c); a small span has its class's lock */
    bs_store_release(&bs_settling.phase, (uint32_t)BS_SETTLE_NONE);
    drop_tables();
    BS_ASSERT_FULL(bs_cycle_is_complete());
}

size_t bs_cycle_walk(size_t max_spans, uint64_t budget_ns) {
    struct walk w = {.max_spans = max_spans, .regions_left = SIZE_MAX};
    if (!bs_cycle_is_under_way())
        return 0;
    w.deadline_ns = budget_ns != 0 ? bs_os_now_ns() + budget_ns : 0;
    bs_lock_acquire(&cycle.lock);
    if (bs_cycle_is_under_way()) { /* another thread may have ended it */
        walk_locked(&w);
        if (!w.stopped)
            end_locked();
    }
    bs_lock_release(&cycle.lock);
    return w.swept;
}

void bs_cycle_finish(void) {
    while (bs_cycle_is_under_way())
        (void)bs_cycle_walk(SIZE_MAX, 0);
}

/* --- the order -------------------------------------------------------------------------------- */

bool bs_cycle_prepare(void) {
    BS_CHECK(!bs_settling_is_open());
    cycle.prepared = make_tables();
    if (cycle.prepared)
        return true;
    drop_tables();
    bs_count(sweep_cycles_abandoned, 1);
    return false;
}

static void renew_kept(void *ctx, const struct bs_tcache *tc) {
    bs_kept_renew(tc, *(const uint32_t *)ctx);
}

bool bs_cycle_begin(void) {
    BS_CHECK(cycle.prepared && !bs_settling_is_open());
    BS_ASSERT_FULL(bs_cycle_is_complete());
    if (count_missing() != 0)
        return false;
    uint32_t gen = bs_load(&bs_sweepgen) + 2;
    bs_store(&bs_sweepgen, gen);
    bs_waiting_renew(gen);
    bs_thread_each(renew_kept, &gen);
    bs_store(&bs_settling.phase, (uint32_t)BS_SETTLE_MARKING);
    return true;
}

/* What the cache holds has left its spans and is nobody's: no pointer needs to lead to it. */
static void spare_cache(void *ctx, const struct bs_tcache *tc) {
    (void)ctx;
    bs_tcache_each_block(tc, bs_settle_spare);
}

void bs_cycle_spare_caches(void) {
    bs_thread_each(spare_cache, NULL);
}

void bs_cycle_note_idle(void) {
    BS_CHECK(bs_load(&bs_settling.phase) == BS_SETTLE_MARKING);
    bs_cycle_spare_caches();
}

void bs_cycle_start(enum bs_sweep_mode mode, bs_reporter *report, void *ctx) {
    bs_cycle_note_idle();
    cycle.cursor = 0;
    bs_settling.mode = mode;
    bs_settling.report = report;
    bs_settling.ctx = ctx;
    bs_settling.help = help;
    bs_count(sweep_cycles, 1);
    bs_store_release(&bs_settling.phase, (uint32_t)BS_SETTLE_SWEEPING);
}

void bs_cycle_abandon(void) {
    if (bs_load(&bs_settling.phase) == BS_SETTLE_MARKING)
        bs_cycle_start(BS_SWEEP_PLAIN, NULL, NULL); /* the generation has changed: all is settled */
    else if (!bs_settling_is_open())
        drop_tables();
}

BS_ALWAYS bool bs_cycle_is_under_way(void) {
    return bs_load(&bs_settling.phase) == BS_SETTLE_SWEEPING;
}

/* --- debug, fork ------------------------------------------------------------------------------ */

static bool visit_complete(void *ctx, uintptr_t base, const uint64_t *alloc,
                           const uint64_t *released) {
    bool *complete = ctx;
    (void)released;
    for (size_t page = 0; page < BS_REGION_PAGES && *complete; page++) {
        struct bs_span *s = bs_span_in_region(alloc, base, page);
        *complete = s == NULL || !bs_span_is_unswept(s);
    }
    return *complete;
}

bool bs_cycle_is_complete(void) {
    bool complete = !bs_settling_is_open();
    bs_pageheap_each_region(visit_complete, &complete);
    return complete;
}

void bs_cycle_lock(void) {
    bs_lock_acquire(&cycle.lock);
}
void bs_cycle_unlock(void) {
    bs_lock_release(&cycle.lock);
}
void bs_cycle_reset_lock(void) {
    bs_lock_reset(&cycle.lock);
}
