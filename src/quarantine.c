/* SPDX-License-Identifier: MIT */
/* quarantine.c - see quarantine.h. */
#include "quarantine.h"

#include "bits.h"
#include "bygone.h"
#include "central.h"
#include "counter.h"
#include "freed.h"
#include "large.h"
#include "marks.h"
#include "os.h"
#include "out.h"
#include "pageheap.h"
#include "sampler.h"
#include "waiting.h"

#include <string.h>

size_t bs_quarantine_fresh, bs_quarantine_aside;
static void (*told)(size_t fresh_bytes); /* [init] */

/* Bytes of this thread that nobody was told of, and how many may be: no more than it has told of, so that
 * of what threads have freed that are gone by now half is known at least. The helper, which has no thread
 * block, frees nothing. */
static __thread size_t untold, untold_max;

void bs_quarantine_set_hook(void (*hook)(size_t fresh_bytes)) {
    told = hook;
}

static BS_NOINLINE bool tell(void) {
    size_t fresh = bs_add(&bs_quarantine_fresh, untold) + untold;
    untold_max = bs_min(untold_max + untold, BS_QUARANTINE_TELL_BYTES);
    untold = 0;
    if (told != NULL)
        told(fresh);
    return true;
}

/* True: that was told. */
static inline bool count(size_t bytes) {
    size_t sum = untold + bytes;
    untold = sum;
    if (BS_LIKELY(sum < untold_max))
        return false;
    return tell();
}

/* --- one block ---------------------------------------------------------------------------------- */

static BS_COLD _Noreturn void crime(const char *what, const void *p, size_t size, unsigned class) {
    if (class == 0)
        bs_fatal("%s of %p, a block of %zu bytes that was freed", what, p, size);
    bs_fatal("%s of %p (size class %zu bytes)", what, p, size);
}

/* Its byte (freed.h); NULL: no memory for it. */
static inline uint8_t *byte_at(struct bs_freed *table, uintptr_t base, uint32_t slot) {
    return &bs_freed_bytes(table, base, slot / 64)[slot % 64];
}
static BS_NOINLINE uint8_t *make_byte(uintptr_t base, uint32_t slot) {
    /* that of the bytes last: where it is, a search that begins at this moment finds the others */
    if (!bs_marks_make(base, BS_SIDE_MARK) || !bs_marks_make(base, BS_SIDE_HELD) || !bs_freed_make(base)) {
        bs_count(quarantine_lost, 1); /* nobody gets the block any more: that is safe */
        return NULL;
    }
    return byte_at(bs_freed_table(base), base, slot);
}
static inline uint8_t *find_byte(uintptr_t base, uint32_t slot) {
    struct bs_freed *table = bs_freed_table(base);
    if (BS_UNLIKELY(table == NULL))
        return make_byte(base, slot);
    return byte_at(table, base, slot);
}

static inline bool is_in(uintptr_t base, uint32_t slot) {
    return bs_load_acquire(byte_at(bs_freed_table(base), base, slot)) != 0;
}

/* It is in quarantine from now on. release: pairs with bs_quarantine_turn, and with who gets the slot then:
 * it was zeroed before. (Of two threads that free it at the same moment both may come here.) */
static inline void put(uint8_t *byte) {
    bs_tsan_release((void *)((uintptr_t)byte & ~(uintptr_t)7)); /* for bs_freed_bits, which reads eight at once */
    bs_store_release(byte, (uint8_t)1);
}

#define ZERO_INLINE_BYTES 256

/* Sizes are multiples of 8. */
static inline void zero(void *p, size_t size) {
    typedef uint64_t __attribute__((may_alias)) word;
    typedef uint64_t __attribute__((vector_size(16), may_alias, aligned(8))) pair;
    char *q = p;
    for (; size >= sizeof(pair); size -= sizeof(pair), q += sizeof(pair))
        *(pair *)(void *)q = (pair){0, 0};
    if (size != 0)
        *(word *)(void *)q = 0;
}

