/* SPDX-License-Identifier: MIT */
/*
 * scan_concurrent.c - a scan that marks while the program runs, between two short stops, instead of in a copy.
 *
 *   before   the heap is watched (watch.h), and has tables of marks
 *   stop 1   roots are listed; what thread caches hold is marked: nobody has a pointer to it that counts
 *   between  all that the roots lead to is marked; what was written meanwhile is read again until it is little
 *   stop 2   roots, and what was written since, are read again, and what they lead to. Then no block is
 *            unmarked that the program can reach (below), and which blocks are lost is written down
 *   after    the lost ones are sorted into leaks: nobody can reach them, so nobody writes them
 *
 * Why that is right. Say a block is reachable in stop 2, along words that the program has written. Of each word
 * on the way either its page was written after the watch began: then it is read in stop 2, if its block is marked
 * by then, or when it becomes so. Or it was not: then the block was read, when it was marked, as it is
 * now. Or the block was in a thread's cache in stop 1, and has come out since: what the program has put into
 * it was written after that. So each block on the way is marked, by induction from the roots. A mark may have
 * been another block's that was there before: then a leak is found a scan later.
 *
 * The heap may grow: words count that lead anywhere, an arena that is new gets marks when one leads there, and
 * what memory it has counts as written. A span that has become another one is noticed (bs_span_shape). Blocks that
 * were made after the marking are not judged at all.
 *
 * What is read while the program runs, and why that does not fault:
 *   small blocks      in place, in spans that are held (reader.h): they stay small blocks' until they are let go. A page
 *                     that is one block's alone may be the program's to close, so from a page on they count as large
 *   large blocks      copied by the kernel; which of their pages are populated it says as well
 *   roots             ranges of the first stop, which may be unmapped by now: copied. That goes for shared memory, too. Code
 *                     at odd addresses, the kernel's words, registers, dead parts of stacks: in the stops alone
 *   descriptors of spans, the page map's tables      never unmapped; what they say is looked at again (bs_span_shape)
 *   tables of marks, candidates, shared verdict      our own, made before and dropped after, in this round
 *   the page heap's bits      under its lock, region by region
 *   sampled blocks and stacks (which leak is whose)     under their locks; stacks are never unmapped
 *   thread caches     in the stops alone
 * hunt.c reads the same, of the same kinds, but no roots before the stop; probabilistic those as well, copied.
 *
 * The round is held to the end. Who waits for it (a fork) ends the search, and so does more work in stop 2 than a
 * stop may take; a copy is made instead then. Where the kernel cannot watch there is no such search.
 */
#include "scan_internal.h"

#include "cycle.h"
#include "meta.h"
#include "pageheap.h"
#include "reader.h"
#include "sides.h"
#include "tcache.h"
#include "thread.h"
#include "watch.h"

/* A word of a span with unmarked blocks. */
struct candidate {
    struct bs_span *span;
    uintptr_t base;
    uint64_t bits;
    uint8_t class, word;
};

static struct {
    struct bs_watch watch;
    struct bs_sides starts;
    char *copy;
    struct candidate *candidate; /* max of them; NULL: none yet */
    size_t n, max;
    size_t written_bytes; /* of the last look */
} search = {.watch.fd = -1}; /* [lock:round] */

/* --- before ------------------------------------------------------------------------------------- */

/* First the watch: an arena that comes between has marks, and its words count as written. */
bool bs_scan_concurrent_begin(struct bs_scan_work *w) {
    w->concurrent = bs_watch_begin(&search.watch) && bs_cycle_prepare() && bs_sides_make(&search.starts, BS_SIDE_START);
    search.copy = w->concurrent ? bs_meta_map(BS_TRACE_COPY_BYTES) : NULL;
    w->concurrent &= search.copy != NULL;
    if (!w->concurrent)
        bs_scan_concurrent_end(w);
    return w->concurrent;
}

