/* SPDX-License-Identifier: MIT */
/*
 * check_sides.c - the tables of side bits that a scan hangs into the arenas (sides.h): which arena gets which, where
 * there are too few, and where there is no arena at all.
 */
#include "sides.h"

#include "heap.h"
#include "meta.h"
#include "unit.h"

#define NARENAS 3

static uintptr_t base[NARENAS]; /* a block of each arena */

/* A heap of at least so many arenas. */
static void grow(void) {
    for (size_t n = 0; n < NARENAS;) {
        uintptr_t p = (uintptr_t)bs_heap_alloc(BS_ARENA_SIZE / 2);
        require(p != 0, "no memory");
        size_t i = 0;
        while (i < n && base[i] >> BS_ARENA_SHIFT != p >> BS_ARENA_SHIFT)
            i++;
        if (i == n)
            base[n++] = p;
    }
}

static size_t with_tables(enum bs_side side) {
    size_t n = 0;
    for (size_t i = 0; i < NARENAS; i++)
        n += bs_marks_table(base[i], side) != NULL;
    return n;
}

/* A scan may come before the first block. */
START_TEST(a_heap_without_arenas_needs_none) {
    struct bs_sides sides;
    ck_assert_uint_eq(bs_sides_count(), 0);
    ck_assert(bs_sides_make(&sides, BS_SIDE_SEEN));
    ck_assert_ptr_null(sides.tables);
    bs_sides_drop(&sides);
}
END_TEST

START_TEST(each_arena_has_its_own) {
    struct bs_sides sides;
    grow();
    size_t metadata = bs_meta_used_bytes();
    ck_assert(bs_sides_make(&sides, BS_SIDE_SEEN));
    ck_assert_uint_eq(sides.n, bs_sides_count());
    for (size_t i = 0; i < NARENAS; i++)
        for (size_t k = 0; k < i; k++)
            ck_assert_ptr_ne(bs_marks_table(base[i], BS_SIDE_SEEN), bs_marks_table(base[k], BS_SIDE_SEEN));
    ck_assert_uint_eq(with_tables(BS_SIDE_SEEN), NARENAS);
    ck_assert_uint_eq(with_tables(BS_SIDE_LOST), 0);
    bs_sides_drop(&sides);
    ck_assert_uint_eq(with_tables(BS_SIDE_SEEN), 0);
    ck_assert_uint_eq(bs_meta_used_bytes(), metadata);
}
END_TEST

/* The heap has grown since they were counted: what lies behind the last table is no table. */
START_TEST(arenas_beyond_the_tables_have_none) {
    grow();
    size_t all = bs_sides_count(), bytes = all * sizeof(struct bs_marks);
    struct bs_marks *tables = bs_meta_map(bytes);
    ck_assert_ptr_nonnull(tables);
    for (size_t n = 0; n <= all; n++) {
        bs_sides_publish(BS_SIDE_SEEN, tables, n);
        for (size_t i = 0; i < NARENAS; i++) {
            const struct bs_marks *table = bs_marks_table(base[i], BS_SIDE_SEEN);
            require(table == NULL || (table >= tables && table < tables + n), "of %zu tables one has number %zu", n,
                    (size_t)(table - tables));
        }
    }
    ck_assert_uint_eq(with_tables(BS_SIDE_SEEN), NARENAS);
    bs_sides_publish(BS_SIDE_SEEN, NULL, 0);
    ck_assert_uint_eq(with_tables(BS_SIDE_SEEN), 0);
    bs_meta_unmap(tables, bytes);
}
END_TEST

/* The memory of the old kind's is given back while the new kind's is used: nothing may lead to it by the old name. */
START_TEST(what_has_turned_has_one_name) {
    struct bs_sides sides;
    struct bs_marks *table[NARENAS];
    grow();
    ck_assert(bs_sides_make(&sides, BS_SIDE_NOW));
    for (size_t i = 0; i < NARENAS; i++)
        table[i] = bs_marks_table(base[i], BS_SIDE_NOW);
    bs_sides_turn(BS_SIDE_NOW, BS_SIDE_LOST);
    for (size_t i = 0; i < NARENAS; i++)
        ck_assert_ptr_eq(bs_marks_table(base[i], BS_SIDE_LOST), table[i]);
    ck_assert_uint_eq(with_tables(BS_SIDE_NOW), 0);
    sides.side = BS_SIDE_LOST;
    bs_sides_drop(&sides);
    ck_assert_uint_eq(with_tables(BS_SIDE_LOST), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sides");
    TCase *tc = add_case(suite, "sides");
    tcase_add_test(tc, a_heap_without_arenas_needs_none);
    tcase_add_test(tc, each_arena_has_its_own);
    tcase_add_test(tc, arenas_beyond_the_tables_have_none);
    tcase_add_test(tc, what_has_turned_has_one_name);
    return run_suite(suite);
}