/* Why it is no block that may be freed. */
static BS_COLD _Noreturn void no_block(const struct bs_span *s, const void *p, unsigned class) {
    uint32_t slot;
    bool inside = s != NULL && s->class == class && !bs_span_slot_at(s, (uintptr_t)p, &slot);
    crime(inside ? "invalid free" : "double free", p, bs_class_info[class].size, class);
}

/* The arena has had no block here. */
static BS_NOINLINE bool small_in_new_arena(void *p, unsigned class, uintptr_t base, uint32_t slot) {
    return make_byte(base, slot) != NULL && bs_quarantine_small(p, class);
}

/* The rest of bs_quarantine_small, for blocks that memset clears faster. */
static BS_NOINLINE bool small_of_some_lines(void *p, uint8_t *byte, size_t size) {
    memset(p, 0, size);
    put(byte);
    return count(size);
}

/* (What needs a frame is called last: most frees need none.) */
bool bs_quarantine_small(void *p, unsigned class) {
    struct bs_span *s = bs_pagemap_entry((uintptr_t)p); /* a page of small blocks has no other */
    uint32_t slot;
    if (BS_UNLIKELY(s == NULL || s->class != class || !bs_span_slot_at(s, (uintptr_t)p, &slot) ||
                    !bs_bit_load(s->alloc, slot)))
        no_block(s, p, class);
    size_t size = bs_class_info[class].size;
    struct bs_freed *table = bs_freed_table(s->base); /* p may lie in the next arena */
    if (BS_UNLIKELY(table == NULL))
        return small_in_new_arena(p, class, s->base, slot);
    uint8_t *byte = byte_at(table, s->base, slot);
    if (BS_UNLIKELY(bs_load(byte) != 0))
        crime("double free", p, size, class);
    if (size > ZERO_INLINE_BYTES)
        return small_of_some_lines(p, byte, size);
    zero(p, size);
    put(byte);
    return count(size);
}

/* What the OS may not be given is cleared where there is something. */
static void clear_populated(struct bs_span *s) {
    uintptr_t p = s->base, end = p + bs_large_usable(s);
    struct bs_range part[32];
    for (int fd = bs_os_pages_open(); p < end || (fd >= 0 && (bs_os_close(fd), false));)
        for (size_t n = bs_os_populated(fd, p, end, 0, part, BS_ARRAY_LEN(part), &p), i = 0; i < n; i++)
            memset((void *)part[i].start, 0, part[i].end - part[i].start);
}

/* A block that is cleared in place, since its next page faults would cost more; where nothing is, nothing is
 * written. */
static void clear_resident(struct bs_span *s) {
    unsigned char vec[64] = {0};
    size_t os_page = bs_os_page_size(), bytes = bs_large_usable(s);
    bool all = true;
    for (size_t at = 0, n; at < bytes; at += n * os_page) {
        n = bs_min(sizeof vec, (bytes - at) / os_page);
        bool known = n != 0 && bs_os_residency((const void *)(s->base + at), n * os_page, vec) == 0;
        n = n != 0 ? n : 1; /* an OS page longer than the block */
        for (size_t i = 0; i < n; i++)
            if (!known || (vec[i] & 1) != 0)
                memset((void *)(s->base + at + i * os_page), 0, bs_min(os_page, bytes - at));
            else
                all = false;
    }
    if (!all && bs_os_has_swap()) /* it looks like a page that was never used */
        clear_populated(s);
}

static bool keeps_memory(const struct bs_span *s) {
    return bs_large_usable(s) <= BS_QUARANTINE_CLEAR_BYTES;
}

/* What does not count of it. */
static size_t aside(const struct bs_span *s) {
    size_t bytes = bs_large_usable(s);
    return keeps_memory(s) ? 0 : bytes - bytes / BS_QUARANTINE_LARGE_PART;
}

