/* SPDX-License-Identifier: MIT */
/* collect.c - see collect.h: the order, and what is remembered from scan to scan. */
#include "collect_internal.h"

#include "bits.h"
#include "central.h"
#include "counter.h"
#include "large.h"
#include "lines.h"
#include "meta.h"
#include "roots.h"
#include "round.h"
#include "sample.h"
#include "sampler.h"
#include "tcache.h"
#include "thread.h"
#include "waiting.h"

#include <string.h>

struct bs_collect bs_collect;

bool bs_collect_start(const struct bs_collect_rules *rules, const struct bs_collect_faults *faults) {
    bs_collect.rules = *rules;
    bs_collect.faults = faults;
    bs_collect.store = bs_meta_map(sizeof *bs_collect.store);
    return bs_collect.store != NULL && bs_park_prepare() && faults->start();
}

void bs_collect_forked(void) {
    bs_collect.inherited = true;
}

/* --- the guest of a scan ------------------------------------------------------------------------ */

/* All stand: whoever comes from now on comes after what the scan sees. */
static void add_roots(struct bs_roots *roots) {
    const struct bs_collect_store *store = bs_collect.store;
    bs_collect.events = bs_park_events();
    bs_collect.counts =
        bs_collect.counted_ns == 0 || bs_sub_clamped(bs_os_now_ns(), bs_collect.counted_ns) >=
                                          bs_collect.rules.spacing_ns;
    if (store->nkept != 0)
        bs_roots_add(roots, (uintptr_t)store->kept, (uintptr_t)(store->kept + store->nkept),
                     BS_ROOT_WORDS);
}

/* Reserved slots are nobody's. */
static void open_all(void) {
    bs_park_open_all();
    for (size_t i = 0; i < bs_park_count(); i++) {
        const struct bs_parked *e = bs_park_entry(i);
        bool reserved = e->class != 0 && bs_load(&e->state) <= BS_PARK_GOING;
        for (size_t w = 0; reserved && w < BS_MARKS_PLANES; w++)
            for (uint64_t bits = e->pick.reserve[w]; bits != 0; bits &= bits - 1) {
                uintptr_t p = e->base + (w * 64 + bs_ctz(bits)) * bs_class_info[e->class].size;
                bs_settle_spare(p);
            }
    }
}

const struct bs_scan_guest *bs_collect_guest(void) {
    static const struct bs_scan_guest guest = {BS_PAST_END_ALWAYS, add_roots, open_all,
                                               bs_park_close_all, bs_collect_judge};
    return &guest;
}

/* --- counting ----------------------------------------------------------------------------------- */

/* Three planes of bits are a number for each slot, which stops at 7. */
static void count_word(uintptr_t base, size_t w, uint64_t lost, bool counts) {
    uint64_t *plane[3], n[3];
    for (unsigned i = 0; i < 3; i++) {
        plane[i] = bs_marks_word(base, (enum bs_side)(BS_SIDE_COUNT0 + i), w);
        if (plane[i] == NULL)
            return;
        n[i] = *plane[i] & lost;
    }
    uint64_t carry = counts ? lost & ~(n[0] & n[1] & n[2]) : 0;
    for (unsigned i = 0; i < 3; i++) {
        uint64_t next = n[i] & carry;
        n[i] ^= carry;
        carry = next;
        if (*plane[i] != n[i])
            *plane[i] = n[i];
    }
}

/* (A span whose blocks were not lost after all may become another one meanwhile. What was lost, and is counted, is one
 * base's all the same.) */
static void count_span(void *ctx, struct bs_span *s) {
    const bool *counts = ctx;
    uintptr_t base = bs_load(&s->base);
    for (unsigned i = 0; i < 3; i++)
        if (!bs_marks_make(base, (enum bs_side)(BS_SIDE_COUNT0 + i)))
            return;
    for (size_t w = 0; w < bs_span_words(s); w++)
        count_word(base, w, bs_marks_bits(base, BS_SIDE_LOST, w), *counts);
}

static void forget_count(void *ctx, struct bs_span *s) {
    const bool *all = ctx;
    uintptr_t base = bs_load(&s->base);
    for (size_t w = 0; w < bs_span_words(s); w++)
        count_word(base, w, *all ? 0 : bs_marks_bits(base, BS_SIDE_LOST, w), false);
}
static void forget_counts(bool all) {
    for (unsigned i = 0; i < 3; i++)
        bs_collect_each((enum bs_side)(BS_SIDE_COUNT0 + i), forget_count, &all);
}

/* --- what is said ------------------------------------------------------------------------------- */

