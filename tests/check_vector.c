/* SPDX-License-Identifier: MIT */
/*
 * check_vector.c - large blocks that grow by realloc, as vectors do: in place where the heap ends behind them, in huge
 * pages where they are filled (vector.h), and back to plain pages when they end or move. The system's setting
 * is pretended, as in check_thp.c.
 */
#include "vector.h"

#include "advice.h"
#include "counter.h"
#include "large.h"
#include "opt.h"
#include "os.h"
#include "pageheap.h"
#include "thp.h"
#include "unit.h"
#include "waiting.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define HUGE BS_HUGE_SIZE
#define READY 1000

static struct bs_span *span_of(const void *p) {
    struct bs_span *s = bs_span_of((uintptr_t)p);
    require(s != NULL, "no span");
    return s;
}
static char *alloc(size_t size) {
    char *p = bs_large_alloc(size, 1, false);
    require(p != NULL, "no memory");
    return p;
}
static void release(char *p) {
    bs_large_free(span_of(p));
}

/* Each page of [from, to) tells its number, or is asked for it. */
static void fill(char *p, size_t from, size_t to) {
    for (size_t at = bs_align_up(from, 4096); at + 8 <= to; at += 4096)
        memcpy(p + at, &at, sizeof at);
}
static void check_filled(const char *p, size_t to) {
    size_t word;
    for (size_t at = 0; at + 8 <= to; at += 4096) {
        memcpy(&word, p + at, sizeof word);
        require(word == at, "page at %zu has changed to %zx", at, word);
    }
}
static char *grow(char *p, size_t size) {
    p = bs_large_resize(span_of(p), size);
    require(p != NULL, "no memory");
    return p;
}

/* How many of the huge pages that lie whole in [p + from, p + to) are advised. */
static size_t huge_in(const char *p, size_t from, size_t to) {
    size_t n = 0;
    for (uintptr_t at = bs_align_up((uintptr_t)p + from, HUGE); at + HUGE <= (uintptr_t)p + to; at += HUGE) {
        bool is_huge = advice_at(at) == 'h';
        require((bs_thp_state_of(at) == BS_THP_HUGE) == is_huge, "besom believes something else of %#zx", (size_t)at);
        n += is_huge;
    }
    return n;
}
static size_t whole_in(const char *p, size_t from, size_t to) {
    uintptr_t start = bs_align_up((uintptr_t)p + from, HUGE), end = bs_align_down((uintptr_t)p + to, HUGE);
    return start < end ? (end - start) / HUGE : 0;
}

/* --- where the heap ends ------------------------------------------------------------------------ */

