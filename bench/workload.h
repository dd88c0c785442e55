/* SPDX-License-Identifier: MIT */
/*
 * workload.h - what the programs of bench/rss share: blocks that are written, the word "idle", and
 * the count of OS pages that live blocks lie on.
 *
 * They are looked at from outside, so they print one fact a line, NAME VALUE, and "idle" when only
 * sleep follows. They call malloc and its family and nothing else of an allocator; tables of their
 * own come from mmap. Not micro-benchmarks: micro.c is.
 *
 * Called by workload.c and the workload_*.c families, on the main thread unless said otherwise.
 * Nothing here takes a lock.
 */
#ifndef BS_WORKLOAD_H
#define BS_WORKLOAD_H

#include "bench.h"

#include <stdbool.h>

struct bs_workload {
    const char *name;                     /* NULL ends a table */
    const char *arguments;                /* for the usage line */
    void (*run)(const unsigned *numbers); /* as many as `arguments` has words */
};

/* One table a family, each in the file of its name. */
extern const struct bs_workload bs_workload_return[];
extern const struct bs_workload bs_workload_steady[];
extern const struct bs_workload bs_workload_comb[];

extern struct bs_bench_rng bs_workload_rng; /* [main thread] */

/* A block of which every byte is written. Any thread. */
void *bs_workload_block(size_t size_bytes);

/* Says "idle", sleeps, and stays: where stdin is a pipe, until its other end is closed, some minutes at most. So
 * who looks from outside may be late. */
void bs_workload_idle(unsigned seconds);
void bs_workload_say_idle(void);
void bs_workload_stay(void);
/* For so long, or until stdin's other end is closed; true: it was open all the time. */
bool bs_workload_stay_for(unsigned seconds);

double bs_workload_seconds(void);

/* Prints live_blocks_bytes and live_pages_bytes: the blocks, and all OS pages that at least one of
 * them lies on. This is the independent half of a bound: without moving blocks, no allocator can
 * have less in memory (where the pages were touched). NULL pointers are passed over. */
void bs_workload_print_live(void *const *block, const size_t *size_bytes, size_t n);

/* Any order of n things. */
void bs_workload_shuffle(void **p, size_t *with, size_t n);

#endif
