/* SPDX-License-Identifier: MIT */
/* referrers.c - see referrers.h. */
#include "referrers.h"

#include "bits.h"
#include "bounds.h"
#include "pageheap.h"
#include "sample.h"
#include "settle.h"
#include "world.h"

#include <string.h>

#define PARTS 32
/* The clock is looked at after so many bytes, or pages of spans that take as long. */
#define PIECE (256 * BS_KIB)

/* --- the blocks --------------------------------------------------------------------------------- */

static size_t bit_of(uintptr_t p) {
    return (p >> BS_PAGE_SHIFT) % BS_REFERRERS_FILTER;
}

/* With the byte just past the end. */
static void filter_block(struct bs_referrers *r, const struct bs_wanted *w) {
    size_t pages = ((w->base + w->size) >> BS_PAGE_SHIFT) - (w->base >> BS_PAGE_SHIFT) + 1;
    for (size_t i = 0; i < bs_min(pages, BS_REFERRERS_FILTER); i++) {
        size_t bit = bit_of(w->base + i * BS_PAGE_SIZE);
        r->filter[bit / 64] |= (uint64_t)1 << (bit % 64);
    }
}

/* Shell's: there are some dozens, and no memory to sort in. */
static void sort(struct bs_wanted *want, size_t n) {
    for (size_t gap = n / 2; gap != 0; gap /= 2)
        for (size_t i = gap; i < n; i++) {
            struct bs_wanted x = want[i];
            size_t j = i;
            for (; j >= gap && want[j - gap].base > x.base; j -= gap)
                want[j] = want[j - gap];
            want[j] = x;
        }
}

void bs_referrers_prepare(struct bs_referrers *r) {
    memset(r->filter, 0, sizeof r->filter);
    r->cut = false;
    r->left = r->n;
    if (r->n == 0)
        return;
    sort(r->want, r->n);
    for (size_t i = 0; i < r->n; i++)
        filter_block(r, &r->want[i]);
    const struct bs_wanted *last = &r->want[r->n - 1];
    r->low = r->want[0].base;
    r->reach = last->base + last->size - r->low;
}

/* The last block that begins at p or before; NULL: none does. */
static struct bs_wanted *block_before(const struct bs_referrers *r, uintptr_t p) {
    size_t low = 0, high = r->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->want[middle].base <= p)
            low = middle + 1;
        else
            high = middle;
    }
    return low != 0 ? (struct bs_wanted *)&r->want[low - 1] : NULL;
}

const struct bs_wanted *bs_referrers_of(const struct bs_referrers *r, uintptr_t base) {
    const struct bs_wanted *w = block_before(r, base);
    return w != NULL && w->base == base ? w : NULL;
}

/* --- words -------------------------------------------------------------------------------------- */

/* Memory that is read: at `bytes`, which is a copy of what lies at `from`, or that itself. */
struct source {
    enum bs_referrer_kind kind;
    uintptr_t from, bytes;
    uintptr_t block; /* the first of blocks side by side; 0: it is not the heap's */
    size_t block_size;
};

static void note(struct bs_referrers *r, struct bs_wanted *w, const struct source *s, uintptr_t at,
                 uintptr_t value) {
    struct bs_sampled sampled;
    if (w->n == BS_ARRAY_LEN(w->by))
        return;
    for (unsigned i = 0; i < w->n; i++)
        if (w->by[i].at == at && at != 0) /* registers lie in a stack that is read whole */
            return;
    struct bs_referrer *by = &w->by[w->n++];
    *by = (struct bs_referrer){.kind = s->kind, .at = at, .value = value};
    r->left -= w->n == BS_ARRAY_LEN(w->by);
    if (s->block == 0)
        return;
    by->block = at - (at - s->block) % s->block_size;
    by->block_size = s->block_size;
    if (bs_sample_find((void *)by->block, &sampled))
        by->origin = sampled.stack;
}

/* A word just past a block's end that leads to another one is that one's (trace.h): the search holds both for it,
 * and it says nothing of this one. */
static bool leads_elsewhere(uintptr_t value) {
    const struct bs_span *s = bs_span_of(value);
    struct bs_shape shape;
    uint32_t slot;
    return s != NULL && bs_span_shape(s, &shape) && bs_shape_slot(&shape, value, &slot) && bs_bit_load(s->alloc, slot);
}

static BS_NOINLINE void look(struct bs_referrers *r, const struct source *s, uintptr_t p,
                             uintptr_t value) {
    uintptr_t at = s->kind == BS_REFERRER_KERNEL ? 0 : p - s->bytes + s->from;
    struct bs_wanted *w = block_before(r, value);
    if (w != NULL &&
        (value - w->base < w->size || (value - w->base == w->size && !leads_elsewhere(value))))
        note(r, w, s, at, value);
}

