/* SPDX-License-Identifier: MIT */
/*
 * scale_threads.c - N threads that replace their own blocks, and N threads that hand them over.
 *
 * own: each thread has 1000 blocks of 16 to 512 B and replaces one at random. big: 100 blocks of 16 B
 * to 1 MiB instead.
 * hand: a thread fills a batch of 50 such blocks, leaves it at a random place, and frees the batch
 * that lay there: most often another thread's. No thread waits for another, so what is measured is
 * the allocator and not the scheduler.
 *
 * All threads start together, run until the time is over, and are joined. What they share are the
 * places (one atomic exchange a batch) and the flag that ends the section.
 */
#include "scale_load.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define LIVE_BLOCKS 1000u
#define BIG_BLOCKS 100u
#define BATCH_BLOCKS 50u
#define PLACES_A_THREAD 32u
#define STACK_BYTES (64 * BS_BENCH_KIB)

struct batch {
    void *blocks[BATCH_BLOCKS];
};

struct lane {
    struct bs_bench_rng rng;
    uint64_t ops;
    pthread_t thread;
    bool touch;
    enum scale_sizes sizes; /* own */
    uint32_t nblocks;
    void **blocks;
    struct batch **places; /* hand: those that this thread fills at first */
} __attribute__((aligned(128)));

static struct {
    pthread_barrier_t ready;
    bool stop;             /* [atomic] */
    struct batch **places; /* [atomic] */
    uint32_t nplaces;
} shared;

static bool is_over(void) {
    return __atomic_load_n(&shared.stop, __ATOMIC_RELAXED);
}

static void *small_block(struct bs_bench_rng *rng) {
    return bs_bench_block(scale_size(rng, SCALE_SMALL));
}

static void *own_block(struct lane *lane) {
    return lane->sizes == SCALE_SMALL ? small_block(&lane->rng)
                                      : scale_block(scale_size(&lane->rng, SCALE_MIXED));
}

static void replace_own(struct lane *lane) {
    void **place = &lane->blocks[bs_bench_below((uint32_t)bs_bench_next(&lane->rng), lane->nblocks)];
    if (lane->touch) {
        scale_touch(*place);
    } else {
        free(*place);
        *place = own_block(lane);
    }
}

static void *run_own(void *arg) {
    struct lane *lane = arg;
    for (uint32_t i = 0; i < lane->nblocks; i++)
        lane->blocks[i] = own_block(lane);
    pthread_barrier_wait(&shared.ready);
    do /* at least once: a busy machine may give it a CPU too late */
        for (unsigned i = 0; i < 64; i++, lane->ops++)
            replace_own(lane);
    while (!is_over());
    return NULL;
}

static struct batch *make_batch(struct lane *lane) {
    struct batch *batch = bs_bench_block(sizeof *batch);
    for (unsigned i = 0; i < BATCH_BLOCKS; i++)
        batch->blocks[i] = small_block(&lane->rng);
    return batch;
}

/* Leaves the batch at a random place and gets what lay there. */
static struct batch *exchange(struct lane *lane, struct batch *batch) {
    uint32_t place = bs_bench_below((uint32_t)bs_bench_next(&lane->rng), shared.nplaces);
    return __atomic_exchange_n(&shared.places[place], batch, __ATOMIC_ACQ_REL);
}

static void *run_hand(void *arg) {
    struct lane *lane = arg;
    struct batch *mine = NULL;
    for (unsigned i = 0; i < PLACES_A_THREAD; i++)
        lane->places[i] = make_batch(lane);
    if (lane->touch)
        mine = make_batch(lane);
    pthread_barrier_wait(&shared.ready);
    do {
        if (lane->touch) {
            for (unsigned i = 0; i < BATCH_BLOCKS; i++, (void)scale_size(&lane->rng, SCALE_SMALL))
                scale_touch(mine->blocks[i]);
            mine = exchange(lane, mine);
        } else {
            struct batch *other = exchange(lane, make_batch(lane));
            for (unsigned i = 0; i < BATCH_BLOCKS; i++)
                free(other->blocks[i]);
            free(other);
        }
        lane->ops += BATCH_BLOCKS;
    } while (!is_over());
    return NULL;
}

static void run_threads(const char *name, void *(*body)(void *), struct lane *lanes, uint64_t n,
                        double seconds) {
    struct scale_clock clock;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_barrier_init(&shared.ready, NULL, (unsigned)n + 1);
    for (uint64_t i = 0; i < n; i++) {
        int fault = pthread_create(&lanes[i].thread, &attr, body, &lanes[i]);
        if (fault)
            bs_bench_die("pthread_create, thread %lu: %s", (unsigned long)i, strerror(fault));
    }
    pthread_barrier_wait(&shared.ready);
    scale_start(&clock, seconds);
    usleep((useconds_t)(seconds * 1e6));
    __atomic_store_n(&shared.stop, true, __ATOMIC_RELAXED);
    for (uint64_t i = 0; i < n; i++) {
        pthread_join(lanes[i].thread, NULL);
        clock.ops += lanes[i].ops;
    }
    scale_stop(&clock, name, n);
    pthread_attr_destroy(&attr);
}

static struct lane *make_lanes(uint64_t n, bool touch) {
    struct lane *lanes = bs_bench_table(n * sizeof *lanes);
    if (n > 100000)
        bs_bench_die("at most 100000 threads");
    for (uint64_t i = 0; i < n; i++) {
        lanes[i].rng.state = 100 + i;
        lanes[i].touch = touch;
    }
    return lanes;
}

void scale_own(enum scale_sizes sizes, uint64_t nthreads, double seconds, bool touch) {
    struct lane *lanes = make_lanes(nthreads, touch);
    void **blocks = bs_bench_table(nthreads * LIVE_BLOCKS * sizeof *blocks);
    for (uint64_t i = 0; i < nthreads; i++) {
        lanes[i].sizes = sizes;
        lanes[i].nblocks = sizes == SCALE_SMALL ? LIVE_BLOCKS : BIG_BLOCKS;
        lanes[i].blocks = blocks + i * LIVE_BLOCKS;
    }
    const char *name = sizes == SCALE_SMALL ? "touch-own" : "touch-big";
    run_threads(touch ? name : name + strlen("touch-"), run_own, lanes, nthreads, seconds);
}

void scale_hand(uint64_t nthreads, double seconds, bool touch) {
    struct lane *lanes = make_lanes(nthreads, touch);
    shared.nplaces = (uint32_t)nthreads * PLACES_A_THREAD;
    shared.places = bs_bench_table(shared.nplaces * sizeof *shared.places);
    for (uint64_t i = 0; i < nthreads; i++)
        lanes[i].places = shared.places + i * PLACES_A_THREAD;
    run_threads(touch ? "touch-hand" : "hand", run_hand, lanes, nthreads, seconds);
}
