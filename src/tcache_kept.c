/* SPDX-License-Identifier: MIT */
/*
 * tcache_kept.c - see tcache_kept.h.
 *
 * Lengths are bytes of one word, so that all places are looked at together: no length has the highest bit of its byte, so
 * that adding to, or taking from all bytes at once carries nothing from one to the next.
 */
#include "tcache_kept.h"

#include "counter.h"
#include "limit.h"
#include "pageheap.h"
#include "tcache_internal.h"
#include "thread.h"
#include "waiting.h"

#define PLACES 8
#define EACH UINT64_C(0x0101010101010101)
#define HIGH (0x80 * EACH)
_Static_assert(BS_KEPT_SPAN_PAGES + BS_KEPT_SPAN_PAGES / BS_KEPT_SLACK_PART < 0x80, "lengths leave the highest bit free");

/* The highest bit of each byte of free places. */
static inline uint64_t free_places(const struct bs_kept *kept) {
    return ~(bs_load(&kept->lengths) + (HIGH - EACH)) & HIGH;
}
static inline unsigned nplaces(uint64_t places) {
    return (unsigned)((places >> 7) * EACH >> 56);
}
/* The same of those that have from npages to npages + slack. */
static inline uint64_t places_of(const struct bs_kept *kept, size_t npages, size_t slack) {
    return ((kept->lengths | HIGH) - npages * EACH) & (((npages + slack) * EACH | HIGH) - kept->lengths) & HIGH;
}
/* Of such bits, going round: the one that is next behind the last place, the one that is at it or next before. */
static inline uint64_t from_last(const struct bs_kept *kept, uint64_t places) {
    unsigned by = (kept->last + 1u) % PLACES * 8;
    return by == 0 ? places : places >> by | places << (64 - by);
}
static inline unsigned next_place(const struct bs_kept *kept, uint64_t places) {
    return (kept->last + 1 + bs_ctz(from_last(kept, places)) / 8) % PLACES;
}
static inline unsigned newest_place(const struct bs_kept *kept, uint64_t places) {
    return (kept->last + 1 + bs_msb(from_last(kept, places)) / 8) % PLACES;
}

/* A span is here while its length is, so that a snapshot by fork finds none twice (tcache.h). */
static inline void set_length(struct bs_kept *kept, unsigned i, uint64_t npages) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    bs_store(&kept->lengths, (kept->lengths & ~((uint64_t)0xff << i * 8)) | npages << i * 8);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline struct bs_span *leave(struct bs_kept *kept, unsigned i) {
    struct bs_span *s = kept->span[i];
    set_length(kept, i, 0);
    bs_store(&kept->pages, kept->pages - s->npages);
    return s;
}

/* What is counted here is told now and then, since a common counter is a line that all threads write to. */
static BS_NOINLINE void tell(struct bs_kept *kept) {
    bs_count(large_allocs, kept->allocs);
    if (kept->swaps != 0) {
        bs_count(spans_made, kept->swaps);
        bs_count(spans_returned, kept->swaps);
    }
    kept->allocs = kept->swaps = 0;
}

static inline void count_alloc(struct bs_kept *kept) {
    if (BS_UNLIKELY(++kept->allocs >= BS_KEPT_COUNTED))
        tell(kept);
}

/* In a cache that has no room, as the static ones have none, nothing may be written. */
void bs_kept_count_alloc(void) {
    struct bs_kept *kept = &bs_tcache_self()->kept;
    if (BS_LIKELY(kept->room != 0))
        count_alloc(kept);
    else
        bs_count(large_allocs, 1);
}
void bs_kept_count_swap(void) {
    struct bs_kept *kept = &bs_tcache_self()->kept, one = {.swaps = 1};
    if (kept->room == 0)
        tell(&one);
    else if (++kept->swaps >= BS_KEPT_COUNTED)
        tell(kept);
}

/* Of such places the newest, since it is warm, whose span is aligned; PLACES: none. */
static inline unsigned find_aligned(const struct bs_kept *kept, uint64_t places, size_t align) {
    while (places != 0) {
        unsigned i = newest_place(kept, places);
        if (BS_LIKELY((kept->span[i]->base & (align - 1)) == 0))
            return i;
        places &= ~((uint64_t)0x80 << i * 8);
    }
    return PLACES;
}