START_TEST(the_heap_grows_behind_it) {
    char *p = alloc(2 * BS_MIB), *first = p;
    fill(p, 0, 2 * BS_MIB);
    for (size_t size = 2 * BS_MIB, more = 3 * BS_MIB; size < 300 * BS_MIB; size += more) {
        p = grow(p, size + more);
        fill(p, size, size + more);
        ck_assert_ptr_eq(p, first);
        check_filled(p, size + more);
    }
    ck_assert_uint_eq(bs_counted(large_moved) + bs_counted(large_copied), 0);
    release(p);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* What is free at the heap's end belongs to it. */
START_TEST(from_what_is_free_there) {
    char *p = alloc(2 * BS_MIB), *gone = alloc(BS_MIB);
    release(gone);
    while (bs_waiting_return(1) != 0)
        ;
    ck_assert_ptr_eq(grow(p, 9 * BS_MIB), p);
    release(p);
}
END_TEST

START_TEST(not_behind_another_block) {
    char *p = alloc(2 * BS_MIB), *wall = alloc(BS_MIB);
    fill(p, 0, 2 * BS_MIB);
    char *q = grow(p, 9 * BS_MIB);
    ck_assert_ptr_ne(q, p);
    check_filled(q, 2 * BS_MIB);
    release(q);
    release(wall);
}
END_TEST

START_TEST(not_over_a_mapping_of_the_programs) {
    char *p = alloc(2 * BS_MIB), *end = (char *)bs_align_up((uintptr_t)p + 1, BS_ARENA_SIZE), *q;
    fill(p, 0, 2 * BS_MIB);
    char *wall = mmap(end, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    ck_assert_ptr_eq(wall, end);
    *wall = 'w';
    ck_assert_ptr_eq(p = grow(p, 40 * BS_MIB), p);
    q = grow(p, 100 * BS_MIB);
    ck_assert_ptr_ne(q, p);
    check_filled(q, 2 * BS_MIB);
    memset(q, 0, 100 * BS_MIB);
    ck_assert_int_eq(*wall, 'w');
    release(q);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

#if BS_FAULTS
/* The nth call fails, for every n: the block grows elsewhere, or stays as it was. */
START_TEST(the_kernel_refuses) {
    unsigned ncalls = 1;
    for (unsigned n = 1; n <= ncalls; n++) {
        bs_thp_pretend(BS_THP_KERNEL_MADVISE, READY);
        char *p = alloc(20 * BS_MIB);
        fill(p, 0, 20 * BS_MIB);
        (void)bs_os_fail(n, ENOMEM, false);
        char *q = bs_large_resize(span_of(p), 100 * BS_MIB);
        ncalls = bs_max(ncalls, bs_os_fail(0, 0, false));
        check_filled(q != NULL ? q : p, 20 * BS_MIB);
        if (q != NULL)
            fill(q, 0, 100 * BS_MIB);
        release(q != NULL ? q : p);
        ck_assert(bs_pageheap_is_valid());
        ck_assert_uint_eq(bs_pageheap_counts().span_pages * BS_PAGE_SIZE, bs_waiting_large_bytes());
    }
    ck_assert_uint_ge(ncalls, 20);
}
END_TEST
#endif

/* --- huge pages --------------------------------------------------------------------------------- */

/* A block of 12 MiB that is filled, but for the last `empty` bytes, and grows to `size`. */
static char *grown(size_t empty, size_t size) {
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0); /* so that what is filled is filled by us */
    char *p = alloc(12 * BS_MIB);
    fill(p, 0, 12 * BS_MIB - empty);
    return grow(p, size);
}

START_TEST(a_filled_block_grows_in_huge_pages) {
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, READY);
    size_t size = 40 * BS_MIB;
    char *p = grown(0, size);
    ck_assert_uint_eq(huge_in(p, 0, 12 * BS_MIB), 0);
    ck_assert_uint_eq(huge_in(p, 12 * BS_MIB, size), whole_in(p, 12 * BS_MIB, size));
    ck_assert_uint_ge(whole_in(p, 12 * BS_MIB, size), 13);
    ck_assert_uint_eq(bs_counted(thp_grown), whole_in(p, 12 * BS_MIB, size));
    fill(p, 12 * BS_MIB, size);
    check_filled(p, size);
    release(p);
}
END_TEST

/* Three in four of its pages: too few. Nearly all: enough. */
START_TEST(one_that_is_not_filled_does_not) {
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, READY);
    char *p = grown(BS_MIB, 40 * BS_MIB);
    ck_assert_uint_eq(huge_in(p, 0, 40 * BS_MIB), 0);
    char *q = grown(BS_MIB / 8, 40 * BS_MIB);
    ck_assert_uint_ge(huge_in(q, 12 * BS_MIB, 40 * BS_MIB), 13);
    release(p);
    release(q);
}
END_TEST

static char *of_no_huge_pages(size_t size) {
    char *p = grown(0, size);
    ck_assert_uint_eq(huge_in(p, 0, size), 0);
    return p;
}

START_TEST(nor_does_a_short_one) {
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, READY);
    release(of_no_huge_pages(BS_THP_VECTOR_BYTES - BS_PAGE_SIZE));
}
END_TEST

START_TEST(nor_where_the_kernel_or_the_user_decides) {
    bs_thp_pretend(BS_THP_KERNEL_ALWAYS, READY);
    release(of_no_huge_pages(40 * BS_MIB));
    bs_thp_pretend(BS_THP_KERNEL_NEVER, READY);
    release(of_no_huge_pages(40 * BS_MIB));
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, READY);
    bs_opt.thp = BS_THP_SYSTEM;
    release(of_no_huge_pages(40 * BS_MIB));
}
END_TEST

