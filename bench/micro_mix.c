/* SPDX-License-Identifier: MIT */
/*
 * micro_mix.c - Size mixes of real programs: blocks have the sizes and the lifetimes that those of
 * gcc, node, redis and sqlite had (mixes.def, measured from bench/traces), drawn at random. A
 * block's lifetime is counted in blocks made, and each size keeps its own lifetimes.
 *
 * (Of the other traces, python's is nearly all blocks of one size that are freed at once.)
 *
 * It is not the traces themselves (bench/replay): there is no order in which one size follows
 * another, and no phase of the program. So what is measured is the mix, for as long as wished.
 *
 * Blocks that will be freed at the same operation are a list whose links are in the blocks; the
 * lists are a wheel, in mapped memory. The second word of a block is its own address, which is
 * looked at before it is freed.
 *
 * Called by micro.c, one thread. An operation is one malloc, and one free of a block whose time has
 * come.
 */
#include "bench.h"

#define NPAIRS 128u
#define WHEEL_PLACES (1u << 18) /* a lifetime is below */
#define MIX_OPS 5000000u
#define HAS_ADDRESS 1u /* in a link: the block is large enough for a second word */

struct pair {
    uint32_t size_bytes;
    uint8_t lifetime_log2;
};

#include "mixes.def"

/* A link: the block's address, with HAS_ADDRESS. 0: none. */
static uintptr_t make_block(uint32_t size_bytes, uintptr_t next) {
    size_t bytes = size_bytes < sizeof next ? sizeof next : size_bytes;
    char *block = bs_bench_need(malloc(bytes), bytes);

    bs_bench_touch_pages(block, bytes);
    memcpy(block, &next, sizeof next);
    if (bytes < 2 * sizeof next)
        return (uintptr_t)block;
    memcpy(block + sizeof next, &block, sizeof block);
    return (uintptr_t)block | HAS_ADDRESS;
}

static void free_list(uintptr_t link) {
    while (link) {
        char *block = (char *)(link & ~(uintptr_t)HAS_ADDRESS), *found = block;
        uintptr_t next;

        memcpy(&next, block, sizeof next);
        if (link & HAS_ADDRESS)
            memcpy(&found, block + sizeof next, sizeof found);
        if (found != block)
            bs_bench_die("a block of the mix was overwritten");
        free(block);
        link = next;
    }
}

static void play(struct bs_bench_run *run, const struct pair *mix) {
    uint64_t nops = bs_bench_scaled(run, MIX_OPS);
    uintptr_t *wheel = bs_bench_table(WHEEL_PLACES * sizeof *wheel);
    struct bs_bench_rng rng = {9};

    bs_bench_start(run);
    for (uint64_t now = 0; now < nops; now++) {
        uint64_t random = bs_bench_next(&rng);
        const struct pair *pair = &mix[random % NPAIRS];
        uint32_t at_least = 1u << pair->lifetime_log2;
        uint32_t lifetime = at_least + bs_bench_below((uint32_t)(random >> 32), at_least);
        uintptr_t *place = &wheel[(now + lifetime) % WHEEL_PLACES];

        *place = make_block(pair->size_bytes, *place);
        uintptr_t *due = &wheel[(now + 1) % WHEEL_PLACES];
        uintptr_t list = *due;
        *due = 0;
        free_list(list);
    }
    bs_bench_stop(run, nops);
    for (size_t i = 0; i < WHEEL_PLACES; i++)
        free_list(wheel[i]);
}

static void mix_of_gcc(struct bs_bench_run *run) {
    play(run, mix_gcc);
}

static void mix_of_node(struct bs_bench_run *run) {
    play(run, mix_node);
}

static void mix_of_redis(struct bs_bench_run *run) {
    play(run, mix_redis);
}

static void mix_of_sqlite(struct bs_bench_run *run) {
    play(run, mix_sqlite);
}

const struct bs_bench bs_bench_mix[] = {
    {"mix-gcc", "sizes and lifetimes of gcc's blocks", mix_of_gcc},
    {"mix-node", "sizes and lifetimes of node's blocks", mix_of_node},
    {"mix-redis", "sizes and lifetimes of redis's blocks", mix_of_redis},
    {"mix-sqlite", "sizes and lifetimes of sqlite's blocks", mix_of_sqlite},
    {NULL, NULL, NULL},
};
