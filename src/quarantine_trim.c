/* SPDX-License-Identifier: MIT */
/*
 * quarantine_trim.c - see quarantine.h: the memory of its tables beside pages that nobody uses goes back to the OS.
 *
 * Of the bytes (freed.h) one OS page of a plane is for 64 pages of the heap, of a kind of bits (marks.h) one for a region.
 * Threads set bytes without a lock, and one that is set while its OS page goes would be lost, and its block with it. So
 * the pages of the heap are borrowed meanwhile (bs_pageheap_borrow): then there is no block in them that could be freed.
 * All tables stay mapped, and who looks at them without a lock sees zeros, which they hold anyway.
 */
#include "quarantine.h"

#include "freed.h"
#include "marks.h"
#include "os.h"
#include "pageheap.h"

#include <string.h>

static const enum bs_side sides[] = {BS_SIDE_HELD, BS_SIDE_MARK, BS_SIDE_KEPT};
#define NSIDES BS_ARRAY_LEN(sides)
#define SMALLEST_OS_PAGE 4096

/* Of an arena, which OS pages of its tables are in memory, so that there is no call for those that are not. */
static struct {
    unsigned char bytes[sizeof(struct bs_freed) / SMALLEST_OS_PAGE];
    unsigned char bits[NSIDES][sizeof(struct bs_marks) / SMALLEST_OS_PAGE];
} there; /* [lock:round] */

struct trim {
    size_t os_page, bytes;
    uintptr_t arena; /* whose `there` is known; 0: none */
};

#if BS_FAULTS
void (*bs_quarantine_trims)(void);
#endif

/* What is swapped out is not in memory, and is to go as well. */
static void ask(const void *table, size_t bytes, unsigned char *vec) {
    if (table == NULL)
        memset(vec, 0, bytes / SMALLEST_OS_PAGE);
    else if (bs_os_has_swap() || bs_os_residency(table, bytes, vec) != 0)
        memset(vec, 1, bytes / SMALLEST_OS_PAGE);
}

static void look_at_arena(struct trim *t, uintptr_t base) {
    t->arena = bs_align_down(base, BS_ARENA_SIZE);
    ask(bs_freed_table(base), sizeof(struct bs_freed), there.bytes);
    for (size_t i = 0; i < NSIDES; i++)
        ask(bs_marks_table(base, sides[i]), sizeof(struct bs_marks), there.bits[i]);
}

/* Gives back [at, at+bytes) of each plane of the table. */
static void give_planes(struct trim *t, void *table, size_t plane_bytes, size_t at, size_t bytes,
                        const unsigned char *vec) {
    for (size_t w = 0; w < BS_MARKS_PLANES; w++, at += plane_bytes) {
        size_t n = 0;
        for (size_t i = at; i < at + bytes; i += t->os_page)
            n += vec[i / t->os_page] & 1;
        if (n != 0 && bs_os_zero((char *)table + at, bytes) == 0)
            t->bytes += n * t->os_page;
    }
}

static bool any(const struct trim *t, size_t plane_bytes, size_t at, size_t bytes, const unsigned char *vec) {
    unsigned char some = 0;
    for (size_t w = 0; w < BS_MARKS_PLANES; w++, at += plane_bytes)
        for (size_t i = at; i < at + bytes; i += t->os_page)
            some |= vec[i / t->os_page];
    return (some & 1) != 0;
}

/* Pages [first, first+n) of the region are free, or were a moment ago. */
static void give_beside(struct trim *t, uintptr_t region, size_t first, size_t n) {
    size_t page = (region - t->arena) / BS_PAGE_SIZE + first, at = page * 64, bytes = n * 64;
    bool whole = n * 8 >= t->os_page && n == BS_REGION_PAGES, wanted = any(t, BS_ARENA_PAGES * 64, at, bytes, there.bytes);
    struct bs_loan loan;
    for (size_t i = 0; whole && i < NSIDES; i++)
        wanted |= any(t, BS_ARENA_PAGES * 8, page * 8, n * 8, there.bits[i]);
    if (!wanted || !bs_pageheap_borrow(region, first, n, &loan))
        return;
#if BS_FAULTS
    if (bs_quarantine_trims != NULL)
        bs_quarantine_trims();
#endif
    give_planes(t, bs_freed_table(region), BS_ARENA_PAGES * 64, at, bytes, there.bytes);
    for (size_t i = 0; whole && i < NSIDES; i++)
        give_planes(t, bs_marks_table(region, sides[i]), BS_ARENA_PAGES * 8, page * 8, n * 8, there.bits[i]);
    bs_pageheap_return(&loan);
}

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    struct trim *t = ctx;
    size_t step = t->os_page / 64; /* pages of the heap whose bytes share an OS page */
    (void)released;
    if (bs_freed_table(base) == NULL)
        return true;
    if (t->arena != bs_align_down(base, BS_ARENA_SIZE))
        look_at_arena(t, base);
    for (size_t first = 0, n; first < BS_REGION_PAGES; first += n + step) {
        for (n = 0; first + n < BS_REGION_PAGES && bs_range_is_clear(alloc, first + n, step);)
            n += step;
        if (n != 0)
            give_beside(t, base, first, n);
    }
    return true;
}

size_t bs_quarantine_trim(void) {
    struct trim t = {.os_page = bs_os_page_size()};
    if (t.os_page / 64 <= BS_REGION_PAGES && t.os_page % SMALLEST_OS_PAGE == 0)
        bs_pageheap_each_region(visit_region, &t);
    return t.bytes;
}
