/* SPDX-License-Identifier: MIT */
/* leaks.c - see leaks.h. Takes no lock but the page heap's around the copy of a region's bits. */
#include "leaks.h"

#include "bits.h"
#include "meta.h"
#include "pageheap.h"
#include "sides.h"

struct search {
    struct bs_trace *t;
    bs_leak_reporter *report;
    void *ctx;
    struct bs_leak *total;
    uintptr_t *region; /* bases, in address order */
    size_t nregions, max;
};

/* [scan] the program runs: one search at a time, or one's own copy of it. */
static bool concurrent;

/* --- bits ------------------------------------------------------------------------------------- */

/* Of that side, word w of the span: while the program runs it may become another one at any moment, but not while a
 * block of it is lost. */
static uint64_t bits_of(const struct bs_span *s, enum bs_side side, size_t w) {
    return bs_marks_bits(bs_load(&s->base), side, w);
}
static uint64_t unreached(const struct bs_span *s, size_t w) {
    if (concurrent)
        return bits_of(s, BS_SIDE_NOW, w);
    return s->alloc[w] &
           ~(bits_of(s, BS_SIDE_IDLE, w) | bits_of(s, BS_SIDE_HELD, w) | bits_of(s, BS_SIDE_MARK, w));
}
static uint64_t seen(const struct bs_span *s, size_t w) {
    return unreached(s, w) & bits_of(s, BS_SIDE_SEEN, w);
}
static uint64_t claimed(const struct bs_span *s, size_t w) {
    return unreached(s, w) & ~bits_of(s, BS_SIDE_SEEN, w);
}
static bool set(const struct bs_span *s, enum bs_side side, uint32_t slot) {
    return bs_marks_set(bs_load(&s->base), side, slot);
}

/* Clears the bit; false: it was clear. */
static bool claim(const struct bs_span *s, uint32_t slot) {
    uint64_t *word = bs_marks_word(bs_load(&s->base), BS_SIDE_SEEN, slot / 64),
             bit = (uint64_t)1 << (slot % 64);
    if (word == NULL) /* an arena that has come since the tables were made */
        return false;
    bool was = (*word & bit) != 0;
    *word &= ~bit;
    return was;
}

/* The block in that slot; false: there is none any more. */
static bool block_in(const struct bs_span *s, uint32_t slot, struct bs_marked *block) {
    struct bs_shape shape;
    if (!bs_span_shape(s, &shape) || slot >= shape.nslots)
        return false;
    *block = (struct bs_marked){shape.base + slot * shape.size, shape.size};
    return true;
}

static bool find(struct bs_span *s, uintptr_t p, uint32_t *slot, struct bs_marked *block) {
    struct bs_shape shape;
    if (bs_span_of(p) != s || !bs_span_shape(s, &shape) || !bs_shape_slot(&shape, p, slot) ||
        (unreached(s, *slot / 64) >> (*slot % 64) & 1) == 0)
        return false;
    *block = (struct bs_marked){shape.base + *slot * shape.size, shape.size};
    return true;
}
static enum bs_lead take_seen(struct bs_span *s, uintptr_t p, struct bs_marked *block) {
    uint32_t slot;
    if (!find(s, p, &slot, block))
        return BS_LEAD_NONE;
    return set(s, BS_SIDE_SEEN, slot) ? BS_LEAD_NEW : BS_LEAD_OLD;
}
static enum bs_lead take_claimed(struct bs_span *s, uintptr_t p, struct bs_marked *block) {
    uint32_t slot;
    if (!find(s, p, &slot, block))
        return BS_LEAD_NONE;
    return claim(s, slot) ? BS_LEAD_NEW : BS_LEAD_OLD;
}

/* --- the two searches ------------------------------------------------------------------------- */

static void begin_at(struct search *q, const struct bs_span *s, uint32_t slot) {
    struct bs_marked block;
    if (!block_in(s, slot, &block) || !set(s, BS_SIDE_SEEN, slot))
        return;
    (void)set(s, BS_SIDE_HEAD, slot);
    bs_trace_flood(q->t, &block);
}

