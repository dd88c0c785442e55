/* SPDX-License-Identifier: MIT */
/*
 * tcache.c - the slow half of thread caches: refilling, flushing, growing. Who has a cache, and since when,
 * is in tcache_life.c.
 *
 * Locks: takes the registry's and the central locks, one at a time. Every function here is written to be entered
 * again where a cache is made.
 */
#include "tcache_gate.h"
#include "tcache_kept.h"

#include "counter.h"
#include "limit.h"
#include "meta.h"
#include "pageheap.h"
#include "thread.h"

#include <string.h>

/* [atomic] slow doors were busy since somebody asked; written when it changes only */
static bool busy;

static bool one_way; /* [init] what is freed goes elsewhere: magazines are filled by refills alone */

/* What magazines of one thread may have beyond the start: a part of what the heap has in use. */
static size_t extra_room(void) {
    size_t part = bs_pageheap_used_bytes() / BS_CACHE_HEAP_PART;
    return bs_min(BS_CACHE_THREAD_BYTES, bs_max(part, BS_CACHE_LEAST_BYTES));
}

/* One part in `part` of what the heap has in use, shared by all caches; 0 if it is not more than `least`. */
static size_t share_above(size_t part, size_t least) {
    size_t bytes = bs_pageheap_used_bytes() / part;
    return bytes > least ? bs_thread_share(bytes) : 0;
}

static uint32_t max_capacity(uint32_t size) {
    uint32_t cap = BS_MAGAZINE_LEAST;
    if ((size_t)cap * 2 * size <= share_above(BS_MAGAZINE_HEAP_PART, BS_MAGAZINE_MAX_BYTES))
        cap *= 2;
    while (cap < BS_MAGAZINE_MAX && (size_t)cap * 2 * size <= BS_MAGAZINE_MAX_BYTES)
        cap *= 2;
    return cap;
}

/* What the next refill asks for: twice as much, within bounds. */
static uint16_t next_claim(const struct bs_bin *bin) {
    size_t bytes = bs_min(BS_CLAIM_LARGE_BYTES, share_above(BS_CLAIM_HEAP_PART, BS_CLAIM_MAX_BYTES));
    size_t more = bs_min(bs_min(bytes / bin->size, bin->cap / 2u), BS_CLAIM_MAX);
    return (uint16_t)bs_min((size_t)bin->claim * 2, bs_max(bs_tcache_max_claim(bin->size), more));
}

/* --- flushing --------------------------------------------------------------------------------- */

/* The oldest n of the `count` blocks of the magazine, which has no gate, go back. The newest stay: they are warm, and
 * what lies at the bottom is looked at in time (a block freed twice is found when it goes back). */
static void flush(struct bs_tcache *tc, unsigned class, size_t count, size_t n) {
    void **blocks = tc->tops.top[class] - count + 1;
    /* None counts while they leave and move: a snapshot by fork loses them (tcache.h). */
    bs_store(&tc->tops.top[class], blocks - 1);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    bs_central_release(class, blocks, (unsigned)n);
    memmove(blocks, blocks + n, (count - n) * sizeof *blocks);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    bs_store(&tc->tops.top[class], blocks - 1 + (count - n));
}

/* The same for a magazine that may have one. */
static void flush_any(struct bs_tcache *tc, unsigned class, size_t count, size_t n) {
    bs_gate_lift(tc, class);
    flush(tc, class, count, n);
    bs_gate_set(tc, class);
}

static void flush_run(struct bs_tcache *tc, unsigned class) {
    void *blocks[64];
    unsigned n = 0;
    while (bs_tcache_take_run(tc, class, &blocks[n]))
        n++;
    if (n != 0)
        bs_central_release(class, blocks, n);
}

void bs_tcache_drain(struct bs_tcache *tc) {
    bs_kept_drain(tc);
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        /* Counted down to the bottom, not from `blocks`: a fork may have met the owner while it
         * changed the storage (grow). */
        size_t count = 0;
        bs_gate_lift(tc, class);
        while (tc->tops.top[class][-(ptrdiff_t)count] != NULL)
            count++;
        if (count != 0)
            flush(tc, class, count, count);
        if (tc->bin[class].run_mask != 0)
            flush_run(tc, class);
        bs_gate_set(tc, class);
    }
}

/* Room for twice as many blocks, if the budgets allow. */
static BS_NOINLINE bool grow_magazine(struct bs_tcache *tc, unsigned class) {
    struct bs_bin *bin = &tc->bin[class];
    if (bin->cap >= max_capacity(bin->size))
        return false;
    size_t bytes = (size_t)bin->cap * bin->size;
    if (tc->extra_bytes + bytes > extra_room() || !bs_thread_grant(bytes))
        return false;
    if (bin->cap < BS_MAGAZINE_START) { /* in the cache's own storage */
        bs_store(&tc->tops.limit[class], tc->tops.limit[class] + bin->cap);
        bin->cap *= 2;
        tc->extra_bytes += bytes;
        return true;
    }
    void **bottom = bs_meta_pool_alloc(bs_tcache_storage(bin->cap * 2u));
    if (bottom == NULL) {
        bs_thread_refund(bytes);
        return false;
    }
    void **old = bin->blocks - 1;
    uint16_t old_cap = bin->cap;
    size_t count = (size_t)(tc->tops.top[class] - old);
    memcpy(bottom, old, (1 + count) * sizeof *bottom);
    /* In this order for a snapshot by fork: top leads to a whole magazine before and after, and
     * larger storage under the smaller capacity is harmless. */
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bs_store(&tc->tops.top[class], bottom + count);
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bs_store(&bin->blocks, bottom + 1);
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bin->cap = (uint16_t)(old_cap * 2);
    bs_store(&tc->tops.limit[class], bottom + bin->cap);
    tc->extra_bytes += bytes;
    if (old_cap > BS_MAGAZINE_START)
        bs_meta_pool_free(bs_tcache_storage(old_cap), old);
    return true;
}