void bs_scan_concurrent_end(struct bs_scan_work *w) {
    struct bs_trace_sums sums;
    if (w->trace.rules.concurrent) /* also one that was given up */
        (void)bs_trace_end(&w->trace, &sums);
    bs_watch_end(&search.watch);
    bs_sides_drop(&search.starts);
    bs_cycle_end();
    if (search.copy != NULL)
        bs_meta_unmap(search.copy, BS_TRACE_COPY_BYTES);
    if (search.candidate != NULL)
        bs_meta_unmap_sparse(search.candidate, search.max * sizeof *search.candidate, 0);
    search.copy = NULL;
    search.candidate = NULL;
    w->concurrent = false;
}

/* --- blocks in caches ----------------------------------------------------------------------------- */

static void mark_slot(uintptr_t p) {
    struct bs_span *s = bs_span_of(p);
    uint32_t slot;
    if (s != NULL && bs_slot_of(s, p, &slot))
        (void)bs_marks_set(s->base, BS_SIDE_MARK, slot);
}
static void mark_cache(void *ctx, const struct bs_tcache *tc) {
    (void)ctx;
    bs_tcache_each_block(tc, mark_slot);
}

/* In stop 1. Not idle for good: it may be anybody's block in a moment. */
void bs_scan_concurrent_seed(void) {
    bs_thread_each(mark_cache, NULL);
}

/* --- between -------------------------------------------------------------------------------------- */

static bool reread(void *ctx, uintptr_t start, uintptr_t end) {
    struct bs_trace *t = ctx;
    search.written_bytes += end - start;
    bs_trace_reread(t, start, end);
    return bs_load(&t->cancelled) == 0;
}
static bool reread_written(struct bs_scan_work *w, bool again, struct bs_scan_result *result) {
    search.written_bytes = 0;
    bool all = bs_watch_written(&search.watch, again, reread, &w->trace);
    result->again_bytes += search.written_bytes;
    return all;
}

static bool has_room(void) {
    size_t pages = bs_pageheap_used_bytes() / BS_PAGE_SIZE;
    search.n = 0;
    search.max = 2 * pages + BS_SCAN_CANDIDATES_MIN;
    search.candidate = bs_meta_map_sparse(search.max * sizeof *search.candidate, 0);
    return search.candidate != NULL;
}

static void note_candidates(struct bs_span *s) {
    struct bs_shape shape;
    if (!bs_span_shape(s, &shape) || bs_marks_table(shape.base, BS_SIDE_MARK) == NULL ||
        bs_marks_table(shape.base, BS_SIDE_NOW) == NULL)
        return;
    for (size_t w = 0; w * 64 < shape.nslots; w++) {
        uint64_t bits = bs_load(&s->alloc[w]) & ~bs_marks_bits(shape.base, BS_SIDE_MARK, w);
        if (bits == 0)
            continue;
        if (search.n < search.max)
            search.candidate[search.n] =
                (struct candidate){s, shape.base, bits, (uint8_t)shape.class, (uint8_t)w};
        search.n++;
    }
}

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    (void)ctx, (void)released;
    for (size_t page = 0; page < BS_REGION_PAGES; page++) {
        struct bs_span *s = bs_span_in_region(alloc, base, page);
        if (s != NULL)
            note_candidates(s);
    }
    return true;
}

