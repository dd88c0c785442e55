/* SPDX-License-Identifier: MIT */
/*
 * check_pagemap.c - address -> class and span, for every kind of word: known pages, their
 * neighbours, other arenas, and garbage; before the first arena, and when memory is short.
 *
 * Spans are only pointers to the page map, and pages only addresses: nothing here is memory.
 */
#include "pagemap.h"

#include "meta.h"
#include "os.h"
#include "unit.h"

#include <limits.h>
#include <sys/prctl.h>

#define FIRST ((uintptr_t)0x123 << BS_ARENA_SHIFT)
#define SPAN(n) ((struct bs_span *)(uintptr_t)((n)*64 + 64))

static uint64_t seed = 1;

static const uintptr_t garbage[] = {
    0,
    1,
    BS_PAGE_SIZE,
    UINTPTR_MAX,
    UINTPTR_MAX - BS_PAGE_SIZE,
    (uintptr_t)1 << 63,
    (uintptr_t)1 << BS_ADDRESS_BITS,
    ((uintptr_t)1 << BS_ADDRESS_BITS) - 1,
    0xdeadbeefdeadbeef,
    0x00007fffffffffff,
    0xffff800000000000,
};

static void check_unknown(uintptr_t p) {
    require(bs_pagemap_class(p) == 0, "class of %zx", p);
    require(bs_pagemap_near_class(p) == 0, "near class of %zx", p);
    require(bs_pagemap_arena(p) == NULL, "arena of %zx", p);
    require(bs_pagemap_span(p) == NULL, "span of %zx", p);
}

START_TEST(before_the_first_arena) {
    ck_assert_ptr_null(bs_pagemap_table);
    ck_assert_ptr_null(bs_pagemap_near);
    for (size_t i = 0; i < BS_ARRAY_LEN(garbage); i++)
        check_unknown(garbage[i]);
    for (unsigned i = 0; i < 100000; i++)
        check_unknown((uintptr_t)random_next(&seed) >> random_below(&seed, 64));
}
END_TEST

START_TEST(garbage_is_unknown) {
    ck_assert(bs_pagemap_add(FIRST, BS_ARENA_SIZE));
    bs_pagemap_set(FIRST, BS_ARENA_PAGES, SPAN(1), 7);
    for (size_t i = 0; i < BS_ARRAY_LEN(garbage); i++)
        check_unknown(garbage[i]);
    check_unknown(FIRST - 1);
    check_unknown(FIRST + BS_ARENA_SIZE);
    for (unsigned i = 0; i < 1000000 / UNIT_SLOWNESS; i++) {
        uintptr_t p = (uintptr_t)random_next(&seed) >> random_below(&seed, 64);
        if (p - FIRST >= BS_ARENA_SIZE)
            check_unknown(p);
    }
}
END_TEST

/* Random sets and clears over three neighbouring arenas against an array. */
START_TEST(sets_against_an_array) {
    enum { PAGES = 3 * BS_ARENA_PAGES };
    static uint8_t class[PAGES];
    static uint16_t span[PAGES];
    ck_assert(bs_pagemap_add(FIRST, 3 * BS_ARENA_SIZE));
    for (uint16_t step = 1; step < 2000 / UNIT_SLOWNESS; step++) {
        size_t page = random_below(&seed, PAGES);
        size_t n = bs_min(PAGES - page, 1 + random_skewed(&seed, 14));
        uint8_t c = (uint8_t)random_below(&seed, 68);
        uintptr_t base = FIRST + page * BS_PAGE_SIZE;
        bool clear = random_below(&seed, 3) == 0;
        if (clear)
            bs_pagemap_clear_class(base, n);
        else
            bs_pagemap_set(base, n, SPAN(step), c);
        for (size_t i = page; i < page + n; i++) {
            class[i] = clear ? 0 : c;
            span[i] = clear ? span[i] : step; /* entries are never cleared */
        }
        for (unsigned k = 0; k < 200; k++) {
            size_t i =
                k < 4 ? (page + n * (k / 2) + PAGES - k % 2) % PAGES : random_below(&seed, PAGES);
            uintptr_t p = FIRST + i * BS_PAGE_SIZE + random_below(&seed, BS_PAGE_SIZE);
            require(bs_pagemap_class(p) == class[i], "step %u: class of page %zu", step, i);
            require(bs_pagemap_span(p) == (span[i] == 0 ? NULL : SPAN(span[i])),
                    "step %u: span of page %zu", step, i);
        }
    }
}
END_TEST

