/* SPDX-License-Identifier: MIT */
/*
 * Stress: generations of threads, as in Larson's server benchmark. Each thread replaces random
 * blocks of its set for a while, then starts a successor that inherits the whole set, and ends; so
 * most blocks are freed by another thread than their maker, which is gone.
 *
 * It must find what is lost or damaged when a thread ends and gives its cache back. A set belongs
 * to one thread at a time; starting the successor orders the accesses.
 */
#include "stress.h"

#include <semaphore.h>

enum { nblocks = 500, nops_each = 3000 };

struct set {
    struct stress *stress;
    sem_t *ended;
    uint64_t seed;
    struct block blocks[nblocks];
};

static void start(struct set *set);

static void replace(struct set *set) {
    struct block *block = &set->blocks[rng_below(&set->seed, nblocks)];

    if (block->p != NULL && rng_below(&set->seed, 6) == 0) {
        block_resize(block, &set->seed);
        return;
    }
    block_free(block);
    *block = block_make(&set->seed);
}

static void *generation(void *arg) {
    struct set *set = arg;

    for (int i = 0; i < nops_each; i++)
        replace(set);
    atomic_fetch_add(&set->stress->nops, nops_each);
    if (atomic_load(&set->stress->stop))
        sem_post(set->ended);
    else
        start(set);
    return NULL;
}

static void start(struct set *set) {
    pthread_t thread;
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int err = pthread_create(&thread, &attr, generation, set);

    BS_CHECK(err == 0, "a successor cannot be started: %s", strerror(err));
    pthread_attr_destroy(&attr);
}

static void handover(struct stress *stress) {
    struct set *sets = calloc(stress->nthreads, sizeof *sets);
    sem_t ended;

    BS_CHECK(sets != NULL, "calloc gave NULL");
    sem_init(&ended, 0, 0);
    for (unsigned i = 0; i < stress->nthreads; i++) {
        sets[i].stress = stress;
        sets[i].ended = &ended;
        sets[i].seed = stress->seed + i;
        start(&sets[i]);
    }
    sleep_ms(stress->seconds * 1000);
    atomic_store(&stress->stop, true);
    for (unsigned i = 0; i < stress->nthreads; i++) {
        while (sem_wait(&ended) != 0)
            ;
    }
    for (unsigned i = 0; i < stress->nthreads; i++) {
        for (int k = 0; k < nblocks; k++)
            block_free(&sets[i].blocks[k]);
    }
    sem_destroy(&ended);
    free(sets);
}

int main(int argc, char **argv) {
    return stress_main(argc, argv, "handover", handover);
}
