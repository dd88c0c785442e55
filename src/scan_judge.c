/* SPDX-License-Identifier: MIT */
/*
 * scan_judge.c - the search of a scan, and its verdict: in the copy, or in place while all stand. What it
 * writes for others lies in shared memory: the verdict, and the bits of kind BS_SIDE_NOW.
 */
#include "scan_internal.h"

#include "bits.h"
#include "cycle.h"
#include "leaks.h"
#include "pageheap.h"
#include "sample.h"
#include "sides.h"

/* --- one leak --------------------------------------------------------------------------------- */

static size_t place_of(const struct bs_stack *stack) {
    return (size_t)(((uintptr_t)stack >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 40) % BS_SCAN_STACKS;
}

const struct bs_leak_stack *bs_scan_find(const struct bs_scan_verdict *v,
                                         const struct bs_stack *stack) {
    for (size_t i = place_of(stack); v->stack[i].stack != NULL; i = (i + 1) % BS_SCAN_STACKS)
        if (v->stack[i].stack == stack)
            return &v->stack[i];
    return NULL;
}

/* NULL: the table is full enough. */
static struct bs_leak_stack *place_for(struct bs_scan_verdict *v, struct bs_stack *stack) {
    size_t i = place_of(stack);
    while (v->stack[i].stack != NULL && v->stack[i].stack != stack)
        i = (i + 1) % BS_SCAN_STACKS;
    if (v->stack[i].stack == NULL) {
        if (v->nstacks == BS_SCAN_STACKS / 4 * 3)
            return NULL;
        v->nstacks++;
        v->stack[i].stack = stack;
        v->stack[i].oldest_ns = UINT64_MAX;
    }
    return &v->stack[i];
}

/* The leak counts `blocks` times, its first block as one of `bytes` in all. */
static void add(struct bs_leak_sums *sums, const struct bs_leak *leak, uint64_t blocks,
                uint64_t bytes) {
    sums->leaks++;
    sums->blocks += blocks;
    sums->bytes += bytes;
    sums->indirect_blocks += (leak->blocks - 1) * blocks;
    sums->indirect_bytes += (leak->bytes - leak->head.size) * blocks;
}

/* Each stack is asked once. */
static int rule_of(struct bs_leak_stack *place, const struct bs_stack *stack) {
    if (place == NULL)
        return bs_suppress_find(stack);
    if (place->rule == 0)
        place->rule = (uint32_t)(bs_suppress_find(stack) + 2);
    return (int)place->rule - 2;
}

static void add_to_stack(struct bs_scan_verdict *v, const struct bs_leak *leak,
                         const struct bs_sampled *sampled, struct bs_leak_stack *place) {
    add(place != NULL ? &place->sums : &v->other, leak, sampled->blocks, sampled->bytes);
    if (place == NULL)
        return;
    place->oldest_ns = sampled->time_ns < place->oldest_ns ? sampled->time_ns : place->oldest_ns;
    place->newest_ns = sampled->time_ns > place->newest_ns ? sampled->time_ns : place->newest_ns;
}

static bool was_lost(const struct bs_span *s, uintptr_t p) {
    struct bs_shape shape; /* while the program runs the span may have become another one */
    uint32_t slot;
    return bs_span_shape(s, &shape) && bs_shape_slot(&shape, p, &slot) &&
           (bs_marks_bits(shape.base, BS_SIDE_LOST, slot / 64) >> (slot % 64) & 1) != 0;
}

static void judge_leak(void *ctx, const struct bs_leak *leak) {
    struct bs_scan_work *w = ctx;
    struct bs_scan_verdict *v = w->verdict;
    const struct bs_span *s = bs_span_of(leak->head.base);
    struct bs_sampled sampled;
    if (s == NULL) /* while the program runs: somebody had a pointer to it after all */
        return;
    bool known = bs_sample_find((void *)leak->head.base, &sampled);
    if ((!w->is_enough && !was_lost(s, leak->head.base)) ||
        (known && bs_sub_clamped(w->now_ns, sampled.time_ns) < w->rules.age_ns)) {
        v->waiting++;
        return;
    }
    struct bs_leak_stack *place = known ? place_for(v, sampled.stack) : NULL;
    int rule = known ? rule_of(place, sampled.stack) : -1;
    if (rule >= 0) {
        add(&v->suppressed, leak, 1, leak->head.size);
        add(&v->rule[rule], leak, 1, leak->head.size);
        return;
    }
    add(&v->reported, leak, 1, leak->head.size);
    if (known)
        add_to_stack(v, leak, &sampled, place);
    else
        add(&v->class[bs_load(&s->class)], leak, 1, leak->head.size); /* (it may be another span by now) */
}

/* --- all blocks ------------------------------------------------------------------------------- */

/* Which stack a block is from that may be lost: it is old enough, and not suppressed. */
static void note_possible(struct bs_scan_work *w, uintptr_t block) {
    struct bs_sampled sampled;
    if (!bs_sample_find((void *)block, &sampled) ||
        bs_sub_clamped(w->now_ns, sampled.time_ns) < w->rules.age_ns)
        return;
    struct bs_leak_stack *place = place_for(w->verdict, sampled.stack);
    if (place == NULL || rule_of(place, sampled.stack) >= 0)
        return;
    place->possible_blocks += sampled.blocks;
    place->possible_bytes += sampled.bytes;
}

/* (While the program runs the descriptor may become another span's: what is said is of the one that was here.) */
static void note_span(struct bs_scan_work *work, const struct bs_span *s) {
    struct bs_scan_verdict *v = work->verdict;
    struct bs_shape shape;
    if (!bs_span_shape(s, &shape))
        return;
    uintptr_t base = shape.base;
    for (size_t w = 0; w * 64 < shape.nslots; w++) {
        uint64_t marked = bs_marks_bits(base, BS_SIDE_MARK, w);
        uint64_t in_use = bs_load(&s->alloc[w]) & ~bs_marks_bits(base, BS_SIDE_IDLE, w) &
                          ~bs_marks_bits(base, BS_SIDE_HELD, w);
        uint64_t lost = work->trace.rules.concurrent ? bs_marks_bits(base, BS_SIDE_NOW, w) : in_use & ~marked;
        uint64_t interior = bs_marks_table(base, BS_SIDE_START) == NULL
                                ? 0
                                : in_use & marked & ~bs_marks_bits(base, BS_SIDE_START, w);
        uint64_t *now = lost != 0 ? bs_marks_word(base, BS_SIDE_NOW, w) : NULL;
        if (now != NULL && !work->trace.rules.concurrent)
            *now = lost;
        v->lost_blocks += bs_popcount(lost);
        v->lost_bytes += bs_popcount(lost) * shape.size;
        v->interior_blocks += bs_popcount(interior);
        v->interior_bytes += bs_popcount(interior) * shape.size;
        for (; interior != 0; interior &= interior - 1)
            note_possible(work, base + (w * 64 + bs_ctz(interior)) * shape.size);
    }
}

static bool note_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                        const uint64_t *released) {
    (void)released;
    for (size_t page = 0; page < BS_REGION_PAGES; page++) {
        struct bs_span *s = bs_span_in_region(alloc, base, page);
        if (s != NULL)
            note_span(ctx, s);
    }
    return true;
}