/* Now and then (every BS_TRIM_VISITS visits): magazines that were not needed since the last pass give half
 * of what they hold, so that a phase of the program does not leave its blocks here. */
static void trim_pass(struct bs_tcache *tc) {
    bs_kept_drain(tc);
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        struct bs_bin *bin = &tc->bin[class];
        size_t count = bs_tcache_count(tc, class);
        if (!bin->refilled && count != 0)
            flush_any(tc, class, count, (count + 1) / 2);
        if (!bin->refilled)
            bin->claim = (uint16_t)bs_min(BS_MAGAZINE_START, bs_tcache_max_claim(bin->size));
        bin->refilled = false;
    }
}

/* bs_central_set_spare's: this thread is about to take memory from the kernel, maybe in the middle of a refill; its
 * bin has nothing then. Those that were not needed since the last such pass, or trim pass, give all. */
static void give_spare(void) {
    struct bs_tcache *tc = bs_tcache_self();
    if (!bs_tcache_is_real(tc))
        return;
    bs_kept_drain(tc);
    for (unsigned class = 1; class <= BS_SPARE_LAST_CLASS; class++) {
        struct bs_bin *bin = &tc->bin[class];
        size_t count = bs_tcache_count(tc, class);
        if (!bin->refilled && count != 0)
            flush_any(tc, class, count, count);
        if (!bin->refilled && bin->run_mask != 0)
            flush_run(tc, class);
        bin->refilled = false;
    }
}

bool bs_tcache_note_busy(void) {
    if (BS_LIKELY(bs_load(&busy)))
        return true;
    bs_store(&busy, true);
    return false;
}

static void note_visit(struct bs_tcache *tc) {
    uint32_t visits = tc->slow_ops + 1;
    bs_store(&tc->slow_ops, visits);
    if (visits % BS_TRIM_VISITS_NEAR != 0)
        return;
    (void)bs_tcache_note_busy();
    if (visits % BS_TRIM_VISITS == 0 || bs_limit_pressure() != BS_PRESSURE_NONE)
        trim_pass(tc);
}

/* --- the slow door ---------------------------------------------------------------------------- */

/* The caller is in besom, so the word may be borrowed again, but the cache stays the caller's. */
struct bs_tcache *bs_tcache_own(void) {
    if (BS_UNLIKELY(bs_load(&bs_tcache_disabled))) {
        bs_tcache_leave();
        return &bs_tcache_none;
    }
    struct bs_tcache *tc = bs_tcache_self();
    if (BS_UNLIKELY(tc == &bs_tcache_empty))
        tc = bs_tcache_look_again();
    if (BS_LIKELY(tc != &bs_tcache_empty))
        return tc;
    bs_central_set_spare(give_spare);
    return bs_tcache_make();
}

static void *alloc_uncached(unsigned class) {
    struct bs_refill r = {.blocks = NULL, .max_blocks = 0};
    if (!bs_central_refill(class, 1, &r))
        return NULL;
    return r.run_base + (size_t)bs_ctz(r.run_mask) * bs_class_info[class].size;
}

/* mask without its lowest n bits. */
static uint64_t without_lowest(uint64_t mask, unsigned n) {
    while (n-- > 0)
        mask &= mask - 1;
    return mask;
}

/* The lowest n >= 1 slots of `mask`, the lowest on top, become the magazine's blocks. They leave the
 * run before they count: a snapshot by fork loses them. */
static void move_slots(struct bs_tcache *tc, unsigned class, uint64_t mask, unsigned n) {
    struct bs_bin *bin = &tc->bin[class];
    void **bottom = tc->tops.top[class], **place = bottom + 1 + n;
    size_t size = bin->size;
    char *base = bin->run_base;
    uint64_t neighbours = bs_low_bits(n) << bs_ctz(mask);
    if ((mask & neighbours) == neighbours) { /* the rule */
        bs_store(&bin->run_mask, mask & ~neighbours);
        __atomic_signal_fence(__ATOMIC_RELEASE);
        for (char *p = base + bs_ctz(mask) * size; place != bottom + 1; p += size)
            *--place = p;
    } else {
        bs_store(&bin->run_mask, without_lowest(mask, n));
        __atomic_signal_fence(__ATOMIC_RELEASE);
        for (; place != bottom + 1; mask &= mask - 1)
            *--place = base + bs_ctz(mask) * size;
    }
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bs_store(&tc->tops.top[class], bottom + n);
}

