/* SPDX-License-Identifier: MIT */
/*
 * check_sweep_modes.c - what the bits of a slot mean: for each mode and each combination of alloc,
 * idle, held and mark bits what a sweep releases and reports; the marker's way to a slot from any
 * word; the tables' coming and going; and what must end in SIGABRT.
 *
 * One thread and no thread cache: the state of each slot is known.
 */
#include "counter.h"
#include "cycle_unit.h"
#include "large.h"
#include "meta.h"
#include "os.h"

/* --- modes ------------------------------------------------------------------------------------ */

enum { ALLOC = 1, IDLE = 2, HELD = 4, MARK = 8 };
static const enum bs_sweep_mode modes[] = {BS_SWEEP_PLAIN, BS_SWEEP_LEAKS, BS_SWEEP_COLLECT,
                                           BS_SWEEP_QUARANTINE};

static bool expect_release(enum bs_sweep_mode mode, unsigned bits) {
    return (mode == BS_SWEEP_COLLECT && bits == ALLOC) ||
           (mode == BS_SWEEP_QUARANTINE && bits == (ALLOC | HELD));
}
static bool expect_report(enum bs_sweep_mode mode, unsigned bits) {
    return ((mode == BS_SWEEP_LEAKS || mode == BS_SWEEP_COLLECT) && bits == ALLOC) ||
           (mode == BS_SWEEP_QUARANTINE && bits == (ALLOC | HELD | MARK));
}
/* Slot i's bits: every combination that there is, at changing places of the words. */
static unsigned bits_of(unsigned i) {
    unsigned bits = (i + i / 13) % 16;
    return (bits & ALLOC) != 0 ? bits : 0;
}

START_TEST(each_mode_releases_and_reports) {
    enum bs_sweep_mode mode = modes[_i];
    static const size_t sizes[] = {8, 64, 96, 1024, 32768};
    static void *block[5][4096];
    for (size_t k = 0; k < 5; k++) {
        unsigned class = bs_class_of(sizes[k]), n = bs_class_info[class].nslots * 3u;
        claim_many(class, block[k], n);
        for (unsigned i = 0; i < n; i++) {
            ck_assert(bs_marks_make((uintptr_t)block[k][i], BS_SIDE_HELD));
            if ((bits_of(i) & HELD) != 0)
                require(bs_central_hold(span_of(block[k][i]), (uintptr_t)block[k][i]) == BS_FREED,
                        "slot %u cannot be held", i);
        }
    }
    begin();
    for (size_t k = 0; k < 5; k++)
        for (unsigned i = 0; i < bs_class_info[bs_class_of(sizes[k])].nslots * 3u; i++) {
            if ((bits_of(i) & MARK) != 0)
                require(mark(block[k][i]), "slot %u is not marked", i);
            if ((bits_of(i) & IDLE) != 0)
                bs_settle_spare((uintptr_t)block[k][i]);
            if (bits_of(i) == 0) /* freed after the scan; its mark goes with it */
                require(i % 2 == 0 || mark(block[k][i]), "slot %u is not marked", i);
        }
    start(mode);
    for (size_t k = 0; k < 5; k++)
        for (unsigned i = 0; i < bs_class_info[bs_class_of(sizes[k])].nslots * 3u; i++)
            if (bits_of(i) == 0)
                release_one(bs_class_of(sizes[k]), block[k][i]);
    bs_cycle_finish();
    check_complete();
    for (size_t k = 0; k < 5; k++) {
        unsigned class = bs_class_of(sizes[k]), out = 0;
        for (unsigned i = 0; i < bs_class_info[class].nslots * 3u; i++) {
            bool stays = bits_of(i) != 0 && !expect_release(mode, bits_of(i));
            require(is_out(block[k][i]) == stays, "mode %d, size %zu, bits %x: out is %d", (int)mode,
                    sizes[k], bits_of(i), !stays);
            require(was_reported(block[k][i]) == expect_report(mode, bits_of(i)),
                    "mode %d, size %zu, bits %x: wrongly reported or not", (int)mode, sizes[k],
                    bits_of(i));
            out += stays;
        }
        ck_assert_uint_eq(bs_central_counts(class).slots_out, out);
    }
}
END_TEST

START_TEST(held_blocks_are_judged_round_by_round) {
    unsigned class = bs_class_of(64);
    void *p = claim_one(class);
    ck_assert(bs_marks_make((uintptr_t)p, BS_SIDE_HELD));
    begin();
    start(BS_SWEEP_QUARANTINE);
    /* freed into quarantine after the scan: that scan knows nothing of it */
    ck_assert_int_eq(bs_central_hold(span_of(p), (uintptr_t)p), BS_FREED);
    ck_assert_int_eq(bs_central_hold(span_of(p), (uintptr_t)p), BS_FREE_TWICE);
    ck_assert_int_eq(bs_central_hold(span_of(p), (uintptr_t)p + 8), BS_FREE_INTERIOR);
    bs_cycle_finish();
    ck_assert(is_out(p) && nreported == 0);
    begin();
    ck_assert(mark(p));
    start(BS_SWEEP_QUARANTINE);
    bs_cycle_finish();
    ck_assert(is_out(p) && nreported == 1 && was_reported(p));
    begin();
    start(BS_SWEEP_QUARANTINE);
    bs_cycle_finish();
    ck_assert(!is_out(p) && nreported == 0);
    ck_assert_int_eq(bs_central_hold(span_of(p), (uintptr_t)p), BS_FREE_TWICE);
}
END_TEST