static bool mark(struct bs_scan_work *w, struct bs_scan_result *result) {
    const struct bs_trace_rules rules = {.concurrent = true, .starts = true, .past_end = BS_PAST_END_FREE};
    if (!bs_scan_add_own_words(w) || !has_room())
        return false;
    bs_trace_begin(&w->trace, &rules, w->roots.range, w->roots.n);
    w->trace.copy = search.copy;
    w->trace.gives_way = true;
    w->trace.quit = w->quit;
    w->trace.deadline_ns = bs_os_now_ns() + (w->rules.copy_ns != 0 ? w->rules.copy_ns : BS_SCAN_TIME_NS);
    bs_scan_mark(w);
    if (bs_load(&w->trace.cancelled) != 0 && bs_os_now_ns() > w->trace.deadline_ns)
        result->why = BS_BUDGET_TIME;
    for (unsigned tries = 0; tries < BS_SCAN_REREADS; tries++) {
        if (bs_load(&w->trace.cancelled) != 0 || !reread_written(w, true, result))
            return false;
        if (search.written_bytes <= BS_SCAN_REREAD_BYTES)
            break;
    }
    /* (who sets the time of the second stop wants it, however long it lasts) */
    if (w->rules.finish_ns == 0 && search.written_bytes > BS_SCAN_REREAD_MAX_BYTES)
        return false;
    bs_pageheap_each_region(visit_region, NULL);
    return bs_load(&w->trace.cancelled) == 0 && search.n <= search.max;
}

/* Marks. What lies in code at odd addresses, and in memory that others share, can be read while all stand only; what
 * of the latter is there is read here as other roots are. True: what is left to do is to be done in a stop. */
bool bs_scan_concurrent_mark(struct bs_scan_work *w, struct bs_scan_result *result) {
    (void)bs_reader_begin(); /* else all is copied */
    bool marked = mark(w, result);
    bs_reader_end();
    return marked;
}

/* --- stop 2 --------------------------------------------------------------------------------------- */

/* Which of them are lost, now that all is marked that leads anywhere. */
static void judge_candidates(void) {
    for (size_t i = 0; i < search.n; i++) {
        const struct candidate *c = &search.candidate[i];
        struct bs_shape shape;
        if (!bs_span_shape(c->span, &shape) || shape.base != c->base || shape.class != c->class)
            continue;
        uint64_t *now = bs_marks_word(c->base, BS_SIDE_NOW, c->word);
        uint64_t lost = c->bits & c->span->alloc[c->word] & ~bs_marks_bits(c->base, BS_SIDE_MARK, c->word) &
                        ~bs_marks_bits(c->base, BS_SIDE_IDLE, c->word);
        if (lost != 0 && now != NULL)
            *now = lost;
    }
}

/* Roots were taken. False: it takes too long, or the kernel does not tell any more. */
bool bs_scan_concurrent_finish(struct bs_scan_work *w, struct bs_scan_result *result) {
    struct bs_trace *t = &w->trace;
    if (!bs_cycle_prepare() || !bs_scan_finish_words(w)) /* tables for arenas that are new */
        return false;
    bs_cycle_spare_caches();
    t->copy = NULL;
    t->gives_way = false;
    t->quit = NULL;
    t->closed = w->roots.closed;
    t->nclosed = w->roots.nclosed;
    t->deadline_ns = bs_os_now_ns() + (w->rules.finish_ns != 0 ? w->rules.finish_ns : BS_SCAN_FINISH_NS);
    bs_trace_more(t, w->roots.range, w->roots.n);
    if (!reread_written(w, false, result))
        return false;
    bs_trace_work(t, 0);
    if (bs_load(&t->cancelled) != 0 || !bs_trace_sees_pages(t))
        return false;
    judge_candidates();
    return true;
}

/* --- after ---------------------------------------------------------------------------------------- */

bool bs_scan_concurrent_judge(struct bs_scan_work *w) {
    struct bs_trace_sums sums;
    w->trace.copy = search.copy;
    w->trace.closed = NULL;
    w->trace.nclosed = 0;
    w->trace.gives_way = true;
    w->trace.quit = w->quit;
    w->trace.deadline_ns = 0;
    (void)bs_reader_begin();
    bool found = bs_scan_sum(w);
    bs_reader_end();
    found &= bs_trace_end(&w->trace, &sums);
    w->verdict->trace.rounds = sums.rounds;
    w->verdict->searchers = 1;
    return found;
}