void bs_quarantine_large(struct bs_span *s) {
    void *p = (void *)s->base;
    uint8_t *byte = find_byte(s->base, 0);
    if (BS_UNLIKELY(byte == NULL))
        return;
    if (BS_UNLIKELY(bs_load(byte) != 0))
        crime("double free", p, s->request, 0);
    size_t bytes = bs_large_usable(s);
    if (keeps_memory(s)) {
        clear_resident(s);
    } else {
        (void)bs_add(&bs_quarantine_aside, aside(s));
        bytes -= aside(s);
        if (!bs_large_empty(s))
            clear_populated(s);
    }
    put(byte);
    (void)count(bytes);
}

void *bs_quarantine_resize(struct bs_span *s, size_t size) {
    bool left;
    const void *old = (const void *)s->base;
    void *p = bs_large_resize_keeping(s, size, &left);
    if (left)
        bs_quarantine_large(s);
    else if (bs_sample_is_on())
        bs_bygone_forget(old); /* it was to be expected that it goes */
    return p;
}

void bs_quarantine_check(const void *p, const char *verb) {
    struct bs_span *s = p != NULL ? bs_span_of((uintptr_t)p) : NULL;
    uint32_t slot;
    if (s == NULL || !bs_slot_of(s, (uintptr_t)p, &slot) || bs_freed_table(s->base) == NULL ||
        !is_in(s->base, slot))
        return;
    bs_fatal("use after free: %s of %p, a block of %zu bytes", verb, p,
             s->class != 0 ? (size_t)bs_span_class(s)->size : s->request);
}

/* --- all of them -------------------------------------------------------------------------------- */

struct visit {
    bool failed;
    struct bs_quarantine_sums *held;
    struct bs_quarantine_released *released;
    bs_quarantine_visitor *visit;
    void *ctx;
    struct bs_span *empty[BS_EMPTY_BATCH]; /* of one class, on their way to the waiting list */
    unsigned nempty, class;
};

/* Calls fn for each span that begins in the region and may have blocks here, with where it began. */
static void each_span(struct visit *v, uintptr_t base, const uint64_t *alloc,
                      void (*fn)(struct visit *, struct bs_span *, uintptr_t)) {
    if (bs_freed_table(base) == NULL)
        return;
    for (size_t page = 0; page < BS_REGION_PAGES; page++) {
        struct bs_span *s = bs_span_in_region(alloc, base, page);
        if (s != NULL)
            fn(v, s, base + page * BS_PAGE_SIZE);
    }
}

static bool make_marks(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    struct visit *v = ctx;
    (void)alloc, (void)released;
    if (bs_freed_table(base) == NULL)
        return true;
    if (!bs_marks_make(base, BS_SIDE_MARK))
        v->failed = true;
    (void)bs_marks_make(base, BS_SIDE_KEPT); /* without: nothing is kept again */
    return !v->failed;
}

/* A span that changes at this moment has neither kind of bit. (It may be in another arena by now, which
 * has no tables.) */
static void turn_span(struct visit *v, struct bs_span *s, uintptr_t base) {
    unsigned class = bs_load(&s->class);
    size_t n = 0, size = class != 0 ? bs_class_info[class].size : bs_load(&s->npages) * BS_PAGE_SIZE;
    for (size_t w = 0; w < bs_span_words(s) && w < BS_MARKS_PLANES; w++) {
        uint64_t *held = bs_marks_word(base, BS_SIDE_HELD, w), all = bs_freed_bits(base, w);
        if (all != bs_load(held))
            bs_store(held, all);
        n += bs_popcount(all);
    }
    v->held->blocks += n;
    v->held->bytes += n * size;
}
static bool turn_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                        const uint64_t *released) {
    (void)released;
    each_span(ctx, base, alloc, turn_span);
    return true;
}

bool bs_quarantine_turn(struct bs_quarantine_sums *sums) {
    struct visit v = {.held = sums};
    *sums = (struct bs_quarantine_sums){0, 0};
    bs_pageheap_each_region(make_marks, &v);
    if (v.failed)
        return false;
    bs_store(&bs_quarantine_fresh, (size_t)0);
    bs_pageheap_each_region(turn_region, &v);
    return true;
}

