/* SPDX-License-Identifier: MIT */
/*
 * check_thp.c - advice on huge pages: which ranges get it for each option, in how many calls, what it
 * costs in mappings, and that nothing depends on the kernel's taking it. The kernel's own word is
 * VmFlags in /proc/self/smaps (nh: NOHUGEPAGE, hg: HUGEPAGE).
 *
 * The system's setting is pretended, so the tests say the same on every machine that has huge pages of
 * 2 MiB; elsewhere they say that they were skipped.
 */
#include "advice.h"
#include "counter.h"
#include "grow.h"
#include "large.h"
#include "opt.h"
#include "os.h"
#include "pageheap.h"
#include "scavenge.h"
#include "thp.h"
#include "unit.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define HUGE BS_HUGE_SIZE
#define HEAP_BYTES (64 * BS_MIB)

static uintptr_t heap; /* aligned to 64 MiB, all of it taken */

/* A heap without the first region, which is special. */
static void take_heap(unsigned option, enum bs_thp_kernel kernel) {
    struct bs_pages first, pages;
    bs_opt.thp = option;
    bs_thp_pretend(kernel, 0);
    ck_assert(bs_grow(1, bs_pageheap_grown()));
    ck_assert(bs_pageheap_alloc(BS_REGION_PAGES, 1, &first));
    ck_assert(bs_grow(2 * HEAP_BYTES / BS_PAGE_SIZE, bs_pageheap_grown()));
    ck_assert(bs_pageheap_alloc(HEAP_BYTES / BS_PAGE_SIZE, HEAP_BYTES / BS_PAGE_SIZE, &pages));
    heap = pages.base;
    ck_assert_int_eq(bs_thp_unused(heap, HUGE), 0); /* the size of a huge page is known from now on */
}

/* The advice of n huge pages from the start of the heap, one letter each. */
static void expect(const char *advice, int line) {
    for (size_t i = 0; advice[i] != '\0'; i++) {
        char got = advice_at(heap + i * HUGE), want = advice[i];
        ck_assert_msg(got == want, "line %d: huge page %zu has advice %c, expected %c", line, i, got,
                      want);
    }
}
#define EXPECT(advice) expect(advice, __LINE__)

static unsigned give(size_t from, size_t to) {
    (void)bs_os_fail(0, 0, false);
    ck_assert_int_eq(bs_thp_unused(heap + from, to - from), 0);
    return bs_os_fail(0, 0, false);
}

/* --- edge ------------------------------------------------------------------------------------- */

START_TEST(edge_advises_the_huge_pages_of_unaligned_ends) {
    take_heap(BS_THP_EDGE, BS_THP_KERNEL_NEVER); /* edge does not ask */
    ck_assert_uint_eq(give(HUGE, 3 * HUGE), 1);  /* aligned: the pages alone */
    EXPECT("------");
    ck_assert_uint_eq(give(BS_PAGE_SIZE, 3 * HUGE), 2); /* head */
    EXPECT("n-----");
    ck_assert_uint_eq(give(2 * HUGE, 5 * HUGE + BS_PAGE_SIZE), 2); /* tail */
    EXPECT("n----n");
    ck_assert_uint_eq(give(7 * HUGE + BS_PAGE_SIZE, 9 * HUGE + BS_PAGE_SIZE), 3); /* both */
    EXPECT("n----n-n-n");
    ck_assert_uint_eq(give(11 * HUGE + BS_PAGE_SIZE, 12 * HUGE + BS_PAGE_SIZE), 2); /* adjacent */
    EXPECT("n----n-n-n-nn-");
    ck_assert_uint_eq(give(14 * HUGE + BS_PAGE_SIZE, 15 * HUGE - BS_PAGE_SIZE), 2); /* one page */
    EXPECT("n----n-n-n-nn-n-");
    ck_assert_uint_eq(give(14 * HUGE + BS_PAGE_SIZE, 15 * HUGE - BS_PAGE_SIZE), 1); /* has it */
    ck_assert_uint_eq(bs_counted(thp_split), 7);
}
END_TEST

