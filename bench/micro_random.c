/* SPDX-License-Identifier: MIT */
/*
 * micro_random.c - Random replacement: a fixed number of blocks is live; each operation frees one
 * at random and allocates another of 16 to 512 B in its place. This is the steady state of a
 * server. With 10 thousand live blocks the heap fits the processor's cache; with a million it does
 * not, and what an allocator touches on each call decides. With ten million, of 16 to 128 B so that
 * they take less than 1 GB, its own tables do not fit either.
 *
 * Filling and emptying lie outside the measured section; micro_list.c measures those. What the
 * blocks hold is looked at when they are emptied: a look before each free would be a cache miss of
 * the benchmark's own.
 *
 * Called by micro.c, one thread. An operation is one free and one malloc.
 */
#include "bench.h"

#define RANDOM_SMALL_LIVE 10000u
#define RANDOM_SMALL_OPS 20000000u
#define RANDOM_LARGE_LIVE 1000000u
#define RANDOM_LARGE_OPS 4000000u
#define RANDOM_HUGE_LIVE 10000000u
#define RANDOM_HUGE_OPS 2000000u
#define SIZE_LO 16u

static void replace(struct bs_bench_run *run, uint32_t nlive, uint32_t octaves, uint64_t base_ops) {
    uint64_t nops = bs_bench_scaled(run, base_ops);
    void **blocks = bs_bench_table(nlive * sizeof *blocks);
    struct bs_bench_rng rng = {nlive};

    for (uint32_t i = 0; i < nlive; i++)
        blocks[i] = bs_bench_block(bs_bench_size((uint32_t)bs_bench_next(&rng), SIZE_LO, octaves));
    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++) {
        uint64_t random = bs_bench_next(&rng);
        void **place = &blocks[bs_bench_below((uint32_t)random, nlive)];
        free(*place);
        *place = bs_bench_block(bs_bench_size((uint32_t)(random >> 32), SIZE_LO, octaves));
    }
    bs_bench_stop(run, nops);
    for (uint32_t i = 0; i < nlive; i++) {
        bs_bench_check(blocks[i]);
        free(blocks[i]);
    }
}

static void random_10k(struct bs_bench_run *run) {
    replace(run, RANDOM_SMALL_LIVE, 5, RANDOM_SMALL_OPS);
}

static void random_1m(struct bs_bench_run *run) {
    replace(run, RANDOM_LARGE_LIVE, 5, RANDOM_LARGE_OPS);
}

static void random_10m(struct bs_bench_run *run) {
    replace(run, RANDOM_HUGE_LIVE, 3, RANDOM_HUGE_OPS);
}

const struct bs_bench bs_bench_random[] = {
    {"random-10k", "replace one of 10 000 live blocks of 16 to 512 B", random_10k},
    {"random-1m", "replace one of 1 000 000 live blocks of 16 to 512 B", random_1m},
    {"random-10m", "replace one of 10 000 000 live blocks of 16 to 128 B", random_10m},
    {NULL, NULL, NULL},
};
