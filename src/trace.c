/* SPDX-License-Identifier: MIT */
/*
 * trace.c - see trace.h: one worker's way from words to blocks. How several share their work is in
 * trace_work.c. Takes no lock.
 */
#include "trace_internal.h"

#include "bits.h"
#include "cycle.h"
#include "ranges.h"
#include "reader.h"
#include "round.h"

#include <errno.h>

/* Bytes of a large block whose populated pages are asked for at once, and the parts taken then. */
#define LARGE_PIECE (1 * BS_MIB)
#define LARGE_PARTS 16
/* Of roots that are copied again after each word that leads somewhere: what was copied for it took the place. */
#define OWNER_COPY_BYTES 512
/* Of so many steps, some microseconds, one asks whether to go on. */
#define STEPS 64

/* --- taking ----------------------------------------------------------------------------------- */

static bool holds(const struct bs_span *s, uintptr_t p) {
    return bs_load_acquire(&s->state) != BS_SPAN_DEAD &&
           p - s->base < (size_t)s->npages * BS_PAGE_SIZE;
}

static enum bs_lead take_marked(struct bs_span *s, uintptr_t p, struct bs_marked *block) {
    uint32_t slot;
    if (!holds(s, p) || !bs_slot_of(s, p, &slot) || !bs_bit_test(s->alloc, slot))
        return BS_LEAD_NONE;
    BS_ASSERT(bs_marking);
    *block = bs_slot_block(s, slot);
    return bs_marks_set(s->base, BS_SIDE_MARK, slot) ? BS_LEAD_NEW : BS_LEAD_OLD;
}

static enum bs_lead take_with_start(struct bs_span *s, uintptr_t p, struct bs_marked *block) {
    enum bs_lead lead = take_marked(s, p, block);
    uint32_t slot;
    if (lead != BS_LEAD_NONE && block->base == p && bs_slot_of(s, p, &slot))
        (void)bs_marks_set(s->base, BS_SIDE_START, slot);
    return lead;
}

/* While the program runs. In an arena that has come since the tables were made nothing could be marked, and the
 * word that leads there may not be read again. */
static enum bs_lead take_concurrent(struct bs_span *s, uintptr_t p, struct bs_marked *block) {
    struct bs_shape shape;
    uint32_t slot;
    if (!bs_span_shape(s, &shape) || !bs_shape_slot(&shape, p, &slot) ||
        !bs_bit_load(s->alloc, slot))
        return BS_LEAD_NONE;
    if (bs_marks_table(shape.base, BS_SIDE_MARK) == NULL) {
        bs_reader_let_go(); /* no lock is taken while something is held */
        if (!bs_cycle_prepare())
            return BS_LEAD_NO_MEMORY;
    }
    *block = (struct bs_marked){shape.base + slot * shape.size, shape.size};
    if (block->base == p)
        (void)bs_marks_set(shape.base, BS_SIDE_START, slot);
    return bs_marks_set(shape.base, BS_SIDE_MARK, slot) ? BS_LEAD_NEW : BS_LEAD_OLD;
}

/* Slots of thread caches are marked as well, so that nobody goes there, but lead nowhere. The program may run. */
static uint64_t taken_marked(const struct bs_span *s, size_t w) {
    uintptr_t base = bs_load(&s->base);
    return bs_load(&s->alloc[w]) & bs_marks_bits(base, BS_SIDE_MARK, w) & ~bs_marks_bits(base, BS_SIDE_IDLE, w);
}

void bs_trace_use(struct bs_trace *t, bs_trace_take *take, bs_trace_taken *taken) {
    t->take = take != NULL       ? take
              : t->rules.concurrent ? take_concurrent
              : t->rules.starts  ? take_with_start
                                 : take_marked;
    t->taken = taken != NULL ? taken : taken_marked;
}

/* --- words ------------------------------------------------------------------------------------ */

