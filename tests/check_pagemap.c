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

START_TEST(table_costs_little) {
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
    tcase_add_test(tc, arenas_anywhere);
    tcase_add_test(tc, table_costs_little);
#if BS_FAULTS
    tcase_add_loop_test(tc, no_memory, 1, CALLS_MAX);
#endif
    return run_suite(suite);
}
