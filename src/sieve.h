/* SPDX-License-Identifier: MIT */
/*
 * sieve.h - which words of memory lie between two bounds, as fast as the memory can be read: the first sieve
 * of linear.h. By instructions for eight words at once, for four, or for one.
 *
 * It is NOT about what a word in bounds points to. No lock, no state but what the processor can do.
 */
#ifndef BS_SIEVE_H
#define BS_SIEVE_H

#include "base.h"

enum bs_sieve_way { BS_SIEVE_ONE, BS_SIEVE_FOUR, BS_SIEVE_EIGHT };
#define BS_SIEVE_WAYS (BS_SIEVE_EIGHT + 1)

/* The widest that there is here. */
enum bs_sieve_way bs_sieve_best(void);

#define BS_SIEVE_BATCH 256 /* words in bounds that a caller wants together */
#define BS_SIEVE_STRIDE 16 /* and so many more there may be */

struct bs_sieve {
    uintptr_t low, reach; /* in bounds: (word & mask) - low <= reach */
    uintptr_t mask;
    size_t n;
    uintptr_t found[BS_SIEVE_BATCH + BS_SIEVE_STRIDE]; /* masked */
};

/* Words at p, at any address, until there are BS_SIEVE_BATCH in `found` or n were seen: how many were. What the
 * sanitizers think of the memory is not asked. */
size_t bs_sieve_words(struct bs_sieve *s, enum bs_sieve_way way, uintptr_t p, size_t n);
/* The same for n words at p and n at q, in step: two streams are read faster than one. By eights: 0, and nothing is
 * done, where fewer are left, or a word is looked at alone. */
size_t bs_sieve_pair(struct bs_sieve *s, enum bs_sieve_way way, uintptr_t p, uintptr_t q, size_t n);

#endif
