/* SPDX-License-Identifier: MIT */
/*
 * micro_threads.c - Threads: servers whose threads hand their blocks on to a successor, more
 * threads than processors, and threads that live shortly. What one thread makes and another frees
 * while both live is in micro_prodcons.c.
 *
 * The amount of work of every thread is fixed; how the threads interleave is the kernel's choice,
 * so these vary more from run to run than the other families.
 *
 * Called by micro.c. All threads are joined before a function returns. Nothing is shared: a lane
 * has one thread at a time.
 */
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>

/* A thread's own set of live blocks, replaced at random. */

#define LIVE_BLOCKS 5000u

struct lane {
    struct bs_bench_rng rng;
    uint64_t nops;         /* of one thread */
    uint32_t nblocks;      /* how many of the places are used */
    uint64_t ngenerations; /* threads still to come, the running one included */
    pthread_t thread;      /* the one that had the lane last */
    int has_predecessor;   /* thread is to be joined by its successor */
    sem_t done;            /* posted by the last thread, which thread then names */
    void *blocks[LIVE_BLOCKS];
};

static void replace_blocks(struct lane *lane) {
    for (uint64_t i = 0; i < lane->nops; i++) {
        uint64_t random = bs_bench_next(&lane->rng);
        void **place = &lane->blocks[bs_bench_below((uint32_t)random, lane->nblocks)];
        free(*place);
        *place = bs_bench_block(bs_bench_size((uint32_t)(random >> 32), 16, 5));
    }
}

static void free_blocks(struct lane *lane) {
    for (size_t i = 0; i < lane->nblocks; i++) {
        if (lane->blocks[i])
            bs_bench_check(lane->blocks[i]);
        free(lane->blocks[i]);
        lane->blocks[i] = NULL;
    }
}

static struct lane *make_lanes(size_t nlanes, uint32_t nblocks, uint64_t nops) {
    struct lane *lanes = bs_bench_table(nlanes * sizeof *lanes);

    for (size_t i = 0; i < nlanes; i++) {
        lanes[i].rng.state = 100 + i;
        lanes[i].nops = nops;
        lanes[i].nblocks = nblocks;
    }
    return lanes;
}

/* larson: each of two servers replaces blocks, then starts its successor, hands the blocks on and
 * ends. Many blocks are thus freed by a younger thread, when the one that allocated them is gone.
 */

#define LARSON_LANES 2u
#define LARSON_GENERATIONS 100u
#define LARSON_OPS 100000u

static void *serve(void *arg) {
    struct lane *lane = arg;
    pthread_t successor;

    if (lane->has_predecessor)
        bs_bench_join_thread(lane->thread);
    replace_blocks(lane);
    lane->thread = pthread_self();
    lane->has_predecessor = 1;
    if (--lane->ngenerations) {
        bs_bench_start_thread(&successor, serve, lane);
    } else {
        free_blocks(lane);
        sem_post(&lane->done);
    }
    return NULL;
}

static void larson(struct bs_bench_run *run) {
    uint64_t ngenerations = bs_bench_scaled(run, LARSON_GENERATIONS);
    struct lane *lanes = make_lanes(LARSON_LANES, LIVE_BLOCKS, LARSON_OPS);
    pthread_t first;

    bs_bench_start(run);
    for (size_t i = 0; i < LARSON_LANES; i++) {
        lanes[i].ngenerations = ngenerations;
        if (sem_init(&lanes[i].done, 0, 0))
            bs_bench_die("sem_init: %s", strerror(errno));
        bs_bench_start_thread(&first, serve, &lanes[i]);
    }
    for (size_t i = 0; i < LARSON_LANES; i++) {
        while (sem_wait(&lanes[i].done))
            continue;
        bs_bench_join_thread(lanes[i].thread);
    }
    bs_bench_stop(run, LARSON_LANES * ngenerations * LARSON_OPS);
}

/* threads-8, threads-64: more threads than most machines have processors, each on its own. In the
 * middle each waits for all: a thread needs a few milliseconds for its part, so without that it would
 * be the kernel's choice how many of them have blocks at a time, and the peak would say no more. */

#define CROWD_MAX 64u
#define CROWD_OPS 20000000u

static pthread_barrier_t crowd_is_there;

static void *replace_then_free(void *arg) {
    struct lane *lane = arg;
    uint64_t nops = lane->nops;

    lane->nops = nops / 2;
    replace_blocks(lane);
    pthread_barrier_wait(&crowd_is_there);
    lane->nops = nops - nops / 2;
    replace_blocks(lane);
    free_blocks(lane);
    return NULL;
}

static void crowd(struct bs_bench_run *run, size_t nthreads) {
    uint64_t nops = bs_bench_scaled(run, CROWD_OPS / nthreads);
    struct lane *lanes = make_lanes(nthreads, LIVE_BLOCKS, nops);
    pthread_t threads[CROWD_MAX];

    if (pthread_barrier_init(&crowd_is_there, NULL, (unsigned)nthreads))
        bs_bench_die("pthread_barrier_init failed");
    bs_bench_start(run);
    for (size_t i = 0; i < nthreads; i++)
        bs_bench_start_thread(&threads[i], replace_then_free, &lanes[i]);
    for (size_t i = 0; i < nthreads; i++)
        bs_bench_join_thread(threads[i]);
    bs_bench_stop(run, nthreads * nops);
    pthread_barrier_destroy(&crowd_is_there);
}

static void threads_8(struct bs_bench_run *run) {
    crowd(run, 8);
}

static void threads_64(struct bs_bench_run *run) {
    crowd(run, CROWD_MAX);
}

/* thread-churn: threads that live shortly and leave blocks behind, which the main thread frees. */

#define CHURN_THREADS 2000u
#define CHURN_AT_ONCE 4u
#define CHURN_BLOCKS 100u
#define CHURN_OPS 6000u

static void *live_shortly(void *arg) {
    replace_blocks(arg);
    return NULL;
}

static void thread_churn(struct bs_bench_run *run) {
    uint64_t nrounds = bs_bench_scaled(run, CHURN_THREADS / CHURN_AT_ONCE);
    struct lane *lanes = make_lanes(CHURN_AT_ONCE, CHURN_BLOCKS, CHURN_OPS);
    pthread_t threads[CHURN_AT_ONCE];

    bs_bench_start(run);
    for (uint64_t round = 0; round < nrounds; round++) {
        for (size_t i = 0; i < CHURN_AT_ONCE; i++)
            bs_bench_start_thread(&threads[i], live_shortly, &lanes[i]);
        for (size_t i = 0; i < CHURN_AT_ONCE; i++) {
            bs_bench_join_thread(threads[i]);
            free_blocks(&lanes[i]);
        }
    }
    bs_bench_stop(run, nrounds * CHURN_AT_ONCE * CHURN_OPS);
}

const struct bs_bench bs_bench_threads[] = {
    {"larson", "2 servers whose threads hand 5000 blocks on to a successor", larson},
    {"threads-8", "8 threads, each replaces one of its 5000 blocks of 16 to 512 B", threads_8},
    {"threads-64", "the same with 64 threads", threads_64},
    {"thread-churn", "2000 short threads, 6000 replacements each, blocks left behind",
     thread_churn},
    {NULL, NULL, NULL},
};