/* --- marking ---------------------------------------------------------------------------------- */

START_TEST(any_word_may_be_asked) {
    struct bs_marked b;
    unsigned class = bs_class_of(48); /* 170 slots and a tail of 32 bytes */
    void *p = claim_one(class), *freed = claim_one(class);
    size_t bytes = 80 * BS_MIB;
    char *large = bs_large_alloc(bytes, 1, false);
    release_one(class, freed);
    begin();
    static const uintptr_t junk[] = {0, 1, 4096, 0x7fffffffffff, UINTPTR_MAX, UINTPTR_MAX / 2};
    for (size_t i = 0; i < BS_ARRAY_LEN(junk); i++)
        ck_assert(!bs_mark(junk[i], &b));
    ck_assert(!bs_mark((uintptr_t)&b, &b));
    ck_assert(!bs_mark((uintptr_t)freed, &b));
    ck_assert(!bs_mark(span_of(p)->base + 170 * 48, &b));
    ck_assert(!bs_mark((uintptr_t)large - 1, &b) || b.base != (uintptr_t)large);
    ck_assert(bs_mark((uintptr_t)p + 47, &b));
    ck_assert_uint_eq(b.base, (uintptr_t)p);
    ck_assert_uint_eq(b.size, 48);
    for (unsigned i = 0; i < 48; i++)
        ck_assert(!bs_mark((uintptr_t)p + i, &b));
    ck_assert(bs_mark((uintptr_t)large + 70 * BS_MIB, &b)); /* in another arena than its start */
    ck_assert_uint_eq(b.base, (uintptr_t)large);
    ck_assert_uint_eq(b.size, bytes);
    ck_assert(!mark(large));
    start(BS_SWEEP_COLLECT);
    bs_cycle_finish();
    ck_assert(is_out(p) && span_of(large) != NULL && nreported == 0);
    begin(); /* the marks are gone */
    ck_assert(mark(p) && mark(large));
    start(BS_SWEEP_PLAIN);
    bs_cycle_finish();
}
END_TEST

START_TEST(a_swept_span_has_no_marks) {
    unsigned class = bs_class_of(1024);
    void *block[9]; /* two spans */
    claim_many(class, block, 9);
    begin();
    ck_assert(mark(block[0]) && mark(block[8]));
    bs_settle_spare((uintptr_t)block[8]);
    start(BS_SWEEP_PLAIN);
    uint64_t *full = bs_marks_word(span_of(block[0])->base, BS_SIDE_MARK, 0);
    uint64_t *other = bs_marks_word(span_of(block[8])->base, BS_SIDE_MARK, 0);
    uint64_t *idle = bs_marks_word(span_of(block[8])->base, BS_SIDE_IDLE, 0);
    ck_assert(*full == 1 && *other == 1 && *idle == 1);
    (void)claim_one(class); /* sweeps the second, which has free slots */
    ck_assert(*full == 1 && *other == 0 && *idle == 0);
    ck_assert(bs_span_is_unswept(span_of(block[0])) && !bs_span_is_unswept(span_of(block[8])));
    bs_cycle_finish();
}
END_TEST

START_TEST(tables_are_there_for_the_cycle_only) {
    void *p = claim_one(1);
    size_t before = bs_meta_mapped_bytes();
    for (unsigned i = 0; i < 3; i++) {
        begin();
        ck_assert_uint_gt(bs_meta_mapped_bytes(), before);
        ck_assert_ptr_nonnull(bs_marks_table((uintptr_t)p, BS_SIDE_MARK));
        mark(p);
        start(BS_SWEEP_PLAIN);
        bs_cycle_finish();
        ck_assert_ptr_null(bs_marks_table((uintptr_t)p, BS_SIDE_MARK));
        ck_assert_uint_eq(bs_meta_mapped_bytes(), before);
    }
    ck_assert(bs_cycle_prepare());
    bs_cycle_abandon();
    ck_assert_uint_eq(bs_meta_mapped_bytes(), before);
    begin();
    bs_cycle_abandon(); /* after the generation has changed it is swept, without a result */
    ck_assert(bs_cycle_is_under_way());
    bs_cycle_finish();
    ck_assert(is_out(p));
    ck_assert_uint_eq(bs_meta_mapped_bytes(), before);
}
END_TEST