/* The span's descriptor and the mark word come into the cache, and the block. */
static void enqueue(struct bs_tracer *w, uintptr_t p) {
    struct bs_span *s = bs_pagemap_span(p);
    w->sums.candidates++;
    if (s != NULL) {
        __builtin_prefetch(s);
        __builtin_prefetch(bs_marks_word(p, BS_SIDE_MARK, 0), 1);
        __builtin_prefetch((const void *)p);
    } else if (p % BS_PAGE_SIZE != 0) {
        return; /* nor can it be just past the end of one */
    }
    unsigned i = (w->head + w->n++) % BS_TRACE_QUEUE;
    w->queue[i].p = p;
    w->queue[i].span = s;
}

/* Words of [p, end) from p on, until the queue is full. Where the next one begins, or `end`. */
BS_UNCHECKED static uintptr_t sift_words(struct bs_tracer *w, uintptr_t p, uintptr_t end) {
    const struct bs_trace *t = w->t;
    const uintptr_t low = t->low, reach = t->reach, mask = t->rules.mask;
    const uintptr_t step = t->rules.unaligned ? 1 : sizeof(uintptr_t);
    if (end - p < sizeof(uintptr_t))
        return end;
    for (const uintptr_t last = end - sizeof(uintptr_t); p <= last; p += step) {
        uintptr_t x = *(const bs_any_word *)p & mask;
        if (BS_LIKELY(x - low > reach))
            continue;
        if (w->n == w->room)
            return p;
        w->at = p + w->moved;
        enqueue(w, x);
    }
    return end;
}

/* The same until something is closed. */
static uintptr_t read_words(struct bs_tracer *w, uintptr_t p, uintptr_t end) {
    const struct bs_trace *t = w->t;
    if (BS_UNLIKELY(t->nclosed != 0)) {
        size_t i = bs_ranges_find(t->closed, t->nclosed, p);
        if (i < t->nclosed && p >= t->closed[i].start)
            return bs_min(t->closed[i].end, end);
        end = i < t->nclosed ? bs_min(t->closed[i].start, end) : end;
    }
    return sift_words(w, p, end);
}

/* The same of what the program may take away at any moment. */
static uintptr_t read_copied(struct bs_tracer *w, uintptr_t p, uintptr_t end) {
    const struct bs_trace *t = w->t;
    const size_t most = w->room < BS_TRACE_QUEUE ? OWNER_COPY_BYTES : BS_TRACE_COPY_BYTES;
    while (p < end) {
        long got = bs_os_read_memory(p, t->copy, bs_min(end - p, most));
        if (got < 0 && got != -EFAULT)
            bs_trace_cancel(w->t); /* the kernel copies nothing here */
        if (got < (long)sizeof(uintptr_t)) {
            p = bs_min(bs_align_up(p + 1, bs_os_page_size()), end);
            continue;
        }
        uintptr_t from = (uintptr_t)t->copy, to = from + bs_align_down((size_t)got, sizeof(uintptr_t));
        w->moved = p - from;
        uintptr_t rest = sift_words(w, from, to);
        w->moved = 0;
        p += rest - from;
        if (rest < to)
            return p;
        if (end - p < sizeof(uintptr_t))
            break;
    }
    return end;
}

static void push(struct bs_tracer *w, uintptr_t start, uintptr_t end) {
    if (BS_UNLIKELY(w->depth == w->capacity))
        bs_trace_forget(w, start, end);
    else
        w->stack[w->depth++] = (struct bs_range){start, end};
}

/* Of what is now small blocks' memory, which stays so until bs_reader_let_go. What the range was found to be, however
 * long ago, does not matter. */
static bool hold(uintptr_t start, uintptr_t end) {
    struct bs_shape shape;
    const struct bs_span *s = bs_pagemap_span(start);
    bool held = s != NULL && bs_reader_hold(s) && bs_span_shape(s, &shape) && shape.class != 0 &&
                shape.size < bs_os_page_size() && start - shape.base < shape.bytes &&
                end - shape.base <= shape.bytes;
    if (held)
        bs_reader_looked(s);
    return held;
}

/* Words of [start, end) until the queue is full. Where the next one begins, or `end`. What is not small blocks' any
 * more is copied from then on. */
