/* SPDX-License-Identifier: MIT */
/*
 * cycle_unit.h - what the tests of sweeps share: slots claimed and released one by one, without a
 * thread cache, so that the state of each is known; marks set by hand; and what was reported.
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
static inline bool mark(void *p) {
    struct bs_marked block;
    return bs_mark((uintptr_t)p, &block);
}

static inline void begin(void) {
    ck_assert(bs_cycle_prepare());
    ck_assert(bs_cycle_begin());
}

/* What was reported, by slot. */
#define REPORTS_MAX 40000
static uintptr_t reported[REPORTS_MAX];
static unsigned nreported;

static inline void note(void *ctx, const struct bs_found *found) {
    unsigned n = 0;
    require(ctx == &nreported, "the reporter's context");
    for (unsigned i = 0; i < 64 * BS_MARKS_PLANES && n < found->reported; i++)
        if (bs_bit_test(found->bits, i)) {
            require(nreported < REPORTS_MAX, "too many reports");
            reported[nreported++] = found->base + i * found->size;
            n++;
        }
    require(n == found->reported, "%u bits for %u slots", n, found->reported);
}
static inline void start(enum bs_sweep_mode mode) {
    nreported = 0;
    bs_cycle_start(mode, note, &nreported);
}
static inline bool was_reported(void *p) {
    for (unsigned i = 0; i < nreported; i++)
        if (reported[i] == (uintptr_t)p)
            return true;
    return false;
}
static inline void check_complete(void) {
    ck_assert(!bs_cycle_is_under_way());
    ck_assert(bs_cycle_is_complete());
    ck_assert(bs_pageheap_is_valid());
}

#endif
