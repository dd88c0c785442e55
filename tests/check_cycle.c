/* SPDX-License-Identifier: MIT */
/*
 * check_cycle.c - the tables of marks: there from prepare to end, again where the heap has grown, not without memory;
 * what a thread's cache holds is spared; and what must end in SIGABRT. What engines mark is check_trace.c's and
 * check_linear.c's.
 */
#include "counter.h"
#include "cycle_unit.h"
#include "heap.h"
#include "large.h"
#include "meta.h"
#include "os.h"

START_TEST(tables_are_there_for_the_cycle_only) {
    void *p = claim_one(1);
    size_t before = bs_meta_mapped_bytes();
    for (unsigned i = 0; i < 3; i++) {
        begin();
        ck_assert_uint_gt(bs_meta_mapped_bytes(), before);
        ck_assert_ptr_nonnull(bs_marks_table((uintptr_t)p, BS_SIDE_MARK));
        ck_assert_uint_eq(count_unmarked(), 1); /* the marks of the last time are gone */
        ck_assert(mark(p));
        ck_assert_uint_eq(count_unmarked(), 0);
        bs_cycle_end();
        ck_assert_ptr_null(bs_marks_table((uintptr_t)p, BS_SIDE_MARK));
        ck_assert_ptr_null(bs_marks_table((uintptr_t)p, BS_SIDE_IDLE));
        ck_assert_uint_eq(bs_meta_mapped_bytes(), before);
    }
    ck_assert(bs_cycle_prepare());
    bs_cycle_end(); /* also what was not begun, and what was not even prepared */
    bs_cycle_end();
    ck_assert_uint_eq(bs_meta_mapped_bytes(), before);
}
END_TEST

START_TEST(a_heap_that_grew_is_prepared_again) {
    void *small = claim_one(1);
    ck_assert(bs_cycle_prepare());
    size_t before = bs_meta_mapped_bytes();
    char *large = bs_large_alloc(100 * BS_MIB, 1, false);
    ck_assert(!bs_cycle_begin());
    ck_assert(bs_cycle_prepare());
    ck_assert_uint_gt(bs_meta_mapped_bytes(), before);
    ck_assert(bs_cycle_begin());
    ck_assert(mark(large + 70 * BS_MIB) && mark(small));
    bs_cycle_end();
    ck_assert_ptr_null(bs_marks_table((uintptr_t)large + 99 * BS_MIB, BS_SIDE_MARK));
    begin();
    ck_assert_uint_eq(count_unmarked(), 2);
    bs_cycle_end();
}
END_TEST

START_TEST(what_a_cache_holds_is_spared) {
    enum { N = 3000 };
    static void *live[N];
    uint64_t seed = 5;
    for (unsigned i = 0; i < N; i++)
        live[i] = bs_heap_alloc(1 + random_below(&seed, 2000));
    for (unsigned i = 0; i < N; i += 2) /* magazines and runs hold something of each class */
        bs_heap_free(live[i]);
    begin();
    ck_assert_uint_gt(count_unmarked(), N / 2);
    bs_cycle_spare_caches();
    ck_assert_uint_eq(count_unmarked(), N / 2);
    for (unsigned i = 1; i < N; i += 2)
        ck_assert(mark(live[i]));
    for (unsigned i = 0; i < N; i += 2)
        ck_assert(!mark(live[i]));
    ck_assert_uint_eq(count_unmarked(), 0);
    bs_cycle_end();
}
END_TEST

static void prepare_while_begun(void *p) {
    (void)p;
    begin();
    (void)bs_cycle_prepare();
}
static void begin_twice(void *p) {
    (void)p;
    begin();
    (void)bs_cycle_begin();
}
static void begin_unprepared(void *p) {
    (void)p;
    (void)bs_cycle_begin();
}
static void begin_ended(void *p) {
    begin();
    bs_cycle_end();
    begin_unprepared(p);
}

START_TEST(crimes_abort) {
    void *p = claim_one(bs_class_of(512));
    expect_abort(prepare_while_begun, p, "broken invariant: !bs_marking");
    expect_abort(begin_twice, p, "broken invariant: cycle.prepared && !bs_marking");
    expect_abort(begin_unprepared, p, "broken invariant: cycle.prepared && !bs_marking");
    expect_abort(begin_ended, p, "broken invariant: cycle.prepared && !bs_marking");
}
END_TEST

#if BS_FAULTS
START_TEST(without_memory_for_marks_there_is_no_cycle) {
    void *p = claim_one(1);
    size_t before = bs_meta_mapped_bytes();
    bs_os_fail(1, 12, false);
    ck_assert(!bs_cycle_prepare());
    bs_os_fail(0, 0, false);
    ck_assert_uint_eq(bs_counted(marks_refused), 1);
    ck_assert_uint_eq(bs_meta_mapped_bytes(), before);
    ck_assert(bs_cycle_prepare()); /* nor are there tables of the first arena if the second has none */
    (void)bs_large_alloc(100 * BS_MIB, 1, false);
    bs_os_fail(1, 12, false);
    ck_assert(!bs_cycle_prepare());
    bs_os_fail(0, 0, false);
    ck_assert_ptr_null(bs_marks_table((uintptr_t)p, BS_SIDE_MARK));
    begin();
    ck_assert(mark(p));
    bs_cycle_end();
}
END_TEST
#endif

int main(void) {
    Suite *suite = suite_create("cycle");
    TCase *tc = add_case(suite, "cycle");
    tcase_add_test(tc, tables_are_there_for_the_cycle_only);
    tcase_add_test(tc, a_heap_that_grew_is_prepared_again);
    tcase_add_test(tc, what_a_cache_holds_is_spared);
    tcase_add_test(tc, crimes_abort);
#if BS_FAULTS
    tcase_add_test(tc, without_memory_for_marks_there_is_no_cycle);
#endif
    return run_suite(suite);
}
