/* SPDX-License-Identifier: MIT */
/*
 * Stress: one table of blocks for all threads. Each thread takes a random block out, and checks
 * and frees, resizes or only checks it, and puts that or a new one back; so every block is freed by
 * a random thread at a random age. Now and then a thread asks for statistics or trims, which walks
 * the shared structures beside the work.
 *
 * A slot's own lock is held only while a record moves in or out, so that allocations of different
 * threads truly meet.
 */
#include "stress.h"

enum { nslots = 4096 };

struct slot {
    pthread_mutex_t lock;
    struct block block;
};

struct worker {
    struct stress *stress;
    struct slot *slots;
    uint64_t seed;
};

static struct block exchange(struct slot *slot, struct block block) {
    struct block old;

    pthread_mutex_lock(&slot->lock);
    old = slot->block;
    slot->block = block;
    pthread_mutex_unlock(&slot->lock);
    return old;
}

static void operate(struct worker *worker) {
    struct slot *slot = &worker->slots[rng_below(&worker->seed, nslots)];
    struct block old, none = {NULL, 0, 0};

    switch (rng_below(&worker->seed, 8)) {
    case 0:
        old = exchange(slot, none);
        block_free(&old);
        break;
    case 1:
    case 2:
        old = exchange(slot, none);
        if (old.p == NULL)
            old = block_make(&worker->seed);
        else
            block_resize(&old, &worker->seed);
        old = exchange(slot, old);
        block_free(&old);
        break;
    case 3:
        old = exchange(slot, none);
        if (old.p != NULL)
            block_check(&old);
        old = exchange(slot, old);
        block_free(&old);
        break;
    default:
        old = exchange(slot, block_make(&worker->seed));
        block_free(&old);
    }
}

static void *work(void *arg) {
    struct worker *worker = arg;

    for (unsigned long n = 0; !atomic_load(&worker->stress->stop); n++) {
        operate(worker);
        if (n % 4096 == 4095)
            malloc_trim(0);
        if (n % 512 == 511) {
            struct mallinfo2 info = mallinfo2();

            BS_CHECK(info.uordblks <= info.arena + info.hblkhd, "uordblks %zu, arena %zu",
                     info.uordblks, info.arena);
        }
        if (n % 64 == 63)
            atomic_fetch_add(&worker->stress->nops, 64);
    }
    return NULL;
}

static void random_free(struct stress *stress) {
    struct slot *slots = calloc(nslots, sizeof *slots);
    struct worker *workers = calloc(stress->nthreads, sizeof *workers);

    BS_CHECK(slots != NULL && workers != NULL, "calloc gave NULL");
    for (int i = 0; i < nslots; i++)
        pthread_mutex_init(&slots[i].lock, NULL);
    for (unsigned i = 0; i < stress->nthreads; i++)
        workers[i] = (struct worker){stress, slots, stress->seed + i};
    stress_threads(stress, work, workers, sizeof *workers);
    for (int i = 0; i < nslots; i++) {
        block_free(&slots[i].block);
        pthread_mutex_destroy(&slots[i].lock);
    }
    free(slots);
    free(workers);
}

int main(int argc, char **argv) {
    return stress_main(argc, argv, "random_free", random_free);
}
