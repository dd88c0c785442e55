/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what all micro-benchmarks share: the clock, a deterministic random source, tables that
 * do not come from the allocator under test, and blocks that are written to as a program would.
 *
 * It is not a framework: one process runs one benchmark once with a fixed amount of work and
 * prints one line. Repetition, medians and comparison are the work of bench/run.
 *
 * The benchmarks know no allocator. They call malloc and its family by name, and LD_PRELOAD
 * decides who answers; nothing here links against besom.
 *
 * Called by micro.c and the micro_*.c families. A struct bs_bench_run belongs to the main thread;
 * a struct bs_bench_rng to whoever made it. Nothing here takes a lock.
 */
#ifndef BS_BENCH_H
#define BS_BENCH_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BS_BENCH_KIB ((size_t)1024)
#define BS_BENCH_MIB ((size_t)1024 * 1024)

struct bs_bench_run {
    double scale;        /* factor on the amount of work; 1.0 is the normal run */
    uint64_t ops;        /* what bs_bench_stop was told was done */
    uint64_t start_ns;   /* CLOCK_MONOTONIC */
    uint64_t elapsed_ns; /* of the measured section only */
};

struct bs_bench {
    const char *name; /* NULL ends a table */
    const char *what; /* one line for --list and for the README's table */
    void (*run)(struct bs_bench_run *run);
};

struct bs_bench_rng {
    uint64_t state;
};

/* One table a family, each in the file of its name. */
extern const struct bs_bench bs_bench_pair[];
extern const struct bs_bench bs_bench_batch[];
extern const struct bs_bench bs_bench_random[];
extern const struct bs_bench bs_bench_list[];
extern const struct bs_bench bs_bench_mix[];
extern const struct bs_bench bs_bench_prodcons[];
extern const struct bs_bench bs_bench_threads[];
extern const struct bs_bench bs_bench_share[];
extern const struct bs_bench bs_bench_realloc[];
extern const struct bs_bench bs_bench_calloc[];
extern const struct bs_bench bs_bench_memalign[];
extern const struct bs_bench bs_bench_large[];
extern const struct bs_bench bs_bench_huge[];
extern const struct bs_bench bs_bench_phases[];
extern const struct bs_bench bs_bench_cache[];

/* Prints "PROGRAM: ..." on stderr and ends the process with 1. */
void bs_bench_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* n times the scale, at least 1. */
uint64_t bs_bench_scaled(const struct bs_bench_run *run, uint64_t n);

void bs_bench_start(struct bs_bench_run *run);
void bs_bench_stop(struct bs_bench_run *run, uint64_t ops);

/* Zeroed, already resident memory straight from the kernel: it must neither warm up the allocator
 * under test nor fault inside the measured section. Lives until the process ends. */
void *bs_bench_table(size_t size_bytes);

/* They end the process where pthread_create or pthread_join fails. */
void bs_bench_start_thread(pthread_t *thread, void *(*body)(void *), void *arg);
void bs_bench_join_thread(pthread_t thread);

/* A field of /proc/self/status such as "VmHWM:", in KiB. */
uint64_t bs_bench_status_kib(const char *field);
/* The same of another file of that form, without stdio, which would allocate. */
uint64_t bs_bench_field_kib(const char *path, const char *field);

/* splitmix64: every bit is usable, so that one draw gives an index (low half) and a size (high). */
static inline uint64_t bs_bench_next(struct bs_bench_rng *rng) {
    uint64_t z = (rng->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* An index below n made of 32 random bits, without a division. */
static inline uint32_t bs_bench_below(uint32_t random, uint32_t n) {
    return (uint32_t)(((uint64_t)random * n) >> 32);
}

/* A size from lo up, below lo << octaves; every octave is equally likely, as small blocks are
 * the many in programs. */
static inline size_t bs_bench_size(uint32_t random, size_t lo, uint32_t octaves) {
    uint64_t wide = (uint64_t)random * octaves;
    size_t base = lo << (wide >> 32);
    return base + (size_t)(((wide & 0xffffffffu) * base) >> 32);
}

/* First and last word, the least that any program writes. size_bytes >= 8. */
static inline void bs_bench_touch(void *block, size_t size_bytes) {
    uint64_t word = size_bytes;
    memcpy(block, &word, sizeof word);
    memcpy((char *)block + size_bytes - sizeof word, &word, sizeof word);
}

/* One word in every 4 KiB, and the last word. size_bytes >= 8. */
static inline void bs_bench_touch_pages(void *block, size_t size_bytes) {
    for (size_t at = 0; at + sizeof(uint64_t) <= size_bytes; at += 4096)
        memcpy((char *)block + at, &at, sizeof at);
    bs_bench_touch(block, size_bytes);
}

/* Ends the run when the two words differ, in a block of 16 B up to 4 GiB that bs_bench_touch wrote
 * and nobody since. */
static inline void bs_bench_check(const void *block) {
    uint64_t first, last;
    memcpy(&first, block, sizeof first);
    if (first < 2 * sizeof first || first >> 32)
        bs_bench_die("the first word of a block was overwritten");
    memcpy(&last, (const char *)block + first - sizeof last, sizeof last);
    if (last != first)
        bs_bench_die("the last word of a block of %zu bytes was overwritten", (size_t)first);
}

/* Ends the run when memory is out: a benchmark that lost blocks must not look fast. */
static inline void *bs_bench_need(void *block, size_t size_bytes) {
    if (__builtin_expect(!block, 0))
        bs_bench_die("no memory for a block of %zu bytes", size_bytes);
    return block;
}

static inline void *bs_bench_block(size_t size_bytes) {
    void *block = bs_bench_need(malloc(size_bytes), size_bytes);
    bs_bench_touch(block, size_bytes);
    return block;
}

#endif
