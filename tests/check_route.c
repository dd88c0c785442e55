/* SPDX-License-Identifier: MIT */
/*
 * check_route.c - sizes that a larger class serves (route.h): which, when, and that they come home; what never is; which
 * share from the start; what threads and a child of fork find in the tables.
 *
 * Everything goes through heap.h, as a program does, in a new process each. Classes are told by what blocks can hold.
 */
#include "heap.h"

#include "central.h"
#include "home_unit.h"
#include "unit.h"

#include <pthread.h>
#include <string.h>

static void *take(size_t size) {
    void *p = bs_heap_alloc(size);
    require(p != NULL && bs_heap_usable(p) >= size, "no block of %zu bytes", size);
    memset(p, 1, size);
    return p;
}
static size_t spans_of(size_t size) {
    return bs_central_counts(bs_class_smallest(size)).spans;
}

START_TEST(a_class_without_a_span_has_a_host) {
    size_t size[][2] = {{4096, 2304}, {8192, 5000}, {32768, 17000}};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        bs_heap_free(take(size[i][0]));
        void *p = take(size[i][1]);
        ck_assert_uint_eq(bs_heap_usable(p), size[i][0]);
        ck_assert_uint_eq(spans_of(size[i][1]), 0);
        bs_heap_free(p);
    }
}
END_TEST

START_TEST(blocks_are_at_most_twice_as_large) {
    bs_heap_free(take(6656));
    ck_assert_uint_eq(bs_heap_usable(take(3328)), 6656);
    ck_assert_uint_eq(bs_heap_usable(take(2816)), 2816);
}
END_TEST

/* There is little to save, once they have left the class that they begin with. */
START_TEST(classes_of_short_spans_have_none) {
    all_sizes_at_home();
    bs_heap_free(take(64));
    bs_heap_free(take(1280));
    ck_assert_uint_eq(bs_heap_usable(take(48)), 48);
    ck_assert_uint_eq(bs_heap_usable(take(1024)), 1024);
    ck_assert_uint_eq(bs_heap_usable(take(1152)), 1152);
}
END_TEST

START_TEST(a_class_that_is_much_used_has_spans_of_its_own) {
    bs_heap_free(take(8192));
    size_t in_host = 0, have = 0, slots = bs_class_info[bs_class_smallest(8192)].nslots;
    for (int i = 0; i < 100; i++) {
        have = bs_heap_usable(take(6000));
        in_host += have == 8192;
    }
    ck_assert_uint_eq(have, bs_class_info[bs_class_smallest(6000)].size);
    require(in_host >= 1 && in_host <= slots, "%zu of 100 blocks in too large slots", in_host);
    ck_assert_uint_eq(spans_of(8192), 1);
    ck_assert_uint_eq(bs_class_of(6000), bs_class_smallest(6000));
}
END_TEST

/* realloc asks for more than its caller did: the class of that is meant. */
START_TEST(a_class_that_realloc_uses_much_has_spans_too) {
    bs_heap_free(take(8192));
    ck_assert_uint_eq(bs_heap_usable(take(5120)), 8192);
    void *p = NULL;
    for (int i = 0; i < 100; i++) {
        p = bs_heap_alloc_aligned(4096, 4096); /* in its own class */
        require(p != NULL && (p = bs_heap_realloc(p, 5000)) != NULL, "no memory");
    }
    ck_assert_uint_eq(bs_heap_usable(p), 5120);
    ck_assert_uint_eq(spans_of(8192), 1);
}
END_TEST

START_TEST(sizes_come_home_to_a_span) {
    bs_heap_free(take(8192));
    ck_assert_uint_eq(bs_heap_usable(take(5120)), 8192);
    void *aligned = bs_heap_alloc_aligned(1024, 5120); /* has no host, but a new span */
    ck_assert_uint_eq(bs_heap_usable(aligned), 5120);
    for (unsigned i = 0; bs_class_of(5120) != bs_class_smallest(5120); i++) {
        require(i < bs_class_info[bs_class_smallest(8192)].nslots, "they stay with the host");
        (void)take(5120);
    }
    ck_assert_uint_eq(spans_of(5120), 1);
}
END_TEST

START_TEST(a_host_without_a_span_is_none) {
    bs_heap_free(take(8192));
    void *p = take(5120);
    ck_assert_uint_eq(bs_heap_usable(p), 8192);
    bs_heap_free(p);
    (void)bs_heap_trim(0);
    ck_assert_uint_eq(spans_of(8192), 0);
    ck_assert_uint_eq(bs_heap_usable(take(5120)), 5120);
}
END_TEST

START_TEST(aligned_blocks_have_no_host) {
    bs_heap_free(take(5120));
    bs_heap_free(take(4096)); /* in a block of 5120 bytes */
    for (int i = 0; i < 100; i++) {
        char *p = bs_heap_alloc_aligned(4096, 4096);
        require(p != NULL && (uintptr_t)p % 4096 == 0, "block %p is not aligned to 4096",
                (void *)p);
        memset(p, 1, 4096);
    }
}
END_TEST