BS_UNCHECKED static void read_words(struct bs_referrers *r, const struct source *s, size_t bytes,
                                    size_t step) {
    const uintptr_t low = r->low, reach = r->reach, end = s->bytes + bytes;
    for (uintptr_t p = bs_align_up(s->bytes, step); p < end && end - p >= sizeof(uintptr_t);
         p += step) {
        uintptr_t x = *(const bs_any_word *)p;
        size_t bit = bit_of(x);
        if (BS_UNLIKELY(x - low <= reach) && (r->filter[bit / 64] >> (bit % 64) & 1) != 0)
            look(r, s, p, x);
    }
}

/* The next piece of `bytes` is to be read. */
static bool goes_on(struct bs_referrers *r, size_t bytes) {
    r->unclocked += bytes;
    if (r->unclocked >= PIECE) {
        r->unclocked = 0;
        r->cut |= bs_os_thread_cpu_ns() >= r->deadline_ns;
    }
    return r->left != 0 && !r->cut;
}
static void set_deadline(struct bs_referrers *r, uint64_t ns) {
    r->deadline_ns = bs_os_thread_cpu_ns() + ns;
    r->unclocked = 0;
}

/* --- roots, while all stand ---------------------------------------------------------------------- */

static void read_root(struct bs_referrers *r, const struct bs_range *range, unsigned flags) {
    size_t step = (flags & BS_ROOT_CODE) != 0 ? 1 : sizeof(uintptr_t);
    if ((flags & BS_ROOT_HEAP) != 0) /* its blocks come later */
        return;
    for (uintptr_t p = range->start; p < range->end && goes_on(r, bs_min(range->end - p, PIECE));
         p += PIECE) {
        struct source s = {(flags & BS_ROOT_WORDS) != 0 ? BS_REFERRER_KERNEL : BS_REFERRER_MEMORY,
                           p, p, 0, 0};
        read_words(r, &s, bs_min(range->end - p, PIECE), step);
    }
}

/* The same of what may go away (scan_words.c): it is copied. */
static void read_file(struct bs_referrers *r, const struct bs_range *range, unsigned flags) {
    size_t step = (flags & BS_ROOT_CODE) != 0 ? 1 : sizeof(uintptr_t);
    for (uintptr_t p = range->start; p < range->end && goes_on(r, bs_min(range->end - p, sizeof r->copy));) {
        long got = bs_os_read_memory(p, r->copy, bs_min(range->end - p, sizeof r->copy));
        size_t n = got > 0 ? (size_t)got : 0;
        const struct source s = {BS_REFERRER_MEMORY, p, (uintptr_t)r->copy, 0, 0};
        read_words(r, &s, n, step);
        p = n != 0 ? p + n : bs_align_up(p + 1, bs_os_page_size());
    }
}

/* Whose is it? */
static void name_threads(struct bs_referrers *r, enum bs_referrer_kind kind, int tid,
                         uintptr_t start, uintptr_t end) {
    for (size_t i = 0; i < r->n; i++)
        for (unsigned k = 0; k < r->want[i].n; k++) {
            struct bs_referrer *by = &r->want[i].by[k];
            if (by->kind != BS_REFERRER_MEMORY || by->at < start || by->at >= end)
                continue;
            by->kind = kind;
            by->tid = tid;
        }
}
static void name_registers(void *ctx, const struct bs_world_thread *t) {
    name_threads(ctx, BS_REFERRER_REGISTER, t->tid, t->regs, t->regs_end);
}
static void name_stacks(struct bs_referrers *r) {
    for (size_t i = 0; i < r->n; i++)
        for (unsigned k = 0; k < r->want[i].n; k++) {
            struct bs_referrer *by = &r->want[i].by[k];
            int tid = by->kind == BS_REFERRER_MEMORY ? bs_bounds_thread_at(by->at) : 0;
            if (tid == 0)
                continue;
            by->kind = BS_REFERRER_STACK;
            by->tid = tid;
        }
}

/* Registers first: they lie on stacks, of which the handler's part may be read too. */
static void read_registers(void *ctx, const struct bs_world_thread *t) {
    const struct bs_range range = {t->regs, t->regs_end};
    read_root(ctx, &range, 0);
}

