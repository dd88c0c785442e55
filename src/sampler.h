/* SPDX-License-Identifier: MIT */
/*
 * sampler.h - which blocks are sampled: the arithmetic of chance.
 *
 * Sampling is by bytes: think of marks strewn over all bytes that the program ever asks for, on
 * average one in every `interval`, each independent of all others. A block is sampled if a mark falls
 * into it, with probability P = 1 - exp(-size / interval); each that is sampled stands for 1 / P
 * blocks, so sums over samples are unbiased.
 *
 * How such a block is met without an instruction on the fast path
 * ---------------------------------------------------------------
 * A thread's cache gives blocks out and takes them back without telling. What tells is its end: an
 * allocation that finds it empty comes to the slow door. Let that one be sampled, with the bytes since
 * the last such visit as its weight? That is biased beyond repair: where A keeps a block and B takes
 * and frees one in turn, B always meets the new depth first; A, the leak, is never seen. A mark on a
 * slot of the magazine is met by B first as well. (Where free stays fast, tests/check_sample's leak in
 * such a loop is reported as 2.2 of its 6 MB.)
 *
 * So it is not blocks that are marked but heights: some places of each magazine are gates, where every allocation and
 * every free comes to the slow door, which leaves the gate where it was (tcache_gate.h). A and B meet it alike. With
 * the gates at random, one in n places, each allocation has the chance 1 / n of meeting one, and of those that do each is
 * sampled with n P. Those that come to the slow door anyway are sampled with P. Frees in a page with a sampled
 * block come to the slow door.
 *
 * tcmalloc and Go subtract from a counter in every allocation instead, and look at a bit of the span
 * in every free; here neither path has an instruction for it, whether sampling is on or off.
 *
 * No lock. Nothing here makes a system call but bs_sampler_hits_uncounted.
 */
#ifndef BS_SAMPLER_H
#define BS_SAMPLER_H

#include "sizeclass.h"

/* Bytes between marks on average; 0: sampling is off; 1: every block. Set once,
 * before there are samplers. [atomic] */
BS_LOCAL extern uint64_t bs_sample_interval;

BS_INLINE bool bs_sample_is_on(void) {
    return BS_UNLIKELY(bs_load(&bs_sample_interval) != 0);
}

/* A random number; *chance is the state of these numbers, any number at first, another one for each thread (splitmix64). */
BS_INLINE uint64_t bs_sampler_random(uint64_t *chance) {
    uint64_t x = *chance += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
/* The threshold of a block of `size` bytes that is asked about once in n times: n P, 1 at most, in 2^-64. */
uint64_t bs_sampler_threshold(uint64_t interval, size_t size, unsigned n);
/* True with the chance that the threshold says. */
BS_INLINE bool bs_sampler_passes(uint64_t *chance, uint64_t threshold) {
    return bs_sampler_random(chance) <= threshold;
}

/* True with probability P at the interval of now, for a block of `size` bytes that comes from no magazine. Any thread;
 * for each block once. */
bool bs_sampler_hits_uncounted(size_t size);
/* How many blocks of `size` bytes a sampled one stands for, 1 / P, in 1/256. */
uint64_t bs_sampler_weight_256ths(uint64_t interval, size_t size);

#endif
