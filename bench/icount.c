/* SPDX-License-Identifier: MIT */
/*
 * icount.c - icount PATTERN SIZE N: N times malloc and free of SIZE bytes, for counting
 * instructions with icount.sh. The two calls sit in functions of their own, so that a profile can
 * attribute what is below each of them, whatever the allocator calls its entry points.
 *
 * Patterns: pair frees each block at once, so malloc finds the block just freed; batch allocates
 * 64 blocks and frees them oldest first, so that a cache of some depth is used.
 *
 * Not a benchmark: under a profiler time means nothing. Blocks are not written to, to keep the
 * frame around the calls small. One thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_BLOCKS 64u

/* The empty asm keeps the calls from becoming jumps, which a profile would book elsewhere. */
static __attribute__((noinline)) void *take_block(size_t size) {
    void *block = malloc(size);
    __asm__ volatile("" : : "r"(block) : "memory");
    return block;
}

static __attribute__((noinline)) void give_block(void *block) {
    free(block);
    __asm__ volatile("" : : : "memory");
}

static void run_pair(size_t size, uint64_t npairs) {
    for (uint64_t i = 0; i < npairs; i++)
        give_block(take_block(size));
}

static void run_batch(size_t size, uint64_t npairs) {
    void *blocks[BATCH_BLOCKS];

    for (uint64_t i = 0; i < npairs; i += BATCH_BLOCKS) {
        for (size_t j = 0; j < BATCH_BLOCKS; j++)
            blocks[j] = take_block(size);
        for (size_t j = 0; j < BATCH_BLOCKS; j++)
            give_block(blocks[j]);
    }
}

static uint64_t parse_number(const char *what, const char *text) {
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);

    if (end == text || *end || errno || !number) {
        fprintf(stderr, "icount: %s is \"%s\"; give a number from 1 up\n", what, text);
        exit(2);
    }
    return number;
}

int main(int argc, char **argv) {
    if (argc != 4 || (strcmp(argv[1], "pair") != 0 && strcmp(argv[1], "batch") != 0)) {
        fputs("usage: icount pair|batch SIZE N\n", stderr);
        return 2;
    }
    size_t size = (size_t)parse_number("SIZE", argv[2]);
    uint64_t npairs = parse_number("N", argv[3]);
    if (npairs % BATCH_BLOCKS) {
        fprintf(stderr, "icount: N is %" PRIu64 "; give a multiple of %u\n", npairs, BATCH_BLOCKS);
        return 2;
    }
    if (strcmp(argv[1], "pair") == 0)
        run_pair(size, npairs);
    else
        run_batch(size, npairs);
    return 0;
}
