/* SPDX-License-Identifier: MIT */
/*
 * Promise: realloc keeps the contents on every step of a ladder from 1 byte to 256 MiB and down
 * again, across the border of small and large blocks in random jumps, when a large block can grow
 * in place, and when a neighbour forces it to move its pages.
 *
 * It is NOT a benchmark, but it bounds one cost: growing a large block by small steps must not
 * copy everything each time (quadratic growth misses the limit). One thread.
 */
#include "promise.h"

#include <malloc.h>

/* Resizes and checks that the common prefix survived; fills the whole again. */
static void *step(void *p, size_t from, size_t to, uint64_t *tag) {
    void *q = realloc(p, to);

    BS_CHECK(q != NULL, "realloc from %zu to %zu gave NULL", from, to);
    BS_CHECK(malloc_usable_size(q) >= to, "realloc to %zu gave %zu usable bytes", to,
             malloc_usable_size(q));
    BS_CHECK_PATTERN(q, from < to ? from : to, *tag);
    (*tag)++;
    pattern_fill(q, to, *tag);
    return q;
}

static void climb(size_t top, size_t divisor) {
    uint64_t tag = 1;
    size_t size = 1;
    void *p = malloc(size);

    BS_CHECK(p != NULL, "malloc(1) gave NULL");
    pattern_fill(p, size, tag);
    while (size < top) {
        size_t next = size + size / divisor + 1;

        next = next > top ? top : next;
        p = step(p, size, next, &tag);
        size = next;
    }
    while (size > 1) {
        size_t less = size / (divisor + 1) + 1;
        size_t next = less < size ? size - less : 1;

        p = step(p, size, next, &tag);
        size = next;
    }
    free(p);
}

static void cross_borders(uint64_t seed, size_t bound, int nsteps) {
    enum { nblocks = 16 };
    void *blocks[nblocks];
    size_t sizes[nblocks];
    uint64_t tags[nblocks];

    for (int i = 0; i < nblocks; i++) {
        sizes[i] = 1;
        tags[i] = seed + (uint64_t)i * 1000000;
        blocks[i] = malloc(1);
        BS_CHECK(blocks[i] != NULL, "malloc(1) gave NULL");
        pattern_fill(blocks[i], 1, tags[i]);
    }
    for (int n = 0; n < nsteps; n++) {
        size_t i = rng_below(&seed, nblocks);
        size_t to = 1 + rng_below(&seed, bound);

        blocks[i] = step(blocks[i], sizes[i], to, &tags[i]);
        sizes[i] = to;
    }
    for (int i = 0; i < nblocks; i++)
        free(blocks[i]);
}

/* Marks the ends of what exists only, so that the time is the allocator's own. */
static void grow_by_small_steps(void) {
    size_t size = BS_MIB, stride = 64 * BS_KIB;
    unsigned char *p = malloc(size);
    clock_t start = clock();

    BS_CHECK(p != NULL, "malloc(1 MiB) gave NULL");
    for (size_t at = 0; at < size; at += stride)
        p[at] = (unsigned char)(at / stride * 7 + 1);
    while (size < 256 * BS_MIB) {
        p = realloc(p, size + stride);
        BS_CHECK(p != NULL, "realloc to %zu gave NULL", size + stride);
        p[size] = (unsigned char)(size / stride * 7 + 1);
        size += stride;
    }
    for (size_t at = 0; at < size; at += stride)
        BS_CHECK(p[at] == (unsigned char)(at / stride * 7 + 1), "byte %zu changed", at);
    free(p);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;

    BS_CHECK(seconds < 3, "4080 small growths of a large block took %.1f s of CPU time", seconds);
}

/* The neighbour taken after the block makes growth in place unlikely. */
static void grow_beside_neighbour(size_t size) {
    uint64_t tag = size;
    void *p = malloc(size);

    BS_CHECK(p != NULL, "malloc(%zu) gave NULL", size);
    pattern_fill(p, size, tag);
    for (int i = 0; i < 3; i++) {
        void *neighbour = malloc(size);

        BS_CHECK(neighbour != NULL, "malloc(%zu) gave NULL", size);
        pattern_fill(neighbour, size, 99);
        p = step(p, size, size * 2, &tag);
        BS_CHECK_PATTERN(neighbour, size, 99);
        free(neighbour);
        p = step(p, size * 2, size, &tag);
    }
    free(p);
}

int main(void) {
    climb(256 * BS_MIB, 1);
    climb(8 * BS_MIB, 4);
    climb(256 * BS_KIB, 50);
    cross_borders(11, 100 * BS_KIB, 20000);
    cross_borders(12, 2000, 100000);
    cross_borders(13, 4 * BS_MIB, 150);
    grow_by_small_steps();
    grow_beside_neighbour(100 * BS_KIB);
    grow_beside_neighbour(3 * BS_MIB);
    grow_beside_neighbour(32 * BS_MIB);
    return 0;
}