START_TEST(edge_lets_the_kernel_when_all_is_used_again) {
    take_heap(BS_THP_EDGE, BS_THP_KERNEL_NEVER);
    (void)give(BS_PAGE_SIZE, 3 * HUGE - BS_PAGE_SIZE);
    EXPECT("n-n-");
    bs_thp_reused(heap + BS_PAGE_SIZE, 2 * HUGE); /* covers the second alone */
    EXPECT("n-n-");
    bs_thp_reused(heap, HUGE);
    EXPECT("h-n-");
    bs_thp_reused(heap, 4 * HUGE);
    EXPECT("h-h-"); /* what was never advised is left alone */
    ck_assert_uint_eq(bs_counted(thp_joined), 2);
}
END_TEST

START_TEST(a_large_block_over_it_counts_as_used_again) {
    take_heap(BS_THP_EDGE, BS_THP_KERNEL_NEVER);
    struct bs_run all = {.base = heap, .npages = 8 * BS_HUGE_PAGES};
    struct bs_pages rest;
    while (bs_pageheap_alloc(BS_REGION_PAGES, 1, &rest)) /* so that it is the lowest run */
        ;
    (void)give(BS_PAGE_SIZE, 2 * HUGE - BS_PAGE_SIZE);
    EXPECT("nn");
    bs_pageheap_free(&all, 1);
    (void)bs_scavenge_to(0);
    ck_assert_uint_eq((uintptr_t)bs_large_alloc(8 * HUGE, 1, false), heap);
    EXPECT("hh");
}
END_TEST

/* --- auto, never, system ---------------------------------------------------------------------- */

START_TEST(auto_advises_where_the_kernel_makes_huge_pages_only) {
    static const struct {
        enum bs_thp_kernel kernel;
        const char *advice;
    } cases[] = {{BS_THP_KERNEL_NEVER, "---"}, {BS_THP_KERNEL_MADVISE, "---"},
                 {BS_THP_KERNEL_ALWAYS, "n--"}};
    take_heap(BS_THP_AUTO, BS_THP_KERNEL_NEVER);
    for (size_t i = 0; i < BS_ARRAY_LEN(cases); i++) {
        bs_thp_pretend(cases[i].kernel, 0);
        (void)give(BS_PAGE_SIZE, HUGE);
        EXPECT(cases[i].advice);
    }
}
END_TEST

START_TEST(auto_gives_back_what_was_dense_twice) {
    take_heap(BS_THP_AUTO, BS_THP_KERNEL_ALWAYS);
    (void)give(BS_PAGE_SIZE, HUGE);
    ck_assert(!bs_thp_restore(heap)); /* not found dense yet */
    ck_assert(bs_thp_note_dense(heap));
    EXPECT("n-");
    ck_assert(bs_thp_note_sparse(heap));
    ck_assert(!bs_thp_restore(heap));
    ck_assert(bs_thp_note_dense(heap));
    ck_assert(bs_thp_restore(heap));
    EXPECT("h-");
    ck_assert(bs_thp_may_be_huge(heap));
    (void)give(BS_PAGE_SIZE, HUGE);
    EXPECT("n-");
    ck_assert(!bs_thp_may_be_huge(heap));
}
END_TEST

/* --- growth, where the kernel waits for advice ------------------------------------------------- */

/* A heap of so many bytes in spans, none of them in the region that comes next. */
static void use_heap(size_t bytes) {
    struct bs_pages pages;
    ck_assert(bs_grow(bytes / BS_PAGE_SIZE, bs_pageheap_grown()));
    while (bs_pageheap_alloc(BS_REGION_PAGES, 1, &pages))
        ;
}

