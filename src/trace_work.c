/* SPDX-License-Identifier: MIT */
/*
 * trace_work.c - see trace.h: the beginning and the end of a trace, and how its workers share what is
 * to be done: pieces of roots, ranges that one leaves to the others, regions to be read again.
 *
 * A word that spins protects the list: it is held for some dozens of instructions, once for each
 * piece of 64 KiB. Who finds nothing waits in the kernel, a millisecond at most.
 */
#include "trace_internal.h"

#include "meta.h"
#include "pageheap.h"

#include <string.h>

#define ROOT_PIECE (64 * BS_KIB)
#define WAIT_NS 1000000u

static void lock(struct bs_trace *t) {
    /* acquire, release: what the list says of ranges is seen with it */
    while (__atomic_exchange_n(&t->busy_word, 1, __ATOMIC_ACQUIRE) != 0)
        bs_os_yield();
}
static void unlock(struct bs_trace *t) {
    bs_store_release(&t->busy_word, 0u);
}

/* --- memory ----------------------------------------------------------------------------------- */

bool bs_trace_prepare(struct bs_trace *t, unsigned nworkers, size_t stack_ranges) {
    size_t stack_bytes = bs_align_up(stack_ranges * sizeof(struct bs_range), BS_CACHE_LINE);
    size_t bytes = nworkers * (sizeof(struct bs_tracer) + stack_bytes);
    BS_CHECK(nworkers != 0 && stack_ranges != 0);
    *t = (struct bs_trace){.nworkers = nworkers, .mapped_bytes = bytes, .pages = -1};
    t->worker = bs_meta_map(bytes);
    if (t->worker == NULL)
        return false;
    char *stacks = (char *)(t->worker + nworkers);
    for (unsigned i = 0; i < nworkers; i++) {
        t->worker[i].t = t;
        t->worker[i].stack = (struct bs_range *)(void *)(stacks + i * stack_bytes);
        t->worker[i].capacity = stack_ranges;
    }
    return true;
}

void bs_trace_drop(struct bs_trace *t) {
    bs_meta_unmap(t->worker, t->mapped_bytes);
    t->worker = NULL;
}

/* --- begin, end ------------------------------------------------------------------------------- */

static bool note_bounds(void *ctx, uintptr_t base, const uint64_t *alloc,
                        const uint64_t *released) {
    struct bs_trace *t = ctx;
    (void)alloc, (void)released;
    if (t->low == 0)
        t->low = base;
    t->reach = base + BS_REGION_SIZE - t->low; /* the byte behind it may be a block's end */
    return true;
}

void bs_trace_begin(struct bs_trace *t, const struct bs_trace_rules *rules,
                    const struct bs_range *roots, size_t nroots) {
    struct bs_tracer *worker = t->worker;
    unsigned nworkers = t->nworkers;
    size_t mapped_bytes = t->mapped_bytes;
    memset(t, 0, sizeof *t); /* in place: it is larger than some stacks have room */
    t->worker = worker;
    t->nworkers = nworkers;
    t->mapped_bytes = mapped_bytes;
    t->roots = roots;
    t->nroots = nroots;
    if (rules != NULL)
        t->rules = *rules;
    if (t->rules.mask == 0)
        t->rules.mask = ~(uintptr_t)0;
    for (unsigned i = 0; i < t->nworkers; i++) {
        t->worker[i].n = 0;
        t->worker[i].room = BS_TRACE_QUEUE;
        t->worker[i].moved = 0;
        t->worker[i].depth = 0;
        t->worker[i].sums = (struct bs_trace_sums){0};
    }
    bs_trace_use(t, NULL, NULL);
    bs_pageheap_each_region(note_bounds, t);
    if (t->rules.concurrent) { /* it grows */
        t->low = bs_min(t->low, BS_ARENA_SIZE); /* small numbers are no addresses */
        t->reach = (BS_MAX_ARENAS << BS_ARENA_SHIFT) - t->low;
    }
    t->pages = bs_os_pages_open();
    t->pages_identity = bs_os_identity(t->pages);
}

bool bs_trace_sees_pages(const struct bs_trace *t) {
    return t->pages < 0 || bs_os_identity(t->pages) == t->pages_identity;
}

void bs_trace_more(struct bs_trace *t, const struct bs_range *roots, size_t nroots) {
    t->roots = roots;
    t->nroots = nroots;
    t->root = 0;
    t->root_pos = 0;
    t->done = false;
}

void bs_trace_cancel(struct bs_trace *t) {
    bs_store(&t->cancelled, 1u);
}

static void add_sums(struct bs_trace_sums *sums, const struct bs_trace_sums *more) {
    sums->root_bytes += more->root_bytes;
    sums->candidates += more->candidates;
    sums->blocks += more->blocks;
    sums->bytes += more->bytes;
    sums->read_bytes += more->read_bytes;
    sums->forgotten += more->forgotten;
}

bool bs_trace_end(struct bs_trace *t, struct bs_trace_sums *sums) {
    *sums = (struct bs_trace_sums){.rounds = t->rounds};
    for (unsigned i = 0; i < t->nworkers; i++)
        add_sums(sums, &t->worker[i].sums);
    bool sees = bs_trace_sees_pages(t);
    if (sees && t->pages >= 0)
        bs_os_close(t->pages);
    t->pages = -1;
    return sees && bs_load(&t->cancelled) == 0;
}

struct bs_trace_sums bs_trace_so_far(const struct bs_trace *t) {
    struct bs_trace_sums sums = {.rounds = t->rounds};
    for (unsigned i = 0; i < t->nworkers; i++)
        add_sums(&sums, &t->worker[i].sums);
    return sums;
}

/* --- regions to be read again ----------------------------------------------------------------- */

