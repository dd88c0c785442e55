/* SPDX-License-Identifier: MIT */
/*
 * check_bits.c - bits.h and pagebits.h against loops that look at one bit after the other, on
 * random maps of every density and on the patterns where word arithmetic goes wrong: empty, full,
 * single bits, runs that end or begin at a word.
 */
#include "pagebits.h"

#include "unit.h"

#define BITS BS_REGION_PAGES
#define MAPS (4000 / UNIT_SLOWNESS)

static uint64_t seed = 1;

/* Fills a region's map: the kind goes round, the content is random. */
static void make_map(uint64_t map[BS_REGION_WORDS], unsigned kind) {
    size_t at = random_below(&seed, BITS), n = random_below(&seed, BITS - at + 1);
    for (size_t w = 0; w < BS_REGION_WORDS; w++) {
        uint64_t a = random_next(&seed), b = random_next(&seed), c = random_next(&seed);
        const uint64_t word[] = {0,
                                 ~(uint64_t)0,
                                 a,
                                 a & b,
                                 a | b,
                                 a & b & c,
                                 a | b | c,
                                 a & 1 ? ~(uint64_t)0 : 0,
                                 0x5555555555555555u,
                                 (uint64_t)1 << 63,
                                 1,
                                 0,
                                 ~(uint64_t)0};
        map[w] = word[kind % BS_ARRAY_LEN(word)];
    }
    for (size_t i = at; kind % 13 >= 11 && i < at + n; i++) /* one run of the other value */
        map[i / 64] ^= (uint64_t)1 << (i % 64);
}

static bool naive_test(const uint64_t *map, size_t i) {
    return (map[i / 64] & ((uint64_t)1 << (i % 64))) != 0;
}

START_TEST(words) {
    for (unsigned i = 0; i < 64; i++) {
        uint64_t bit = (uint64_t)1 << i, below = random_next(&seed) & (bit - 1);
        uint64_t above = i < 63 ? random_next(&seed) << (i + 1) : 0;
        require(bs_ctz(bit | above) == i, "ctz of bit %u", i);
        require(bs_msb(bit | below) == i, "msb of bit %u", i);
        require(bs_low_bits(i) == bit - 1, "%u low bits", i);
        require(bs_popcount(bs_low_bits(i)) == i, "count of %u bits", i);
        require(bs_popcount(below) == (unsigned)__builtin_popcountll(below), "count of %016jx",
                (uintmax_t)below);
    }
    ck_assert_uint_eq(bs_low_bits(64), UINT64_MAX);
    ck_assert_uint_eq(bs_low_bits(0), 0);
}
END_TEST

static void check_ranges(const uint64_t *map, size_t first, size_t n) {
    uint64_t set[BS_REGION_WORDS], clear[BS_REGION_WORDS];
    size_t count = 0;
    memcpy(set, map, sizeof set);
    memcpy(clear, map, sizeof clear);
    bs_range_set(set, first, n);
    bs_range_clear(clear, first, n);
    for (size_t i = 0; i < BITS; i++) {
        bool in = i >= first && i < first + n, was = naive_test(map, i);
        count += in && was;
        require(naive_test(set, i) == (in || was), "set [%zu, +%zu): bit %zu", first, n, i);
        require(naive_test(clear, i) == (!in && was), "clear [%zu, +%zu): bit %zu", first, n, i);
        require(bs_bit_test(map, i) == was, "test of bit %zu", i);
    }
    require(bs_range_count(map, first, n) == count, "count in [%zu, +%zu)", first, n);
    require(bs_range_is_set(map, first, n) == (count == n), "all of [%zu, +%zu)", first, n);
    require(bs_range_is_clear(map, first, n) == (count == 0), "none of [%zu, +%zu)", first, n);
    require(bs_range_is_set(set, first, n), "all of [%zu, +%zu) were set", first, n);
}

START_TEST(ranges) {
    uint64_t map[BS_REGION_WORDS];
    const size_t edge[] = {0, 1, 2, 62, 63, 64, 65, 127, 128, 129, 448, 510, 511, 512};
    for (size_t i = 0; i < BS_ARRAY_LEN(edge); i++)
        for (size_t j = i; j < BS_ARRAY_LEN(edge); j++) {
            make_map(map, (unsigned)(i + j));
            check_ranges(map, edge[i], edge[j] - edge[i]);
        }
    for (unsigned k = 0; k < MAPS / 8; k++) {
        make_map(map, k);
        size_t first = random_below(&seed, BITS);
        check_ranges(map, first, random_below(&seed, BITS - first + 1));
    }
}
END_TEST

START_TEST(single_bits) {
    uint64_t map[BS_REGION_WORDS] = {0};
    for (size_t i = 0; i < BITS; i++) {
        bs_bit_set(map, i);
        require(bs_range_count(map, 0, BITS) == 1 && naive_test(map, i), "set of bit %zu", i);
        require(bs_bit_test(map, i) && bs_bit_load(map, i), "test of bit %zu", i);
        map[i / 64] = 0;
    }
}
END_TEST

START_TEST(runs_in_a_word) {
    uint64_t map[BS_REGION_WORDS];
    for (unsigned k = 0; k < MAPS; k++) {
        make_map(map, k);
        uint64_t x = map[k % BS_REGION_WORDS];
        for (unsigned n = 1; n <= 64; n++) {
            uint64_t expected = 0;
            for (unsigned i = 0; i + n <= 64; i++)
                if (((x >> i) & bs_low_bits(n)) == bs_low_bits(n))
                    expected |= (uint64_t)1 << i;
            require(bs_word_runs(x, n) == expected, "runs of %u in %016jx", n, (uintmax_t)x);
        }
    }
}
END_TEST

