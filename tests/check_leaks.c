/* SPDX-License-Identifier: MIT */
/*
 * check_leaks.c - unreached blocks are sorted into leaks as their graph says: trees, rings, rings
 * that lead to rings, what two share; and graphs at random, against a slow search for components that
 * nobody leads to.
 */
#include "graph_unit.h"
#include "leaks.h"
#include "meta.h"

static struct bs_trace trace;
static uintptr_t root_words[64];
static const struct bs_range root = {(uintptr_t)root_words, (uintptr_t)(root_words + 64)};
static const struct bs_trace_rules plain = {.past_end = BS_PAST_END_NEVER};

static struct bs_leak leak[20000];
static size_t nleaks;

static void note_leak(void *ctx, const struct bs_leak *l) {
    require(ctx == leak && nleaks < 20000, "the reporter's context");
    require(nleaks == 0 || l->head.base < leak[nleaks - 1].head.base, "not in order");
    leak[nleaks++] = *l;
}

/* The sums of all leaks. */
static struct bs_leak find_leaks(size_t stack_ranges) {
    struct bs_leak total;
    struct bs_trace_sums sums;
    nleaks = 0;
    ck_assert(bs_trace_prepare(&trace, 1, stack_ranges));
    begin();
    bs_cycle_spare_caches();
    bs_trace_begin(&trace, &plain, &root, 1);
    bs_trace_work(&trace, 0);
    size_t mapped = bs_meta_mapped_bytes();
    ck_assert(bs_leaks_find(&trace, note_leak, leak, &total));
    ck_assert_uint_eq(bs_meta_mapped_bytes(), mapped);
    ck_assert(bs_trace_end(&trace, &sums));
    size_t unmarked = count_unmarked();
    bs_cycle_end();
    bs_trace_drop(&trace);
    size_t blocks = 0, bytes = 0;
    for (size_t i = 0; i < nleaks; i++) {
        blocks += leak[i].blocks;
        bytes += leak[i].bytes;
    }
    ck_assert_uint_eq(blocks, total.blocks);
    ck_assert_uint_eq(bytes, total.bytes);
    ck_assert_uint_eq(unmarked, total.blocks);
    return total;
}
static const struct bs_leak *leak_at(const void *p) {
    for (size_t i = 0; i < nleaks; i++)
        if (leak[i].head.base == (uintptr_t)p)
            return &leak[i];
    return NULL;
}
static void **new_block(size_t size) {
    void **p = size <= BS_SMALL_MAX ? claim_one(bs_class_of(size)) : bs_large_alloc(size, 1, true);
    ck_assert_ptr_nonnull(p);
    memset(p, 0, size <= BS_SMALL_MAX ? size : 64);
    return p;
}

/* --- shapes ----------------------------------------------------------------------------------- */

START_TEST(a_tree_is_one_leak) {
    void **live = new_block(64), **top = new_block(64), **left = new_block(128),
         **right = new_block(BS_MIB);
    void **shared = new_block(4096), **alone = new_block(48);
    root_words[3] = (uintptr_t)live;
    top[0] = left + 2; /* inside */
    top[5] = right;
    left[1] = right[7] = shared;
    shared[3] = live; /* leads out: no leak */
    alone[1] = alone;
    struct bs_leak total = find_leaks(64);
    ck_assert_uint_eq(nleaks, 2);
    ck_assert_ptr_nonnull(leak_at(alone));
    const struct bs_leak *l = leak_at(top);
    ck_assert_ptr_nonnull(l);
    ck_assert_uint_eq(l->blocks, 4);
    ck_assert_uint_eq(l->bytes, 64 + 128 + 4096 + BS_MIB);
    ck_assert_uint_eq(total.blocks, 5);
}
END_TEST

