/* SPDX-License-Identifier: MIT */
/*
 * ledger.c - see ledger.h: the walk over regions, spans and caches. Locks are taken inside the
 * calls to page heap, central and registry, one at a time and for one region or span.
 */
#include "ledger.h"

#include "freed.h"
#include "heap.h"
#include "large.h"
#include "marks.h"
#include "opt.h"
#include "os.h"
#include "reader.h"
#include "residency.h"
#include "round.h"
#include "smaps.h"
#include "thread.h"

/* What the walk gathers, in resident bytes. */
struct walk {
    struct bs_residency resident;
    size_t os_page;
    uint64_t out[BS_NCLASSES]; /* slots out of their span (live or cached), by class */
    uint64_t lost[BS_NCLASSES]; /* of these, blocks that nothing led to in the last scan; 0: large ones */
    uint64_t held[BS_NCLASSES]; /* of these, in quarantine; 0: large blocks */
    uint64_t large_live, large_rounding;
    uint64_t span_free, pinned, heap_dirty;
    uint64_t held_pages; /* OS pages with a block out */
    uint64_t overfill;   /* OS pages that were given back or never used */
    /* In thread caches: resident bytes of runs, slots of runs, blocks in magazines. */
    uint64_t runs[BS_NCLASSES], run_slots[BS_NCLASSES], magazines[BS_NCLASSES];
};

/* A span as it was at one moment, while others use it, give it back, and make others of its descriptor: whatever is
 * read of that a second time may be of another one. */
struct look {
    struct bs_shape shape;
    size_t request; /* large */
    uint64_t bits[BS_SPAN_WORDS_MAX], lost[BS_SPAN_WORDS_MAX], held[BS_SPAN_WORDS_MAX]; /* small; large: bit 0 */
    uint16_t holes;
    bool any_lost, any_held;
};

static size_t live_of_large(const struct look *l, uintptr_t from, uintptr_t to) {
    uintptr_t end = l->shape.base + l->request;
    return from < end ? bs_min(to, end) - from : 0;
}

/* After the page was counted as live. */
static void lost_page(struct walk *w, const struct look *l, uintptr_t from, uintptr_t to) {
    unsigned class = l->shape.class;
    size_t live = class == 0 ? live_of_large(l, from, to) : 0;
    w->lost[class] += class != 0 ? bs_shape_slots_out(&l->shape, l->lost, from, to).bytes : to - from;
    w->large_live -= live;
    w->large_rounding -= class == 0 ? to - from - live : 0;
}

static void small_page(struct walk *w, const struct look *l, uintptr_t from, uintptr_t to) {
    size_t out = bs_shape_slots_out(&l->shape, l->bits, from, to).bytes, bytes = to - from;
    w->out[l->shape.class] += out;
    if (l->any_held)
        w->held[l->shape.class] += bs_shape_slots_out(&l->shape, l->held, from, to).bytes;
    if (out == 0)
        w->span_free += bytes;
    else
        w->pinned += bytes - out;
    w->held_pages += out != 0 ? bytes : 0;
}

static void large_page(struct walk *w, const struct look *l, uintptr_t from, uintptr_t to) {
    size_t live = live_of_large(l, from, to);
    if (l->any_held) {
        w->held[0] += to - from;
    } else {
        w->large_live += live;
        w->large_rounding += to - from - live;
    }
    w->held_pages += to - from;
}

/* Slots that are out; of these, those that the last scan did not reach, and those in quarantine. */
static void look_at_bits(struct look *l, struct bs_span *s) {
    uint64_t lost = 0, held = 0;
    l->bits[0] = l->shape.class == 0;
    if (l->shape.class != 0)
        bs_central_copy_bits(s, l->shape.class, l->bits, &l->holes);
    for (size_t w = 0; w < (l->shape.nslots + 63) / 64; w++) {
        lost |= l->lost[w] = l->bits[w] & bs_marks_bits(l->shape.base, BS_SIDE_LOST, w);
        held |= l->held[w] = l->bits[w] & (bs_marks_bits(l->shape.base, BS_SIDE_HELD, w) |
                                           bs_freed_bits(l->shape.base, w));
    }
    l->any_lost = lost != 0;
    l->any_held = held != 0;
}

/* False: no span holds p (any more). */
static bool look_at(struct look *l, struct bs_span *s, uintptr_t p) {
    *l = (struct look){.request = 0};
    if (s == NULL || !bs_span_shape(s, &l->shape) || p - l->shape.base >= l->shape.bytes)
        return false;
    l->request = l->shape.class == 0 ? bs_load(&s->request) : 0;
    bs_reader_looked(s);
    look_at_bits(l, s);
    return true;
}

