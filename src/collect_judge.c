/* SPDX-License-Identifier: MIT */
/*
 * collect_judge.c - who is doomed: in the copy that was searched, or in place while all stand; after the
 * search, on its marks. What it writes for others are bits of BS_SIDE_DOOMED.
 *
 *   1. candidates: lost, counted often enough, old enough, of no stack or size that is left alone; while a
 *      batch is closed, its blocks and no others
 *   2. every lost block that is none is flooded: what it leads to is none either
 *   3. of each span stay those that can be closed by themselves; if some went, 2 again
 *
 * So at the end no lost block that stays leads to one that is doomed. Takes the lock of samples alone.
 */
#include "collect_internal.h"

#include "bits.h"
#include "pageheap.h"
#include "sample.h"

#define ROUNDS_MAX 64

struct judge {
    struct bs_trace *t;
    uint64_t now_ns;
    size_t nspans, nruns; /* with doomed blocks, and stretches of pages in them */
    bool changed;
};

/* --- walks ------------------------------------------------------------------------------------ */

bool bs_collect_words(const struct bs_span *s, enum bs_side side, uint64_t bits[BS_MARKS_PLANES]) {
    uintptr_t base = bs_load(&s->base); /* the program may run, and it become another one */
    uint64_t any = 0;
    for (size_t w = 0; w < bs_span_words(s); w++)
        any |= bits[w] = bs_marks_bits(base, side, w);
    return any != 0;
}

struct each {
    enum bs_side side;
    bs_collect_visitor *visit;
    void *ctx;
};

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                         const uint64_t *released) {
    const struct each *e = ctx;
    uint64_t bits[BS_MARKS_PLANES];
    (void)released;
    for (size_t page = 0; page < BS_REGION_PAGES; page++) {
        struct bs_span *s = bs_span_in_region(alloc, base, page);
        if (s != NULL && bs_collect_words(s, e->side, bits))
            e->visit(e->ctx, s);
    }
    return true;
}

void bs_collect_each(enum bs_side side, bs_collect_visitor *visit, void *ctx) {
    struct each e = {side, visit, ctx};
    bs_pageheap_each_region(visit_region, &e);
}

/* --- candidates ------------------------------------------------------------------------------- */

unsigned bs_collect_size(unsigned class, size_t bytes) {
    return class != 0 ? class : BS_NCLASSES + bs_msb(bytes);
}

static bool is_left_alone(const struct judge *j, const struct bs_span *s, uint32_t slot) {
    const struct bs_collect_store *store = bs_collect.store;
    struct bs_marked block = bs_slot_block(s, slot);
    struct bs_sampled sampled;
    if (!bs_sample_find((void *)block.base, &sampled))
        return store->size[bs_collect_size(s->class, block.size)];
    for (size_t i = 0; i < store->nstacks; i++)
        if (store->stack[i] == sampled.stack)
            return true;
    return bs_sub_clamped(j->now_ns, sampled.time_ns) < bs_collect.rules.age_ns;
}

/* Slots of the word that were lost in so many scans before this one. */
static uint64_t counted(const struct bs_span *s, size_t w) {
    unsigned wanted = bs_collect.rules.scans - 1;
    uint64_t more = 0, equal = ~(uint64_t)0;
    for (unsigned bit = 3; bit-- > 0;) {
        uint64_t plane = bs_marks_bits(s->base, (enum bs_side)(BS_SIDE_COUNT0 + bit), w);
        uint64_t want = (wanted >> bit & 1) != 0 ? ~(uint64_t)0 : 0;
        more |= equal & plane & ~want;
        equal &= ~(plane ^ want);
    }
    return more | equal;
}

static uint64_t candidates(const struct judge *j, const struct bs_span *s, size_t w, uint64_t lost) {
    if (bs_park_is_closed()) {
        const struct bs_parked *e = bs_park_find(s->base);
        bool closed = e != NULL && e->span == s && bs_load(&e->state) == BS_PARK_CLOSED;
        return closed ? lost & e->pick.block[w] : 0;
    }
    uint64_t bits = bs_collect.counts ? lost & counted(s, w) : 0;
    for (uint64_t left = bits; left != 0; left &= left - 1)
        if (is_left_alone(j, s, (uint32_t)(w * 64 + bs_ctz(left))))
            bits &= ~(left & -left);
    return bits;
}

