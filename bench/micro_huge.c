/* SPDX-License-Identifier: MIT */
/*
 * micro_huge.c - Huge blocks that are used sparsely: 64 MB to 1 GB, of which 256 words, evenly
 * spread, are written and looked at again (hash tables, sparse matrices, reserved buffers). The
 * price is address space got and given back, page faults, and whatever an allocator writes down for
 * each page. An allocator that keeps such blocks for the next one keeps what was written, a page
 * for each word: 1 MiB a block, at other places each time.
 *
 * Needs 3 GB of address space, and 3 MiB of memory where the kernel does not make huge pages of
 * itself.
 *
 * Called by micro.c, one thread. An operation is one free and one malloc.
 */
#include "bench.h"

#define HUGE_LIVE 3u
#define HUGE_LO_BYTES ((size_t)64000000)
#define HUGE_OCTAVES 4u
#define HUGE_WORDS 256u
#define HUGE_OPS 800u

struct huge {
    char *block;
    size_t size_bytes;
};

static char *word_at(const struct huge *huge, size_t i) {
    return huge->block + (huge->size_bytes / HUGE_WORDS & ~(size_t)7) * i;
}

static void fill(const struct huge *huge) {
    for (size_t i = 0; i < HUGE_WORDS; i++) {
        uint64_t value = huge->size_bytes + i;
        memcpy(word_at(huge, i), &value, sizeof value);
    }
}

static void give_back(const struct huge *huge) {
    for (size_t i = 0; huge->block && i < HUGE_WORDS; i++) {
        uint64_t value;
        memcpy(&value, word_at(huge, i), sizeof value);
        if (value != huge->size_bytes + i)
            bs_bench_die("huge-sparse: word %zu of %zu bytes was overwritten", i, huge->size_bytes);
    }
    free(huge->block);
}

static void sparse(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, HUGE_OPS);
    struct huge huge[HUGE_LIVE] = {{NULL, 0}};
    struct bs_bench_rng rng = {12};

    bs_bench_start(run);
    for (uint64_t i = 0; i < nops; i++) {
        struct huge *place = &huge[i % HUGE_LIVE];
        size_t size_bytes =
            bs_bench_size((uint32_t)bs_bench_next(&rng), HUGE_LO_BYTES, HUGE_OCTAVES);
        give_back(place);
        *place = (struct huge){bs_bench_need(malloc(size_bytes), size_bytes), size_bytes};
        fill(place);
    }
    bs_bench_stop(run, nops);
    for (size_t i = 0; i < HUGE_LIVE; i++)
        give_back(&huge[i]);
}

const struct bs_bench bs_bench_huge[] = {
    {"huge-sparse", "replace in turn one of 3 blocks of 64 MB to 1 GB, 256 words written", sparse},
    {NULL, NULL, NULL},
};
