/* SPDX-License-Identifier: MIT */
/*
 * scale_load.h - what the loads of scale_load.c share: how long a measured section lasts, what it
 * reports, and how sizes are drawn.
 *
 * It is not bench.h's fixed amount of work: cost per operation spreads over four orders of
 * magnitude here, so a section lasts a given time instead.
 *
 * One process runs one load. A struct scale_clock belongs to one thread.
 */
#ifndef BS_SCALE_LOAD_H
#define BS_SCALE_LOAD_H

#include "bench.h"

#include <stdbool.h>

/* How sizes are drawn. small: 16 to 512 B; mixed: one block in ten up to 32 KiB, one in a hundred
 * from 32 KiB to 1 MiB. */
enum scale_sizes { SCALE_SMALL, SCALE_MIXED };

struct scale_clock {
    uint64_t start_ns, end_ns; /* CLOCK_MONOTONIC; the section ends at the first look after end_ns */
    uint64_t cpu_ns;           /* of the process, at the start */
    uint64_t ops;
};

/* Draws come in pairs: which octave, and where in it. */
static inline size_t scale_size(struct bs_bench_rng *rng, enum scale_sizes sizes) {
    uint64_t random = bs_bench_next(rng);
    uint32_t kind = (uint32_t)random % 100, where = (uint32_t)(random >> 32);
    if (sizes == SCALE_SMALL || kind >= 10)
        return bs_bench_size(where, 16, 5);
    return kind != 0 ? bs_bench_size(where, 512, 6) : bs_bench_size(where, 32 * BS_BENCH_KIB, 5);
}

/* A block as a program would have it: written where an OS page begins, and at both ends. */
static inline void *scale_block(size_t size_bytes) {
    void *block = bs_bench_need(malloc(size_bytes), size_bytes);
    bs_bench_touch_pages(block, size_bytes);
    return block;
}

/* What a program does to a block it keeps: both ends are written; the size stands in the first word. */
static inline void scale_touch(void *block) {
    uint64_t size;
    memcpy(&size, block, sizeof size);
    bs_bench_touch(block, size);
}

uint64_t scale_now_ns(void);
void scale_start(struct scale_clock *clock, double seconds);
/* Counts what was done since the last look; false when the time is over. */
bool scale_goes_on(struct scale_clock *clock, uint64_t ops);
/* One line: name, n, operations, ns an operation, CPU ns of the process an operation, RSS in KiB. */
void scale_stop(const struct scale_clock *clock, const char *name, uint64_t n);

/* The loads. `touch`: in place of free and malloc the old block is written to, which is what the
 * same program costs without an allocator. */
void scale_live(enum scale_sizes sizes, uint64_t bytes, double seconds, bool touch);
void scale_own(enum scale_sizes sizes, uint64_t nthreads, double seconds, bool touch);
void scale_hand(uint64_t nthreads, double seconds, bool touch);
void scale_spans(uint64_t nspans, double seconds);

#endif