START_TEST(a_heap_that_grew_is_prepared_again) {
    (void)claim_one(1);
    ck_assert(bs_cycle_prepare());
    char *large = bs_large_alloc(100 * BS_MIB, 1, false);
    ck_assert(!bs_cycle_begin());
    ck_assert(!bs_settling_is_open());
    begin();
    ck_assert(mark(large));
    start(BS_SWEEP_COLLECT);
    bs_cycle_finish();
    ck_assert_ptr_nonnull(span_of(large));
    check_complete();
}
END_TEST

/* --- crimes, failures ---------------------------------------------------------------------- */

static void set_mark_of_free_slot(void *p) {
    unsigned class = bs_pagemap_class((uintptr_t)p);
    begin();
    ck_assert(mark(p));
    uint64_t *word = bs_marks_word(span_of(p)->base, BS_SIDE_MARK, 0);
    start(BS_SWEEP_PLAIN);
    release_one(class, p);
    *word |= 2;
}
static void damage_and_walk(void *p) {
    set_mark_of_free_slot(p);
    bs_cycle_finish();
}
static void damage_and_refill(void *p) {
    unsigned class = bs_pagemap_class((uintptr_t)p);
    set_mark_of_free_slot(p);
    (void)claim_one(class);
}
static void damage_large(void *p) {
    begin();
    start(BS_SWEEP_PLAIN);
    *bs_marks_word(span_of(p)->base, BS_SIDE_MARK, 0) |= 2;
    bs_cycle_finish();
}
/* The program has a pointer to it after all, and frees it by what it has found before the sweep. */
static void free_what_was_released(void *p) {
    struct bs_span *s = span_of(p);
    begin();
    start(BS_SWEEP_COLLECT);
    while (span_of(p) == s)
        (void)bs_cycle_walk(1, 1);
    require(bs_cycle_is_under_way(), "nothing is left to be swept");
    bs_large_free(s);
}
static void begin_twice(void *p) {
    (void)p;
    begin();
    start(BS_SWEEP_PLAIN);
    (void)bs_cycle_prepare();
}
static void begin_unprepared(void *p) {
    (void)p;
    (void)bs_cycle_begin();
}

START_TEST(crimes_abort) {
    char text[160];
    unsigned class = bs_class_of(512);
    void *first = claim_one(class), *p = claim_one(class);
    snprintf(text, sizeof text, "sweep: slot %p (size class 512 bytes) is marked but free", p);
    ck_assert_uint_eq((uintptr_t)p - (uintptr_t)first, 512);
    expect_abort(damage_and_walk, p, text);
    expect_abort(damage_and_refill, p, text);
    char *large = bs_large_alloc(BS_MIB, 1, false);
    snprintf(text, sizeof text, "sweep: the bits of the large block at %p are damaged", (void *)large);
    expect_abort(damage_large, large, text);
    ck_assert_ptr_nonnull(bs_large_alloc(BS_MIB, 1, false));
    snprintf(text, sizeof text, "use of %p, a block of %zu bytes that was released as unreachable", (void *)large,
             BS_MIB);
    expect_abort(free_what_was_released, large, text);
    expect_abort(begin_twice, p, "broken invariant: !bs_settling_is_open()");
    expect_abort(begin_unprepared, p, "broken invariant: cycle.prepared");
}
END_TEST

#if BS_FAULTS
START_TEST(without_memory_for_marks_there_is_no_cycle) {
    void *p = claim_one(1);
    size_t before = bs_meta_mapped_bytes();
    bs_os_fail(1, 12, false);
    ck_assert(!bs_cycle_prepare());
    bs_os_fail(0, 0, false);
    ck_assert_uint_eq(bs_counted(sweep_cycles_abandoned), 1);
    ck_assert(!bs_settling_is_open());
    ck_assert_uint_eq(bs_meta_mapped_bytes(), before);
    begin();
    ck_assert(mark(p));
    start(BS_SWEEP_COLLECT);
    bs_cycle_finish();
    ck_assert(is_out(p));
}
END_TEST
#endif

int main(void) {
    Suite *suite = suite_create("sweep_modes");
    TCase *tc = add_case(suite, "modes");
    tcase_add_loop_test(tc, each_mode_releases_and_reports, 0, (int)BS_ARRAY_LEN(modes));
    tcase_add_test(tc, held_blocks_are_judged_round_by_round);
    tc = add_case(suite, "marks");
    tcase_add_test(tc, any_word_may_be_asked);
    tcase_add_test(tc, a_swept_span_has_no_marks);
    tcase_add_test(tc, tables_are_there_for_the_cycle_only);
    tcase_add_test(tc, a_heap_that_grew_is_prepared_again);
    tc = add_case(suite, "rest");
    tcase_add_test(tc, crimes_abort);
#if BS_FAULTS
    tcase_add_test(tc, without_memory_for_marks_there_is_no_cycle);
#endif
    return run_suite(suite);
}