/* --- several searchers ------------------------------------------------------------------------ */

struct searcher {
    struct bs_scan_work *w;
    unsigned worker;
    int tid;
};

static void help(void *arg) {
    struct searcher *s = arg;
    bs_trace_work(&s->w->trace, s->worker);
    bs_add(&s->w->others_ns, bs_os_thread_cpu_ns());
}

static bool is_stack(const struct bs_scan_work *w, const struct bs_range *range) {
    bool is = w->first_stack - range->start < range->end - range->start;
    for (size_t i = 0; !is && i < w->nstood; i++)
        is = w->stood[i] - range->start < range->end - range->start;
    return is;
}
static bool is_own(const struct bs_scan_work *w, const struct bs_range *range) {
    return range->start - (uintptr_t)w->word < sizeof w->word;
}

static void mark_for_owners(struct bs_scan_work *w, bool stacks) {
    struct bs_trace *t = &w->trace;
    for (size_t i = 0; i < w->roots.n; i++) {
        const struct bs_range *range = &w->roots.range[i];
        bool words = (w->roots.flags[i] & BS_ROOT_WORDS) != 0;
        if (is_stack(w, range) != stacks)
            continue;
        t->owner = stacks ? (struct bs_owner){BS_OWNER_STACK, range->start}
                          : (struct bs_owner){words ? BS_OWNER_KERNEL : BS_OWNER_MEMORY, 0};
        t->from = words && is_own(w, range) ? &w->from[(range->start - (uintptr_t)w->word) / sizeof *w->from] : NULL;
        bs_trace_more(t, range, 1);
        bs_trace_work(t, 0);
    }
}

