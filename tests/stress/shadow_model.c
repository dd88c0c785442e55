/* SPDX-License-Identifier: MIT */
/*
 * Stress: one thread plays random calls of the whole family against a model of the heap, an ordered
 * map of the address intervals in use. Each new block must lie outside all of them (by its usable
 * size), be aligned, be zero if calloc made it, and keep its contents until it is freed.
 *
 * Arguments: [SECONDS [SEED [OPERATIONS]]]; with OPERATIONS the run is exact and repeats with the
 * seed, which a failure prints with the number of the call. The map is a sorted array in static
 * memory, so that the model does not depend on what it judges.
 */
#include "stress.h"

enum { nmax = 6000 };

struct live {
    uintptr_t start, end;
    struct block block;
};

static struct live map[nmax];
static size_t nlive;
static unsigned long nth_call;
static uint64_t seed, first_seed;

#define BS_CHECK_MODEL(cond, fmt, ...)                                                      \
    BS_CHECK(cond, "call %lu of seed %llu: " fmt, nth_call, (unsigned long long)first_seed, \
             __VA_ARGS__)

/* The first interval that ends above the address. */
static size_t find(uintptr_t address) {
    size_t low = 0, high = nlive;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (map[mid].end > address)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static void insert(struct block block) {
    uintptr_t start = (uintptr_t)block.p, end = start + malloc_usable_size(block.p);
    size_t at = find(start);

    BS_CHECK_MODEL(malloc_usable_size(block.p) >= block.size, "%zu usable bytes of %zu",
                   malloc_usable_size(block.p), block.size);
    if (end == start)
        end++; /* a block of no bytes still has an address of its own */
    BS_CHECK_MODEL(at == nlive || map[at].start >= end, "%p + %zu lies in %p + %zu", block.p,
                   (size_t)(end - start), map[at].block.p, (size_t)(map[at].end - map[at].start));
    memmove(&map[at + 1], &map[at], (nlive - at) * sizeof map[0]);
    map[at] = (struct live){start, end, block};
    nlive++;
}

static struct block take_out(size_t at) {
    struct block block = map[at].block;

    nlive--;
    memmove(&map[at], &map[at + 1], (nlive - at) * sizeof map[0]);
    return block;
}

static void make(void) {
    struct block block;

    if (rng_below(&seed, 200) == 0) {
        block = (struct block){malloc(hide_size(0)), 0, 0};
        BS_CHECK_MODEL(block.p != NULL, "malloc(%d) gave NULL", 0);
    } else {
        block = block_make(&seed);
    }
    insert(block);
}

static void check_some(void) {
    for (int i = 0; i < 20 && nlive > 0; i++)
        block_check(&map[rng_below(&seed, nlive)].block);
}

/* Frees a stretch of neighbours, so that spans empty and pages join. */
static void free_neighbours(void) {
    size_t at = rng_below(&seed, nlive), n = 1 + rng_below(&seed, 200);

    while (n-- > 0 && at < nlive) {
        struct block block = take_out(at);

        block_free(&block);
    }
}

static void play(size_t want) {
    size_t dice = rng_below(&seed, 1000);
    struct block block;

    nth_call++;
    if (nlive == 0 || (nlive < nmax && dice < (nlive < want ? 500U : 300U))) {
        make();
    } else if (dice < 700) {
        block = take_out(rng_below(&seed, nlive));
        block_free(&block);
    } else if (dice < 990) {
        block = take_out(rng_below(&seed, nlive));
        block_resize(&block, &seed);
        insert(block);
    } else if (dice < 994) {
        check_some();
    } else if (dice < 995) {
        free_neighbours();
    } else if (dice == 999) {
        malloc_trim(0);
    }
}

int main(int argc, char **argv) {
    unsigned seconds = (unsigned)stress_number(argc, argv, 1, 3);
    unsigned long ncalls = (unsigned long)stress_number(argc, argv, 3, 0);
    uint64_t end_ms = now_ms() + seconds * 1000;
    size_t want = 2000;

    first_seed = seed = stress_number(argc, argv, 2, now_ms() * 1000003 % 1000000007);
    dprintf(STDOUT_FILENO, "shadow_model: seed %llu ... ", (unsigned long long)first_seed);
    while (ncalls != 0 ? nth_call < ncalls : now_ms() < end_ms || !promise_is_stopped_enough()) {
        if (nth_call % 20000 == 0)
            want = rng_below(&seed, nmax);
        for (int i = 0; i < 100; i++)
            play(want);
    }
    while (nlive > 0) {
        struct block block = take_out(nlive - 1);

        block_free(&block);
    }
    dprintf(STDOUT_FILENO, "%lu calls\n", nth_call);
    return 0;
}