static void note(enum bs_collect_what what, unsigned class, struct bs_stack *stack, size_t bytes) {
    struct bs_collect_report *r = &bs_collect.store->report;
    size_t i = 0;
    while (i < r->n && (r->note[i].what != what || r->note[i].stack != stack ||
                        (stack == NULL && r->note[i].class != class)))
        i++;
    if (i == r->n && r->n < BS_COLLECT_NOTES)
        r->note[r->n++] = (struct bs_collect_note){what, class, stack, 0, 0};
    if (i == r->n) /* no room: the last one takes what comes */
        i--;
    r->note[i].blocks++;
    r->note[i].bytes += bytes;
}

static void each_block(const struct bs_parked *e,
                       void (*visit)(const struct bs_parked *e, struct bs_marked block, void *ctx),
                       void *ctx) {
    size_t size = e->class != 0 ? bs_class_info[e->class].size : e->bytes;
    for (size_t w = 0; w < BS_MARKS_PLANES; w++)
        for (uint64_t bits = e->pick.block[w]; bits != 0; bits &= bits - 1)
            visit(e, (struct bs_marked){e->base + (w * 64 + bs_ctz(bits)) * size, size}, ctx);
}

static void note_block(const struct bs_parked *e, struct bs_marked block, void *ctx) {
    struct bs_sampled sampled;
    bool known = bs_sample_find((void *)block.base, &sampled);
    note(*(const enum bs_collect_what *)ctx, e->class, known ? sampled.stack : NULL, block.size);
}
static void note_entry(enum bs_collect_what what, const struct bs_parked *e) {
    each_block(e, note_block, &what);
}

/* --- back to the program ------------------------------------------------------------------------ */

/* (While the program runs it may free the block, and the span become another one. If the entry can be taken afterwards
 * it has not.) */
static bool is_same_span(const struct bs_parked *e) {
    return e->span != NULL && bs_span_at(e->base) == e->span && bs_load(&e->span->class) == e->class &&
           (e->class != 0 || (bs_load(&e->span->flags) & BS_SPAN_PARKED) != 0);
}

static void count_frees(const struct bs_parked *e, struct bs_marked block, void *ctx) {
    (void)e;
    bs_pagemap_count(block.base, *(const int *)ctx);
}
static void watch_frees(const struct bs_parked *e, int step) {
    if (e->class != 0)
        each_block(e, count_frees, &step);
}

static void release(struct bs_span *s, const uint64_t *bits) {
    unsigned class = s->class;
    if (bs_central_release_bits(s, bits))
        bs_waiting_add(class, &s, 1);
}

/* All stand. The span is as it was before. False: it cannot be opened, and has to stay in the table. */
static bool reopen(const struct bs_parked *e) {
    bool is_open = bs_park_open(e), same = is_same_span(e);
    if (!same || !is_open)
        return !same;
    if (e->class != 0) {
        watch_frees(e, -1);
        release(e->span, e->pick.reserve);
    } else {
        bs_span_drop_flags(e->span, BS_SPAN_PARKED);
    }
    return true;
}

/* Of that place, and of that size where the place is not known: it may be the same. */
static void leave_alone(struct bs_stack *stack, unsigned class, size_t bytes) {
    struct bs_collect_store *store = bs_collect.store;
    store->size[bs_collect_size(class, bytes)] = true;
    if (stack == NULL)
        return;
    for (size_t i = 0; i < store->nstacks; i++)
        if (store->stack[i] == stack)
            return;
    if (store->nstacks < BS_COLLECT_STACKS)
        store->stack[store->nstacks++] = stack;
    else
        store->off = "scan:collect ends: too many stacks have hidden pointers";
}

static void keep_block(const struct bs_parked *e, struct bs_marked block, void *ctx) {
    struct bs_collect_store *store = bs_collect.store;
    struct bs_sampled sampled;
    (void)ctx;
    bool known = bs_sample_find((void *)block.base, &sampled);
    leave_alone(known ? sampled.stack : NULL, e->class, block.size);
    if (store->nkept == BS_COLLECT_KEPT)
        store->off = "scan:collect ends: too many blocks have hidden pointers";
    else if (bs_load(&e->state) != BS_PARK_FREED || e->touched != block.base)
        store->kept[store->nkept++] = block.base;
}

static bool revive(const struct bs_parked *e) {
    bool freed = bs_load(&e->state) == BS_PARK_FREED;
    note_entry(freed ? BS_COLLECT_FREED : BS_COLLECT_REVIVED, e);
    bs_count(collect_revived, 1);
    if (freed && e->stack != NULL)
        leave_alone(e->stack, e->class, e->bytes);
    if (is_same_span(e))
        each_block(e, keep_block, NULL);
    return reopen(e);
}

/* --- all stand: entries that stay, and that go -------------------------------------------------- */

static bool is_doomed(const struct bs_parked *e) {
    bool all = is_same_span(e);
    for (size_t w = 0; w < BS_MARKS_PLANES && all; w++)
        all = e->pick.block[w] == 0 ||
              (e->pick.block[w] & ~bs_marks_bits(e->base, BS_SIDE_DOOMED, w)) == 0;
    return all;
}