/* One more region, for something of so many bytes: its advice. */
static char grow_for(size_t bytes) {
    struct bs_pages pages;
    ck_assert(bs_grow(bytes / BS_PAGE_SIZE, bs_pageheap_grown()));
    ck_assert(bs_pageheap_alloc(BS_REGION_PAGES, 1, &pages));
    heap = pages.base;
    char advice = advice_at(heap);
    ck_assert_int_eq(advice_at(heap + HUGE), advice);
    return advice;
}

START_TEST(a_large_heap_grows_in_huge_pages) {
    bs_opt.thp = BS_THP_AUTO;
    ck_assert_int_gt(bs_os_huge_page_size(), 0);
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 5);
    use_heap(BS_THP_GROWN_BYTES - BS_REGION_SIZE);
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), '-'); /* still small */
    ck_assert(!bs_thp_is_managed());
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), 'h');
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_HUGE);
    ck_assert(bs_thp_may_be_huge(heap));
    ck_assert(bs_thp_is_managed());
    ck_assert_int_eq(grow_for(2 * BS_THP_GROWN_BLOCK_BYTES), '-'); /* who knows what of it is written */
    ck_assert_int_eq(grow_for(BS_THP_GROWN_BLOCK_BYTES), 'h');
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), '-'); /* one is left of five, and it takes two */
    ck_assert_uint_eq(bs_counted(thp_grown), 4);
    bs_thp_pretend(BS_THP_KERNEL_ALWAYS, 5); /* it makes them of itself */
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), '-');
    bs_thp_pretend(BS_THP_KERNEL_NEVER, 5);
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), '-');
    bs_opt.thp = BS_THP_EDGE;
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 5);
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), '-');
}
END_TEST

/* For longer blocks where what the heap grew by before was filled, but for one page in four. */
START_TEST(a_dense_heap_grows_for_long_blocks) {
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0); /* only what is written comes into memory */
    bs_opt.thp = BS_THP_AUTO;
    ck_assert_int_gt(bs_os_huge_page_size(), 0);
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 100);
    use_heap(BS_THP_GROWN_BYTES);
    ck_assert_int_eq(grow_for(BS_MIB), '-');
    memset((void *)heap, 'x', BS_REGION_SIZE);
    ck_assert_int_eq(grow_for(BS_MIB), '-'); /* the one before is not */
    memset((void *)heap, 'x', BS_REGION_SIZE);
    ck_assert_int_eq(madvise((void *)heap, BS_REGION_SIZE / 2 + bs_os_page_size(), MADV_DONTNEED), 0);
    ck_assert_int_eq(grow_for(BS_MIB), '-'); /* a page too few */
    memset((void *)heap, 'x', BS_REGION_SIZE / 2);
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), 'h'); /* short ones do not ask */
    memset((void *)heap, 'x', BS_REGION_SIZE / 2);
    memset((void *)(heap - BS_REGION_SIZE), 'x', BS_REGION_SIZE);
    ck_assert_int_eq(grow_for(BS_MIB), 'h'); /* just enough */
    memset((void *)heap, 'x', BS_REGION_SIZE);
    ck_assert_int_eq(grow_for(BS_THP_GROWN_LONG_BYTES), 'h');
    memset((void *)heap, 'x', BS_REGION_SIZE);
    ck_assert_int_eq(grow_for(BS_THP_GROWN_LONG_BYTES + BS_PAGE_SIZE), '-');
}
END_TEST

