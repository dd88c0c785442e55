/* SPDX-License-Identifier: MIT */
/* cycle.c - see cycle.h. No lock but those of the page heap and of the metadata, one at a time. */
#include "cycle.h"

#include "counter.h"
#include "meta.h"
#include "pageheap.h"
#include "tcache.h"
#include "thread.h"

/* Mappings with tables: one, and one more each time that the heap grew before the beginning. */
#define MAX_CHUNKS 8

static struct {
    struct {
        struct bs_marks *tables;
        size_t bytes;
    } chunk[MAX_CHUNKS];
    unsigned nchunks;
    bool prepared;
} cycle; /* [lock:round] */

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

/* --- the order -------------------------------------------------------------------------------- */

bool bs_cycle_prepare(void) {
    BS_CHECK(!bs_marking);
    cycle.prepared = make_tables();
    if (cycle.prepared)
        return true;
    drop_tables();
    bs_count(marks_refused, 1);
    return false;
}

bool bs_cycle_begin(void) {
    BS_CHECK(cycle.prepared && !bs_marking);
    bs_marking = count_missing() == 0;
    return bs_marking;
}

/* What the cache holds has left its spans and is nobody's: no pointer needs to lead to it. */
static void spare_cache(void *ctx, const struct bs_tcache *tc) {
    (void)ctx;
    bs_tcache_each_block(tc, bs_settle_spare);
}

void bs_cycle_spare_caches(void) {
    bs_thread_each(spare_cache, NULL);
}

void bs_cycle_end(void) {
    bs_marking = false;
    if (cycle.prepared)
        drop_tables();
}