static void give_empty(struct visit *v) {
    if (v->nempty != 0)
        bs_waiting_add(v->class, v->empty, v->nempty);
    v->nempty = 0;
}

/* It has come through a search, and may stay for long: without its memory, once. */
static void give_kept(struct bs_span *s) {
    if (keeps_memory(s) && (bs_marks_bits(s->base, BS_SIDE_KEPT, 0) & 1) == 0)
        (void)bs_large_empty(s);
}

static void release_large(struct visit *v, struct bs_span *s, struct bs_found *found) {
    bool marked = bs_marks_bits(s->base, BS_SIDE_MARK, 0) != 0;
    uint64_t *held = bs_marks_word(s->base, BS_SIDE_HELD, 0);
    *found = (struct bs_found){.base = s->base, .size = bs_large_usable(s), .reported = marked};
    found->bits[0] = marked;
    found->released = !marked;
    if (marked) {
        bs_store(bs_marks_word(s->base, BS_SIDE_MARK, 0), (uint64_t)0);
        v->released->kept_aside += aside(s);
        give_kept(s);
        return;
    }
    bs_store(held, (uint64_t)0);
    (void)bs_add(&bs_quarantine_aside, -aside(s));
    v->released->large_bytes += found->size;
    /* a use after free may have brought memory back: given once more, it is known to be zero */
    bs_large_release_held(s, !keeps_memory(s) && bs_large_empty(s));
}

static void release_small(struct visit *v, struct bs_span *s, struct bs_found *found) {
    unsigned class = s->class;
    if (!bs_central_release_held(s, found))
        return;
    if (v->class != class || v->nempty == BS_EMPTY_BATCH)
        give_empty(v);
    v->class = class;
    v->empty[v->nempty++] = s;
}

/* What is kept in word w; a bit for those that were kept the last time, too. */
static uint64_t turn_kept(const struct bs_found *found, size_t w) {
    uint64_t *kept = bs_marks_word(found->base, BS_SIDE_KEPT, w);
    uint64_t before = kept != NULL ? *kept : 0;
    if (before != found->bits[w] && kept != NULL)
        *kept = found->bits[w];
    return before & found->bits[w];
}

static void tell_kept(const struct visit *v, const struct bs_found *found, size_t nwords) {
    for (size_t w = 0; w < nwords; w++) {
        uint64_t again = turn_kept(found, w);
        v->released->again.blocks += bs_popcount(again);
        v->released->again.bytes += bs_popcount(again) * found->size;
        for (uint64_t bits = v->visit != NULL ? found->bits[w] : 0; bits != 0; bits &= bits - 1) {
            unsigned bit = bs_ctz(bits);
            v->visit(v->ctx, found->base + (w * 64 + bit) * found->size, found->size,
                     (again >> bit & 1) != 0);
        }
    }
}

static void release_span(struct visit *v, struct bs_span *s, uintptr_t base) {
    struct bs_found found;
    size_t nwords = bs_min(bs_span_words(s), BS_MARKS_PLANES);
    if (!bs_has_held_slot(s, base))
        return;
    memset(found.bits, 0, sizeof found.bits);
    if (s->class == 0)
        release_large(v, s, &found);
    else
        release_small(v, s, &found);
    v->released->gone.blocks += found.released;
    v->released->gone.bytes += found.released * found.size;
    v->released->kept.blocks += found.reported;
    v->released->kept.bytes += found.reported * found.size;
    tell_kept(v, &found, nwords);
}
static bool release_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                           const uint64_t *released) {
    (void)released;
    each_span(ctx, base, alloc, release_span);
    return true;
}

void bs_quarantine_release(struct bs_quarantine_released *r, bs_quarantine_visitor *visit, void *ctx) {
    struct visit v = {.released = r, .visit = visit, .ctx = ctx};
    *r = (struct bs_quarantine_released){.large_bytes = 0};
    bs_pageheap_each_region(release_region, &v);
    give_empty(&v);
}