static uintptr_t read_some(struct bs_tracer *w, uintptr_t start, uintptr_t end, uintptr_t *copied) {
    if (w->t->copy == NULL)
        return read_words(w, start, end);
    uintptr_t rest = start;
    if (*copied == 0) {
        if (hold(start, end))
            rest = read_words(w, start, end);
        else
            *copied = BS_TRACE_COPIED;
        bs_reader_let_go();
    }
    return *copied != 0 ? read_copied(w, start, end) : rest;
}

/* [start, end) was read up to `rest`. */
static void leave_rest(struct bs_tracer *w, uintptr_t start, uintptr_t rest, uintptr_t end, uintptr_t copied) {
    w->sums.read_bytes += rest - start;
    if (rest < end)
        push(w, rest, end | copied);
}
static void read_part(struct bs_tracer *w, uintptr_t start, uintptr_t end, uintptr_t copied) {
    uintptr_t rest = read_some(w, start, end, &copied);
    leave_rest(w, start, rest, end, copied);
}

/* Of blocks of so many bytes: a page, or more, may be the program's to close. */
static uintptr_t is_copied(const struct bs_tracer *w, size_t size) {
    return w->t->copy != NULL && size >= bs_os_page_size() ? BS_TRACE_COPIED : 0;
}

/* Parts of a large block. An unaligned word may begin in one piece and end in the next one: then
 * that one begins a page early. */
static size_t next_parts(struct bs_tracer *w, uintptr_t *start, uintptr_t end,
                         struct bs_range part[LARGE_PARTS]) {
    uintptr_t stop = bs_min(end, *start + LARGE_PIECE), next;
    size_t n = bs_os_populated(w->t->pages, *start, stop, 0, part, LARGE_PARTS, &next);
    if (w->t->rules.unaligned && next < end && next - *start > bs_os_page_size())
        next -= bs_os_page_size();
    *start = next;
    return n;
}

static void read_large(struct bs_tracer *w, uintptr_t start, uintptr_t end) {
    struct bs_range part[LARGE_PARTS];
    size_t n = next_parts(w, &start, end, part);
    if (start < end)
        push(w, start, end | BS_TRACE_LARGE);
    for (size_t i = 0; i < n; i++)
        read_part(w, part[i].start, part[i].end, is_copied(w, SIZE_MAX));
}

/* A block of span s, which was held before it was looked at, if it is still. */
static void found(struct bs_tracer *w, const struct bs_span *s, const struct bs_marked *block) {
    w->sums.blocks++;
    w->sums.bytes += block->size;
    if (w->t->copy != NULL && bs_reader_is_held(s) && is_copied(w, block->size) == 0) {
        bs_reader_looked(s);
        uintptr_t end = block->base + block->size, rest = read_words(w, block->base, end);
        bs_reader_let_go();
        leave_rest(w, block->base, rest, end, 0);
        return;
    }
    if (w->t->copy != NULL)
        bs_reader_let_go();
    if (block->size <= BS_SMALL_MAX)
        read_part(w, block->base, block->base + block->size, is_copied(w, block->size));
    else
        read_large(w, block->base, block->base + block->size);
}

static enum bs_lead take(struct bs_tracer *w, struct bs_span *s, uintptr_t p, struct bs_marked *block) {
    bool running = w->t->copy != NULL && s != NULL;
    if (running)
        (void)bs_reader_hold(s);
    enum bs_lead lead = s != NULL ? w->t->take(s, p, block) : BS_LEAD_NONE;
    if (lead == BS_LEAD_NEW)
        found(w, s, block);
    else if (running)
        bs_reader_let_go();
    if (BS_UNLIKELY(w->t->owners != NULL) && lead == BS_LEAD_NEW)
        bs_owners_found(w->t->owners, block->base); /* it takes a lock, so nothing is held any more */
    if (BS_UNLIKELY(lead == BS_LEAD_NO_MEMORY))
        bs_trace_cancel(w->t);
    return lead;
}

/* Is p, which leads to `block` or to nothing, the end of another? */
static void look_before(struct bs_tracer *w, uintptr_t p) {
    struct bs_marked block;
    (void)take(w, bs_pagemap_span(p - 1), p - 1, &block);
}

