/* SPDX-License-Identifier: MIT */
/*
 * bits.h - bit scans within a word and ranges within a bitmap of 64-bit words.
 *
 * Pure functions on memory that the caller owns (or has locked). Bit i of a map is bit i%64 of
 * word i/64. It is NOT a container: nobody stores state here.
 */
#ifndef BS_BITS_H
#define BS_BITS_H

#include "base.h"

/* Index of the lowest / highest set bit; x != 0. */
BS_INLINE unsigned bs_ctz(uint64_t x) {
    return (unsigned)__builtin_ctzll(x);
}
BS_INLINE unsigned bs_msb(uint64_t x) {
    return 63u - (unsigned)__builtin_clzll(x);
}
/* Not the builtin: without an instruction for it, which the oldest x86-64 lacks, that is a call. */
BS_INLINE unsigned bs_popcount(uint64_t x) {
#ifdef __POPCNT__
    return (unsigned)__builtin_popcountll(x);
#else
    x -= (x >> 1) & 0x5555555555555555u; /* pairs, then fours, then bytes hold their counts */
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)((x * 0x0101010101010101u) >> 56);
#endif
}
/* n low bits set; 0 <= n <= 64. */
BS_INLINE uint64_t bs_low_bits(unsigned n) {
    return n >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1;
}

/* Takes the lowest run of set bits out of x, which is not 0: its first bit, and how many there are. */
BS_INLINE unsigned bs_take_run(uint64_t *x, unsigned *n) {
    unsigned first = bs_ctz(*x);
    uint64_t behind = ~(*x >> first);
    *n = behind != 0 ? bs_ctz(behind) : 64;
    *x &= ~(bs_low_bits(*n) << first);
    return first;
}

BS_INLINE bool bs_bit_test(const uint64_t *map, size_t i) {
    return (map[i / 64] >> (i % 64)) & 1;
}
/* The same of a map that others write. */
BS_INLINE bool bs_bit_load(const uint64_t *map, size_t i) {
    return (bs_load(&map[i / 64]) >> (i % 64)) & 1;
}
BS_INLINE void bs_bit_set(uint64_t *map, size_t i) {
    map[i / 64] |= (uint64_t)1 << (i % 64);
}

/* Of bits [*first, *first+*n), *n != 0, those that lie in the first one's word: their mask. The rest stays in *first, *n. */
BS_INLINE uint64_t bs_range_next(size_t *first, size_t *n) {
    unsigned bit = *first % 64, part = (unsigned)bs_min(*n, 64 - bit);
    *first += part;
    *n -= part;
    return ~(uint64_t)0 >> (64 - part) << bit;
}
static inline void bs_range_set(uint64_t *map, size_t first, size_t n) {
    for (uint64_t *word = &map[first / 64]; n != 0; word++)
        *word |= bs_range_next(&first, &n);
}
static inline void bs_range_clear(uint64_t *map, size_t first, size_t n) {
    for (uint64_t *word = &map[first / 64]; n != 0; word++)
        *word &= ~bs_range_next(&first, &n);
}
static inline bool bs_range_is_set(const uint64_t *map, size_t first, size_t n) {
    uint64_t missing = 0;
    for (const uint64_t *word = &map[first / 64]; n != 0; word++)
        missing |= ~*word & bs_range_next(&first, &n);
    return missing == 0;
}
static inline bool bs_range_is_clear(const uint64_t *map, size_t first, size_t n) {
    uint64_t there = 0;
    for (const uint64_t *word = &map[first / 64]; n != 0; word++)
        there |= *word & bs_range_next(&first, &n);
    return there == 0;
}
/* Not inline: it is long, and its callers have paid for a lock. */
static __attribute__((noinline, unused)) size_t bs_range_count(const uint64_t *map, size_t first, size_t n) {
    size_t count = 0;
    for (const uint64_t *word = &map[first / 64]; n != 0; word++)
        count += bs_popcount(*word & bs_range_next(&first, &n));
    return count;
}

#endif
