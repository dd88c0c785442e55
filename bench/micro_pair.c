/* SPDX-License-Identifier: MIT */
/*
 * micro_pair.c - Pairs: one block is allocated, written and freed at once. This is the shortest
 * way through an allocator, all in its thread cache and in the processor's first-level cache.
 *
 * It says nothing on memory use or on refills: at most one block is live.
 *
 * Called by micro.c, one thread.
 */
#include "bench.h"

#define PAIR_OPS 50000000u
#define PAIR_MIXED_OPS 40000000u

static void pair_32(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, PAIR_OPS);

    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++)
        free(bs_bench_block(32));
    bs_bench_stop(run, nops);
}

static void pair_mixed(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, PAIR_MIXED_OPS);
    struct bs_bench_rng rng = {1};

    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++)
        free(bs_bench_block(bs_bench_size((uint32_t)bs_bench_next(&rng), 16, 6)));
    bs_bench_stop(run, nops);
}

const struct bs_bench bs_bench_pair[] = {
    {"pair-32", "malloc and free of one block of 32 B", pair_32},
    {"pair-mixed", "malloc and free of one block of 16 B to 1 KiB", pair_mixed},
    {NULL, NULL, NULL},
};
