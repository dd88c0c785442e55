/* SPDX-License-Identifier: MIT */
/*
 * check_density.c - thp:auto at work: over-filled huge pages are found, a partly used one is split no
 * sooner than an epoch after it was met, a dense one is given to the kernel again after two looks, and
 * no pass is made for nothing.
 *
 * The system's setting is pretended, and what the kernel would fill is written to by the test, so no
 * setting of the machine is needed or changed.
 */
#include "counter.h"
#include "density.h"
#include "grow.h"
#include "opt.h"
#include "os.h"
#include "pageheap.h"
#include "scavenge.h"
#include "thp.h"
#include "unit.h"

#include <sys/prctl.h>

#define HUGE BS_HUGE_SIZE
#define EPOCH 1000 /* any number but 0 */

static uintptr_t heap; /* two regions, whole and taken; the page heap has nothing else to give */

static void take_heap(void) {
    struct bs_pages first, pages;
    bs_opt.thp = BS_THP_AUTO;
    bs_opt.scavenge_delay = 0;
    bs_thp_pretend(BS_THP_KERNEL_ALWAYS, 0);
    ck_assert(bs_grow(3 * BS_REGION_PAGES, bs_pageheap_grown()));
    ck_assert(bs_pageheap_alloc(BS_REGION_PAGES, 1, &first));
    ck_assert(bs_pageheap_alloc(2 * BS_REGION_PAGES, 1, &pages));
    heap = pages.base;
}

static void give(size_t page, size_t n) {
    struct bs_run run = {.base = heap + page * BS_PAGE_SIZE, .npages = n};
    bs_pageheap_free(&run, 1);
}
static void touch(size_t page, size_t n) {
    memset((void *)(heap + page * BS_PAGE_SIZE), 'x', n * BS_PAGE_SIZE);
}
static size_t dirty(void) {
    return bs_pageheap_counts().dirty_pages;
}
static struct bs_density_work whole_pass(void) {
    struct bs_density_work work;
    (void)bs_density_round(0, true, &work);
    ck_assert(bs_pageheap_is_valid());
    return work;
}

/* One page of a huge page is in use; the kernel has filled all of it. */
START_TEST(overfilled_pages_become_dirty) {
    take_heap();
    give(1, BS_HUGE_PAGES - 1);
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_eq(dirty(), 0);
    ck_assert_uint_eq(whole_pass().overfilled_bytes, 0); /* it is what it says it is */
    bs_thp_renewed(heap, HUGE); /* as if the advice had not been given */
    touch(1, 100);
    ck_assert_uint_eq(whole_pass().overfilled_bytes, 100 * BS_PAGE_SIZE);
    ck_assert_uint_eq(dirty(), 100);
    ck_assert_uint_eq(whole_pass().overfilled_bytes, 0); /* known by now */
    struct bs_scavenge_work work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_eq(work.page_bytes, 100 * BS_PAGE_SIZE);
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_SMALL);
    ck_assert_uint_eq(dirty(), 0);
}
END_TEST

START_TEST(pages_taken_of_it_are_not_zero) {
    struct bs_pages pages;
    take_heap();
    give(1, BS_HUGE_PAGES - 1);
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    bs_thp_renewed(heap, HUGE);
    touch(5, 2);
    (void)whole_pass();
    ck_assert(bs_pageheap_alloc_at(heap + 4 * BS_PAGE_SIZE, 8, &pages));
    ck_assert_uint_eq(pages.nzero, 6);
    ck_assert_uint_eq(pages.dirty_base, heap + 5 * BS_PAGE_SIZE);
    ck_assert_uint_eq(pages.dirty_end, heap + 7 * BS_PAGE_SIZE);
}
END_TEST

START_TEST(a_huge_page_is_split_an_epoch_after_it_was_met) {
    take_heap();
    touch(0, BS_HUGE_PAGES);
    give(1, 50);
    ck_assert_uint_eq(bs_scavenge_pages(SIZE_MAX, EPOCH, 0).calls, 0);
    ck_assert_uint_eq(bs_scavenge_pages(SIZE_MAX, EPOCH, 0).calls, 0);
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_PLAIN);
    ck_assert_uint_eq(bs_scavenge_pages(SIZE_MAX, EPOCH + 1, 0).page_bytes, 50 * BS_PAGE_SIZE);
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_SMALL);
    give(60, 10); /* it is split already */
    ck_assert_uint_eq(bs_scavenge_pages(SIZE_MAX, EPOCH + 1, 0).page_bytes, 10 * BS_PAGE_SIZE);
}
END_TEST

START_TEST(whole_huge_pages_go_at_once_and_stay_plain) {
    take_heap();
    touch(0, 2 * BS_HUGE_PAGES);
    give(BS_HUGE_PAGES, BS_HUGE_PAGES);
    ck_assert_uint_eq(bs_scavenge_pages(SIZE_MAX, EPOCH, 0).huge_bytes, HUGE);
    ck_assert_int_eq(bs_thp_state_of(heap + HUGE), BS_THP_PLAIN);
}
END_TEST