#if BS_FAULTS
/* Where none can be had the kernel is not asked what is in memory: a sandbox may not know the call. */
START_TEST(nor_is_anything_asked_then) {
    unsigned calls[2];
    for (unsigned i = 0; i < 2; i++) {
        bs_thp_pretend(i == 0 ? BS_THP_KERNEL_NEVER : BS_THP_KERNEL_ALWAYS, READY);
        char *p = alloc(12 * BS_MIB);
        fill(p, 0, 12 * BS_MIB);
        p = grow(p, 37 * BS_MIB);
        (void)bs_os_fail(0, 0, false);
        p = grow(p, 37 * BS_MIB + BS_PAGE_SIZE); /* in what the heap has */
        calls[i] = bs_os_fail(0, 0, false);
        release(p);
    }
    ck_assert_uint_eq(calls[0], 0);
    ck_assert_uint_eq(calls[1], 0);
}
END_TEST
#endif

START_TEST(nor_where_too_few_lie_ready) {
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 3);
    release(of_no_huge_pages(40 * BS_MIB));
}
END_TEST

#if BS_FAULTS
/* Where the host has taken back what lies free each costs more than its small pages: one is tried, and the others are not asked
 * for. Nor is one that the next block grows by. */
START_TEST(nor_where_the_first_is_slow) {
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, READY);
    bs_thp_pretend_to_take(BS_THP_SLOW_NS + 1);
    char *p = grown(0, 40 * BS_MIB);
    bool tried = bs_counted(thp_slow) != 0; /* Linux 5.14 */
    ck_assert_uint_eq(huge_in(p, 12 * BS_MIB, 40 * BS_MIB), tried ? 1 : whole_in(p, 12 * BS_MIB, 40 * BS_MIB));
    release(p);
    if (tried)
        release(of_no_huge_pages(40 * BS_MIB));
}
END_TEST
#endif

/* Between walls, so that it has to move: by page tables although its advice differs, and nothing of that stays. */
START_TEST(it_moves_and_leaves_plain_pages) {
    size_t before = 0;
    for (unsigned round = 0; round < 20; round++) {
        bs_thp_pretend(BS_THP_KERNEL_MADVISE, READY);
        uint64_t moved = bs_counted(large_moved);
        char *p = grown(0, 30 * BS_MIB), *wall = alloc(BS_MIB);
        fill(p, 12 * BS_MIB, 30 * BS_MIB);
        require(huge_in(p, 12 * BS_MIB, 30 * BS_MIB) >= 8, "few huge pages");
        char *q = grow(p, 60 * BS_MIB);
        require(q != p, "it grew in place");
        require_uint_eq((uintptr_t)q % HUGE, 0);
        require_uint_eq(bs_counted(large_moved), moved + 1);
        check_filled(q, 30 * BS_MIB);
        require_uint_eq(huge_in(q, 0, 60 * BS_MIB), 30);
        require_uint_eq(huge_in(p, 0, 30 * BS_MIB), 0); /* mapped anew */
        fill(q, 30 * BS_MIB, 60 * BS_MIB);
        char *other = alloc(BS_MIB), *r = grow(q, 130 * BS_MIB); /* in two mappings: moved or copied */
        check_filled(r, 60 * BS_MIB);
        release(r);
        release(wall);
        release(other);
        require(bs_pageheap_is_valid(), "the page heap is broken");
        if (round == 5)
            before = count_mappings();
    }
    ck_assert_uint_le(count_mappings(), before + 2);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("vector");
    TCase *tc = add_case(suite, "heap's end");
    tcase_add_test(tc, the_heap_grows_behind_it);
    tcase_add_test(tc, from_what_is_free_there);
    tcase_add_test(tc, not_behind_another_block);
    tcase_add_test(tc, not_over_a_mapping_of_the_programs);
    if (bs_os_huge_page_size() != (long)HUGE) {
        printf("check_vector: SKIPPED: huge pages of another size\n");
        return run_suite(suite);
    }
    tc = add_case(suite, "huge pages");
    tcase_add_test(tc, a_filled_block_grows_in_huge_pages);
    tcase_add_test(tc, one_that_is_not_filled_does_not);
    tcase_add_test(tc, nor_does_a_short_one);
    tcase_add_test(tc, nor_where_the_kernel_or_the_user_decides);
    tcase_add_test(tc, nor_where_too_few_lie_ready);
#if BS_FAULTS
    tcase_add_test(tc, nor_is_anything_asked_then);
    tcase_add_test(tc, nor_where_the_first_is_slow);
#endif
    tcase_add_test(tc, it_moves_and_leaves_plain_pages);
#if BS_FAULTS
    tcase_add_test(tc, the_kernel_refuses);
#endif
    return run_suite(suite);
}