static bool stays(void *ctx, struct bs_parked *e) {
    const bool *open_all_now = ctx;
    switch (bs_load(&e->state)) {
    case BS_PARK_TAKEN:
    case BS_PARK_GONE: /* the last time's: its memory is others' */
        return false;
    case BS_PARK_GOING:
        return !reopen(e);
    case BS_PARK_CLOSED:
        if (!*open_all_now && is_doomed(e))
            return true;
        note_entry(BS_COLLECT_REACHED, e);
        return !reopen(e);
    default:
        return !revive(e);
    }
}

/* --- all stand: closing ------------------------------------------------------------------------- */

static void spare_slot(uintptr_t p) {
    struct bs_span *s = bs_span_of(p);
    uint32_t slot;
    if (s == NULL || !bs_slot_of(s, p, &slot))
        return;
    uint64_t *word = bs_marks_word(s->base, BS_SIDE_DOOMED, slot / 64);
    uint64_t bit = (uint64_t)1 << (slot % 64);
    if (word != NULL && (*word & bit) != 0)
        *word &= ~bit;
}
/* Freed since the scan. */
static void spare_cache(void *ctx, const struct bs_tcache *tc) {
    (void)ctx;
    bs_tcache_each_block(tc, spare_slot);
}

static bool close_span(struct bs_span *s) {
    uint64_t doomed[BS_MARKS_PLANES] = {0};
    struct bs_pick pick;
    (void)bs_collect_words(s, BS_SIDE_DOOMED, doomed);
    for (size_t w = 0; w < bs_span_words(s); w++)
        doomed[w] &= s->alloc[w];
    if (!bs_collect_pick(s, doomed, &pick))
        return true;
    if (s->class != 0)
        bs_central_reserve(s, pick.reserve);
    else
        bs_span_add_flags(s, BS_SPAN_PARKED);
    bool closed = bs_park_close(s, &pick);
    if (closed) {
        watch_frees(bs_park_entry(bs_park_count() - 1), +1);
    } else if (s->class != 0) {
        release(s, pick.reserve);
    } else {
        bs_span_drop_flags(s, BS_SPAN_PARKED);
    }
    return closed;
}

static void close_candidates(void) {
    const struct bs_collect_store *store = bs_collect.store;
    bs_thread_each(spare_cache, NULL);
    for (size_t i = 0; i < store->ncandidates; i++) {
        uintptr_t base = store->candidate[i].start;
        struct bs_span *s = base != 0 ? bs_span_of(base) : NULL;
        if (s != NULL && s->base == base && !close_span(s))
            break;
    }
    bs_collect.closed_ns = bs_os_now_ns();
}

/* --- while the program runs: candidates, and what is given away --------------------------------- */

static void propose(void *ctx, struct bs_span *s) {
    struct bs_collect_store *store = ctx;
    uintptr_t base = bs_load(&s->base);
    if (store->ncandidates < BS_PARK_MAX)
        store->candidate[store->ncandidates++] =
            (struct bs_range){base, base + (size_t)bs_load(&s->npages) * BS_PAGE_SIZE};
}

/* The range, of which all below `pos` was seen, meets a mapping. True: it is decided. */
static bool meet(struct bs_range *c, uintptr_t *pos, const struct bs_mapping *m) {
    if (m->end <= *pos)
        return false;
    bool ordinary = m->start <= *pos && m->perms[0] == 'r' && m->perms[1] == 'w' && m->perms[2] == '-';
    if (ordinary && m->end < c->end) {
        *pos = m->end;
        return false;
    }
    if (!ordinary)
        c->start = 0;
    return true;
}

/* Leaves those out whose memory the program has given other rights. False: the kernel works for the
 * process with addresses that no scan sees, or does not say what is mapped. */
static bool check_candidates(struct bs_collect_store *store) {
    struct bs_lines lines;
    struct bs_mapping m;
    char line[256];
    size_t i = 0;
    uintptr_t pos = store->ncandidates != 0 ? store->candidate[0].start : 0;
    bool ok = bs_lines_open_own(&lines, "maps");
    if (!ok)
        return false;
    while (bs_lines_next(&lines, line, sizeof line)) {
        if (!bs_lines_mapping(line, &m))
            continue;
        ok &= strcmp(m.name, "/[aio]") != 0 && strcmp(m.name, "[aio]") != 0 &&
              strcmp(m.name, "anon_inode:[io_uring]") != 0;
        while (i < store->ncandidates && meet(&store->candidate[i], &pos, &m))
            pos = ++i < store->ncandidates ? store->candidate[i].start : 0;
    }
    ok &= !lines.failed;
    bs_lines_close(&lines);
    for (; i < store->ncandidates; i++)
        store->candidate[i].start = 0;
    return ok;
}

