/* SPDX-License-Identifier: MIT */
/*
 * sampler.h - which blocks are sampled: the arithmetic of chance, and per thread and size class how
 * many blocks lie before the next one.
 *
 * Sampling is by bytes: think of marks strewn over all bytes that the program ever asks for, on
 * average one in every `interval`, each independent of all others. A block is sampled if a mark falls
 * into it, with probability P = 1 - exp(-size / interval); each that is sampled stands for 1 / P
 * blocks, so sums over samples are unbiased. Gaps between marks are exponential and have no memory:
 * a count of its own for each thread and class, begun anew whenever that is convenient, strews the
 * marks no differently than one count for all would.
 *
 * How the block before which a mark lies is met without an instruction on the fast path
 * -------------------------------------------------------------------------------------
 * A thread's cache gives blocks out and takes them back without telling. What tells is its end: an
 * allocation that finds it empty comes to the slow door. Let that one be sampled, with the bytes since
 * the last such visit as its weight? That is biased beyond repair: where A keeps a block and B takes
 * and frees one in turn, B always meets the new depth first; A, the leak, is never seen. A mark on a
 * slot of the magazine is met by B first as well. (Where free stays fast, tests/check_sample's leak in
 * such a loop is reported as 2.2 of its 6 MB.) A fair choice has to count allocations.
 *
 * Allocations can be counted if nothing comes in unseen: what a cache held at the last visit, less what it holds now, is
 * what was handed out. So while sampling is on, what is freed goes to a magazine of its own
 * (tcache_counted.h), and never more blocks are left ready than the next mark is away: the allocation that has the
 * mark finds nothing and comes to the slow door, whoever it is. That is exact, not approximate. Frees in a page with
 * a sampled block come to the slow door.
 *
 * tcmalloc and Go subtract from a counter in every allocation instead, and look at a bit of the span
 * in every free; here neither path has an instruction for it, whether sampling is on or off.
 *
 * No lock: a sampler is its cache's owner's. Nothing here makes a system call.
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

struct bs_sampler {
    uint64_t chance; /* [owner] state of the random numbers */
    bool due;        /* [owner] the allocation that is being served is sampled */
    struct bs_sampler_class {
        uint32_t ready; /* [owner] blocks that malloc could take when it was counted */
        bool drawn;     /* [owner] `until` is: not before the first visit, since few classes are used */
        uint64_t until; /* [owner] blocks before the one with the next mark, from that count on; never
                           less than `ready` */
    } class[BS_NCLASSES];
};

/* seed: any number, another one for each thread. */
void bs_sampler_init(struct bs_sampler *s, uint64_t seed);
/* Draws how many blocks of the class lie before the next mark. */
void bs_sampler_draw(struct bs_sampler *s, unsigned class);

/* Blocks of `size` bytes before the one with the next mark. */
uint64_t bs_sampler_gap(uint64_t *chance, uint64_t interval, size_t size);
/* True with probability P of one block of `size` bytes. */
bool bs_sampler_hits(uint64_t *chance, uint64_t interval, size_t size);
/* The same at the interval of now, for a block that no cache counts. Any thread; for each block once. */
bool bs_sampler_hits_uncounted(size_t size);
/* How many blocks of `size` bytes a sampled one stands for, 1 / P, in 1/256. */
uint64_t bs_sampler_weight_256ths(uint64_t interval, size_t size);

#endif
