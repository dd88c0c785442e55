/* SPDX-License-Identifier: MIT */
/*
 * What the stress programs share: a block that knows what its bytes must be, the ways to make,
 * resize, check and free one, and the driver that runs a pattern with 1, 2, 8 and 64 threads.
 *
 * The record of a block is kept apart from the block, so whatever overwrites a block (an overlap
 * with another, metadata inside it, pages released too early) is found when it is checked, before
 * it is freed. Arguments of every program: [SECONDS [THREADS [SEED]]]; 0 threads means all four
 * counts. The seed is printed; with one thread it repeats a run exactly.
 *
 * It is NOT a benchmark. Include it first.
 */
#ifndef BS_TESTS_STRESS_H
#define BS_TESTS_STRESS_H

#include "../preload/promise.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

struct block {
    void *p;
    size_t size;
    uint64_t tag;
};

struct stress {
    unsigned seconds;
    unsigned nthreads;
    uint64_t seed;
    atomic_bool stop;
    atomic_ulong nops;
};

/* Mostly small, one in fourteen up to 32 KiB, one in a hundred up to 2 MiB. */
static inline size_t block_size(uint64_t *seed) {
    size_t dice = rng_below(seed, 1000), lg = 1 + rng_below(seed, 10);

    if (dice < 10)
        lg = 15 + rng_below(seed, 7);
    else if (dice < 80)
        lg = 10 + rng_below(seed, 6);
    return 1 + rng_below(seed, (size_t)1 << lg);
}

/* One of malloc, calloc (checked to be zero) and an aligned form; filled. */
static inline struct block block_make(uint64_t *seed) {
    struct block block = {NULL, block_size(seed), rng_next(seed)};
    size_t alignment = (size_t)8 << rng_below(seed, 10);

    switch (rng_below(seed, 8)) {
    case 0:
        alignment = rng_below(seed, 100) == 0 ? BS_MIB : alignment;
        BS_CHECK(posix_memalign(&block.p, alignment, block.size) == 0, "posix_memalign(%zu, %zu)",
                 alignment, block.size);
        break;
    case 1:
    case 2:
        alignment = block.size >= 16 ? 16 : 8;
        block.p = calloc(1, block.size);
        BS_CHECK(block.p != NULL, "calloc(1, %zu) gave NULL", block.size);
        BS_CHECK_ZERO(block.p, block.size);
        break;
    default:
        alignment = block.size >= 16 ? 16 : 8;
        block.p = malloc(block.size);
        BS_CHECK(block.p != NULL, "malloc(%zu) gave NULL", block.size);
    }
    BS_CHECK(is_aligned(block.p, alignment), "%p is not aligned to %zu", block.p, alignment);
    pattern_fill(block.p, block.size, block.tag);
    return block;
}

static inline void block_check(const struct block *block) {
    BS_CHECK(malloc_usable_size(block->p) >= block->size, "%zu usable bytes of %zu",
             malloc_usable_size(block->p), block->size);
    BS_CHECK_PATTERN(block->p, block->size, block->tag);
}

static inline void block_free(struct block *block) {
    if (block->p != NULL)
        block_check(block);
    errno = EXDEV;
    free(block->p);
    BS_CHECK(errno == EXDEV, "free set errno to %d", errno);
    block->p = NULL;
}

static inline void block_resize(struct block *block, uint64_t *seed) {
    size_t to = block_size(seed), both = to < block->size ? to : block->size;
    void *p = realloc(block->p, to);

    BS_CHECK(p != NULL, "realloc from %zu to %zu gave NULL", block->size, to);
    BS_CHECK_PATTERN(p, both, block->tag);
    block->p = p;
    block->size = to;
    block->tag = rng_next(seed);
    pattern_fill(block->p, block->size, block->tag);
}

typedef void (*stress_pattern)(struct stress *stress);

/* Runs the pattern for the given time; what keeps the promise prints one line for each count. */
static inline void stress_run(struct stress *stress, const char *name, stress_pattern pattern) {
    uint64_t start_ms = now_ms();

    dprintf(STDOUT_FILENO, "%s: %u threads, %u s, seed %llu ... ", name, stress->nthreads,
            stress->seconds, (unsigned long long)stress->seed);
    atomic_store(&stress->stop, false);
    atomic_store(&stress->nops, 0);
    pattern(stress);
    dprintf(STDOUT_FILENO, "%lu operations in %llu ms\n", atomic_load(&stress->nops),
            (unsigned long long)(now_ms() - start_ms));
    BS_CHECK(atomic_load(&stress->nops) > 0, "nothing was done");
}

static inline uint64_t stress_number(int argc, char **argv, int at, uint64_t otherwise) {
    char *end;

    if (argc <= at)
        return otherwise;
    uint64_t value = strtoull(argv[at], &end, 10);

    BS_CHECK(*argv[at] != '\0' && *end == '\0',
             "\"%s\" is not a number; usage: [SECONDS [THREADS [SEED]]]", argv[at]);
    return value;
}

static inline int stress_main(int argc, char **argv, const char *name, stress_pattern pattern) {
    static const unsigned counts[] = {1, 2, 8, 64};
    struct stress stress = {.seconds = (unsigned)stress_number(argc, argv, 1, 2)};
    unsigned nthreads = (unsigned)stress_number(argc, argv, 2, 0);

    BS_CHECK(stress.seconds >= 1 && nthreads <= 512, "SECONDS from 1, THREADS up to 512");
    stress.seed = stress_number(argc, argv, 3, now_ms() * 1000003 % 1000000007);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (nthreads != 0 && i > 0)
            break;
        stress.nthreads = nthreads != 0 ? nthreads : counts[i];
        stress_run(&stress, name, pattern);
    }
    return 0;
}

/* For so long, and then until something was done, a minute at most. */
static inline void stress_sleep(struct stress *stress) {
    uint64_t end_ms = now_ms() + 60000;

    sleep_ms(stress->seconds * 1000);
    while (atomic_load(&stress->nops) == 0 && now_ms() < end_ms)
        sleep_ms(10);
}

/* Starts body on n threads with consecutive arguments, sleeps, sets stop, joins. */
static inline void stress_threads(struct stress *stress, void *(*body)(void *), void *args,
                                  size_t arg_size) {
    pthread_t threads[512];

    for (unsigned i = 0; i < stress->nthreads; i++)
        BS_CHECK(pthread_create(&threads[i], NULL, body, (char *)args + i * arg_size) == 0,
                 "thread %u cannot be made", i);
    stress_sleep(stress);
    atomic_store(&stress->stop, true);
    for (unsigned i = 0; i < stress->nthreads; i++)
        pthread_join(threads[i], NULL);
}

#endif