struct bs_span *bs_kept_take(size_t npages, size_t align, bool counts) {
    struct bs_kept *kept = &bs_tcache_self()->kept; /* the static caches keep none */
    if (npages > BS_KEPT_SPAN_PAGES)
        return NULL;
    size_t slack = npages / BS_KEPT_SLACK_PART;
    uint64_t exact = places_of(kept, npages, 0);
    unsigned i = find_aligned(kept, exact, align);
    if (i == PLACES && slack != 0)
        i = find_aligned(kept, places_of(kept, npages, slack) & ~exact, align);
    if (i == PLACES)
        return NULL;
    if (counts)
        count_alloc(kept);
    return leave(kept, i);
}

/* Pages that one thread may keep: its share of what all may. */
static uint32_t room(void) {
    if (bs_limit_pressure() != BS_PRESSURE_NONE)
        return 0;
    size_t all = bs_max(bs_pageheap_used_bytes() / BS_KEPT_THREADS_PART, BS_KEPT_THREADS_BYTES);
    return (uint32_t)bs_min(BS_KEPT_THREAD_PAGES, bs_max(1, bs_thread_share(all) / BS_PAGE_SIZE));
}

/* Those that have been here longest leave, until no more than `most` pages and half of the places are taken; how many. */
static inline size_t pick_oldest(struct bs_kept *kept, size_t most, struct bs_span **gone) {
    size_t n = 0;
    for (unsigned nfree = nplaces(free_places(kept)); kept->pages > most || nfree < PLACES / 2;
         nfree++)
        gone[n++] = leave(kept, next_place(kept, ~free_places(kept) & HIGH));
    return n;
}

static void let_go(struct bs_kept *kept, size_t most) {
    struct bs_span *gone[PLACES];
    size_t n = pick_oldest(kept, most, gone);
    if (n != 0)
        bs_waiting_add_large(gone, n);
}

/* The last one may be too many, by half: as a rule a block is asked for next, and then some go (bs_kept_trade). */
static inline bool has_room(const struct bs_kept *kept, uint32_t npages) {
    return kept->pages < kept->room && kept->pages + npages <= kept->room + kept->room / 2 && free_places(kept) != 0;
}

struct bs_span *bs_kept_trade(size_t npages, size_t align, struct bs_span **other) {
    struct bs_kept *kept = &bs_tcache_self()->kept;
    struct bs_span *gone[PLACES];
    size_t n = kept->pages <= kept->room || npages > BS_KEPT_SPAN_PAGES ? 0 : pick_oldest(kept, kept->room / 2, gone);
    return bs_waiting_trade_large(gone, n, npages, align, other);
}

static inline void put(struct bs_kept *kept, struct bs_span *s, uint32_t npages) {
    unsigned i = next_place(kept, free_places(kept));
    kept->span[i] = s;
    kept->last = (uint16_t)i;
    bs_store(&kept->pages, kept->pages + npages);
    set_length(kept, i, npages);
}

/* Also for a thread that has no cache yet, or cannot have one: the static caches have no room. One span may be longer than
 * that, if it is alone. */
static BS_NOINLINE enum bs_kept_put make_room_and_put(struct bs_span *s) {
    struct bs_tcache *tc = bs_tcache_own();
    struct bs_kept *kept = &tc->kept;
    if (tc == &bs_tcache_none)
        return BS_KEPT_REFUSED;
    kept->room = room();
    if (!has_room(kept, s->npages))
        let_go(kept, kept->room / 2);
    if (kept->room == 0)
        return BS_KEPT_REFUSED;
    put(kept, s, s->npages);
    return BS_KEPT_LOOK;
}

enum bs_kept_put bs_kept_put(struct bs_span *s) {
    struct bs_kept *kept = &bs_tcache_self()->kept;
    uint32_t npages = s->npages;
    if (BS_UNLIKELY(!has_room(kept, npages)))
        return make_room_and_put(s);
    put(kept, s, npages);
    return bs_tcache_note_busy() && ++kept->puts % PLACES != 0 ? BS_KEPT_QUIETLY : BS_KEPT_LOOK;
}

/* The sum of the lengths. */
static uint32_t pages_of(const struct bs_kept *kept) {
    uint32_t pages = 0;
    for (uint64_t left = kept->lengths; left != 0; left >>= 8)
        pages += left & 0xff;
    return pages;
}

/* A fork may have met the owner between a length and the sum. */
void bs_kept_drain(struct bs_tcache *tc) {
    struct bs_kept *kept = &tc->kept;
    if ((kept->allocs | kept->swaps) != 0)
        tell(kept);
    if (kept->pages != 0 || kept->lengths != 0) {
        bs_store(&kept->pages, pages_of(kept));
        let_go(kept, 0);
    }
}