static void propose(void *ctx, struct bs_span *s) {
    for (size_t w = 0; w < bs_span_words(s); w++) {
        uint64_t lost = bs_marks_bits(s->base, BS_SIDE_NOW, w);
        uint64_t bits = lost != 0 ? candidates(ctx, s, w, lost) : 0;
        uint64_t *doomed = bits != 0 ? bs_marks_word(s->base, BS_SIDE_DOOMED, w) : NULL;
        if (doomed != NULL)
            *doomed = bits;
    }
}

/* --- who stays leads nowhere ------------------------------------------------------------------ */

static void flood(void *ctx, struct bs_span *s) {
    struct judge *j = ctx;
    for (size_t w = 0; w < bs_span_words(s); w++) {
        uint64_t stays = bs_marks_bits(s->base, BS_SIDE_NOW, w) &
                         ~bs_marks_bits(s->base, BS_SIDE_DOOMED, w);
        for (; stays != 0; stays &= stays - 1) {
            uint32_t slot = (uint32_t)(w * 64 + bs_ctz(stays));
            struct bs_marked block = bs_slot_block(s, slot);
            if (bs_marks_set(s->base, BS_SIDE_MARK, slot))
                bs_trace_flood(j->t, &block);
        }
    }
}

/* What is closed is opened as a whole, so it is doomed as a whole. */
static void keep_whole(const struct bs_span *s, uint64_t doomed[BS_MARKS_PLANES]) {
    const struct bs_parked *e = bs_park_find(s->base);
    bool whole = e != NULL;
    for (size_t w = 0; w < bs_span_words(s) && whole; w++)
        whole = doomed[w] == e->pick.block[w];
    for (size_t w = 0; w < bs_span_words(s) && !whole; w++)
        doomed[w] = 0;
}

static void reduce(void *ctx, struct bs_span *s) {
    struct judge *j = ctx;
    uint64_t doomed[BS_MARKS_PLANES] = {0};
    struct bs_pick pick = {.pages = 0};
    for (size_t w = 0; w < bs_span_words(s); w++)
        doomed[w] = bs_marks_bits(s->base, BS_SIDE_DOOMED, w) &
                    ~bs_marks_bits(s->base, BS_SIDE_MARK, w);
    if (bs_park_is_closed())
        keep_whole(s, doomed);
    else if (j->nspans == BS_PARK_MAX || j->nruns >= BS_PARK_RUNS || !bs_collect_pick(s, doomed, &pick))
        __builtin_memset(doomed, 0, sizeof doomed);
    else
        __builtin_memcpy(doomed, pick.block, sizeof doomed);
    uint64_t any = 0;
    for (size_t w = 0; w < bs_span_words(s); w++) {
        uint64_t *word = bs_marks_word(s->base, BS_SIDE_DOOMED, w);
        any |= doomed[w];
        j->changed |= *word != doomed[w];
        if (*word != doomed[w])
            *word = doomed[w];
    }
    j->nspans += any != 0;
    j->nruns += any != 0 ? bs_max(1, bs_popcount(pick.pages & ~((uint32_t)pick.pages << 1))) : 0;
}

static void pardon(void *ctx, struct bs_span *s) {
    (void)ctx;
    for (size_t w = 0; w < bs_span_words(s); w++) {
        uint64_t *word = bs_marks_word(s->base, BS_SIDE_DOOMED, w);
        if (*word != 0)
            *word = 0;
    }
}

void bs_collect_judge(struct bs_trace *t) {
    struct judge j = {.t = t, .now_ns = bs_os_now_ns(), .changed = true};
    bs_trace_use(t, NULL, NULL);
    bs_collect_each(BS_SIDE_NOW, propose, &j);
    for (unsigned round = 0; j.changed && round < ROUNDS_MAX; round++) {
        j.changed = false;
        j.nspans = j.nruns = 0;
        bs_collect_each(BS_SIDE_NOW, flood, &j);
        bs_collect_each(BS_SIDE_DOOMED, reduce, &j);
    }
    if (j.changed || bs_load(&t->cancelled) != 0)
        bs_collect_each(BS_SIDE_DOOMED, pardon, NULL);
}