/* Large spans come, grow, are cut and go among small ones, as their owners have them do. What is free
 * says anything. */
enum { LARGE_PAGES = 3 * BS_ARENA_PAGES, LARGE_SPANS = 10 };
static struct {
    size_t page, n; /* n == 0: there is none */
    bool small;
} spans[LARGE_SPANS];
static uint16_t owner[LARGE_PAGES]; /* number of the span + 1; 0: free */

static void own_pages(size_t page, size_t n, uint16_t who) {
    for (size_t i = page; i < page + n; i++)
        owner[i] = who;
}

static size_t free_pages_from(size_t page) {
    size_t n = 0;
    while (page + n < LARGE_PAGES && owner[page + n] == 0)
        n++;
    return n;
}

static void begin_span(uint16_t k) {
    size_t page = random_below(&seed, LARGE_PAGES), room = free_pages_from(page);
    if (random_below(&seed, 2) == 0) /* at a border */
        page = bs_align_down(page, (size_t)64 << random_below(&seed, 8)), room = free_pages_from(page);
    if (room == 0)
        return;
    spans[k].page = page;
    spans[k].n = bs_min(room, 1 + random_skewed(&seed, 15));
    spans[k].small = random_below(&seed, 3) == 0;
    own_pages(page, spans[k].n, k + 1);
    uintptr_t base = FIRST + page * BS_PAGE_SIZE;
    if (spans[k].small)
        bs_pagemap_set_small(base, spans[k].n, SPAN(k), 5);
    else
        bs_pagemap_set_large(base, spans[k].n, SPAN(k));
}

static void change_span(uint16_t k) {
    uintptr_t base = FIRST + spans[k].page * BS_PAGE_SIZE;
    size_t n = spans[k].n, end = spans[k].page + n;
    size_t more = bs_min(free_pages_from(end), random_skewed(&seed, 14)), fewer = random_below(&seed, n);
    bool grow = !spans[k].small && random_below(&seed, 3) == 0, cut = !spans[k].small && !grow;
    if (grow && more != 0) {
        bs_pagemap_set_large(base + n * BS_PAGE_SIZE, more, SPAN(k));
        own_pages(end, more, k + 1);
        spans[k].n += more;
    } else if (cut && fewer != 0 && random_below(&seed, 2) == 0) {
        bs_pagemap_cut_large(base, n - fewer, n, SPAN(k));
        own_pages(end - fewer, fewer, 0);
        spans[k].n -= fewer;
    } else {
        if (spans[k].small)
            bs_pagemap_clear_class(base, n);
        else
            bs_pagemap_forget_large(base, n, SPAN(k));
        own_pages(spans[k].page, n, 0);
        spans[k].n = 0;
    }
}

static void check_span_at(size_t i, unsigned step) {
    uintptr_t p = FIRST + i * BS_PAGE_SIZE + random_below(&seed, BS_PAGE_SIZE);
    require(owner[i] == 0 || bs_pagemap_span(p) == SPAN(owner[i] - 1), "step %u: page %zu", step, i);
}

START_TEST(large_spans_against_an_array) {
    ck_assert(bs_pagemap_add(FIRST, LARGE_PAGES * BS_PAGE_SIZE));
    for (unsigned step = 0; step < 20000 / UNIT_SLOWNESS; step++) {
        uint16_t k = (uint16_t)random_below(&seed, LARGE_SPANS);
        if (spans[k].n == 0)
            begin_span(k);
        else
            change_span(k);
        for (k = 0; k < LARGE_SPANS; k++) {
            if (spans[k].n == 0)
                continue;
            check_span_at(spans[k].page, step);
            check_span_at(spans[k].page + spans[k].n - 1, step);
            check_span_at(spans[k].page + random_below(&seed, spans[k].n), step);
        }
        if (step % 1000 == 0)
            for (size_t i = 0; i < LARGE_PAGES; i++)
                check_span_at(i, step);
    }
}
END_TEST

/* Blocks of a hidden page whose free matters, against a list of them: none is ever missed, the byte leads to the slow
 * door while there is one, and while there are four at most no other block is taken for one. */