static void follow(struct bs_tracer *w) {
    uintptr_t p = w->queue[w->head].p;
    struct bs_span *s = w->queue[w->head].span;
    struct bs_marked block = {0, 0};
    w->head = (w->head + 1) % BS_TRACE_QUEUE;
    w->n--;
    enum bs_lead lead = take(w, s, p, &block);
    enum bs_past_end rule = w->t->rules.past_end;
    if (lead == BS_LEAD_NONE ? rule != BS_PAST_END_NEVER
                             : rule == BS_PAST_END_ALWAYS && block.base == p)
        look_before(w, p);
}

/* Is it cancelled, or has to be? */
static bool is_over(struct bs_tracer *w) {
    struct bs_trace *t = w->t;
    if (++w->steps % STEPS == 0 && ((t->gives_way && bs_round_is_waited_for()) ||
                                    (t->quit != NULL && bs_load(t->quit) != 0) ||
                                    (t->deadline_ns != 0 && bs_os_now_ns() > t->deadline_ns)))
        bs_trace_cancel(t);
    return bs_load(&t->cancelled) != 0;
}

void bs_trace_drain(struct bs_tracer *w) {
    while (w->n != 0 || w->depth != 0) {
        if (BS_UNLIKELY(is_over(w))) {
            w->n = 0;
            w->depth = 0;
            return;
        }
        if (w->n > BS_TRACE_LOW || w->depth == 0) {
            follow(w);
            continue;
        }
        if (w->depth > 1 && bs_load(&w->t->nidle) != 0)
            bs_trace_share(w);
        struct bs_range r = w->stack[--w->depth];
        if ((r.end & BS_TRACE_LARGE) != 0)
            read_large(w, r.start, r.end & ~BS_TRACE_LARGE);
        else if ((r.end & BS_TRACE_COPIED) != 0)
            read_part(w, r.start, r.end & ~BS_TRACE_COPIED, BS_TRACE_COPIED);
        else
            read_part(w, r.start, r.end, 0);
    }
}

/* --- jobs ------------------------------------------------------------------------------------- */

/* One worker's: until nothing is forgotten. */
static void reread_forgotten(struct bs_tracer *w) {
    struct bs_job job;
    while (bs_trace_start_round(w->t))
        while (bs_trace_next_region(w->t, &job)) {
            bs_trace_do(w, &job);
            bs_trace_drain(w);
        }
}

/* All words of the range, without a place on the stack for its rest: nothing of it can be forgotten. */
static void read_whole(struct bs_tracer *w, uintptr_t start, uintptr_t end, uintptr_t copied) {
    while ((start = read_some(w, start, end, &copied)) < end && !is_over(w))
        bs_trace_drain(w);
}

/* Of the word that the queue's candidate is from. */
static struct bs_owner owner_of(const struct bs_tracer *w) {
    const struct bs_trace *t = w->t;
    if (t->from != NULL) {
        uintptr_t at = t->from[(w->at - t->roots->start) / sizeof *t->from];
        return (struct bs_owner){at != 0 ? BS_OWNER_MEMORY : BS_OWNER_KERNEL, at};
    }
    return (struct bs_owner){t->owner.kind, t->owner.kind == BS_OWNER_MEMORY ? w->at : t->owner.at};
}

/* The same, but each word is followed to the end by itself. */
static void read_for_owners(struct bs_tracer *w, uintptr_t start, uintptr_t end, uintptr_t copied) {
    struct bs_owners *owners = w->t->owners;
    do {
        struct bs_trace_sums before = w->sums;
        w->room = 1;
        start = read_some(w, start, end, &copied);
        w->room = BS_TRACE_QUEUE;
        if (w->n == 0)
            continue;
        bs_owners_turn(owners, owner_of(w));
        bs_trace_drain(w);
        if (BS_UNLIKELY(w->sums.forgotten != before.forgotten))
            reread_forgotten(w);
        bs_owners_sum(owners, w->sums.blocks - before.blocks, w->sums.bytes - before.bytes);
    } while (start < end && !is_over(w));
}

