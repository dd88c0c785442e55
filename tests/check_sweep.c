/* SPDX-License-Identifier: MIT */
/*
 * check_sweep.c - how much one sweep does: empty spans go back, as many as were asked for, and the question for slow
 * doors says when there is a batch of them. The caches of threads that are gone are check_threads.c's and check_fork.c's.
 */
#include "cycle_unit.h"
#include "sweep.h"
#include "waiting.h"

START_TEST(emptied_spans_go_back) {
    enum { SPANS = BS_EMPTY_BATCH + 3 };
    unsigned class = bs_class_of(1024);
    static void *block[SPANS * 8];
    claim_many(class, block, SPANS * 8);
    bs_central_release(class, block, (BS_EMPTY_BATCH + 1) * 8); /* one stays with its class */
    ck_assert_uint_eq(bs_waiting_small_count(), BS_EMPTY_BATCH);
    ck_assert(!bs_sweep_has_work());
    bs_central_release(class, block + (BS_EMPTY_BATCH + 1) * 8, 8);
    ck_assert(bs_sweep_has_work());
    struct bs_sweep_work work = bs_sweep(3, 10);
    ck_assert_uint_eq(work.returned, 3);
    ck_assert_uint_eq(work.orphans, 0);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, SPANS - 3);
    ck_assert_uint_eq(bs_sweep(SIZE_MAX, 10).returned, BS_EMPTY_BATCH + 1 - 3);
    ck_assert(!bs_sweep_has_work());
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 2);
    ck_assert_uint_eq(bs_sweep(SIZE_MAX, 10).returned, 0);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sweep");
    TCase *tc = add_case(suite, "sweep");
    tcase_add_test(tc, emptied_spans_go_back);
    return run_suite(suite);
}
