/* SPDX-License-Identifier: MIT */
/*
 * micro_realloc.c - realloc: one vector that grows by half its size from 1 B to 64 MiB, many small
 * buffers that grow by a few bytes, and buffers that were reserved too large and are shrunk to
 * what was used. Every new byte is written, and the old content is looked at after each call.
 *
 * Called by micro.c, one thread. An operation is one call of realloc.
 */
#include "bench.h"

#define VECTOR_MAX_BYTES (64 * BS_BENCH_MIB)
#define VECTOR_LAPS 8u
#define MANY_BUFFERS 2000u
#define MANY_MAX_BYTES 2048u
#define MANY_OPS 6000000u
#define SHRINK_LIVE 1000u
#define SHRINK_RESERVE_BYTES (4 * BS_BENCH_KIB)
#define SHRINK_OPS 2000000u
#define ONCE_BLOCKS 300u
#define ONCE_BYTES BS_BENCH_MIB

static char *resize(char *block, size_t size_bytes) {
    return bs_bench_need(realloc(block, size_bytes), size_bytes);
}

static uint64_t grow_vector(void) {
    size_t size_bytes = 1;
    char *vector = resize(NULL, size_bytes);
    uint64_t ncalls = 1;

    vector[0] = 'v';
    while (size_bytes < VECTOR_MAX_BYTES) {
        size_t larger_bytes = size_bytes + size_bytes / 2 + 1;
        if (larger_bytes > VECTOR_MAX_BYTES)
            larger_bytes = VECTOR_MAX_BYTES;
        vector = resize(vector, larger_bytes);
        if (vector[0] != 'v' || vector[size_bytes - 1] != 'v')
            bs_bench_die("realloc-vector: content lost at %zu bytes", larger_bytes);
        memset(vector + size_bytes, 'v', larger_bytes - size_bytes);
        size_bytes = larger_bytes;
        ncalls++;
    }
    free(vector);
    return ncalls;
}

static void realloc_vector(struct bs_bench_run *run) {
    uint64_t nlaps = bs_bench_scaled(run, VECTOR_LAPS);
    uint64_t ncalls = 0;

    bs_bench_start(run);
    for (uint64_t lap = 0; lap < nlaps; lap++)
        ncalls += grow_vector();
    bs_bench_stop(run, ncalls);
}

struct buffer {
    char *text;
    size_t used_bytes;
};

static void append(struct buffer *buffer, size_t more_bytes) {
    if (buffer->used_bytes + more_bytes > MANY_MAX_BYTES) {
        free(buffer->text);
        *buffer = (struct buffer){NULL, 0};
    }
    buffer->text = resize(buffer->text, buffer->used_bytes + more_bytes);
    if (buffer->used_bytes &&
        (buffer->text[0] != 'b' || buffer->text[buffer->used_bytes - 1] != 'b'))
        bs_bench_die("realloc-many: content lost at %zu bytes", buffer->used_bytes);
    memset(buffer->text + buffer->used_bytes, 'b', more_bytes);
    buffer->used_bytes += more_bytes;
}

static void realloc_many(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, MANY_OPS);
    struct buffer *buffers = bs_bench_table(MANY_BUFFERS * sizeof *buffers);
    struct bs_bench_rng rng = {3};

    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++) {
        uint64_t random = bs_bench_next(&rng);
        append(&buffers[bs_bench_below((uint32_t)random, MANY_BUFFERS)],
               8 + bs_bench_below((uint32_t)(random >> 32), 57));
    }
    bs_bench_stop(run, nops);
    for (size_t i = 0; i < MANY_BUFFERS; i++)
        free(buffers[i].text);
}

static void realloc_shrink(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, SHRINK_OPS);
    void **lines = bs_bench_table(SHRINK_LIVE * sizeof *lines);
    struct bs_bench_rng rng = {4};

    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++) {
        uint64_t random = bs_bench_next(&rng);
        void **place = &lines[bs_bench_below((uint32_t)random, SHRINK_LIVE)];
        size_t used_bytes = bs_bench_size((uint32_t)(random >> 32), 16, 6);
        /* Every 64th is a file that was read into a large buffer. */
        size_t reserved_bytes = i % 64 ? SHRINK_RESERVE_BYTES : 64 * SHRINK_RESERVE_BYTES;
        free(*place);
        char *line = bs_bench_block(reserved_bytes);
        memset(line, 's', used_bytes);
        line = resize(line, used_bytes);
        if (line[0] != 's' || line[used_bytes - 1] != 's')
            bs_bench_die("realloc-shrink: content lost at %zu bytes", used_bytes);
        *place = line;
    }
    bs_bench_stop(run, nops);
    for (size_t i = 0; i < SHRINK_LIVE; i++)
        free(lines[i]);
}

/* Each block is touched, cannot grow in place (its neighbour lives), and grows once. */
static void realloc_once(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, ONCE_BLOCKS);
    char **blocks = bs_bench_table(2 * nops * sizeof *blocks), **walls = blocks + nops;

    for (uint64_t i = 0; i < nops; i++) {
        blocks[i] = bs_bench_block(ONCE_BYTES);
        walls[i] = bs_bench_block(40 * BS_BENCH_KIB);
        memset(blocks[i], 'o', ONCE_BYTES);
    }
    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++) {
        blocks[i] = resize(blocks[i], ONCE_BYTES + ONCE_BYTES / 2);
        if (blocks[i][0] != 'o' || blocks[i][ONCE_BYTES - 1] != 'o')
            bs_bench_die("realloc-once: content of block %zu lost", (size_t)i);
        memset(blocks[i] + ONCE_BYTES, 'o', ONCE_BYTES / 2);
    }
    bs_bench_stop(run, nops);
    for (uint64_t i = 0; i < nops; i++) {
        free(blocks[i]);
        free(walls[i]);
    }
}

const struct bs_bench bs_bench_realloc[] = {
    {"realloc-vector", "one vector grows by half from 1 B to 64 MiB", realloc_vector},
    {"realloc-many", "one of 2000 buffers grows by 8 to 64 B, up to 2 KiB", realloc_many},
    {"realloc-shrink", "reserve 4 or 256 KiB, shrink to 16 B to 1 KiB, keep 1000", realloc_shrink},
    {"realloc-once", "each of 300 touched blocks of 1 MiB grows by half, once", realloc_once},
    {NULL, NULL, NULL},
};
