/* SPDX-License-Identifier: MIT */
/*
 * Stress: every block is made by one thread and checked and freed by another. Threads work in
 * pairs around a bounded ring; blocks travel in batches, now and then a large one. With one thread
 * it is both ends. Blocks left in the rings are freed by the main thread, a third party.
 *
 * It must find blocks handed out twice, lost frees from other threads and magazines that mix size
 * classes. The ring's own lock orders the accesses to a block.
 */
#include "stress.h"

enum { ring_size = 2048, batch = 32 };

struct ring {
    pthread_mutex_t lock;
    unsigned head, ntaken;
    struct block blocks[ring_size];
};

struct worker {
    struct stress *stress;
    struct ring *ring;
    uint64_t seed;
    bool produces, consumes;
};

/* True when the whole batch went in. */
static bool put(struct ring *ring, const struct block *blocks, unsigned n) {
    bool fits;

    pthread_mutex_lock(&ring->lock);
    fits = ring->ntaken + n <= ring_size;
    for (unsigned i = 0; fits && i < n; i++)
        ring->blocks[(ring->head + ring->ntaken++) % ring_size] = blocks[i];
    pthread_mutex_unlock(&ring->lock);
    return fits;
}

/* How many blocks came out, up to n. */
static unsigned get(struct ring *ring, struct block *blocks, unsigned n) {
    unsigned got = 0;

    pthread_mutex_lock(&ring->lock);
    while (got < n && ring->ntaken > 0) {
        blocks[got++] = ring->blocks[ring->head];
        ring->head = (ring->head + 1) % ring_size;
        ring->ntaken--;
    }
    pthread_mutex_unlock(&ring->lock);
    return got;
}

static void produce(struct worker *worker) {
    struct block blocks[batch];
    unsigned n = 1 + (unsigned)rng_below(&worker->seed, batch);

    for (unsigned i = 0; i < n; i++)
        blocks[i] = block_make(&worker->seed);
    while (!put(worker->ring, blocks, n)) {
        if (worker->consumes || atomic_load(&worker->stress->stop)) {
            for (unsigned i = 0; i < n; i++)
                block_free(&blocks[i]);
            break;
        }
        sched_yield();
    }
    atomic_fetch_add(&worker->stress->nops, n);
}

static void consume(struct worker *worker) {
    struct block blocks[batch];
    unsigned n = get(worker->ring, blocks, 1 + (unsigned)rng_below(&worker->seed, batch));

    for (unsigned i = 0; i < n; i++)
        block_free(&blocks[i]);
    if (n == 0)
        sched_yield();
}

static void *work(void *arg) {
    struct worker *worker = arg;

    while (!atomic_load(&worker->stress->stop)) {
        if (worker->produces)
            produce(worker);
        if (worker->consumes)
            consume(worker);
    }
    return NULL;
}

static void producer_consumer(struct stress *stress) {
    unsigned nrings = (stress->nthreads + 1) / 2;
    struct ring *rings = calloc(nrings, sizeof *rings);
    struct worker *workers = calloc(stress->nthreads, sizeof *workers);

    BS_CHECK(rings != NULL && workers != NULL, "calloc gave NULL");
    for (unsigned i = 0; i < nrings; i++)
        pthread_mutex_init(&rings[i].lock, NULL);
    for (unsigned i = 0; i < stress->nthreads; i++) {
        bool alone = i % 2 == 0 && i + 1 == stress->nthreads;

        workers[i] = (struct worker){stress, &rings[i / 2], stress->seed + i, i % 2 == 0,
                                     i % 2 == 1 || alone};
    }
    stress_threads(stress, work, workers, sizeof *workers);
    for (unsigned i = 0; i < nrings; i++) {
        struct block block;

        while (get(&rings[i], &block, 1) == 1)
            block_free(&block);
        pthread_mutex_destroy(&rings[i].lock);
    }
    free(rings);
    free(workers);
}

int main(int argc, char **argv) {
    return stress_main(argc, argv, "producer_consumer", producer_consumer);
}