static void forget_block(const struct bs_parked *e, struct bs_marked block, void *ctx) {
    enum bs_collect_what what = BS_COLLECT_RECLAIMED;
    (void)ctx;
    note_block(e, block, &what);
    bs_count(collect_blocks, 1);
    bs_count(collect_bytes, block.size);
    if (e->class != 0 && bs_sample_freed((void *)block.base))
        bs_pagemap_count(block.base, -1);
}

/* Who is given the slots next begins at 0. */
static void uncount(const struct bs_span *s, const uint64_t *bits) {
    for (size_t w = 0; w < bs_span_words(s); w++)
        for (unsigned i = 0; i < 3; i++) {
            uint64_t *plane = bs_marks_word(s->base, (enum bs_side)(BS_SIDE_COUNT0 + i), w);
            if (plane != NULL && (*plane & bits[w]) != 0)
                *plane &= ~bits[w];
        }
}

static void give_away(struct bs_parked *e) {
    struct bs_span *s = e->span;
    uint64_t bits[BS_MARKS_PLANES];
    if (!is_same_span(e) || !bs_park_take(e))
        return;
    if (!bs_park_open(e)) {
        bs_store_release(&e->state, (uint32_t)BS_PARK_GOING);
        return;
    }
    each_block(e, forget_block, NULL);
    bs_store_release(&e->state, (uint32_t)BS_PARK_GONE);
    for (size_t w = 0; w < BS_MARKS_PLANES; w++)
        bits[w] = e->pick.block[w] | e->pick.reserve[w];
    uncount(s, bits);
    if (e->class == 0) {
        if ((s->flags & BS_SPAN_SAMPLED) != 0)
            (void)bs_sample_freed((void *)s->base);
        bs_span_drop_flags(s, BS_SPAN_SAMPLED | BS_SPAN_PARKED);
        bs_large_free(s);
        return;
    }
    watch_frees(e, -1);
    release(s, bits);
}

/* --- the order ---------------------------------------------------------------------------------- */

/* True: the batch goes now. */
static bool act_stopped(bool open_all_now, bool may_close) {
    bool waited = bs_sub_clamped(bs_os_now_ns(), bs_collect.closed_ns) >= bs_collect.rules.grace_ns;
    bool nobody_came = bs_park_events() == bs_collect.events;
    bs_park_keep(stays, &open_all_now);
    if (bs_park_count() != 0)
        return waited && nobody_came && bs_park_expire();
    if (may_close)
        close_candidates();
    return false;
}

static void act(bool may_close) {
    struct bs_collect_store *store = bs_collect.store;
    store->ncandidates = 0;
    if (may_close && !bs_park_is_closed())
        bs_collect_each(BS_SIDE_DOOMED, propose, store);
    if (store->ncandidates != 0 && !check_candidates(store)) {
        store->report.why_not = "scan:collect waits: the kernel works with addresses of its own (io_uring, aio)";
        store->ncandidates = 0;
    }
    if (bs_park_count() == 0 && store->ncandidates == 0)
        return;
    bs_round_enter();
    if (bs_world_stop(bs_os_now_ns() + BS_SCAN_STOP_NS) == BS_WORLD_STOPPED) {
        bool watched = bs_collect.faults->are_ours();
        bool go = act_stopped(!may_close || !watched, watched);
        bool closed = !go && store->ncandidates != 0 && bs_park_is_closed();
        bs_world_resume();
        for (size_t i = 0; i < bs_park_count(); i++)
            if (go)
                give_away(bs_park_entry(i));
            else if (closed)
                note_entry(BS_COLLECT_CLOSED, bs_park_entry(i));
        if (!watched)
            store->report.why_not = "scan:collect waits: the program handles SIGSEGV by other ways than sigaction";
    }
    bs_round_leave();
}

const struct bs_collect_report *bs_collect_after(const struct bs_scan_result *result) {
    struct bs_collect_store *store = bs_collect.store;
    if (!bs_sample_is_on()) /* frees of closed blocks would not be seen */
        store->off = "scan:collect ends: blocks are not sampled";
    store->report.n = 0;
    store->report.why_not = store->off;
    if (bs_collect.inherited || result->end == BS_SCAN_WORLD)
        forget_counts(true);
    if (result->end == BS_SCAN_DONE) {
        if (!bs_collect.inherited) {
            forget_counts(false);
            bs_collect_each(BS_SIDE_LOST, count_span, &bs_collect.counts);
        }
        if (bs_collect.counts)
            bs_collect.counted_ns = bs_os_now_ns();
        act(store->off == NULL && !bs_collect.inherited);
        bs_collect.inherited = false;
    }
    return &store->report;
}
