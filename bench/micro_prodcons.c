/* SPDX-License-Identifier: MIT */
/*
 * micro_prodcons.c - Producers and consumers: some threads allocate, others free. Two and two, one
 * producer for four consumers (a reader and its workers), and four for one (workers and a writer).
 *
 * The amount of work of every thread is fixed; how the threads interleave is the kernel's choice.
 *
 * Called by micro.c. All threads are joined before a function returns. The ring is the only thing
 * shared, under its own mutex; a batch (4095 blocks) is handed over at once, so the mutex costs
 * less than a thousandth of the work. An operation is one malloc and one free.
 */
#include "bench.h"

#include <pthread.h>

#define BATCH_BLOCKS 4095u
#define BLOCK_BYTES 64u
#define RING_BATCHES 8u
#define THREADS_MAX 4u /* of one kind */
#define ALL_BATCHES 2400u

struct batch { /* 32 KiB with its blocks' addresses, itself from malloc */
    uint64_t nblocks;
    void *blocks[BATCH_BLOCKS];
};

static struct ring {
    pthread_mutex_t lock;
    pthread_cond_t not_full;
    pthread_cond_t not_empty;
    struct batch *batches[RING_BATCHES];
    uint64_t nput;
    uint64_t ntaken;
} ring = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .not_full = PTHREAD_COND_INITIALIZER,
    .not_empty = PTHREAD_COND_INITIALIZER,
};

static void ring_put(struct batch *batch) {
    pthread_mutex_lock(&ring.lock);
    while (ring.nput - ring.ntaken == RING_BATCHES)
        pthread_cond_wait(&ring.not_full, &ring.lock);
    ring.batches[ring.nput++ % RING_BATCHES] = batch;
    pthread_cond_signal(&ring.not_empty);
    pthread_mutex_unlock(&ring.lock);
}

static struct batch *ring_take(void) {
    pthread_mutex_lock(&ring.lock);
    while (ring.nput == ring.ntaken)
        pthread_cond_wait(&ring.not_empty, &ring.lock);
    struct batch *batch = ring.batches[ring.ntaken++ % RING_BATCHES];
    pthread_cond_signal(&ring.not_full);
    pthread_mutex_unlock(&ring.lock);
    return batch;
}

static void *produce(void *arg) {
    const uint64_t *nbatches = arg;

    for (uint64_t i = 0; i < *nbatches; i++) {
        struct batch *batch = bs_bench_block(sizeof *batch);
        for (size_t j = 0; j < BATCH_BLOCKS; j++) {
            uint64_t *words = bs_bench_block(BLOCK_BYTES);
            words[0] = (uintptr_t)batch + j;
            batch->blocks[j] = words;
        }
        batch->nblocks = BATCH_BLOCKS;
        ring_put(batch);
    }
    return NULL;
}

static void *consume(void *arg) {
    const uint64_t *nbatches = arg;

    for (uint64_t i = 0; i < *nbatches; i++) {
        struct batch *batch = ring_take();
        for (size_t j = 0; j < batch->nblocks; j++) {
            const uint64_t *words = batch->blocks[j];
            if (words[0] != (uintptr_t)batch + j)
                bs_bench_die("prodcons: block %zu of a batch was overwritten", j);
            free(batch->blocks[j]);
        }
        free(batch);
    }
    return NULL;
}

/* Both numbers divide THREADS_MAX. */
static void hand_over(struct bs_bench_run *run, size_t nproducers, size_t nconsumers) {
    uint64_t quarter = bs_bench_scaled(run, ALL_BATCHES / THREADS_MAX);
    uint64_t each_makes = quarter * THREADS_MAX / nproducers;
    uint64_t each_frees = quarter * THREADS_MAX / nconsumers;
    pthread_t producers[THREADS_MAX], consumers[THREADS_MAX];

    bs_bench_start(run);
    for (size_t i = 0; i < nproducers; i++)
        bs_bench_start_thread(&producers[i], produce, &each_makes);
    for (size_t i = 0; i < nconsumers; i++)
        bs_bench_start_thread(&consumers[i], consume, &each_frees);
    for (size_t i = 0; i < nproducers; i++)
        bs_bench_join_thread(producers[i]);
    for (size_t i = 0; i < nconsumers; i++)
        bs_bench_join_thread(consumers[i]);
    bs_bench_stop(run, quarter * THREADS_MAX * BATCH_BLOCKS);
}

static void two_to_two(struct bs_bench_run *run) {
    hand_over(run, 2, 2);
}

static void one_to_four(struct bs_bench_run *run) {
    hand_over(run, 1, 4);
}

static void four_to_one(struct bs_bench_run *run) {
    hand_over(run, 4, 1);
}

const struct bs_bench bs_bench_prodcons[] = {
    {"prodcons", "2 threads allocate 64 B blocks in 32 KiB batches, 2 free them", two_to_two},
    {"prodcons-1-4", "the same with 1 thread that allocates and 4 that free", one_to_four},
    {"prodcons-4-1", "the same with 4 threads that allocate and 1 that frees", four_to_one},
    {NULL, NULL, NULL},
};
