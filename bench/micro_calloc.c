/* SPDX-License-Identifier: MIT */
/*
 * micro_calloc.c - calloc: large tables of 1 to 25 MB of which a program uses the first fifth, and
 * small records of 16 to 512 B. An allocator that knows what the kernel already zeroed need not
 * clear it; one that clears too little is caught, because some words are looked at before the
 * block is written.
 *
 * Called by micro.c, one thread. An operation is one calloc and one free.
 */
#include "bench.h"

#define LARGE_LIVE 4u
#define LARGE_LO_BYTES 1000000u
#define LARGE_SPAN_BYTES 24000001u
#define LARGE_OPS 200u
#define SMALL_LIVE 10000u
#define SMALL_OPS 12000000u

static char *zeroed(size_t count, size_t size_bytes) {
    size_t all_bytes = count * size_bytes;
    char *block = bs_bench_need(calloc(count, size_bytes), all_bytes);
    uint64_t first, middle;

    memcpy(&first, block, sizeof first);
    memcpy(&middle, block + (all_bytes / 2 & ~(size_t)7), sizeof middle);
    if (first | middle)
        bs_bench_die("calloc(%zu, %zu) gave memory that is not zero", count, size_bytes);
    return block;
}

static void calloc_large(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, LARGE_OPS);
    void *blocks[LARGE_LIVE] = {NULL};
    struct bs_bench_rng rng = {5};

    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++) {
        void **place = &blocks[i % LARGE_LIVE];
        uint32_t random = (uint32_t)bs_bench_next(&rng);
        size_t size_bytes = LARGE_LO_BYTES + bs_bench_below(random, LARGE_SPAN_BYTES);
        free(*place);
        *place = zeroed(size_bytes / 8, 8);
        bs_bench_touch_pages(*place, size_bytes / 5);
    }
    bs_bench_stop(run, nops);
    for (size_t i = 0; i < LARGE_LIVE; i++)
        free(blocks[i]);
}

static void calloc_small(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, SMALL_OPS);
    void **blocks = bs_bench_table(SMALL_LIVE * sizeof *blocks);
    struct bs_bench_rng rng = {6};

    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++) {
        uint64_t random = bs_bench_next(&rng);
        void **place = &blocks[bs_bench_below((uint32_t)random, SMALL_LIVE)];
        size_t size_bytes = bs_bench_size((uint32_t)(random >> 32), 16, 5);
        free(*place);
        char *block = zeroed(1, size_bytes);
        bs_bench_touch(block, size_bytes);
        block[size_bytes / 2] = 'c';
        *place = block;
    }
    bs_bench_stop(run, nops);
    for (size_t i = 0; i < SMALL_LIVE; i++)
        free(blocks[i]);
}

const struct bs_bench bs_bench_calloc[] = {
    {"calloc-large", "calloc of 1 to 25 MB, a fifth of it used, 4 live", calloc_large},
    {"calloc-small", "calloc in place of one of 10 000 live blocks of 16 to 512 B", calloc_small},
    {NULL, NULL, NULL},
};