static void check_longest(uint64_t x) {
    uint32_t longest = 0;
    while (longest < 64 && bs_word_runs(x, longest + 1) != 0)
        longest++;
    for (uint32_t n = 0; n < 64; n++) {
        uint32_t got = bs_word_longest_run(x, n), want = longest > n ? longest : n;
        require(got == want, "longest run beyond %u in %016jx is %u, expected %u", n, (uintmax_t)x,
                got, want);
    }
}

START_TEST(longest_runs) {
    uint64_t map[BS_REGION_WORDS];
    for (unsigned k = 0; k < MAPS; k++) {
        make_map(map, k);
        check_longest(map[k % BS_REGION_WORDS]);
        check_longest(~map[k % BS_REGION_WORDS]);
    }
    for (unsigned n = 0; n <= 64; n++) /* one run of each length, at each place */
        for (unsigned at = 0; at + n <= 64; at++)
            check_longest(n == 0 ? 0 : bs_low_bits(n) << at);
}
END_TEST

/* run[i]: free pages from i on without a break. */
static void free_runs(const uint64_t *map, size_t run[BITS + 1]) {
    run[BITS] = 0;
    for (size_t i = BITS; i-- > 0;)
        run[i] = naive_test(map, i) ? 0 : run[i + 1] + 1;
}

static void check_region(const uint64_t *map) {
    size_t run[BITS + 1], max = 0, end = 0;
    free_runs(map, run);
    for (size_t i = 0; i < BITS; i++)
        max = bs_max(max, run[i]);
    while (end < BITS && !naive_test(map, BITS - 1 - end))
        end++;
    struct bs_sum sum = bs_region_summary(map);
    require(sum.start == run[0] && sum.max == max && sum.end == end,
            "summary %u/%u/%u, expected %zu/%zu/%zu", sum.start, sum.max, sum.end, run[0], max,
            end);
    size_t expected = 0; /* the lowest start only rises with n */
    for (size_t n = 1; n <= BITS; n++) {
        while (expected < BITS && run[expected] < n)
            expected++;
        size_t got = bs_region_find(map, n);
        require(got == (expected == BITS ? BS_REGION_NONE : expected),
                "lowest run of %zu at %zu, expected %zu", n, got, expected);
    }
}

START_TEST(summary_and_first_fit) {
    uint64_t map[BS_REGION_WORDS];
    for (unsigned k = 0; k < MAPS; k++) {
        make_map(map, k);
        check_region(map);
    }
}
END_TEST

/* Free runs are taken in parts and given back: the summary that follows from the change is the one
 * that all words give. */
static void check_change(uint64_t *map, size_t first, size_t n, bool take) {
    struct bs_sum old = bs_region_summary(map);
    (take ? bs_range_set : bs_range_clear)(map, first, n);
    struct bs_sum sum = (take ? bs_region_took : bs_region_gave)(map, first, n, old);
    require(bs_sum_same(sum, bs_region_summary(map)), "%s %zu+%zu: %u/%u/%u",
            take ? "took" : "gave", first, n, sum.start, sum.max, sum.end);
}

START_TEST(summary_after_a_change) {
    uint64_t map[BS_REGION_WORDS];
    for (unsigned k = 0; k < MAPS; k++) {
        make_map(map, k);
        for (unsigned step = 0; step < 20; step++) {
            size_t run[BITS + 1], i = random_below(&seed, BITS);
            free_runs(map, run);
            if (run[i] != 0) {
                size_t n = random_below(&seed, 3) == 0 ? run[i] : 1 + random_below(&seed, run[i]);
                check_change(map, i, n, true);
            } else {
                size_t n = 1, most = 1 + random_skewed(&seed, 9);
                while (n < most && i + n < BITS && naive_test(map, i + n))
                    n++;
                check_change(map, i, n, false);
            }
        }
    }
}
END_TEST

static void check_top(const uint64_t *want, size_t end, size_t max) {
    size_t top = end, first, n;
    while (top > 0 && !naive_test(want, top - 1))
        top--;
    for (first = top; first > 0 && top - first < max && naive_test(want, first - 1);)
        first--;
    size_t got = bs_region_find_top(want, end, max, &n);
    require(n == top - first && got == (n != 0 ? first : BS_REGION_NONE),
            "highest run below %zu, at most %zu: %zu+%zu, expected %zu+%zu", end, max, got, n,
            first, top - first);
}

START_TEST(highest_run) {
    uint64_t map[BS_REGION_WORDS];
    for (unsigned k = 0; k < MAPS; k++) {
        make_map(map, k);
        check_top(map, BITS, BITS);
        check_top(map, BITS, 1 + random_below(&seed, BITS));
        check_top(map, random_below(&seed, BITS + 1), 1 + random_below(&seed, 70));
        check_top(map, 64 * random_below(&seed, BS_REGION_WORDS + 1), 64);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bits");
    TCase *tc = add_case(suite, "bits");
    tcase_add_test(tc, words);
    tcase_add_test(tc, ranges);
    tcase_add_test(tc, single_bits);
    tcase_add_test(tc, runs_in_a_word);
    tcase_add_test(tc, longest_runs);
    tc = add_case(suite, "pagebits");
    tcase_add_test(tc, summary_and_first_fit);
    tcase_add_test(tc, summary_after_a_change);
    tcase_add_test(tc, highest_run);
    return run_suite(suite);
}