START_TEST(resized_and_cleared_blocks_keep_their_content) {
    bs_heap_free(take(4096));
    char *p = bs_heap_alloc_zero(3000);
    ck_assert_uint_eq(bs_heap_usable(p), 4096);
    for (size_t i = 0; i < 3000; i++)
        require(p[i] == 0, "byte %zu is %d", i, p[i]);
    memset(p, 7, 3000);
    for (size_t size = 2100; size <= 30000; size += 300) {
        p = bs_heap_realloc(p, size);
        require(p != NULL && bs_heap_usable(p) >= size, "%zu bytes do not fit", size);
        for (size_t i = 0; i < 2100; i++)
            require(p[i] == 7, "%zu bytes: byte %zu is %d", size, i, p[i]);
        (void)take(size);
    }
}
END_TEST

/* check:full, for one: each block comes from a span of its own class. */
START_TEST(a_thread_without_a_cache_has_no_host) {
    bs_heap_free(take(8192));
    bs_tcache_disable();
    ck_assert_uint_eq(bs_heap_usable(take(1)), 8);
    ck_assert_uint_eq(bs_heap_usable(take(5000)), 5120);
    ck_assert_uint_eq(bs_class_of(5000), bs_class_smallest(5000));
}
END_TEST

/* --- what is shared from the start -------------------------------------------------------------- */

START_TEST(small_sizes_begin_in_one_span) {
    const size_t sizes[][3] = {{1, 16, 32},      {33, 48, 64},     {65, 112, 128},    {144, 240, 256},
                               {288, 500, 512}, {520, 900, 1024}, {1025, 1664, 2048}};
    for (size_t i = 0; i < BS_ARRAY_LEN(sizes); i++) {
        for (size_t k = 0; k < 3; k++)
            ck_assert_uint_eq(bs_heap_usable(take(sizes[i][k])), sizes[i][2]);
        for (unsigned class = bs_class_smallest(sizes[i][0]); bs_class_info[class].size < sizes[i][2]; class++)
            ck_assert_uint_eq(bs_central_counts(class).spans, 0);
        ck_assert_uint_eq(spans_of(sizes[i][2]), 1);
    }
    ck_assert_uint_eq(bs_heap_usable(take(2049)), 2304);
}
END_TEST

/* As many blocks as half of the first span holds, and a refill's. */
START_TEST(a_size_that_is_much_used_leaves_its_host) {
    const size_t sizes[][2] = {{0, 32},    {8, 32},    {16, 32},    {40, 64},    {100, 128},
                               {200, 256}, {400, 512}, {800, 1024}, {1500, 2048}};
    size_t size = sizes[_i][0], host = sizes[_i][1], in_host = 0, have = 0;
    size_t slots = bs_class_info[bs_class_smallest(host)].nslots;
    for (int i = 0; i < 1000; i++) {
        have = bs_heap_usable(take(size));
        in_host += have == host;
    }
    ck_assert_uint_eq(have, bs_class_info[bs_class_smallest(size)].size);
    require(in_host >= slots / 2 && in_host <= slots, "%zu of 1000 blocks in too large slots", in_host);
    ck_assert_uint_eq(spans_of(host), 1);
    for (size_t i = 0; i <= size; i++) /* all of the class */
        if (bs_class_smallest(i) == bs_class_smallest(size))
            ck_assert_uint_eq(bs_class_of(i), bs_class_smallest(i));
}
END_TEST

/* Also when half of its slots are free again. */
START_TEST(a_host_with_two_spans_is_left) {
    enum { n = 400 };
    void *block[n];
    for (int i = 0; i < n; i++)
        block[i] = take(256);
    for (int i = 0; i < n; i++)
        if (i % 8 != 0)
            bs_heap_free(block[i]);
    ck_assert_uint_ge(spans_of(256), 2);
    size_t have = 256;
    for (int i = 0; i < n && have == 256; i++) {
        bs_tcache_drain_own(); /* so that each comes to the slow door */
        have = bs_heap_usable(take(200));
    }
    ck_assert_uint_eq(have, 208);
    ck_assert_uint_lt(bs_central_counts(bs_class_smallest(256)).slots_out, n / 4);
}
END_TEST

START_TEST(aligned_blocks_share_and_leave_too) {
    for (int i = 0; i < 600; i++) {
        char *p = bs_heap_alloc_aligned(32, 96);
        require(p != NULL && (uintptr_t)p % 32 == 0, "block %p is not aligned", (void *)p);
        ck_assert(i != 0 || bs_heap_usable(p) == 128);
        memset(p, 1, 96);
    }
    ck_assert_uint_eq(bs_heap_usable(bs_heap_alloc_aligned(32, 96)), 96);
    ck_assert_uint_eq(spans_of(128), 1);
}
END_TEST

static void *take_one(void *arg) {
    *(size_t *)arg = bs_heap_usable(take(200));
    return NULL;
}