START_TEST(which_frees_matter) {
    enum { BLOCKS = 64, SIZE = BS_PAGE_SIZE / BLOCKS, CLASS = 5 };
    static unsigned counted[BLOCKS];
    unsigned n = 0, few_since = 0;
    ck_assert(bs_pagemap_add(FIRST, BS_PAGE_SIZE));
    bs_pagemap_set_small(FIRST, 1, SPAN(1), CLASS);
    ck_assert_uint_eq(bs_pagemap_near_class(FIRST), CLASS);
    bs_pagemap_hide(FIRST, 1, BS_HIDE_SOME);
    for (unsigned step = 0; step < 20000; step++) {
        unsigned i = (unsigned)random_below(&seed, BLOCKS);
        bool more = random_below(&seed, step / 100 % 2 == 0 ? 10 : 3) == 0;
        if (!more && counted[i] == 0)
            continue;
        counted[i] += more ? 1 : -1u;
        n += more ? 1 : -1u;
        bs_pagemap_count(FIRST + i * SIZE, more ? +1 : -1);
        ck_assert_uint_eq(bs_pagemap_near_class(FIRST), n == 0 ? CLASS : 0);
        few_since = n == 0 ? step : n > BS_HIDDEN_PLACES ? UINT_MAX : few_since;
        for (unsigned k = 0; k < BLOCKS; k++) {
            uintptr_t p = FIRST + k * SIZE;
            ck_assert_uint_eq(bs_pagemap_hidden_class(p), CLASS);
            unsigned plain = bs_pagemap_plain_class(p);
            require(counted[k] == 0 || plain == 0, "step %u: block %u is missed", step, k);
            require(counted[k] != 0 || few_since == UINT_MAX || plain == CLASS, "step %u: block %u", step, k);
        }
    }
    ck_assert_uint_ne(few_since, 0);
}
END_TEST

/* Both ends of a block of many arenas cost a little, and nothing between them. */
START_TEST(an_untouched_block_costs_little) {
    enum { ARENAS = 64, PAGES = ARENAS * BS_ARENA_PAGES };
    ck_assert(bs_pagemap_add(FIRST, (size_t)PAGES * BS_PAGE_SIZE));
    size_t before = bs_meta_resident_bytes();
    for (size_t first = 100; first < 10000; first += 99) {
        bs_pagemap_set_large(FIRST + first * BS_PAGE_SIZE, PAGES - 10000, SPAN(1));
        bs_pagemap_forget_large(FIRST + first * BS_PAGE_SIZE, PAGES - 10000, SPAN(1));
    }
    size_t cost = bs_meta_resident_bytes() - before;
    ck_assert_msg(cost <= 32 * bs_os_page_size(), "a block costs %zu bytes of memory", cost);
}
END_TEST

START_TEST(what_was_ours_is_known) {
    const uintptr_t base = FIRST + 100 * BS_PAGE_SIZE;
    ck_assert(bs_pagemap_add(FIRST, BS_ARENA_SIZE));
    for (size_t n = 1; n < 200; n += 11) {
        bs_pagemap_set_large(base, n, SPAN(n));
        bs_pagemap_forget_large(base, n, SPAN(n));
        for (size_t i = 0; i < n; i++)
            require(bs_pagemap_was_ours(base + i * BS_PAGE_SIZE), "page %zu of %zu", i, n);
    }
    ck_assert(!bs_pagemap_was_ours(FIRST + BS_REGION_SIZE));
    ck_assert(!bs_pagemap_was_ours(FIRST + BS_ARENA_SIZE));
    ck_assert(bs_pagemap_add(FIRST + BS_ARENA_SIZE, BS_ARENA_SIZE));
    ck_assert(!bs_pagemap_was_ours(FIRST + BS_ARENA_SIZE + 3 * BS_REGION_SIZE));
    bs_pagemap_set_large(FIRST + BS_ARENA_SIZE, BS_ARENA_PAGES, SPAN(1));
    ck_assert(bs_pagemap_was_ours(FIRST + BS_ARENA_SIZE + 3 * BS_REGION_SIZE));
    bs_pagemap_forget_large(FIRST + BS_ARENA_SIZE, BS_ARENA_PAGES, SPAN(1));
    ck_assert(bs_pagemap_was_ours(FIRST + BS_ARENA_SIZE + 3 * BS_REGION_SIZE));
}
END_TEST

