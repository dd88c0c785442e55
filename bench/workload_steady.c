/* SPDX-License-Identifier: MIT */
/*
 * workload_steady.c - programs that go on working while memory could go back: what does that cost?
 *
 *   calibrate               prints how many words of work are a millisecond here
 *   sawtooth WORDS CYCLES   memory rises to 200 MB and falls again in 400 steps a cycle, with so
 *                           many words of work a step, the same under every allocator
 *   random SECONDS          1.2 million blocks, 20 million visits at random, then idle
 *   shrinkers SECONDS       buffers are reserved, filled, and shrunk to a quarter for good: 200 MB
 *                           live, and 600 MB of free pieces that no later buffer fits into
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

#include <stdio.h>
#include <sys/resource.h>

/* --- sawtooth --------------------------------------------------------------------------------- */

enum { STEPS = 200, STEP_BLOCKS = 1000, WORK_WORDS = 1 << 16 }; /* 200 000 blocks of 1 KiB */

/* Work on memory that is not the allocator's: half a MiB, most of it in the CPU's cache. */
static uint64_t compute(uint64_t *words, size_t n) {
    uint64_t sum = 0;
    for (size_t done = 0; done < n; done += WORK_WORDS) {
        size_t now = n - done < WORK_WORDS ? n - done : WORK_WORDS;
        for (size_t i = 0; i < now; i++) {
            words[i] = words[i] * 6364136223846793005u + 1442695040888963407u;
            sum += words[i] >> 33;
        }
    }
    return sum;
}

static void calibrate(const unsigned *numbers) {
    uint64_t *own = bs_bench_table(WORK_WORDS * sizeof *own);
    double best = 1e9;
    (void)numbers;
    for (int i = 0; i < 20; i++) {
        double begin = bs_workload_seconds();
        volatile uint64_t sink = compute(own, 64 * WORK_WORDS);
        (void)sink;
        double took = bs_workload_seconds() - begin;
        best = took < best ? took : best;
    }
    printf("words_per_ms %.0f\n", 64 * WORK_WORDS / best / 1000);
}

static void sawtooth(const unsigned *numbers) {
    uint64_t *own = bs_bench_table(WORK_WORDS * sizeof *own), sum = 0;
    void **block = bs_bench_table(STEPS * STEP_BLOCKS * sizeof *block);
    size_t words = numbers[0], cycles = numbers[1];
    struct rusage usage;

    double begin = bs_workload_seconds();
    for (size_t step = 0; step < cycles * 2 * STEPS; step++) {
        size_t s = step % (2 * STEPS);
        for (size_t i = 0; i < STEP_BLOCKS; i++) {
            if (s < STEPS)
                block[s * STEP_BLOCKS + i] = bs_workload_block(1024);
            else
                free(block[(2 * STEPS - 1 - s) * STEP_BLOCKS + i]);
        }
        sum += compute(own, words);
    }
    getrusage(RUSAGE_SELF, &usage);
    printf("seconds %.6f\nfaults %ld\nsum %u\n", bs_workload_seconds() - begin, usage.ru_minflt,
           (unsigned)(sum & 1));
}

/* --- random ----------------------------------------------------------------------------------- */

enum { RANDOM_BLOCKS = 1200000, RANDOM_VISITS = 20000000 };

static void random_access(const unsigned *numbers) {
    void **block = bs_bench_table(RANDOM_BLOCKS * sizeof *block);
    size_t *size = bs_bench_table(RANDOM_BLOCKS * sizeof *size);

    double begin = bs_workload_seconds();
    for (size_t i = 0; i < RANDOM_BLOCKS; i++) {
        size[i] = bs_bench_size((uint32_t)(bs_bench_next(&bs_workload_rng) >> 32), 64, 4);
        block[i] = bs_workload_block(size[i]);
    }
    for (size_t i = 0; i < RANDOM_VISITS; i++) {
        uint64_t draw = bs_bench_next(&bs_workload_rng);
        size_t k = bs_bench_below((uint32_t)draw, RANDOM_BLOCKS);
        if (draw >> 58 == 0) { /* 1 in 64 is replaced */
            free(block[k]);
            size[k] = bs_bench_size((uint32_t)(draw >> 26), 64, 4);
            block[k] = bs_workload_block(size[k]);
        }
        ++*(uint64_t *)block[k];
    }
    printf("seconds %.6f\n", bs_workload_seconds() - begin);
    bs_workload_print_live(block, size, RANDOM_BLOCKS);
    bs_workload_idle(numbers[0]);
}

/* --- shrinkers -------------------------------------------------------------------------------- */

enum { SHRINKERS = 4096 };

static size_t reserved_bytes(size_t i) {
    return (160 + 80 * i / SHRINKERS) * BS_BENCH_KIB;
}

static void shrinkers(const unsigned *numbers) {
    void **block = bs_bench_table(SHRINKERS * sizeof *block);
    size_t *size = bs_bench_table(SHRINKERS * sizeof *size);

    /* glibc takes blocks from the kernel one by one until it has seen how large they get */
    free(bs_workload_block(BS_BENCH_MIB));
    block[0] = bs_workload_block(reserved_bytes(0));
    for (size_t i = 0; i < SHRINKERS; i++) {
        /* the next one comes first, so that the piece cut off has a neighbour on both sides */
        if (i + 1 < SHRINKERS)
            block[i + 1] = bs_workload_block(reserved_bytes(i + 1));
        size[i] = reserved_bytes(i) / 4;
        block[i] = bs_bench_need(realloc(block[i], size[i]), size[i]);
    }
    bs_workload_print_live(block, size, SHRINKERS);
    bs_workload_idle(numbers[0]);
    printf("peak_kib %lu\n", (unsigned long)bs_bench_status_kib("VmHWM:"));
}

const struct bs_workload bs_workload_steady[] = {
    {"calibrate", "", calibrate},
    {"sawtooth", "WORDS CYCLES", sawtooth},
    {"random", "SECONDS", random_access},
    {"shrinkers", "SECONDS", shrinkers},
    {NULL, NULL, NULL},
};