bool bs_tcache_spread(struct bs_tcache *tc, unsigned class, void **out) {
    struct bs_bin *bin = &tc->bin[class];
    uint64_t mask = bin->run_mask, others = mask & (mask - 1);
    if (others == 0 || bin->size > BS_TINY_MAX)
        return bs_tcache_take_run(tc, class, out);
    *out = bin->run_base + (size_t)bs_ctz(mask) * bin->size;
    move_slots(tc, class, others, (unsigned)bs_min(bs_popcount(others), bin->cap));
    return true;
}

/* Frees let magazines grow. Without any they would stay as short as they begin, and malloc come to the slow door once for
 * so many slots. */
static bool wants_room(const struct bs_bin *bin) {
    return BS_UNLIKELY(one_way) || (bin->cap < BS_MAGAZINE_WORD && bin->size <= BS_TINY_MAX);
}

void *bs_tcache_refill(struct bs_tcache *tc, unsigned class, unsigned want) {
    struct bs_bin *bin = &tc->bin[class];
    struct bs_refill r = {.run_mask = 0};
    void *p;
    if (BS_UNLIKELY(bin->run_base == NULL)) { /* the first one */
        r.whole_lines = true;
        bs_tcache_open(tc, class);
    }
    if (want > bin->cap && wants_room(bin))
        (void)grow_magazine(tc, class);
    unsigned room = (unsigned)bs_min(bin->cap, want);
    r.blocks = bin->blocks;
    r.max_blocks = room;
    if (!bs_central_refill(class, want, &r))
        return NULL;
    bin->refilled = true;
    bin->claim = next_claim(bin);
    bs_store(&bin->run_base, r.run_base);
    bin->run_zero = r.run_zero;
    bs_store(&bin->run_mask, r.run_mask);
    if (r.nblocks == 0) {
        (void)bs_tcache_spread(tc, class, &p);
        return p;
    }
    if (r.nblocks != room)
        memmove(bin->blocks, bin->blocks + (room - r.nblocks), r.nblocks * sizeof *bin->blocks);
    __atomic_signal_fence(__ATOMIC_RELEASE);
    p = bin->blocks[r.nblocks - 1];
    bs_store(&tc->tops.top[class], bin->blocks - 2 + r.nblocks);
    return p;
}

/* Blocks are sampled, and so the cache has gates, now if it had none; there may be no memory for them. */
static inline bool is_gated(struct bs_tcache *tc) {
    return bs_sample_is_on() && (BS_LIKELY(tc->gates != NULL) || bs_gates_own(tc) != NULL);
}

void *bs_tcache_alloc_slow(unsigned class) {
    struct bs_tcache *tc = bs_tcache_own();
    if (tc == &bs_tcache_none)
        return alloc_uncached(class);
    note_visit(tc);
    void *p;
    if (is_gated(tc))
        return bs_gate_alloc(tc, class);
    /* a cache just made may have been filled by re-entry */
    if (bs_tcache_take(&tc->tops, class, &p) || bs_tcache_spread(tc, class, &p))
        return p;
    return bs_tcache_refill(tc, class, tc->bin[class].claim);
}

/* Into the magazine, of which half goes back where it is full and cannot grow. There is no gate. */
static inline void put_slowly(struct bs_tcache *tc, unsigned class, void *p) {
    if (BS_UNLIKELY(bs_tcache_is_closed(tc, class))) {
        bs_tcache_open(tc, class);
        bs_central_release(class, &p, 1);
        return;
    }
    uint16_t cap = tc->bin[class].cap;
    if (tc->tops.top[class] == tc->tops.limit[class] && !grow_magazine(tc, class))
        flush(tc, class, cap, (cap + 1u) / 2);
    (void)bs_tcache_put(&tc->tops, class, p); /* there is room; into tc, whatever the word says by now */
}

void bs_tcache_free_slow(unsigned class, void *p) {
    struct bs_tcache *tc = bs_tcache_own();
    if (tc == &bs_tcache_none) {
        bs_central_release(class, &p, 1);
        return;
    }
    if (is_gated(tc) && bs_tcache_pass_gate_back(tc, class, p))
        return;
    note_visit(tc); /* which may flush this magazine, too */
    bs_gate_lift(tc, class);
    put_slowly(tc, class, p);
    bs_gate_set(tc, class);
}

bool bs_tcache_is_sampled(size_t size) {
    struct bs_tcache *tc = bs_tcache_self();
    if (BS_UNLIKELY(tc == &bs_tcache_empty))
        tc = bs_tcache_look_again();
    if (!bs_tcache_is_real(tc))
        return bs_sampler_hits_uncounted(size);
    bool due = tc->gates != NULL && tc->gates->due;
    if (due)
        tc->gates->due = false;
    return due;
}

void bs_tcache_set_one_way(void) {
    one_way = true;
}

bool bs_tcache_is_busy(void) {
    return bs_load(&busy);
}
bool bs_tcache_was_busy(void) {
    bool was = bs_load(&busy);
    bs_store(&busy, false);
    return was;
}
