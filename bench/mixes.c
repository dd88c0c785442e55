/* SPDX-License-Identifier: MIT */
/*
 * mixes.c - mixes TRACE...: prints what bench/mixes.def holds, 128 pairs of size and lifetime for
 * each trace, for the benchmarks of micro_mix.c:
 *
 *   build/bench/mixes bench/traces/{gcc,node,redis,sqlite}.bst.xz > bench/mixes.def
 *
 * Each block that the program made is a pair: bytes asked for, and how many blocks were made until
 * it was freed or moved by realloc (or until the end of the trace), as the power of two below or
 * equal. The pairs are sorted by both, and of each 128th part of them the middle one is taken. So
 * what one block in 256 or fewer has, the largest above all, is not there; every other size keeps
 * the lifetimes that blocks of its size have.
 *
 * It plays nothing (replay.c does). Main thread only; memory comes from mmap.
 */
#include "bench.h"
#include "trace.h"

#include <stdio.h>

#define PAIRS 128u
#define LIFETIME_LOG2_MAX 17u
#define KNOWN 0x80u /* in a pair: its block was freed; so that 0 is none */

/* A pair as one number, so that sorting is by size and then by lifetime. */
static uint64_t pair_of(uint64_t size, uint64_t lifetime) {
    unsigned log2 = lifetime < 2 ? 0 : 63 - (unsigned)__builtin_clzll(lifetime);
    return size << 8 | KNOWN | (log2 < LIFETIME_LOG2_MAX ? log2 : LIFETIME_LOG2_MAX);
}

static int compare(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* pairs: room for one a block. Blocks are numbered as they are made. */
static void read_pairs(const struct bs_trace *trace, uint64_t *pairs) {
    uint64_t *size = bs_bench_table(trace->blocks * sizeof *size), made = 0;
    struct bs_trace_reader reader;
    struct bs_trace_event e;

    bs_trace_begin(&reader, trace);
    while (bs_trace_next(&reader, &e)) {
        if (e.op == BS_TRACE_FREE || e.op == BS_TRACE_REALLOC)
            pairs[e.block] = pair_of(size[e.block], made - e.block);
        if (e.op != BS_TRACE_FREE) {
            size[e.made] = e.size;
            made = e.made + 1;
        }
    }
    for (uint64_t i = 0; i < trace->blocks; i++)
        if (pairs[i] == 0)
            pairs[i] = pair_of(size[i], made - i);
}

static void print_mix(const char *path) {
    static struct bs_trace trace;
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

    if (!bs_trace_open(&trace, path))
        bs_bench_die("%s %s", path, trace.error);
    if (trace.blocks < PAIRS)
        bs_bench_die("%s has %llu blocks, too few", path, (unsigned long long)trace.blocks);
    uint64_t *pairs = bs_bench_table(trace.blocks * sizeof *pairs);
    read_pairs(&trace, pairs);
    qsort(pairs, trace.blocks, sizeof *pairs, compare);
    printf("\n/* %s: %llu blocks */\nstatic const struct pair mix_%.*s[NPAIRS] = {", trace.program,
           (unsigned long long)trace.blocks, (int)strcspn(base, "."), base);
    for (uint64_t i = 0; i < PAIRS; i++) {
        uint64_t pair = pairs[(2 * i + 1) * trace.blocks / (2 * PAIRS)];
        printf("%s{%llu, %llu},", i % 8 ? " " : "\n    ", (unsigned long long)(pair >> 8),
               (unsigned long long)(pair & (KNOWN - 1)));
    }
    puts("\n};");
    bs_trace_close(&trace);
}

int main(int argc, char **argv) {
    if (argc < 2)
        bs_bench_die("usage: mixes TRACE...");
    puts("/* SPDX-License-Identifier: MIT */\n"
         "/*\n"
         " * mixes.def - bytes and lifetimes of the blocks of real programs: {bytes, log2 of the\n"
         " * number of blocks made while it lived}, each for one of 128 blocks. Made by mixes.c,\n"
         " * which says how, from the traces in bench/traces; not edited by hand. Included by\n"
         " * micro_mix.c.\n"
         " */");
    for (int i = 1; i < argc; i++)
        print_mix(argv[i]);
    return 0;
}
