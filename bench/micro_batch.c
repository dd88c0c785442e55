/* SPDX-License-Identifier: MIT */
/*
 * micro_batch.c - Batches: a thousand blocks are allocated, then all are freed, newest first
 * (LIFO, as scopes do) or oldest first (FIFO, as queues do). More blocks than a small thread cache
 * holds, so the hand-over between the cache and what lies behind it shows.
 *
 * It says nothing on fragmentation: the heap is empty after every batch.
 *
 * Called by micro.c, one thread. An operation is one malloc and one free.
 */
#include "bench.h"

#define BATCH_BLOCKS 1000u
#define BATCH_SIZE 64u
#define BATCH_LAPS 40000u

static void batch_lifo(struct bs_bench_run *run) {
    uint64_t nlaps = bs_bench_scaled(run, BATCH_LAPS);
    void **blocks = bs_bench_table(BATCH_BLOCKS * sizeof *blocks);

    bs_bench_start(run);
    for (uint64_t lap = 0; lap < nlaps; lap++) {
        for (size_t i = 0; i < BATCH_BLOCKS; i++)
            blocks[i] = bs_bench_block(BATCH_SIZE);
        for (size_t i = BATCH_BLOCKS; i-- > 0;)
            free(blocks[i]);
    }
    bs_bench_stop(run, nlaps * BATCH_BLOCKS);
}

static void batch_fifo(struct bs_bench_run *run) {
    uint64_t nlaps = bs_bench_scaled(run, BATCH_LAPS);
    void **blocks = bs_bench_table(BATCH_BLOCKS * sizeof *blocks);

    bs_bench_start(run);
    for (uint64_t lap = 0; lap < nlaps; lap++) {
        for (size_t i = 0; i < BATCH_BLOCKS; i++)
            blocks[i] = bs_bench_block(BATCH_SIZE);
        for (size_t i = 0; i < BATCH_BLOCKS; i++)
            free(blocks[i]);
    }
    bs_bench_stop(run, nlaps * BATCH_BLOCKS);
}

const struct bs_bench bs_bench_batch[] = {
    {"batch-lifo", "1000 blocks of 64 B, freed newest first", batch_lifo},
    {"batch-fifo", "1000 blocks of 64 B, freed oldest first", batch_fifo},
    {NULL, NULL, NULL},
};