void bs_scan_mark(struct bs_scan_work *w) {
    if (!w->rules.owners) {
        bs_trace_work(&w->trace, 0);
        return;
    }
    w->trace.owners = w->verdict->owners;
    mark_for_owners(w, false);
    mark_for_owners(w, true);
    w->trace.owners = NULL;
}

/* Marks what is reached. In a copy of enough memory others help: it is nobody else's, so that threads may be
 * made that nobody knows. */
static void mark_all(struct bs_scan_work *w) {
    struct searcher helping[BS_SCAN_SEARCHERS];
    const size_t each = bs_os_searcher_bytes();
    unsigned n = w->is_copy && !w->rules.owners && bs_pageheap_used_bytes() + w->roots.bytes >= w->rules.searchers_bytes
                     ? w->trace.nworkers - 1
                     : 0;
    char *memory = n != 0 ? bs_os_alloc(n * each) : NULL;
    unsigned started = 0;
    for (; memory != NULL && started < n; started++) {
        struct searcher *s = &helping[started];
        *s = (struct searcher){.w = w, .worker = started + 1};
        if (bs_os_searcher_start(memory + started * each, &s->tid, help, s) != 0)
            break;
    }
    bs_scan_mark(w);
    for (unsigned i = 0; i < started; i++)
        bs_os_searcher_join(&helping[i].tid);
    w->verdict->searchers = started + 1;
}

/* --- the search ------------------------------------------------------------------------------- */

bool bs_scan_sum(struct bs_scan_work *w) {
    struct bs_leak total;
    w->verdict->trace = bs_trace_so_far(&w->trace);
    bool found = bs_leaks_find(&w->trace, judge_leak, w, &total);
    if (found)
        bs_pageheap_each_region(note_region, w);
    return found;
}

static bool search(struct bs_scan_work *w) {
    const struct bs_scan_guest *guest = w->rules.guest;
    const struct bs_trace_rules rules = {
        .starts = true, .past_end = guest != NULL ? guest->past_end : BS_PAST_END_FREE};
    struct bs_trace_sums sums;
    bs_trace_begin(&w->trace, &rules, w->roots.range, w->roots.n);
    if (guest == NULL) { /* a guest has opened what it had closed */
        w->trace.closed = w->roots.closed;
        w->trace.nclosed = w->roots.nclosed;
    }
    mark_all(w);
    bool found = bs_scan_sum(w);
    if (found && guest != NULL)
        guest->judge(&w->trace);
    found &= bs_trace_end(&w->trace, &sums);
    w->verdict->trace.rounds = sums.rounds;
    return found;
}

enum bs_scan_end bs_scan_judge(struct bs_scan_work *w) {
    struct bs_sides starts;
    uint64_t cpu = bs_os_thread_cpu_ns();
    if (!bs_scan_finish_words(w))
        return BS_SCAN_NO_ROOTS;
    if (!bs_cycle_prepare() || !bs_cycle_begin() || !bs_sides_make(&starts, BS_SIDE_START))
        return BS_SCAN_NO_MEMORY;
    bs_cycle_spare_caches();
    if (w->rules.guest != NULL)
        w->rules.guest->open();
    bool found = search(w);
    bs_sides_drop(&starts);
    w->verdict->search_ns = bs_os_thread_cpu_ns() - cpu + bs_load(&w->others_ns);
    return found ? BS_SCAN_DONE : BS_SCAN_NO_MEMORY;
}