/* A chain whose blocks lie in each order of addresses: its end may be met first. */
START_TEST(the_order_of_addresses_does_not_matter) {
    static const unsigned order[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                         {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    void **p[3];
    for (unsigned i = 0; i < 3; i++)
        p[i] = new_block(96);
    p[order[_i][0]][0] = p[order[_i][1]];
    p[order[_i][1]][0] = p[order[_i][2]];
    (void)find_leaks(64);
    ck_assert_uint_eq(nleaks, 1);
    ck_assert_ptr_nonnull(leak_at(p[order[_i][0]]));
    p[order[_i][2]][0] = p[order[_i][0]]; /* a ring now */
    (void)find_leaks(64);
    ck_assert_uint_eq(nleaks, 1);
    ck_assert_uint_eq(leak[0].blocks, 3);
    void **before = new_block(16);
    before[1] = p[0];
    (void)find_leaks(64);
    ck_assert_uint_eq(nleaks, 1);
    ck_assert_ptr_nonnull(leak_at(before));
    root_words[0] = (uintptr_t)before;
    (void)find_leaks(64);
    ck_assert_uint_eq(nleaks, 0);
}
END_TEST

/* Wide blocks below wide blocks, and room for a single range: both searches forget and read again. */
START_TEST(what_is_forgotten_counts) {
    enum { WIDTH = 120 };
    void **top = new_block(1024);
    for (unsigned i = 0; i < WIDTH; i++) {
        void **middle = top[i] = new_block(1024);
        for (unsigned j = 0; j < WIDTH; j++)
            middle[j] = new_block(1024);
        for (unsigned j = 0; j < WIDTH; j++)
            ((void **)middle[j])[WIDTH] = new_block(16);
    }
    (void)find_leaks(1);
    ck_assert_uint_eq(nleaks, 1);
    ck_assert_uint_eq(leak[0].head.base, (uintptr_t)top);
    ck_assert_uint_eq(leak[0].blocks, 1 + WIDTH + 2 * WIDTH * WIDTH);
}
END_TEST

/* --- random graphs ---------------------------------------------------------------------------- */

/* reach[i][j]: a path of at least one step leads from block i to block j. */
static bool (*reaches)[400];

static void close_paths(void) {
    for (size_t i = 0; i < nnodes; i++)
        for (uintptr_t p = node[i].base; p < node[i].base + node[i].size; p += 8) {
            const struct node *to = block_at(*(uintptr_t *)p);
            if (to != NULL)
                reaches[i][to - node] = true;
        }
    for (size_t k = 0; k < nnodes; k++)
        for (size_t i = 0; i < nnodes; i++)
            for (size_t j = 0; j < nnodes && reaches[i][k]; j++)
                reaches[i][j] |= reaches[k][j];
}

START_TEST(random_graphs) {
    static const size_t sizes[] = {16, 48, 64, 1024, 32768, 40000};
    graph_init(400, (uint64_t)_i);
    while (nnodes < nodes_max)
        add_block(sizes[random_below(&seed, random_below(&seed, 9) == 0 ? 6 : 3)]);
    graph_sort();
    scatter(150 + 40 * (size_t)(_i % 8), false);
    for (size_t i = 0; i < 4; i++)
        root_words[i] = random_word();
    mark_slowly(&plain, &root, 1);
    reaches = calloc(nnodes, sizeof *reaches);
    close_paths();
    (void)find_leaks(_i % 3 == 0 ? 1 : 64);
    size_t expected = 0, met = 0;
    for (size_t i = 0; i < nnodes; i++) {
        bool is_source = !node[i].marked, is_first = true, has_head = false;
        for (size_t j = 0; j < nnodes && !node[i].marked; j++) {
            bool same = i == j || (reaches[i][j] && reaches[j][i]);
            is_source &= same || node[j].marked || !reaches[j][i];
            is_first &= !same || j >= i;
            has_head |= same && leak_at((void *)node[j].base) != NULL;
        }
        expected += is_source && is_first;
        require(!is_source || has_head, "block %zu: its component has no leak", i);
        met += is_source && leak_at((void *)node[i].base) != NULL;
    }
    ck_assert_uint_eq(nleaks, expected);
    ck_assert_uint_eq(met, nleaks); /* no leak is led to from elsewhere */
    free(reaches);
    free(node);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("leaks");
    TCase *tc = add_case(suite, "leaks");
    tcase_add_test(tc, a_tree_is_one_leak);
    tcase_add_loop_test(tc, the_order_of_addresses_does_not_matter, 0, 6);
    tcase_add_test(tc, what_is_forgotten_counts);
    tcase_add_loop_test(tc, random_graphs, 0, 48);
    return run_suite(suite);
}