START_TEST(slow_huge_pages_are_not_asked_for) {
    bs_opt.thp = BS_THP_AUTO;
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 100);
    use_heap(BS_THP_GROWN_BYTES);
    bs_thp_took(BS_THP_SLOW_NS);
    ck_assert_uint_eq(bs_counted(thp_slow), 0);
    bs_thp_took(BS_THP_SLOW_NS + 1);
    ck_assert_uint_eq(bs_counted(thp_slow), 1);
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), '-');
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 100); /* as a refresh does */
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), 'h');
    unsigned char vec[1];
    ck_assert_int_eq(bs_os_residency((void *)heap, bs_os_page_size(), vec), 0);
    if (bs_os_populate((void *)heap, bs_os_page_size()) == 0) /* Linux 5.14: it was tried */
        ck_assert_int_eq(vec[0] & 1, 1);
    ck_assert_int_ne(bs_os_populate((void *)(heap + BS_GIB * 1024), bs_os_page_size()), 0); /* nothing there */
}
END_TEST

START_TEST(a_long_block_gets_none_of_them) {
    bs_opt.thp = BS_THP_AUTO;
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 100);
    use_heap(BS_THP_GROWN_BYTES);
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), 'h');
    uintptr_t first = heap;
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), 'h');
    ck_assert_uint_eq(heap, first + BS_REGION_SIZE);
    heap = first;
    bs_thp_reused(heap + BS_PAGE_SIZE, HUGE); /* no huge page whole */
    EXPECT("hhhh");
    bs_thp_reused(heap + BS_PAGE_SIZE, 3 * HUGE);
    EXPECT("hnnh");
    ck_assert_int_eq(bs_thp_unused(heap, BS_PAGE_SIZE), 0); /* a hole: split as where the kernel makes all */
    EXPECT("nnnh");
    ck_assert_uint_eq(bs_counted(thp_split), 3);
    /* what became dense again gets it back, as there */
    ck_assert(bs_thp_note_dense(heap + HUGE));
    ck_assert(bs_thp_restore(heap + HUGE));
    EXPECT("nhnh");
}
END_TEST

#if BS_FAULTS
START_TEST(growth_does_not_depend_on_advice) {
    bs_opt.thp = BS_THP_AUTO;
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 4);
    use_heap(BS_THP_GROWN_BYTES);
    (void)bs_os_fail(0, 0, false);
    ck_assert(bs_grow(1, bs_pageheap_grown()));
    unsigned calls = bs_os_fail(0, 0, false); /* the advice is the last of them */
    struct bs_pages pages;
    ck_assert(bs_pageheap_alloc(BS_REGION_PAGES, 1, &pages));
    ck_assert_uint_eq(bs_counted(thp_grown), 2);
    (void)bs_os_fail(calls, EINVAL, false);
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), '-');
    (void)bs_os_fail(0, 0, false);
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_PLAIN);
    ck_assert_uint_eq(bs_counted(thp_grown), 2);
    ck_assert_int_eq(grow_for(BS_PAGE_SIZE), 'h'); /* and what was refused was not spent */
}
END_TEST
#endif

START_TEST(what_lies_ready_is_read) {
    static const char text[] =
        "Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3 \n"
        "Node 0, zone   Normal  17594  28310  12824   5314   1223    483    408    264    159     47   2429 \n"
        "Node 1, zone   Normal      1      2      3";
    ck_assert_uint_eq(bs_os_count_ready(text, 9), 1 + 2 * 3 + 47 + 2 * 2429);
    ck_assert_uint_eq(bs_os_count_ready(text, 10), 3 + 2429);
    ck_assert_uint_eq(bs_os_count_ready(text, 1000), 0);
    ck_assert_uint_eq(bs_os_count_ready(text, 2) - bs_os_count_ready(text, 3) * 2, 3 + 12824);
    ck_assert_uint_eq(bs_os_count_ready("", 9), 0);
    ck_assert_uint_eq(bs_os_count_ready("zone ", 9), 0);
    ck_assert_uint_eq(bs_os_count_ready("zone Normal", 0), 0);
    ck_assert_uint_eq(bs_os_count_ready("Node 0, zone Normal x\nNode 0, zone Normal 7", 0), 7);
    FILE *f = fopen("/proc/buddyinfo", "r");
    char own[4096] = "";
    if (f == NULL) {
        ck_assert_uint_eq(bs_os_huge_pages_ready(), 0);
        return;
    }
    (void)fread(own, 1, sizeof own - 1, f);
    fclose(f);
    /* of the same moment within a half: a machine that runs out meanwhile is no fault of ours */
    if (bs_os_page_size() == 4096 && bs_os_count_ready(own, 9) > 1000)
        ck_assert_uint_gt(bs_os_huge_pages_ready(), 0);
}
END_TEST

