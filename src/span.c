/* SPDX-License-Identifier: MIT */
/* span.c - see span.h. Takes no lock but that of the metadata pools. */
#include "span.h"

#include "counter.h"
#include "meta.h"
#include "reader.h"

/* Descriptors by the length of their bitmap: most classes have <= 64 slots and fit a cache line. */
static struct bs_meta_pool pools[] = {
    BS_META_POOL_INIT(sizeof(struct bs_span) + 1 * 8), BS_META_POOL_INIT(sizeof(struct bs_span) + 2 * 8),
    BS_META_POOL_INIT(sizeof(struct bs_span) + 4 * 8), BS_META_POOL_INIT(sizeof(struct bs_span) + 8 * 8),
    BS_META_POOL_INIT(sizeof(struct bs_span) + BS_SPAN_WORDS_MAX * 8),
};
_Static_assert(64 * BS_KIB / 4096 <= 16, "a small span's OS pages fit 16 bits");
_Static_assert(sizeof(struct bs_span) == 48, "up to two words of bits a span is one cache line");

static size_t holes, large_pages; /* [atomic] */

void bs_span_count_holes(size_t more, size_t fewer) {
    if (more != fewer)
        bs_add(&holes, more - fewer); /* wraps as it should */
}
size_t bs_span_holes(void) {
    return bs_load(&holes);
}

void bs_span_count_large(size_t more, size_t fewer) {
    if (more != fewer)
        bs_add(&large_pages, more - fewer); /* wraps as it should */
}
size_t bs_span_large_bytes(void) {
    return bs_load(&large_pages) * BS_PAGE_SIZE;
}

static struct bs_meta_pool *pool_of(unsigned nslots) {
    size_t i = 0;
    while (((unsigned)64 << i) < nslots)
        i++;
    return &pools[i];
}

static void set_up(struct bs_span *s, unsigned class, uintptr_t base, size_t npages,
                   unsigned nslots) {
    bs_list_init(&s->link);
    bs_store(&s->base, base); /* a reader with a stale page map entry may look: no torn values */
    bs_store_release(&s->npages, (uint32_t)npages); /* pairs with bs_span_shape: a large one's come with its base, */
    bs_store(&s->nslots, (uint16_t)nslots);
    s->nalloc = 0;
    bs_store_release(&s->class, (uint8_t)class); /* and so does a class */
    bs_store(&s->group, (uint8_t)0);
    bs_store(&s->flags, (uint8_t)0);
    bs_store(&s->request, (size_t)0); /* and so no holes */
    for (size_t w = 0; w < bs_span_words(s); w++)
        bs_store(&s->alloc[w], (uint64_t)0);
}

static struct bs_span *make(unsigned class, uintptr_t base, size_t npages, unsigned nslots) {
    struct bs_span *s = bs_meta_pool_alloc(pool_of(nslots));
    if (s == NULL)
        return NULL;
    set_up(s, class, base, npages, nslots);
    bs_count(spans_made, 1);
    return s;
}

/* State last, then the page map: a reader that finds the span there sees all of it. */
static void publish(struct bs_span *s, enum bs_span_state state) {
    bs_store_release(&s->state, (uint8_t)state);
    if (state == BS_SPAN_LARGE)
        bs_pagemap_set_large(s->base, s->npages, s);
    else
        bs_pagemap_set_small(s->base, s->npages, s, s->class);
}

struct bs_span *bs_span_make_small(unsigned class, uintptr_t base, bool fresh) {
    const struct bs_class_info *c = &bs_class_info[class];
    struct bs_span *s = make(class, base, c->npages, c->nslots);
    if (s == NULL)
        return NULL;
    if (fresh)
        bs_span_add_flags(s, BS_SPAN_FRESH);
    publish(s, BS_SPAN_SMALL);
    return s;
}

static void hold(struct bs_span *s, size_t request) {
    bs_store(&s->request, request);
    s->nalloc = 1;
    bs_store(&s->alloc[0], (uint64_t)1);
}

struct bs_span *bs_span_make_large(uintptr_t base, size_t npages, size_t request) {
    struct bs_span *s = make(0, base, npages, 1);
    if (s == NULL)
        return NULL;
    hold(s, request);
    bs_span_count_large(npages, 0);
    publish(s, BS_SPAN_LARGE);
    return s;
}

void bs_span_forget(struct bs_span *s) {
    BS_ASSERT(s->class == 0 && s->state == BS_SPAN_DEAD);
    bs_pagemap_forget_large(s->base, s->npages, s);
}

void bs_span_remake(struct bs_span *s, uintptr_t base, size_t npages, size_t request) {
    bs_span_count_large(npages, s->npages);
    set_up(s, 0, base, npages, 1);
    hold(s, request);
    publish(s, BS_SPAN_LARGE);
}

void bs_span_discard(struct bs_span *s) {
    bs_span_count_large(0, s->npages);
    bs_span_drop(s);
}

void bs_span_rest(struct bs_span *s) {
    BS_ASSERT(s->class == 0);
    bs_store_release(&s->state, (uint8_t)BS_SPAN_DEAD);
    bs_store(&s->request, (size_t)0); /* and so no holes */
    bs_store(&s->flags, (uint8_t)0);
    s->nalloc = 0;
    bs_store(&s->alloc[0], (uint64_t)0);
}

