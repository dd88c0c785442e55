/* SPDX-License-Identifier: MIT */
/*
 * holes.c - see holes.h. Spans are borrowed from their central lists in batches, so that nobody
 * claims a slot of a page while it is on its way to the OS; freeing into them goes on.
 */
#include "holes.h"

#include "central.h"
#include "counter.h"
#include "opt.h"
#include "os.h"
#include "thp.h"

#define BATCH 64
/* Fewer flushes than that since the last pass are not worth one. */
#define FLUSHES_WORTH_A_PASS 64
/* Nor is a heap of so few bytes: what runs then has 72 KiB of text and constants around it that nothing
 * else of a small program needs. */
#define HEAP_WORTH_A_PASS BS_MIB
#define NS_PER_MS 1000000u
/* So many refusals in a row: the OS takes nothing. One is for a page that the program has locked. */
#define REFUSALS_MAX 32

/* [lock:round], all of it */
static struct {
    uintptr_t cursor;     /* regions below it are done in this pass, 1 where it begins; 0: no pass under way */
    uint64_t began_ns;    /* when the pass began */
    uint64_t flushes;     /* counter then; slow doors read it relaxed */
    bool later;           /* the pass met spans that were not quiet yet */
    bool again;           /* the last pass did */
} pass;

struct batch {
    struct bs_span *span[BATCH];
    uint16_t pages[BATCH];
    unsigned n;
};

/* What a call carries through its walk. */
struct walk {
    struct batch batch;
    struct bs_holes_work *work;
    uint64_t deadline_ns; /* 0: none */
    size_t regions_left;
    size_t os_page;
    unsigned refusals; /* in a row */
    bool force, stopped, refused;
};

/* --- giving back ------------------------------------------------------------------------------ */

/* A stretch of addresses that grows while holes are adjacent, across spans as well. */
struct stretch {
    uintptr_t start, end;
    unsigned first; /* of the batch's spans, the one that it begins in */
};

/* After a refusal nothing of these spans counts as given, also what went before; the last may not even be in the stretch.
 * A page that went all the same only reads as zeros. */
static BS_COLD void note_refusal(struct walk *w, unsigned first, unsigned last, uint16_t *given) {
    for (unsigned i = first; i <= last; i++)
        given[i] = 0;
    w->refused |= ++w->refusals == REFUSALS_MAX;
}

/* The stretch ends in the batch's span `last`, or before it. */
static void advise(struct walk *w, const struct stretch *run, unsigned last, uint16_t *given) {
    size_t bytes = run->end - run->start;
    if (bytes == 0)
        return;
    w->work->calls++;
    bs_count(scavenge_calls, 1);
    if (bs_thp_unused(run->start, bytes) != 0) {
        note_refusal(w, run->first, last, given);
        return;
    }
    w->refusals = 0;
    w->work->bytes += bytes;
    bs_count(scavenged_bytes, bytes);
    bs_count(hole_bytes, bytes);
}

static void give_batch(struct walk *w) {
    struct stretch run = {0, 0, 0};
    struct batch *b = &w->batch;
    uint16_t given[BATCH];
    for (unsigned i = 0; i < b->n; i++) {
        uintptr_t base = bs_span_os_page_base(b->span[i], w->os_page);
        given[i] = b->pages[i];
        for (unsigned pages = b->pages[i]; pages != 0; pages &= pages - 1) {
            uintptr_t page = base + bs_ctz(pages) * w->os_page;
            if (run.end != page) {
                advise(w, &run, i, given);
                run = (struct stretch){page, page, i};
            }
            run.end = page + w->os_page;
        }
    }
    advise(w, &run, b->n - 1, given);
    for (unsigned i = 0; i < b->n; i++)
        bs_central_give_back(b->span[i], given[i]);
    w->work->spans += b->n;
    b->n = 0;
    if (w->refused || (w->deadline_ns != 0 && bs_os_now_ns() >= w->deadline_ns))
        w->stopped = true;
}

/* --- the walk --------------------------------------------------------------------------------- */

static uintptr_t visit_span(struct walk *w, uintptr_t p) {
    struct bs_span *s;
    uint16_t pages;
    switch (bs_central_borrow(p, w->force, &s, &pages)) {
    case BS_BORROWED:
        w->batch.span[w->batch.n] = s;
        w->batch.pages[w->batch.n++] = pages;
        if (w->batch.n == BATCH)
            give_batch(w);
        return s->base + (size_t)s->npages * BS_PAGE_SIZE;
    case BS_BORROW_LATER:
        pass.later = true;
        break;
    case BS_BORROW_NONE:
        break;
    }
    return p + BS_PAGE_SIZE;
}

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                         const uint64_t *released) {
    struct walk *w = ctx;
    (void)released;
    if (base < pass.cursor)
        return true;
    for (uintptr_t p = base; p < base + BS_REGION_SIZE;) {
        size_t page = (p - base) / BS_PAGE_SIZE;
        if (alloc[page / 64] == 0) {
            p = base + bs_align_up(page + 1, 64) * BS_PAGE_SIZE;
            continue;
        }
        p = bs_bit_test(alloc, page) ? visit_span(w, p) : p + BS_PAGE_SIZE;
    }
    pass.cursor = base + BS_REGION_SIZE;
    if (w->batch.n != 0)
        give_batch(w);
    else if (w->deadline_ns != 0 && bs_os_now_ns() >= w->deadline_ns)
        w->stopped = true;
    if (--w->regions_left == 0)
        w->stopped = true;
    return !w->stopped;
}

static bool begin_pass(bool force) {
    uint64_t now = bs_os_now_ns(), flushes = bs_counted(flushes);
    if (!force && !pass.again && flushes == pass.flushes)
        return false;
    if (!force && pass.began_ns != 0 && now - pass.began_ns < bs_opt.scavenge_delay * NS_PER_MS)
        return false;
    pass.began_ns = now;
    bs_store(&pass.flushes, flushes);
    pass.later = pass.again = false;
    pass.cursor = 1;
    bs_central_next_epoch();
    return true;
}

bool bs_holes_round(uint64_t budget_ns, size_t max_regions, bool force,
                    struct bs_holes_work *work) {
    struct walk w = {.work = work,
                     .deadline_ns = budget_ns != 0 ? bs_os_now_ns() + budget_ns : 0,
                     .regions_left = max_regions,
                     .os_page = bs_os_page_size(),
                     .force = force};
    *work = (struct bs_holes_work){0};
    if (!bs_opt.scavenge && !force)
        return false;
    if (pass.cursor == 0 || force) {
        if (!begin_pass(force))
            return pass.again || bs_counted(flushes) != pass.flushes;
    }
    bs_pageheap_each_region_from(pass.cursor - 1, visit_region, &w);
    if (!w.stopped || w.refused) { /* the pass is complete, or the OS takes nothing */
        pass.cursor = 0;
        pass.again = pass.later && !w.refused;
    }
    return pass.cursor != 0 || pass.again || bs_counted(flushes) != pass.flushes;
}

BS_ALWAYS bool bs_holes_have_work(void) {
    return bs_counted(flushes) - bs_load(&pass.flushes) > FLUSHES_WORTH_A_PASS &&
           bs_pageheap_used_bytes() >= HEAP_WORTH_A_PASS;
}