START_TEST(never_advises_everything) {
    take_heap(BS_THP_NEVER, BS_THP_KERNEL_ALWAYS);
    EXPECT("nnnn");
    ck_assert_uint_eq(give(BS_PAGE_SIZE, HUGE), 1);
}
END_TEST
START_TEST(system_advises_nothing) {
    struct bs_pages first;
    bs_opt.thp = BS_THP_SYSTEM;
    ck_assert(bs_grow(1, bs_pageheap_grown()));
    ck_assert(bs_pageheap_alloc(1, 1, &first));
    ck_assert_int_eq(advice_at(first.base), '-');
    ck_assert_int_eq(bs_thp_unused(first.base, BS_PAGE_SIZE), 0);
    ck_assert_int_eq(advice_at(first.base), '-');
}
END_TEST
START_TEST(the_first_region_has_none) {
    struct bs_pages first;
    ck_assert(bs_grow(2 * BS_REGION_PAGES, bs_pageheap_grown()));
    ck_assert(bs_pageheap_alloc(1, 1, &first));
    ck_assert_int_eq(advice_at(first.base), 'n');
    ck_assert_int_eq(advice_at(first.base + BS_REGION_SIZE), '-');
}
END_TEST

/* --- budget, refusal, renewal ----------------------------------------------------------------- */

START_TEST(the_budget_of_mappings_is_kept) {
    struct bs_pages pages;
    const size_t hugepages = 3000;
    take_heap(BS_THP_EDGE, BS_THP_KERNEL_NEVER);
    ck_assert(bs_grow(hugepages * BS_HUGE_PAGES, bs_pageheap_grown()));
    ck_assert(bs_pageheap_alloc(hugepages * BS_HUGE_PAGES, BS_HUGE_PAGES, &pages));
    size_t before = count_mappings();
    for (size_t i = 0; i < hugepages; i += 2) /* every other: the worst there is */
        require(bs_thp_unused(pages.base + i * HUGE, BS_PAGE_SIZE) == 0, "refused");
    size_t used = count_mappings() - before;
    ck_assert_uint_le(used, BS_THP_BORDERS_MAX);
    ck_assert_uint_ge(used, BS_THP_BORDERS_MAX - 8);
    ck_assert_uint_le(bs_thp_borders(), BS_THP_BORDERS_MAX);
    /* what fills a gap costs nothing, and gives some back */
    for (size_t i = 1; i < BS_THP_BORDERS_MAX - 32; i += 2)
        require(bs_thp_unused(pages.base + i * HUGE, BS_PAGE_SIZE) == 0, "refused");
    ck_assert_uint_lt(count_mappings() - before, used / 4);
    ck_assert_uint_le(bs_thp_borders(), BS_THP_BORDERS_MAX / 4);
}
END_TEST

#if BS_FAULTS
START_TEST(refused_advice_fails_nothing_and_is_not_noted) {
    take_heap(BS_THP_EDGE, BS_THP_KERNEL_NEVER);
    size_t borders = bs_thp_borders();
    memset((void *)heap, 'x', 2 * BS_PAGE_SIZE);
    (void)bs_os_fail(1, EINVAL, false);
    ck_assert_int_eq(bs_thp_unused(heap + BS_PAGE_SIZE, BS_PAGE_SIZE), 0);
    ck_assert_uint_eq(bs_os_fail(0, 0, false), 2);
    ck_assert_int_eq(((char *)heap)[BS_PAGE_SIZE], 0);
    EXPECT("--");
    ck_assert_uint_eq(bs_thp_borders(), borders);
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_PLAIN);
    ck_assert_uint_eq(give(BS_PAGE_SIZE, 2 * BS_PAGE_SIZE), 2); /* asked again next time */
    EXPECT("n-");
}
END_TEST
#endif