static size_t region_bit(uintptr_t p) {
    return (p >> BS_REGION_SHIFT) % BS_TRACE_REGION_BITS;
}

static void forget_region(struct bs_trace *t, uintptr_t p) {
    size_t bit = region_bit(p);
    (void)__atomic_fetch_or(&t->forgot[bit / 64], (uint64_t)1 << (bit % 64), __ATOMIC_RELAXED);
}

/* Of a block of several regions the first one counts: there its span is found. While the program runs the span may
 * be gone, and what is read again is what lies in a region. */
void bs_trace_forget(struct bs_tracer *w, uintptr_t start, uintptr_t end) {
    w->sums.forgotten++;
    if (w->t->rules.concurrent) {
        for (uintptr_t p = bs_align_down(start, BS_REGION_SIZE); p < end; p += BS_REGION_SIZE)
            forget_region(w->t, p);
        return;
    }
    const struct bs_span *s = bs_pagemap_span(start);
    forget_region(w->t, s->class != 0 ? start : s->base);
}

bool bs_trace_start_round(struct bs_trace *t) {
    uint64_t any = 0;
    for (size_t i = 0; i < BS_ARRAY_LEN(t->forgot); i++) {
        t->reread[i] = __atomic_exchange_n(&t->forgot[i], 0, __ATOMIC_RELAXED);
        any |= t->reread[i];
    }
    t->region = 0;
    t->rounds += any != 0;
    return t->again = any != 0;
}

struct region_search {
    struct bs_trace *t;
    struct bs_job *job;
    bool found;
};

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                         const uint64_t *released) {
    struct region_search *r = ctx;
    (void)released;
    if (base <= r->t->region || !bs_bit_test(r->t->reread, region_bit(base)))
        return true;
    r->t->region = base;
    r->job->kind = BS_JOB_REGION;
    r->job->range = (struct bs_range){base, base + BS_REGION_SIZE};
    for (size_t i = 0; i < BS_ARRAY_LEN(r->job->alloc); i++)
        r->job->alloc[i] = alloc[i];
    r->found = true;
    return false;
}

bool bs_trace_next_region(struct bs_trace *t, struct bs_job *job) {
    struct region_search r = {t, job, false};
    if (t->again)
        bs_pageheap_each_region_from(t->region, visit_region, &r);
    t->again = r.found;
    return r.found;
}

/* --- the list --------------------------------------------------------------------------------- */

/* The next piece of roots. Unaligned words may end in the next piece. */
static bool take_root(struct bs_trace *t, struct bs_job *job) {
    while (t->root < t->nroots) {
        const struct bs_range *root = &t->roots[t->root];
        uintptr_t start = t->root_pos != 0 ? t->root_pos : root->start;
        uintptr_t end = root->end - start > ROOT_PIECE ? start + ROOT_PIECE : root->end;
        t->root_pos = end < root->end ? end : 0;
        t->root += end == root->end;
        if (start == end)
            continue;
        job->kind = BS_JOB_ROOT;
        job->range = (struct bs_range){start, end};
        job->limit = t->rules.unaligned ? bs_min(root->end, end + sizeof(uintptr_t) - 1) : end;
        return true;
    }
    return false;
}

static bool take_locked(struct bs_trace *t, struct bs_job *job) {
    if (t->nshared != 0) {
        job->kind = BS_JOB_RANGE;
        job->range = t->shared[--t->nshared];
        return true;
    }
    return take_root(t, job) || bs_trace_next_region(t, job);
}

/* The last one who finds nothing looks whether all is done. */
static bool finish_locked(struct bs_trace *t) {
    return t->nbusy == 0 && (bs_load(&t->cancelled) != 0 || !bs_trace_start_round(t));
}

/* Waits for work; BS_JOB_NONE: there is no more. The worker has nothing of its own. */
static void next_job(struct bs_tracer *w, struct bs_job *job) {
    struct bs_trace *t = w->t;
    job->kind = BS_JOB_NONE;
    lock(t);
    t->nbusy--;
    while (!t->done && (bs_load(&t->cancelled) != 0 || !take_locked(t, job))) {
        if (finish_locked(t)) {
            t->done = true;
            bs_add(&t->changes, 1u);
            bs_os_wake(&t->changes, (int)t->nworkers);
        } else if (!t->again || bs_load(&t->cancelled) != 0) { /* else another round has begun */
            uint32_t seen = bs_load(&t->changes);
            bs_add(&t->nidle, 1u);
            unlock(t);
            bs_os_wait(&t->changes, seen, WAIT_NS);
            lock(t);
            bs_sub(&t->nidle, 1u);
        }
    }
    t->nbusy += job->kind != BS_JOB_NONE;
    unlock(t);
}

void bs_trace_share(struct bs_tracer *w) {
    struct bs_trace *t = w->t;
    lock(t);
    size_t n = bs_min((w->depth + 1) / 2, BS_TRACE_SHARED - t->nshared);
    for (size_t i = 0; i < n; i++)
        t->shared[t->nshared++] = w->stack[i];
    bs_add(&t->changes, 1u);
    unlock(t);
    if (n == 0)
        return;
    for (size_t i = n; i < w->depth; i++)
        w->stack[i - n] = w->stack[i];
    w->depth -= n;
    bs_os_wake(&t->changes, 1);
}

void bs_trace_work(struct bs_trace *t, unsigned worker) {
    struct bs_tracer *w = &t->worker[worker];
    struct bs_job job;
    lock(t);
    t->nbusy++;
    unlock(t);
    for (next_job(w, &job); job.kind != BS_JOB_NONE; next_job(w, &job)) {
        bs_trace_do(w, &job);
        bs_trace_drain(w);
    }
}