/* Accounts for the span's part of the region; the address behind that part. */
static uintptr_t visit_span(struct walk *w, const struct look *l, uintptr_t region, uintptr_t from) {
    uintptr_t base = l->shape.base, end = bs_min(base + l->shape.bytes, region + BS_REGION_SIZE);
    uintptr_t first = bs_align_up(base, w->os_page);
    for (uintptr_t p = bs_align_down(from, w->os_page); p < end; p += w->os_page) {
        if (!bs_residency_at(&w->resident, p))
            continue;
        uintptr_t start = bs_max(p, base), stop = bs_min(p + w->os_page, base + l->shape.bytes);
        if (l->holes != 0 && p >= first && ((l->holes >> ((p - first) / w->os_page)) & 1) != 0)
            w->overfill += w->os_page;
        if (l->shape.class != 0)
            small_page(w, l, start, stop);
        else
            large_page(w, l, start, stop);
        if (l->any_lost)
            lost_page(w, l, start, stop);
    }
    return end;
}

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                         const uint64_t *released) {
    struct walk *w = ctx;
    struct look l;
    for (uintptr_t p = base; p < base + BS_REGION_SIZE;) {
        if (bs_bit_test(alloc, (p - base) / BS_PAGE_SIZE) && look_at(&l, bs_span_of(p), p)) {
            p = visit_span(w, &l, base, p);
            continue;
        }
        size_t step = bs_min(w->os_page, BS_PAGE_SIZE);
        uint64_t dirty = 0;
        for (uintptr_t q = p; q < p + BS_PAGE_SIZE; q += step)
            dirty += bs_residency_at(&w->resident, q) ? step : 0;
        w->heap_dirty += dirty; /* given back but in memory again, by a huge page: dirty as well */
        if (bs_bit_test(released, (p - base) / BS_PAGE_SIZE))
            w->overfill += dirty;
        p += BS_PAGE_SIZE;
    }
    return true;
}

/* The part of a block that is in memory: a cached block may never have been touched. */
static size_t resident_bytes(const struct walk *w, uintptr_t block, size_t size) {
    size_t bytes = 0;
    for (uintptr_t p = block; p < block + size;) {
        uintptr_t next = bs_min(bs_align_down(p, w->os_page) + w->os_page, block + size);
        bytes += bs_residency_at(&w->resident, p) ? next - p : 0;
        p = next;
    }
    return bytes;
}

/* The run's slots one by one. Another thread's bin may change meanwhile: a stale base or mask only
 * makes this look at other pages of the heap. */
static size_t run_bytes(const struct walk *w, const struct bs_bin *bin) {
    size_t bytes = 0;
    uintptr_t base = (uintptr_t)bs_load(&bin->run_base);
    for (uint64_t mask = bs_load(&bin->run_mask); mask != 0; mask &= mask - 1)
        bytes += resident_bytes(w, base + (size_t)bs_ctz(mask) * bin->size, bin->size);
    return bytes;
}

static void visit_cache(void *ctx, const struct bs_tcache *tc) {
    struct walk *w = ctx;
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        const struct bs_bin *bin = &tc->bin[class];
        w->runs[class] += run_bytes(w, bin);
        w->run_slots[class] += bs_popcount(bs_load(&bin->run_mask));
        w->magazines[class] += bs_tcache_count(tc, class);
    }
}

/* Magazines are not looked into (they are other threads'): their blocks are as resident as the
 * class's blocks outside runs are on average. */
static uint64_t cached_bytes(const struct walk *w, unsigned class) {
    uint64_t size = bs_class_info[class].size, out = bs_central_counts(class).slots_out;
    uint64_t elsewhere = w->runs[class] + w->held[class];
    uint64_t without = w->run_slots[class] + w->held[class] / size;
    uint64_t others = out > without ? out - without : 0;
    uint64_t resident = w->out[class] > elsewhere ? w->out[class] - elsewhere : 0;
    uint64_t in_magazines = w->magazines[class] < others ? w->magazines[class] : others;
    uint64_t average = others != 0 ? resident / others : 0;
    uint64_t cached = w->runs[class] + in_magazines * (average < size ? average : size);
    uint64_t most = w->out[class] - w->held[class];
    return cached < most ? cached : most;
}

static void sum_up(const struct walk *w, struct bs_ledger *l) {
    l->live = w->large_live;
    l->held = w->held[0];
    l->rounding = w->large_rounding;
    l->leaked = w->lost[0];
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        uint64_t cached = cached_bytes(w, class);
        uint64_t lost = bs_min(w->lost[class], w->out[class] - w->held[class] - cached);
        uint64_t live = w->out[class] - w->held[class] - cached - lost;
        uint64_t rounding = live / bs_class_info[class].size * bs_heap_rounding_256ths(class) / 256;
        l->cached += cached;
        l->held += w->held[class];
        l->leaked += lost;
        l->rounding += rounding;
        l->live += live - rounding;
    }
    l->span_free = w->span_free;
    l->pinned = w->pinned;
    l->heap_dirty = w->heap_dirty;
}

bool bs_ledger_take(struct bs_ledger *l) {
    struct walk w = {.os_page = bs_os_page_size()};
    struct bs_smaps maps;
    struct bs_heap_totals totals = bs_heap_totals();
    *l = (struct bs_ledger){.released = totals.released, .allocated = totals.allocated};
    /* Tables of a scan are unmapped in a round. Those of the quarantine never are: who ends in the middle of a search
     * does not wait for it. */
    bool scans = bs_opt.scan == BS_SCAN_MODE_LEAK || bs_opt.scan == BS_SCAN_MODE_COLLECT;
    if (scans)
        bs_round_enter();
    (void)bs_residency_take(&w.resident);
    bs_thread_each(visit_cache, &w);
    bs_pageheap_each_region(visit_region, &w);
    l->unseen = w.resident.refused;
    bs_residency_drop(&w.resident);
    if (scans)
        bs_round_leave();
    sum_up(&w, l);
    bool ok = bs_smaps_read(&maps);
    if (ok) {
        l->rss = maps.rss;
        l->metadata = maps.metadata;
        l->anon_huge = maps.anon_huge;
        l->outside = maps.rss - maps.heap - maps.metadata;
        l->remainder = (int64_t)(maps.heap - (l->live + l->rounding + l->leaked + l->cached + l->held +
                                              l->span_free + l->pinned + l->heap_dirty));
    }
    l->thp_overfill = w.overfill;
    l->floor = l->outside + l->metadata + w.held_pages;
    return ok;
}