START_TEST(advised_ranges_are_copied_not_moved) {
    bs_opt.thp = BS_THP_EDGE;
    char *p = bs_large_alloc(8 * BS_MIB, 1, false), *wall = bs_large_alloc(BS_MIB, 1, false);
    memset(p, 'x', 8 * BS_MIB);
    ck_assert_int_eq(bs_thp_unused(bs_align_up((uintptr_t)p, HUGE) + HUGE, BS_PAGE_SIZE), 0);
    char *q = bs_large_resize(bs_span_of((uintptr_t)p), 24 * BS_MIB);
    ck_assert_ptr_nonnull(q);
    ck_assert_uint_eq(bs_counted(large_moved), 0);
    ck_assert_uint_eq(bs_counted(large_copied), 1);
    ck_assert_int_eq(q[100], 'x');
    bs_large_free(bs_span_of((uintptr_t)wall));
    bs_large_free(bs_span_of((uintptr_t)q));
}
END_TEST

START_TEST(advice_moves_along) {
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 0);
    char *p = bs_large_alloc(2 * BS_MIB, 1, false), *wall = bs_large_alloc(BS_MIB, 1, false);
    ck_assert_int_eq(advice_at((uintptr_t)p), 'n'); /* in the first region */
    memset(p, 'x', 2 * BS_MIB);
    char *q = bs_large_resize(bs_span_of((uintptr_t)p), 24 * BS_MIB);
    ck_assert_uint_eq(bs_counted(large_moved), 1);
    ck_assert_int_eq(q[100], 'x');
    uintptr_t inside = bs_align_up((uintptr_t)q, HUGE);
    ck_assert_int_eq(advice_at((uintptr_t)q), 'n');
    ck_assert(bs_thp_is_uniform((uintptr_t)q, 2 * BS_MIB, true));
    if (inside == (uintptr_t)q)
        ck_assert_int_eq(bs_thp_state_of(inside), BS_THP_SMALL);
    bs_large_free(bs_span_of((uintptr_t)q)); /* mapped anew */
    ck_assert_int_eq(advice_at(inside + HUGE), '-');
    ck_assert_int_eq(bs_thp_state_of(inside + HUGE), BS_THP_PLAIN);
    bs_large_free(bs_span_of((uintptr_t)wall));
}
END_TEST

START_TEST(a_renewed_range_is_plain) {
    take_heap(BS_THP_EDGE, BS_THP_KERNEL_NEVER);
    size_t borders = bs_thp_borders();
    (void)give(BS_PAGE_SIZE, 4 * HUGE - BS_PAGE_SIZE);
    EXPECT("n--n-");
    ck_assert(!bs_thp_is_uniform(heap, 2 * HUGE, false));
    ck_assert(bs_thp_is_uniform(heap + HUGE, 2 * HUGE, false));
    ck_assert(!bs_thp_is_uniform(heap + BS_PAGE_SIZE, 2 * HUGE, false));
    ck_assert(!bs_thp_is_uniform(heap + BS_PAGE_SIZE, 2 * HUGE, true)); /* advised since */
    ck_assert_int_eq(bs_os_renew((void *)heap, 4 * HUGE), 0);
    bs_thp_renewed(heap, 4 * HUGE);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(bs_thp_state_of(heap + i * HUGE), BS_THP_PLAIN);
    ck_assert_uint_eq(bs_thp_borders(), borders);
    (void)give(BS_PAGE_SIZE, HUGE);
    EXPECT("n----");
}
END_TEST