void bs_referrers_roots(struct bs_referrers *r, const struct bs_roots *roots) {
    if (r->n == 0)
        return;
    set_deadline(r, BS_REFERRERS_ROOTS_NS);
    bs_world_each(read_registers, r);
    for (size_t i = 0; i < roots->n; i++) {
        const struct bs_range *range = &roots->range[i];
        unsigned flags = roots->flags[i];
        if ((flags & BS_ROOT_FILE) == 0)
            read_root(r, range, flags);
        else if ((flags & BS_ROOT_WORDS) == 0)
            read_file(r, range->start < range->end ? range : &roots->whole[i], flags);
    }
    bs_world_each(name_registers, r);
    name_stacks(r);
}

/* --- the heap, while all run --------------------------------------------------------------------- */

/* Blocks side by side, or a part of one. */
static void read_blocks(struct bs_referrers *r, uintptr_t start, uintptr_t end, uintptr_t block,
                        size_t size) {
    for (uintptr_t p = start; p < end && goes_on(r, bs_min(end - p, sizeof r->copy));) {
        long got = bs_os_read_memory(p, r->copy, bs_min(end - p, sizeof r->copy));
        size_t n = got > 0 ? (size_t)got : 0;
        struct source s = {BS_REFERRER_HEAP, p, (uintptr_t)r->copy, block, size};
        read_words(r, &s, n, sizeof(uintptr_t));
        p = n != 0 ? p + n : bs_align_up(p + 1, bs_os_page_size());
    }
}

/* (Those that are freed meanwhile are zeros.) */
static uint64_t live_slots(const struct bs_span *s, uintptr_t base, size_t w) {
    return bs_load(&s->alloc[w]) & ~bs_marks_bits(base, BS_SIDE_HELD, w);
}

/* The span may be another one at any moment: what it was found to be keeps reading within the heap. */
static void read_small(struct bs_referrers *r, const struct bs_span *s, const struct bs_shape *shape) {
    for (size_t word = 0; word * 64 < shape->nslots; word++) {
        uint64_t live =
            live_slots(s, shape->base, word) & bs_low_bits((unsigned)bs_min(64, shape->nslots - word * 64));
        while (live != 0) {
            unsigned n, first = bs_take_run(&live, &n);
            uintptr_t start = shape->base + (word * 64 + first) * shape->size;
            read_blocks(r, start, start + n * shape->size, start, shape->size);
        }
    }
}

/* The part of a large block in this region; where it ends. */
static uintptr_t read_large(struct bs_referrers *r, const struct bs_span *s, const struct bs_shape *shape, int fd,
                            uintptr_t p, uintptr_t end) {
    struct bs_range part[PARTS];
    uintptr_t stop = bs_min(end, shape->base + shape->bytes);
    if (live_slots(s, shape->base, 0) == 0)
        return stop;
    while (p < stop && goes_on(r, 0))
        for (size_t n = bs_os_populated(fd, p, stop, 0, part, PARTS, &p), i = 0; i < n; i++)
            read_blocks(r, part[i].start, part[i].end, shape->base, shape->size);
    return stop;
}

struct region {
    uintptr_t after, base; /* base 0: none */
    uint64_t alloc[BS_REGION_WORDS];
};
static bool take_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                        const uint64_t *released) {
    struct region *region = ctx;
    (void)released;
    if (base <= region->after)
        return true;
    region->base = region->after = base;
    memcpy(region->alloc, alloc, sizeof region->alloc);
    return false;
}

static void read_region(struct bs_referrers *r, const struct region *region, int fd) {
    for (uintptr_t p = region->base, end = p + BS_REGION_SIZE;
         p < end && goes_on(r, BS_PAGE_SIZE / 8);) {
        bool used = bs_bit_test(region->alloc, (p - region->base) / BS_PAGE_SIZE);
        const struct bs_span *s = used ? bs_span_of(p) : NULL;
        struct bs_shape shape;
        bool known = s != NULL && bs_span_shape(s, &shape) && p - shape.base < shape.bytes;
        uintptr_t next = p + BS_PAGE_SIZE;
        if (known && shape.class == 0)
            next = bs_max(next, read_large(r, s, &shape, fd, p, end));
        else if (known && shape.base == p)
            read_small(r, s, &shape);
        p = next;
    }
}

void bs_referrers_heap(struct bs_referrers *r) {
    struct region region = {.after = 0};
    if (r->n == 0 || r->left == 0)
        return;
    int fd = bs_os_pages_open();
    set_deadline(r, BS_REFERRERS_HEAP_NS);
    do {
        region.base = 0;
        bs_pageheap_each_region_from(region.after, take_region, &region);
        if (region.base != 0)
            read_region(r, &region, fd);
    } while (region.base != 0 && goes_on(r, 0));
    if (fd >= 0)
        bs_os_close(fd);
}