void bs_span_revive(struct bs_span *s, size_t request) {
    hold(s, request);
    bs_store_release(&s->state, (uint8_t)BS_SPAN_LARGE);
}

static void bury(struct bs_span *s) {
    BS_ASSERT(s->class == 0 || s->nalloc == 0);
    BS_ASSERT_FULL(bs_span_is_valid(s));
    if (s->class != 0) {
        bs_pagemap_clear_class(s->base, s->npages);
    } else {
        bs_pagemap_forget_large(s->base, s->npages, s);
        bs_span_count_large(0, s->npages);
    }
    bs_store_release(&s->state, (uint8_t)BS_SPAN_DEAD);
}

/* (Nobody reads a large one but by a copy.) */
void bs_span_bury(struct bs_span *const *spans, size_t n) {
    bool any_small = false;
    for (size_t i = 0; i < n; i++) {
        any_small |= spans[i]->class != 0;
        bury(spans[i]);
    }
    if (any_small)
        bs_reader_pass(spans, n);
}

void bs_span_drop(struct bs_span *s) {
    bs_meta_pool_free(pool_of(s->nslots), s);
    bs_count(spans_returned, 1);
}

void bs_span_retire(struct bs_span *s) {
    bs_span_bury(&s, 1);
    bs_span_drop(s);
}

struct bs_span *bs_span_of(uintptr_t p) {
    struct bs_span *s = bs_pagemap_span(p);
    return bs_span_holds(s, p) ? s : NULL;
}

uint64_t bs_span_claim(struct bs_span *s, size_t w, uint64_t of, unsigned max) {
    uint64_t avail = of & ~s->alloc[w] & bs_span_word_mask(s, w), mask = avail;
    unsigned n = bs_popcount(avail);
    if (n > max) {
        mask = 0;
        for (unsigned i = 0; i < max; i++) {
            mask |= avail & -avail;
            avail &= avail - 1;
        }
        n = max;
    }
    bs_store(&s->alloc[w], s->alloc[w] | mask);
    s->nalloc = (uint16_t)(s->nalloc + n);
    return mask;
}

unsigned bs_span_count_steps(void *const *blocks, unsigned n, intptr_t step) {
    uintptr_t last = (uintptr_t)blocks[0];
    unsigned i = 1;
    for (; i + 4 <= n; i += 4) {
        uintptr_t a = last + (uintptr_t)step, b = a + (uintptr_t)step;
        uintptr_t c = b + (uintptr_t)step, d = c + (uintptr_t)step;
        if (((a ^ (uintptr_t)blocks[i]) | (b ^ (uintptr_t)blocks[i + 1]) |
             (c ^ (uintptr_t)blocks[i + 2]) | (d ^ (uintptr_t)blocks[i + 3])) != 0)
            break;
        last = d;
    }
    for (; i < n && (uintptr_t)blocks[i] == last + (uintptr_t)step; i++)
        last += (uintptr_t)step;
    return i;
}

bool bs_span_is_allocated(const struct bs_span *s, uintptr_t p) {
    if (s->class == 0)
        return p == s->base;
    uint32_t slot;
    return bs_span_slot_at(s, p, &slot) && bs_bit_load(s->alloc, slot);
}

uint16_t bs_span_free_os_pages(const struct bs_span *s, size_t os_page) {
    const struct bs_class_info *c = bs_span_class(s);
    uintptr_t end = s->base + (size_t)s->npages * BS_PAGE_SIZE;
    uint16_t mask = 0;
    unsigned i = 0;
    for (uintptr_t p = bs_span_os_page_base(s, os_page); p + os_page <= end; p += os_page, i++) {
        size_t first = bs_class_slot(c, (uint32_t)(p - s->base));
        size_t last = bs_class_slot(c, (uint32_t)(p - s->base + os_page - 1));
        last = bs_min(last, (size_t)s->nslots - 1);
        if (first > last || bs_range_is_clear(s->alloc, first, last - first + 1))
            mask |= (uint16_t)(1u << i);
    }
    return mask;
}

struct bs_slots_out bs_shape_slots_out(const struct bs_shape *s, const uint64_t *bits, uintptr_t from, uintptr_t to) {
    struct bs_slots_out out = {0};
    uint32_t slot = bs_class_slot(&bs_class_info[s->class], (uint32_t)(from - s->base));
    for (; slot < s->nslots; slot++) {
        uintptr_t start = s->base + (uintptr_t)slot * s->size;
        if (start >= to)
            break;
        if (!bs_bit_test(bits, slot))
            continue;
        out.bytes += bs_min(start + s->size, to) - bs_max(start, from);
        out.slots++;
    }
    return out;
}

bool bs_span_is_valid(const struct bs_span *s) {
    size_t n = 0;
    for (size_t w = 0; w < bs_span_words(s); w++) {
        if ((s->alloc[w] & ~bs_span_word_mask(s, w)) != 0)
            return false;
        n += bs_popcount(s->alloc[w]);
    }
    return n == s->nalloc || s->class == 0;
}