START_TEST(a_part_mapped_anew_is_advised_as_the_rest) {
    take_heap(BS_THP_EDGE, BS_THP_KERNEL_NEVER);
    (void)give(BS_PAGE_SIZE, HUGE);
    EXPECT("n-");
    size_t before = count_mappings();
    for (size_t at = 4 * BS_PAGE_SIZE; at < HUGE; at += 16 * BS_PAGE_SIZE) {
        require(bs_os_renew((void *)(heap + at), 2 * BS_PAGE_SIZE) == 0, "refused");
        bs_os_name((void *)(heap + at), 2 * BS_PAGE_SIZE, BS_HEAP_NAME);
        bs_thp_renewed(heap + at, 2 * BS_PAGE_SIZE);
        require(advice_at(heap + at) == 'n', "not advised");
    }
    ck_assert_int_eq(bs_thp_state_of(heap), BS_THP_SMALL);
    ck_assert_uint_le(count_mappings(), before + 1);
}
END_TEST

START_TEST(the_kernels_setting_is_read) {
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    char text[128] = "";
    if (f != NULL) {
        ck_assert_ptr_nonnull(fgets(text, sizeof text, f));
        fclose(f);
    }
    enum bs_thp_kernel kernel = bs_os_thp_kernel();
    if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1) /* by whoever started us */
        ck_assert_int_eq(kernel, BS_THP_KERNEL_NEVER);
    else if (strstr(text, "[always]") != NULL)
        ck_assert_int_eq(kernel, BS_THP_KERNEL_ALWAYS);
    else if (strstr(text, "[madvise]") != NULL)
        ck_assert_int_ge(kernel, BS_THP_KERNEL_MADVISE);
    bs_opt.thp = BS_THP_AUTO;
    bs_thp_refresh(1);
    ck_assert(bs_thp_is_managed() == (kernel == BS_THP_KERNEL_ALWAYS));
}
END_TEST

int main(void) {
    if (bs_os_huge_page_size() != (long)HUGE) {
        puts("skipped: this kernel has no huge pages of 2 MiB");
        return 77;
    }
    Suite *suite = suite_create("thp");
    TCase *tc = add_case(suite, "edge");
    tcase_add_test(tc, edge_advises_the_huge_pages_of_unaligned_ends);
    tcase_add_test(tc, edge_lets_the_kernel_when_all_is_used_again);
    tcase_add_test(tc, a_large_block_over_it_counts_as_used_again);
    tc = add_case(suite, "others");
    tcase_add_test(tc, auto_advises_where_the_kernel_makes_huge_pages_only);
    tcase_add_test(tc, auto_gives_back_what_was_dense_twice);
    tcase_add_test(tc, a_large_heap_grows_in_huge_pages);
    tcase_add_test(tc, a_dense_heap_grows_for_long_blocks);
    tcase_add_test(tc, slow_huge_pages_are_not_asked_for);
    tcase_add_test(tc, a_long_block_gets_none_of_them);
#if BS_FAULTS
    tcase_add_test(tc, growth_does_not_depend_on_advice);
#endif
    tcase_add_test(tc, what_lies_ready_is_read);
    tcase_add_test(tc, never_advises_everything);
    tcase_add_test(tc, system_advises_nothing);
    tcase_add_test(tc, the_first_region_has_none);
    tc = add_case(suite, "limits");
    tcase_add_test(tc, the_budget_of_mappings_is_kept);
#if BS_FAULTS
    tcase_add_test(tc, refused_advice_fails_nothing_and_is_not_noted);
#endif
    tcase_add_test(tc, advised_ranges_are_copied_not_moved);
    tcase_add_test(tc, advice_moves_along);
    tcase_add_test(tc, a_renewed_range_is_plain);
    tcase_add_test(tc, a_part_mapped_anew_is_advised_as_the_rest);
    tcase_add_test(tc, the_kernels_setting_is_read);
    return run_suite(suite);
}