static void end_at(struct search *q, const struct bs_span *s, uint32_t slot) {
    struct bs_leak leak = {.blocks = 0};
    if (!block_in(s, slot, &leak.head) || !claim(s, slot))
        return;
    struct bs_trace_sums before = bs_trace_so_far(q->t);
    bs_trace_flood(q->t, &leak.head);
    struct bs_trace_sums after = bs_trace_so_far(q->t);
    leak.blocks = after.blocks - before.blocks + 1;
    leak.bytes = after.bytes - before.bytes + leak.head.size;
    q->total->blocks += leak.blocks;
    q->total->bytes += leak.bytes;
    q->report(q->ctx, &leak);
}

static void up_span(struct search *q, const struct bs_span *s) {
    for (size_t w = 0; w < bs_span_words(s); w++)
        for (uint64_t bits = unreached(s, w); bits != 0; bits &= bits - 1)
            begin_at(q, s, (uint32_t)(w * 64 + bs_ctz(bits)));
}
static void down_span(struct search *q, const struct bs_span *s) {
    for (size_t w = bs_span_words(s); w-- > 0;)
        for (uint64_t bits = unreached(s, w) & bits_of(s, BS_SIDE_HEAD, w);
             bits != 0;) {
            unsigned bit = bs_msb(bits);
            bits &= ~((uint64_t)1 << bit);
            end_at(q, s, (uint32_t)(w * 64 + bit));
        }
}

static void up(struct search *q) {
    bs_trace_use(q->t, take_seen, seen);
    for (size_t i = 0; i < q->nregions; i++)
        for (size_t page = 0; page < BS_REGION_PAGES; page++) {
            struct bs_span *s = bs_span_at(q->region[i] + page * BS_PAGE_SIZE);
            if (s != NULL)
                up_span(q, s);
        }
}
static void down(struct search *q) {
    bs_trace_use(q->t, take_claimed, claimed);
    for (size_t i = q->nregions; i-- > 0;)
        for (size_t page = BS_REGION_PAGES; page-- > 0;) {
            struct bs_span *s = bs_span_at(q->region[i] + page * BS_PAGE_SIZE);
            if (s != NULL)
                down_span(q, s);
        }
    bs_trace_use(q->t, NULL, NULL);
}

/* --- memory ----------------------------------------------------------------------------------- */

static bool note_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                        const uint64_t *released) {
    struct search *q = ctx;
    (void)alloc, (void)released;
    if (q->nregions < q->max)
        q->region[q->nregions] = base;
    q->nregions++;
    return true;
}

static bool search_with(struct search *q, struct bs_sides *seen_bits, struct bs_sides *heads) {
    if (!bs_sides_make(seen_bits, BS_SIDE_SEEN))
        return false;
    if (bs_sides_make(heads, BS_SIDE_HEAD)) {
        up(q);
        down(q);
        bs_sides_drop(heads);
        bs_sides_drop(seen_bits);
        return bs_load(&q->t->cancelled) == 0;
    }
    bs_sides_drop(seen_bits);
    return false;
}

bool bs_leaks_find(struct bs_trace *t, bs_leak_reporter *report, void *ctx, struct bs_leak *total) {
    struct search q = {.t = t, .report = report, .ctx = ctx, .total = total};
    struct bs_sides seen_bits, heads;
    *total = (struct bs_leak){.blocks = 0};
    concurrent = t->rules.concurrent;
    bs_pageheap_each_region(note_region, &q);
    if (q.nregions == 0)
        return true;
    q.max = q.nregions;
    q.nregions = 0;
    q.region = bs_meta_map(q.max * sizeof *q.region);
    if (q.region == NULL)
        return false;
    bs_pageheap_each_region(note_region, &q);
    q.nregions = bs_min(q.nregions, q.max); /* the heap may have grown between; what is new holds nothing lost */
    bool found = search_with(&q, &seen_bits, &heads);
    bs_meta_unmap(q.region, q.max * sizeof *q.region);
    return found;
}
