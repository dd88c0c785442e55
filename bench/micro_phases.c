/* SPDX-License-Identifier: MIT */
/*
 * micro_phases.c - A program that changes what it does: twelve phases, each with sizes of its own,
 * each takes 32 MiB in blocks and frees 15 of 16 of them in random order. The survivors, 2 MiB a
 * phase, stay to the end, so each phase has to live between what the earlier ones left. Peak RSS is
 * the result as much as time: 54 MiB are live at most, 32 and eleven times 2; the rest is
 * fragmentation, rounding, memory kept for sizes that are not asked for any more, and 10 MiB of the
 * benchmark's own tables.
 *
 * Called by micro.c, one thread. An operation is one malloc and, for 15 of 16 blocks, one free.
 * Freeing the survivors lies outside the measured section.
 */
#include "bench.h"

#define PHASE_BYTES (32 * BS_BENCH_MIB)
#define PHASE_LAPS 1u
#define SURVIVES_1_IN 16u
#define BLOCKS_MAX (PHASE_BYTES / 32) /* of a phase: blocks are larger than that on average */
#define SURVIVORS_MAX (PHASE_BYTES / 128)

static const struct {
    size_t lo_bytes;
    uint32_t octaves;
} PHASES[] = {
    {16, 2},   {256, 3}, {4096, 3}, {64, 2},  {16384, 4}, {32, 5},
    {1024, 4}, {48, 1},  {8192, 2}, {128, 3}, {65536, 3}, {16, 9},
};

#define NPHASES (sizeof PHASES / sizeof PHASES[0])

struct phases {
    struct bs_bench_rng rng;
    void **blocks;    /* of the phase */
    void **survivors; /* of all */
    size_t nsurvivors;
    uint64_t nops;
};

static void give_back(void *block) {
    bs_bench_check(block);
    free(block);
}

static void do_phase(struct phases *p, size_t lo_bytes, uint32_t octaves) {
    size_t n = 0;

    for (size_t bytes = 0; bytes < PHASE_BYTES && n < BLOCKS_MAX;) {
        size_t size_bytes = bs_bench_size((uint32_t)bs_bench_next(&p->rng), lo_bytes, octaves);
        p->blocks[n] = bs_bench_need(malloc(size_bytes), size_bytes);
        bs_bench_touch_pages(p->blocks[n++], size_bytes);
        bytes += size_bytes;
    }
    p->nops += n;
    while (n > 0) {
        size_t k = bs_bench_below((uint32_t)bs_bench_next(&p->rng), (uint32_t)n);
        void *block = p->blocks[k];
        p->blocks[k] = p->blocks[--n];
        if (n % SURVIVES_1_IN == 0 && p->nsurvivors < SURVIVORS_MAX)
            p->survivors[p->nsurvivors++] = block;
        else
            give_back(block);
    }
}

static void run_phases(struct bs_bench_run *run) {
    struct phases p = {.rng = {13}};
    uint64_t nphases = bs_bench_scaled(run, PHASE_LAPS * NPHASES);

    p.blocks = bs_bench_table(BLOCKS_MAX * sizeof *p.blocks);
    p.survivors = bs_bench_table(SURVIVORS_MAX * sizeof *p.survivors);
    bs_bench_start(run);
    for (uint64_t i = 0; i < nphases; i++) {
        if (i % NPHASES == 0) /* a lap begins with nothing */
            while (p.nsurvivors > 0)
                give_back(p.survivors[--p.nsurvivors]);
        do_phase(&p, PHASES[i % NPHASES].lo_bytes, PHASES[i % NPHASES].octaves);
    }
    bs_bench_stop(run, p.nops);
    while (p.nsurvivors > 0)
        give_back(p.survivors[--p.nsurvivors]);
}

const struct bs_bench bs_bench_phases[] = {
    {"phases", "12 phases of 32 MiB with sizes of their own, 1 block in 16 survives", run_phases},
    {NULL, NULL, NULL},
};