START_TEST(arenas_anywhere) {
    const uintptr_t number[] = {1, 2, BS_MAX_ARENAS - 1, 511, 512, 513, BS_MAX_ARENAS / 2};
    for (size_t i = 0; i < BS_ARRAY_LEN(number); i++) {
        uintptr_t base = number[i] << BS_ARENA_SHIFT;
        check_unknown(base);
        ck_assert(bs_pagemap_add(base + 5 * BS_REGION_SIZE, BS_REGION_SIZE)); /* a part is enough */
        struct bs_arena *arena = bs_pagemap_arena(base);
        ck_assert_ptr_nonnull(arena);
        ck_assert_ptr_eq(bs_pagemap_arena(base + BS_ARENA_SIZE - 1), arena);
        bs_pagemap_set(base + BS_ARENA_SIZE - BS_PAGE_SIZE, 1, SPAN(i), (unsigned)i + 1);
        ck_assert(bs_pagemap_add(base, BS_ARENA_SIZE)); /* idempotent */
        ck_assert_ptr_eq(bs_pagemap_arena(base), arena);
        ck_assert_ptr_eq(arena->span[BS_ARENA_PAGES - 1], SPAN(i));
    }
    for (size_t i = 0; i < BS_ARRAY_LEN(number); i++)
        ck_assert_uint_eq(bs_pagemap_class(((number[i] + 1) << BS_ARENA_SHIFT) - 1), i + 1);
}
END_TEST

/* (What is read of it before it is written to may be a huge page of zeros, one for all processes, and would look like
 * memory of this one.) */
START_TEST(table_costs_little) {
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    size_t before = bs_meta_resident_bytes();
    ck_assert(bs_pagemap_add(FIRST, BS_REGION_SIZE));
    size_t cost = bs_meta_resident_bytes() - before;
    ck_assert_msg(cost <= 4 * bs_os_page_size(), "one arena costs %zu bytes of memory", cost);
}
END_TEST

#if BS_FAULTS
#define CALLS_MAX 10

/* The nth call fails. That of the flat map may: lookups go the far way then. So may advice on huge
 * pages in metadata. */
START_TEST(no_memory) {
    bs_os_fail((unsigned)_i, 12 /* ENOMEM */, false);
    bool added = bs_pagemap_add(FIRST, BS_REGION_SIZE);
    unsigned calls = bs_os_fail(0, 0, false);
    ck_assert_uint_lt(calls, CALLS_MAX);
    ck_assert(added || calls >= (unsigned)_i);
    if (!added) {
        check_unknown(FIRST);
        ck_assert(bs_pagemap_add(FIRST, BS_REGION_SIZE));
    }
    ck_assert_ptr_nonnull(bs_pagemap_arena(FIRST));
    ck_assert(bs_pagemap_add(FIRST + BS_ARENA_SIZE, BS_ARENA_SIZE));
    bs_pagemap_set(FIRST, BS_ARENA_PAGES, SPAN(1), 7);
    bs_pagemap_set(FIRST + BS_ARENA_SIZE, BS_ARENA_PAGES, SPAN(2), 9);
    for (uintptr_t p = FIRST; p < FIRST + 2 * BS_ARENA_SIZE; p += BS_PAGE_SIZE)
        ck_assert_uint_eq(bs_pagemap_class(p), p < FIRST + BS_ARENA_SIZE ? 7 : 9);
    check_unknown(FIRST + 2 * BS_ARENA_SIZE);
}
END_TEST
#endif

int main(void) {
    Suite *suite = suite_create("pagemap");
    TCase *tc = add_case(suite, "pagemap");
    tcase_add_test(tc, before_the_first_arena);
    tcase_add_test(tc, garbage_is_unknown);
    tcase_add_test(tc, sets_against_an_array);
    tcase_add_test(tc, large_spans_against_an_array);
    tcase_add_test(tc, which_frees_matter);
    tcase_add_test(tc, what_was_ours_is_known);
    tcase_add_test(tc, an_untouched_block_costs_little);
    tcase_add_test(tc, arenas_anywhere);
    tcase_add_test(tc, table_costs_little);
#if BS_FAULTS
    tcase_add_loop_test(tc, no_memory, 1, CALLS_MAX);
#endif
    return run_suite(suite);
}