static void read_root(struct bs_tracer *w, uintptr_t start, uintptr_t end) {
    if (w->t->owners != NULL)
        read_for_owners(w, start, end, is_copied(w, SIZE_MAX));
    else
        read_whole(w, start, end, is_copied(w, SIZE_MAX));
}

/* Words of a block of `size` bytes. */
static void reread(struct bs_tracer *w, uintptr_t start, uintptr_t end, size_t size) {
    struct bs_range part[LARGE_PARTS];
    w->sums.read_bytes += end - start;
    if (size <= BS_SMALL_MAX) {
        read_whole(w, start, end, is_copied(w, size));
        return;
    }
    while (start < end && bs_load(&w->t->cancelled) == 0)
        for (size_t n = next_parts(w, &start, end, part), i = 0; i < n; i++)
            read_whole(w, part[i].start, part[i].end, is_copied(w, SIZE_MAX));
}
static void reread_block(struct bs_tracer *w, const struct bs_marked *block) {
    reread(w, block->base, block->base + block->size, block->size);
}

static void reread_span(struct bs_tracer *w, const struct bs_span *s) {
    for (size_t word = 0; word < bs_span_words(s); word++)
        for (uint64_t bits = w->t->taken(s, word); bits != 0; bits &= bits - 1) {
            struct bs_marked block = bs_slot_block(s, (uint32_t)(word * 64 + bs_ctz(bits)));
            reread_block(w, &block);
        }
}

/* Of the span, which may become another one, the words of marked blocks in [start, end). Where it ends. */
static uintptr_t reread_words(struct bs_tracer *w, const struct bs_span *s, uintptr_t start, uintptr_t end) {
    struct bs_shape shape;
    uint32_t slot;
    if (!bs_span_shape(s, &shape) || start - shape.base >= shape.bytes)
        return start;
    end = bs_min(end, shape.base + shape.bytes);
    for (uintptr_t p = start; p < end && bs_shape_slot(&shape, p, &slot);) {
        uintptr_t next = bs_min(shape.base + (slot + 1) * shape.size, end);
        if ((w->t->taken(s, slot / 64) >> (slot % 64) & 1) != 0)
            reread(w, p, next, shape.size);
        p = next;
    }
    return end;
}

static void reread_range(struct bs_tracer *w, uintptr_t start, uintptr_t end) {
    while (start < end && bs_load(&w->t->cancelled) == 0) {
        const struct bs_span *s = bs_span_of(start);
        uintptr_t next = s != NULL ? reread_words(w, s, start, end) : start;
        start = bs_max(next, bs_align_down(start, BS_PAGE_SIZE) + BS_PAGE_SIZE);
        bs_trace_drain(w);
    }
}

static void reread_region(struct bs_tracer *w, const struct bs_job *job) {
    if (w->t->rules.concurrent) { /* spans come and go */
        reread_range(w, job->range.start, job->range.end);
        return;
    }
    for (size_t page = 0; page < BS_REGION_PAGES; page++) {
        struct bs_span *s = bs_span_in_region(job->alloc, job->range.start, page);
        if (s != NULL)
            reread_span(w, s);
    }
}

void bs_trace_do(struct bs_tracer *w, const struct bs_job *job) {
    switch (job->kind) {
    case BS_JOB_ROOT:
        w->sums.root_bytes += job->range.end - job->range.start;
        read_root(w, bs_align_up(job->range.start, w->t->rules.unaligned ? 1 : sizeof(uintptr_t)), job->limit);
        break;
    case BS_JOB_RANGE:
        push(w, job->range.start, job->range.end);
        break;
    case BS_JOB_REGION:
        reread_region(w, job);
        break;
    case BS_JOB_NONE:
        break;
    }
}

void bs_trace_reread(struct bs_trace *t, uintptr_t start, uintptr_t end) {
    reread_range(&t->worker[0], start, end);
}

void bs_trace_flood(struct bs_trace *t, const struct bs_marked *block) {
    struct bs_tracer *w = &t->worker[0];
    reread_block(w, block);
    bs_trace_drain(w);
    reread_forgotten(w);
}