/* With its first block, when it has no cache yet. */
START_TEST(a_thread_that_begins_shares_no_busy_host) {
    pthread_t thread;
    size_t have = 0;
    for (int i = 0; i < 30; i++)
        (void)take(256);
    ck_assert_uint_eq(spans_of(256), 1);
    ck_assert_int_eq(pthread_create(&thread, NULL, take_one, &have), 0);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(have, 208);
}
END_TEST

START_TEST(without_caches_nothing_is_shared) {
    pthread_t thread;
    size_t have = 0;
    bs_tcache_disable();
    ck_assert_int_eq(pthread_create(&thread, NULL, take_one, &have), 0);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(have, 208);
    ck_assert_uint_eq(bs_heap_usable(take(1)), 8);
}
END_TEST

/* --- threads ----------------------------------------------------------------------------------- */

static void check_table(void) {
    for (size_t size = 1; size <= BS_SMALL_MAX; size++) {
        size_t have = bs_class_info[bs_class_of(size)].size,
               least = bs_class_info[bs_class_smallest(size)].size;
        require(have >= size && have <= bs_max(BS_ROUTE_FIRST_MIN, BS_ROUTE_TIMES * least),
                "%zu bytes are served by blocks of %zu", size, have);
        require(size > BS_TINY_MAX || have == least || (have & (have - 1)) == 0,
                "%zu bytes are served by blocks of %zu, which are not aligned to all that they hold", size, have);
    }
}

enum { THREADS = 4, LIVE = 64, STEPS = 200000 / UNIT_SLOWNESS };

static void *replace(void *arg) {
    uint32_t random = *(uint32_t *)arg;
    unsigned char *block[LIVE] = {NULL};
    for (int i = 0; i < STEPS; i++) {
        random = random * 1664525u + 1013904223u;
        size_t k = random >> 26,
               size = 1 + (random >> 8) % (i / 1000 % 2 != 0 ? 3000 : BS_SMALL_MAX);
        if (block[k] != NULL)
            require(*block[k] == (unsigned char)k, "a block of another");
        bs_heap_free(block[k]);
        block[k] = bs_heap_alloc(size);
        require(block[k] != NULL && bs_heap_usable(block[k]) >= size, "%zu bytes do not fit", size);
        *block[k] = (unsigned char)k;
        if (i % 5000 == 0)
            (void)bs_heap_trim(0); /* classes lose their spans */
    }
    for (size_t k = 0; k < LIVE; k++)
        bs_heap_free(block[k]);
    return NULL;
}

START_TEST(threads_leave_a_table_that_holds) {
    pthread_t thread[THREADS];
    uint32_t seed[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        seed[i] = i + 1;
        ck_assert_int_eq(pthread_create(&thread[i], NULL, replace, &seed[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    check_table();
}
END_TEST

/* What a child of fork may find where its parent was about to change it: some of a class's sizes elsewhere. */
START_TEST(half_a_change_is_mended) {
    unsigned own = bs_class_smallest(5000), other = bs_class_smallest(8192);
    bs_heap_free(take(8192));
    (void)take(5000);
    ck_assert_uint_eq(bs_class_of(5120), other);
    bs_store(&bs_class_by_128[(5120 - BS_TINY_MAX) / 128], (uint8_t)own);
    check_table();
    for (int i = 0; i < 20; i++) {
        (void)take(5000);
        (void)take(5120);
    }
    check_table();
    ck_assert_uint_eq(bs_class_of(5000), own);
    ck_assert_uint_eq(bs_class_of(5120), own);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("route");
    TCase *tc = add_case(suite, "sizes");
    tcase_add_test(tc, a_class_without_a_span_has_a_host);
    tcase_add_test(tc, blocks_are_at_most_twice_as_large);
    tcase_add_test(tc, classes_of_short_spans_have_none);
    tcase_add_test(tc, a_class_that_is_much_used_has_spans_of_its_own);
    tcase_add_test(tc, a_class_that_realloc_uses_much_has_spans_too);
    tcase_add_test(tc, sizes_come_home_to_a_span);
    tcase_add_test(tc, a_host_without_a_span_is_none);
    tcase_add_test(tc, aligned_blocks_have_no_host);
    tcase_add_test(tc, resized_and_cleared_blocks_keep_their_content);
    tcase_add_test(tc, a_thread_without_a_cache_has_no_host);
    tc = add_case(suite, "start");
    tcase_add_test(tc, small_sizes_begin_in_one_span);
    tcase_add_loop_test(tc, a_size_that_is_much_used_leaves_its_host, 0, 9);
    tcase_add_test(tc, a_host_with_two_spans_is_left);
    tcase_add_test(tc, aligned_blocks_share_and_leave_too);
    tcase_add_test(tc, a_thread_that_begins_shares_no_busy_host);
    tcase_add_test(tc, without_caches_nothing_is_shared);
    tc = add_case(suite, "threads");
    tcase_add_test(tc, threads_leave_a_table_that_holds);
    tcase_add_test(tc, half_a_change_is_mended);
    return run_suite(suite);
}
