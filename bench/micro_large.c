/* SPDX-License-Identifier: MIT */
/*
 * micro_large.c - Large blocks: 5 to 25 MB, eight live, each replaced in turn (images, matrices),
 * and 33 KiB to 1 MiB, replaced at random with 200 live (network buffers, rows); and of 33 to 132 KiB, by four threads
 * with 16 live each (what servers read into). One word in every 4 KiB is written. The price is page faults: an allocator that gives large blocks back to the
 * kernel on each free pays them again; one that keeps them ready holds the memory. Time and peak
 * must be read together.
 *
 * Called by micro.c; all threads are joined before a function returns. An operation is one free and one malloc.
 */
#include "bench.h"

#include <pthread.h>

#define TURN_LIVE 8u
#define TURN_LO_BYTES 5000000u
#define TURN_SPAN_BYTES 20000001u
#define TURN_OPS 200u
#define RANDOM_LIVE 200u
#define RANDOM_LO_BYTES (33 * BS_BENCH_KIB)
#define RANDOM_OPS 60000u
#define THREADS 4u
#define THREADS_LIVE 16u
#define THREADS_OPS 1000000u

static void large_turn(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, TURN_OPS);
    void *blocks[TURN_LIVE] = {NULL};
    struct bs_bench_rng rng = {7};

    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++) {
        void **place = &blocks[i % TURN_LIVE];
        uint32_t random = (uint32_t)bs_bench_next(&rng);
        size_t size_bytes = TURN_LO_BYTES + bs_bench_below(random, TURN_SPAN_BYTES);
        free(*place);
        *place = bs_bench_need(malloc(size_bytes), size_bytes);
        bs_bench_touch_pages(*place, size_bytes);
    }
    bs_bench_stop(run, nops);
    for (size_t i = 0; i < TURN_LIVE; i++)
        free(blocks[i]);
}

static void replace_at_random(void **blocks, uint32_t nblocks, unsigned doublings, uint64_t seed, uint64_t nops) {
    struct bs_bench_rng rng = {seed};

    for (uint64_t i = 0; i < nops; i++) {
        uint64_t random = bs_bench_next(&rng);
        void **place = &blocks[bs_bench_below((uint32_t)random, nblocks)];
        size_t size_bytes = bs_bench_size((uint32_t)(random >> 32), RANDOM_LO_BYTES, doublings);
        if (size_bytes > BS_BENCH_MIB)
            size_bytes = BS_BENCH_MIB;
        free(*place);
        *place = bs_bench_need(malloc(size_bytes), size_bytes);
        bs_bench_touch_pages(*place, size_bytes);
    }
}

static void large_random(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, RANDOM_OPS);
    void *blocks[RANDOM_LIVE] = {NULL};

    bs_bench_start(run);
    replace_at_random(blocks, RANDOM_LIVE, 5, 8, nops);
    bs_bench_stop(run, nops);
    for (size_t i = 0; i < RANDOM_LIVE; i++)
        free(blocks[i]);
}

struct server {
    pthread_t thread;
    uint64_t seed, nops;
};

static void *serve(void *arg) {
    struct server *server = arg;
    void *blocks[THREADS_LIVE] = {NULL};

    replace_at_random(blocks, THREADS_LIVE, 2, server->seed, server->nops);
    for (size_t i = 0; i < THREADS_LIVE; i++)
        free(blocks[i]);
    return NULL;
}

static void large_threads(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, THREADS_OPS / THREADS);
    struct server servers[THREADS];

    bs_bench_start(run);
    for (size_t i = 0; i < THREADS; i++) {
        servers[i] = (struct server){.seed = 30 + i, .nops = nops};
        bs_bench_start_thread(&servers[i].thread, serve, &servers[i]);
    }
    for (size_t i = 0; i < THREADS; i++)
        bs_bench_join_thread(servers[i].thread);
    bs_bench_stop(run, THREADS * nops);
}

const struct bs_bench bs_bench_large[] = {
    {"large-turn", "replace in turn one of 8 live blocks of 5 to 25 MB", large_turn},
    {"large-random", "replace one of 200 live blocks of 33 KiB to 1 MiB", large_random},
    {"large-threads", "4 threads, each replaces one of 16 live blocks of 33 to 132 KiB", large_threads},
    {NULL, NULL, NULL},
};
