/* SPDX-License-Identifier: MIT */
/*
 * pagebits.h - searches in one region's bitmap of 512 pages (a set bit is an allocated page).
 *
 * Pure functions used by the page heap under its lock. The run searches are after the Go
 * runtime's page allocator (proposal 35112), which works with whole words for the same reason:
 * one page-heap operation must stay well under a microsecond.
 */
#ifndef BS_PAGEBITS_H
#define BS_PAGEBITS_H

#include "bits.h"
#include "tunables.h"

#define BS_REGION_WORDS (BS_REGION_PAGES / 64)
#define BS_REGION_NONE ((size_t)-1)

/* What a stretch of pages looks like from outside, in free pages: at its start, the longest run
 * anywhere, at its end. All free: the three equal its length. */
struct bs_sum {
    uint32_t start, max, end;
};

BS_INLINE bool bs_sum_same(struct bs_sum a, struct bs_sum b) {
    return a.start == b.start && a.max == b.max && a.end == b.end;
}

/* Bit i set: bits i ... i+n-1 of x are all set (1 <= n <= 64). */
BS_INLINE uint64_t bs_word_runs(uint64_t x, unsigned n) {
    unsigned have = 1;
    for (; have <= n / 2 && x != 0; have *= 2)
        x &= x >> have;
    return x & x >> (n - have); /* what is 0 stays 0 */
}

/* The longest run of set bits in x, if it is longer than n (0 <= n < 64), else n. In steps that double
 * and halve: t always marks where the runs of length `have` begin. */
BS_INLINE uint32_t bs_word_longest_run(uint64_t x, uint32_t n) {
    uint64_t t = bs_word_runs(x, n + 1), u;
    if (t == 0)
        return n;
    uint32_t have = n + 1, step = have;
    for (; have + step <= 64 && (u = t & (t >> step)) != 0; step = have) {
        t = u;
        have += step;
    }
    for (step /= 2; step != 0; step /= 2)
        for (; have + step <= 64 && (u = t & (t >> step)) != 0; have += step)
            t = u;
    return have;
}

/* Free pages directly below page `first`, and from page `end` on. */
static inline size_t bs_region_free_below(const uint64_t alloc[BS_REGION_WORDS], size_t first) {
    size_t w = first / 64, bit = first % 64, n = bit;
    uint64_t x = bit != 0 ? alloc[w] << (64 - bit) : 0;
    if (x != 0)
        return 63 - bs_msb(x);
    for (; w > 0; n += 64)
        if ((x = alloc[--w]) != 0)
            return n + 63 - bs_msb(x);
    return n;
}
static inline size_t bs_region_free_above(const uint64_t alloc[BS_REGION_WORDS], size_t end) {
    size_t w = end / 64, bit = end % 64, n = 0;
    for (; w < BS_REGION_WORDS; w++, bit = 0) {
        uint64_t x = alloc[w] >> bit;
        if (x != 0)
            return n + bs_ctz(x);
        n += 64 - bit;
    }
    return n;
}

/* The longest free run, which has at least `least` and at most `most` pages. */
static inline uint32_t bs_region_longest(const uint64_t alloc[BS_REGION_WORDS], uint32_t least,
                                         uint32_t most) {
    uint32_t run = 0; /* free pages directly below the word looked at */
    for (size_t w = 0; w < BS_REGION_WORDS && least < most; w++) {
        uint64_t x = alloc[w];
        if (x == 0) {
            run += 64;
            continue;
        }
        run += bs_ctz(x);
        if (run > least)
            least = run;
        if (least < 63)
            least = bs_word_longest_run(~x, least);
        run = 63 - bs_msb(x);
    }
    return run > least ? run : least;
}

static inline struct bs_sum bs_region_summary(const uint64_t alloc[BS_REGION_WORDS]) {
    return (struct bs_sum){.start = (uint32_t)bs_region_free_above(alloc, 0),
                           .max = bs_region_longest(alloc, 0, BS_REGION_PAGES),
                           .end = (uint32_t)bs_region_free_below(alloc, BS_REGION_PAGES)};
}

/* The summary after pages [first, first+n), all of one kind before, were taken or given back; `old`
 * is the one before. Only the run around them has changed, so most summaries follow from it; all
 * words are read only if the longest run was cut. */
static inline struct bs_sum bs_region_took(const uint64_t alloc[BS_REGION_WORDS], size_t first,
                                           size_t n, struct bs_sum old) {
    uint32_t below = (uint32_t)bs_region_free_below(alloc, first);
    uint32_t above = (uint32_t)bs_region_free_above(alloc, first + n);
    if (below == first)
        old.start = below;
    if (first + n + above == BS_REGION_PAGES)
        old.end = above;
    if (below + n + above == old.max)
        old.max = bs_region_longest(alloc, below > above ? below : above, old.max);
    return old;
}
static inline struct bs_sum bs_region_gave(const uint64_t alloc[BS_REGION_WORDS], size_t first,
                                           size_t n, struct bs_sum old) {
    size_t below = bs_region_free_below(alloc, first), above = bs_region_free_above(alloc, first + n);
    uint32_t run = (uint32_t)(below + n + above);
    if (run > old.max)
        old.max = run;
    if (below == first)
        old.start = run;
    if (first + n + above == BS_REGION_PAGES)
        old.end = run;
    return old;
}

/* The first page of the lowest free run of n pages (1 <= n <= 512) in the region. */
static inline size_t bs_region_find(const uint64_t alloc[BS_REGION_WORDS], size_t n) {
    size_t run = 0;
    for (size_t w = 0; w < BS_REGION_WORDS; w++) {
        uint64_t x = alloc[w];
        size_t below = x == 0 ? 64 : bs_ctz(x);
        if (run + below >= n)
            return w * 64 - run;
        if (x == 0) {
            run += 64;
            continue;
        }
        if (n < 64) {
            uint64_t starts = bs_word_runs(~x, (unsigned)n);
            if (starts != 0)
                return w * 64 + bs_ctz(starts);
        }
        run = 63 - bs_msb(x);
    }
    return BS_REGION_NONE;
}

/* The highest run of set bits in want that lies below page `end`, at most max long: its first
 * page, its length in *n. */
static inline size_t bs_region_find_top(const uint64_t want[BS_REGION_WORDS], size_t end,
                                        size_t max, size_t *n) {
    size_t i = end;
    while (i > 0 && !bs_bit_test(want, i - 1))
        i = (i % 64 == 0 && want[i / 64 - 1] == 0) ? i - 64 : i - 1;
    size_t top = i;
    while (i > 0 && top - i < max && bs_bit_test(want, i - 1))
        i--;
    *n = top - i;
    return *n == 0 ? BS_REGION_NONE : i;
}

#endif
