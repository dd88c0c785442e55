/* SPDX-License-Identifier: MIT */
/*
 * micro_memalign.c - Aligned blocks: each power of two from 16 B to 64 KiB for blocks of 16 B to
 * 4 KiB (vectors, tables of the hardware, tagged pointers), and page-aligned buffers of 4 to 64 KiB
 * (input and output that goes by the page cache). An allocator that cuts an aligned block out of a
 * larger one pays for it in memory; read time and peak together.
 *
 * The address is looked at after each call, the content before each free. Sizes of the ladder are
 * odd, because mimalloc 2.0.9 gives blocks of exactly 256, 512 and 1024 B less alignment than asked
 * for, now and then, and would be out of the comparison.
 *
 * Called by micro.c, one thread. An operation is one free and one posix_memalign.
 */
#include "bench.h"

#define LADDER_LIVE 1000u
#define LADDER_STEPS 13u /* 16 B << 12 = 64 KiB */
#define LADDER_OPS 1500000u
#define PAGE_LIVE 500u
#define PAGE_BYTES 4096u
#define PAGE_OPS 600000u

static void give_back(void *block) {
    if (block)
        bs_bench_check(block);
    free(block);
}

static void replace(void **place, size_t align, size_t size_bytes) {
    give_back(*place);
    if (posix_memalign(place, align, size_bytes) != 0)
        bs_bench_die("no memory for %zu bytes aligned to %zu", size_bytes, align);
    if ((uintptr_t)*place % align != 0)
        bs_bench_die("%p is not aligned to %zu", *place, align);
    bs_bench_touch_pages(*place, size_bytes);
}

static void free_all(void **places, size_t n) {
    for (size_t i = 0; i < n; i++)
        give_back(places[i]);
}

static void ladder(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, LADDER_OPS);
    void **places = bs_bench_table(LADDER_LIVE * sizeof *places);
    struct bs_bench_rng rng = {10};

    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++) {
        uint64_t random = bs_bench_next(&rng);
        replace(&places[bs_bench_below((uint32_t)random, LADDER_LIVE)],
                (size_t)16 << i % LADDER_STEPS, bs_bench_size((uint32_t)(random >> 32), 16, 8) | 1);
    }
    bs_bench_stop(run, nops);
    free_all(places, LADDER_LIVE);
}

static void pages(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, PAGE_OPS);
    void **places = bs_bench_table(PAGE_LIVE * sizeof *places);
    struct bs_bench_rng rng = {11};

    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++) {
        uint64_t random = bs_bench_next(&rng);
        replace(&places[bs_bench_below((uint32_t)random, PAGE_LIVE)], PAGE_BYTES,
                PAGE_BYTES << (random >> 32) % 5);
    }
    bs_bench_stop(run, nops);
    free_all(places, PAGE_LIVE);
}

const struct bs_bench bs_bench_memalign[] = {
    {"memalign-ladder", "16 B to 64 KiB aligned, 16 B to 4 KiB long, 1000 live", ladder},
    {"memalign-page", "4 KiB aligned, 4 to 64 KiB long, 500 live", pages},
    {NULL, NULL, NULL},
};
