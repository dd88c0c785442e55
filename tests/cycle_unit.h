/* SPDX-License-Identifier: MIT */
/*
 * cycle_unit.h - what the tests of marks share: slots claimed and released one by one, without a
 * thread cache, so that the state of each is known; slots that are held or marked by hand; and what is unmarked.
 *
 * It is NOT for tests with threads.
 */
#ifndef BS_TESTS_CYCLE_UNIT_H
#define BS_TESTS_CYCLE_UNIT_H

#include "central.h"
#include "cycle.h"
#include "unit.h"

static inline void *claim_one(unsigned class) {
    struct bs_refill r = {.blocks = NULL, .max_blocks = 0};
    ck_assert(bs_central_refill(class, 1, &r));
    ck_assert_uint_eq(bs_popcount(r.run_mask), 1);
    return r.run_base + (size_t)bs_ctz(r.run_mask) * bs_class_info[class].size;
}
static inline void release_one(unsigned class, void *p) {
    bs_central_release(class, &p, 1);
}
static inline void claim_many(unsigned class, void **block, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        block[i] = claim_one(class);
}
static inline struct bs_span *span_of(void *p) {
    return bs_span_of((uintptr_t)p);
}
static inline bool is_out(void *p) {
    struct bs_span *s = span_of(p);
    return s != NULL && s->class != 0 && bs_span_is_allocated(s, (uintptr_t)p);
}
static inline bool set_bit(enum bs_side side, const void *p) {
    const struct bs_span *s = bs_span_of((uintptr_t)p);
    uint32_t slot;
    return s != NULL && bs_slot_of(s, (uintptr_t)p, &slot) && bs_bit_test(s->alloc, slot) &&
           bs_marks_set(s->base, side, slot);
}
static inline bool mark(const void *p) {
    return set_bit(BS_SIDE_MARK, p);
}
/* As a turn of the quarantine does with what was freed into it (quarantine.h). */
static inline bool hold(const void *p) {
    ck_assert(bs_marks_make((uintptr_t)p, BS_SIDE_HELD));
    return set_bit(BS_SIDE_HELD, p);
}

static inline void begin(void) {
    ck_assert(bs_cycle_prepare());
    ck_assert(bs_cycle_begin());
}

static inline bool count_unmarked_in(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    (void)released;
    for (size_t page = 0; page < BS_REGION_PAGES; page++) {
        const struct bs_span *s = bs_span_in_region(alloc, base, page);
        for (size_t w = 0; s != NULL && w < bs_span_words(s); w++)
            *(size_t *)ctx += bs_popcount(s->alloc[w] & ~(bs_marks_bits(s->base, BS_SIDE_MARK, w) |
                                                          bs_marks_bits(s->base, BS_SIDE_IDLE, w) |
                                                          bs_marks_bits(s->base, BS_SIDE_HELD, w)));
    }
    return true;
}
/* Slots of the whole heap that are out, neither idle nor held, and that no mark was set for. */
static inline size_t count_unmarked(void) {
    size_t n = 0;
    bs_pageheap_each_region(count_unmarked_in, &n);
    return n;
}

#endif