START_TEST(a_dense_huge_page_is_joined_at_the_second_look) {
    struct bs_pages pages;
    take_heap();
    touch(0, BS_HUGE_PAGES);
    give(7, 1);
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_SMALL);
    ck_assert_uint_eq(whole_pass().joined, 0); /* it has a free page */
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_SMALL);
    ck_assert(bs_pageheap_alloc_at(heap + 7 * BS_PAGE_SIZE, 1, &pages));
    ck_assert_uint_eq(whole_pass().joined, 0);
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_DENSE);
    ck_assert_uint_eq(whole_pass().joined, 1);
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_HUGE);
    ck_assert_uint_eq(bs_counted(thp_joined), 1);
}
END_TEST

START_TEST(dense_once_is_not_enough) {
    struct bs_pages pages;
    take_heap();
    touch(0, BS_HUGE_PAGES);
    give(7, 1);
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert(bs_pageheap_alloc_at(heap + 7 * BS_PAGE_SIZE, 1, &pages));
    (void)whole_pass();
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_DENSE);
    ck_assert_int_eq(bs_thp_unused(heap + 100 * BS_PAGE_SIZE, 20 * BS_PAGE_SIZE), 0); /* holes */
    ck_assert_uint_eq(whole_pass().joined, 0);
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_SMALL);
}
END_TEST

/* What is in spans but was never touched would cost memory. */
START_TEST(untouched_is_not_dense) {
    struct bs_pages pages;
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* where the kernel makes huge pages of all, the first touch is enough */
    take_heap();
    touch(0, BS_HUGE_PAGES / 2);
    give(7, 1);
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert(bs_pageheap_alloc_at(heap + 7 * BS_PAGE_SIZE, 1, &pages));
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(whole_pass().joined, 0);
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_SMALL);
}
END_TEST

START_TEST(passes_end_and_begin_with_activity) {
    struct bs_density_work work;
    take_heap();
    ck_assert(!bs_density_round(0, false, &work)); /* the pages taken above were worth one */
    ck_assert(!bs_density_round(0, false, &work));
    ck_assert(!bs_density_has_work());
    for (unsigned i = 0; i < 40; i++) {
        struct bs_pages pages;
        give(3, 1);
        ck_assert(bs_pageheap_alloc_at(heap + 3 * BS_PAGE_SIZE, 1, &pages));
    }
    ck_assert(bs_density_has_work());
    bs_opt.scavenge_delay = 3600000;
    ck_assert(bs_density_round(0, false, &work)); /* later */
    ck_assert(bs_density_has_work());
    bs_opt.scavenge_delay = 0;
    ck_assert(!bs_density_round(0, false, &work));
    ck_assert(!bs_density_has_work());
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 0); /* nothing to do at all */
    give(3, 1);
    ck_assert(!bs_density_round(0, true, &work));
}
END_TEST

START_TEST(a_budget_stops_a_pass_and_the_next_call_goes_on) {
    struct bs_density_work work;
    take_heap();
    give(1, 3);
    give(BS_REGION_PAGES + 1, 3);
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    bs_thp_renewed(heap, 2 * BS_REGION_SIZE);
    touch(1, 1);
    touch(BS_REGION_PAGES + 1, 1);
    size_t found = 0, calls = 0;
    while (bs_density_round(1, false, &work)) { /* a nanosecond: a region at a time */
        found += work.overfilled_bytes;
        calls++;
    }
    found += work.overfilled_bytes;
    ck_assert_uint_eq(found, 2 * BS_PAGE_SIZE);
    ck_assert_uint_ge(calls, 2);
}
END_TEST

int main(void) {
    if (bs_os_huge_page_size() != (long)HUGE) {
        puts("skipped: this kernel has no huge pages of 2 MiB");
        return 77;
    }
    Suite *suite = suite_create("density");
    TCase *tc = add_case(suite, "overfill");
    tcase_add_test(tc, overfilled_pages_become_dirty);
    tcase_add_test(tc, pages_taken_of_it_are_not_zero);
    tc = add_case(suite, "split");
    tcase_add_test(tc, a_huge_page_is_split_an_epoch_after_it_was_met);
    tcase_add_test(tc, whole_huge_pages_go_at_once_and_stay_plain);
    tc = add_case(suite, "dense");
    tcase_add_test(tc, a_dense_huge_page_is_joined_at_the_second_look);
    tcase_add_test(tc, dense_once_is_not_enough);
    tcase_add_test(tc, untouched_is_not_dense);
    tc = add_case(suite, "passes");
    tcase_add_test(tc, passes_end_and_begin_with_activity);
    tcase_add_test(tc, a_budget_stops_a_pass_and_the_next_call_goes_on);
    return run_suite(suite);
}
