/* SPDX-License-Identifier: MIT */
/*
 * check_pagesum.c - the tree of summaries against a flat array of pages: the lowest run of every
 * length, after every change, for trees of one to four levels.
 */
#include "pagesum.h"

#include "unit.h"

#define CANARY 0xa5

struct model {
    size_t nregions;
    uint64_t *alloc; /* a bit a page, as the page heap keeps them */
    struct bs_pagesum tree;
    unsigned char *storage;
    size_t bytes;
    uint64_t seed;
};

static void model_init(struct model *m, size_t nregions) {
    m->nregions = nregions;
    m->seed = nregions;
    m->bytes = bs_pagesum_size(nregions);
    m->storage = calloc(1, m->bytes + 64);
    m->alloc = malloc(nregions * BS_REGION_PAGES / 8);
    ck_assert(m->storage != NULL && m->alloc != NULL);
    memset(m->storage + m->bytes, CANARY, 64);
    memset(m->alloc, 0xff, nregions * BS_REGION_PAGES / 8);
    bs_pagesum_attach(&m->tree, m->storage, nregions);
    const struct bs_pagesum *t = &m->tree;
    ck_assert_ptr_eq(t->level[t->nlevels - 1] + t->count[t->nlevels - 1], m->storage + m->bytes);
}

static void model_done(struct model *m) {
    for (size_t i = 0; i < 64; i++)
        require(m->storage[m->bytes + i] == CANARY, "wrote behind the storage of %zu regions",
                m->nregions);
    free(m->storage);
    free(m->alloc);
}

static void change(struct model *m, size_t page, size_t n, bool free_it) {
    size_t first = page / BS_REGION_PAGES, last = (page + n - 1) / BS_REGION_PAGES;
    if (free_it)
        bs_range_clear(m->alloc, page, n);
    else
        bs_range_set(m->alloc, page, n);
    if (first == last) {
        bs_pagesum_set(&m->tree, first, bs_region_summary(m->alloc + first * BS_REGION_WORDS));
        return;
    }
    for (size_t i = first; i <= last; i++)
        m->tree.level[0][i] = bs_region_summary(m->alloc + i * BS_REGION_WORDS);
    bs_pagesum_update(&m->tree, first, last - first + 1);
}

/* The lowest run of n free pages; (size_t)-1 if there is none. */
static size_t naive_find(const struct model *m, size_t n) {
    size_t total = m->nregions * BS_REGION_PAGES, run = 0;
    for (size_t i = 0; i < total; i++) {
        if (m->alloc[i / 64] == ~(uint64_t)0) {
            run = 0;
            i |= 63;
            continue;
        }
        run = bs_bit_test(m->alloc, i) ? 0 : run + 1;
        if (run == n)
            return i + 1 - n;
    }
    return (size_t)-1;
}

static void check_find(const struct model *m, size_t n) {
    size_t page = 0, inside = 0, expected = naive_find(m, n);
    bool found = bs_pagesum_find(&m->tree, n, &page, &inside);
    require(found == (expected != (size_t)-1), "a run of %zu pages: found %d, expected at %zd", n,
            found, (ssize_t)expected);
    if (!found)
        return;
    if (inside != BS_REGION_NONE) {
        size_t in_region = bs_region_find(m->alloc + inside * BS_REGION_WORDS, n);
        require(in_region != BS_REGION_NONE, "region %zu has no run of %zu pages", inside, n);
        page = inside * BS_REGION_PAGES + in_region;
    }
    require(page == expected, "a run of %zu pages at %zu, the lowest is at %zu", n, page, expected);
}

static void random_steps(size_t nregions, unsigned steps) {
    struct model m;
    model_init(&m, nregions);
    size_t total = nregions * BS_REGION_PAGES;
    unsigned bits = bs_msb(total);
    for (unsigned step = 0; step < steps / UNIT_SLOWNESS; step++) {
        size_t n = 1 + random_skewed(&m.seed, bits), page = random_below(&m.seed, total);
        if (step % 3 == 0) /* ranges that begin and end with regions */
            page = bs_align_down(page, BS_REGION_PAGES);
        change(&m, page, bs_min(n, total - page), random_below(&m.seed, 3) != 0);
        require(bs_pagesum_is_valid(&m.tree), "a parent is stale after step %u", step);
        check_find(&m, 1);
        check_find(&m, bs_min(total, 1 + random_skewed(&m.seed, bits)));
        if (step % 64 == 63) /* begin again nearly full, where the tree must descend */
            change(&m, 0, total, false);
    }
    model_done(&m);
}

START_TEST(one_level) {
    random_steps(8, 6000);
}
END_TEST
START_TEST(two_levels) {
    random_steps(16, 4000);
    random_steps(64, 3000);
}
END_TEST
START_TEST(three_levels) {
    random_steps(512, 1000);
}
END_TEST
START_TEST(four_levels) {
    random_steps(1024, 500);
}
END_TEST

START_TEST(empty_tree_has_nothing) {
    struct model m;
    model_init(&m, 64);
    check_find(&m, 1);
    check_find(&m, BS_REGION_PAGES);
    change(&m, 0, 64 * BS_REGION_PAGES, true);
    check_find(&m, 64 * BS_REGION_PAGES);
    size_t page, inside;
    ck_assert(!bs_pagesum_find(&m.tree, 64 * BS_REGION_PAGES + 1, &page, &inside));
    model_done(&m);
}
END_TEST

/* A run that joins the last page of one node with the first of the next, at every level. */
START_TEST(runs_across_nodes) {
    struct model m;
    model_init(&m, 512);
    for (size_t regions = 1; regions < 512; regions *= 2) {
        size_t border = regions * BS_REGION_PAGES;
        change(&m, border - 3, 6, true);
        check_find(&m, 6);
        check_find(&m, 7);
        check_find(&m, 3);
        change(&m, border - 3, 6, false);
    }
    model_done(&m);
}
END_TEST

/* The check itself can see a stale parent. */
START_TEST(stale_parent_is_seen) {
    struct model m;
    model_init(&m, 64);
    change(&m, 5 * BS_REGION_PAGES, 10, true);
    ck_assert(bs_pagesum_is_valid(&m.tree));
    m.tree.level[0][5].max++;
    ck_assert(!bs_pagesum_is_valid(&m.tree));
    model_done(&m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pagesum");
    TCase *tc = add_case(suite, "pagesum");
    tcase_add_test(tc, one_level);
    tcase_add_test(tc, two_levels);
    tcase_add_test(tc, three_levels);
    tcase_add_test(tc, four_levels);
    tcase_add_test(tc, empty_tree_has_nothing);
    tcase_add_test(tc, runs_across_nodes);
    tcase_add_test(tc, stale_parent_is_seen);
    return run_suite(suite);
}
