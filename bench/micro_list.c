/* SPDX-License-Identifier: MIT */
/*
 * micro_list.c - Growth and decline: a million blocks are allocated, then all are freed, along a
 * linked list in the order they were made, or in a shuffled order. Here an allocator takes fresh
 * memory from its page heap and gives whole spans back; the shuffled order empties all spans at
 * the same time.
 *
 * The shuffled order itself is made before the measured section.
 *
 * Called by micro.c, one thread. An operation is one malloc and one free.
 */
#include "bench.h"

#define LIST_NODES 1000000u
#define LIST_LAPS 15u
#define SHUFFLE_LAPS 3u

struct node {
    struct node *next;
    uint64_t key;
    uint64_t value[2];
};

static struct node *build(uint32_t nnodes) {
    struct node *head = NULL;
    struct node **tail = &head;

    for (uint32_t i = 0; i < nnodes; i++) {
        struct node *node = bs_bench_block(sizeof *node);
        node->next = NULL;
        node->key = i;
        *tail = node;
        tail = &node->next;
    }
    return head;
}

static void list_1m(struct bs_bench_run *run) {
    uint64_t nlaps = bs_bench_scaled(run, LIST_LAPS);

    bs_bench_start(run);
    for (uint64_t lap = 0; lap < nlaps; lap++) {
        struct node *node = build(LIST_NODES);
        for (uint64_t i = 0; node; i++) {
            struct node *next = node->next;
            if (node->key != i)
                bs_bench_die("list-1m: node %llu was overwritten", (unsigned long long)i);
            free(node);
            node = next;
        }
    }
    bs_bench_stop(run, nlaps * LIST_NODES);
}

static uint32_t *shuffled_order(uint32_t n) {
    uint32_t *order = bs_bench_table(n * sizeof *order);
    struct bs_bench_rng rng = {n};

    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = bs_bench_below((uint32_t)bs_bench_next(&rng), i);
        uint32_t swapped = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swapped;
    }
    return order;
}

static void shuffle_1m(struct bs_bench_run *run) {
    uint64_t nlaps = bs_bench_scaled(run, SHUFFLE_LAPS);
    uint32_t *order = shuffled_order(LIST_NODES);
    void **blocks = bs_bench_table(LIST_NODES * sizeof *blocks);
    struct bs_bench_rng rng = {2};

    bs_bench_start(run);
    for (uint64_t lap = 0; lap < nlaps; lap++) {
        for (uint32_t i = 0; i < LIST_NODES; i++)
            blocks[i] = bs_bench_block(bs_bench_size((uint32_t)bs_bench_next(&rng), 16, 3));
        for (uint32_t i = 0; i < LIST_NODES; i++)
            free(blocks[order[i]]);
    }
    bs_bench_stop(run, nlaps * LIST_NODES);
}

const struct bs_bench bs_bench_list[] = {
    {"list-1m", "build a linked list of 1 000 000 nodes of 32 B, free it in order", list_1m},
    {"shuffle-1m", "allocate 1 000 000 blocks of 16 to 128 B, free them shuffled", shuffle_1m},
    {NULL, NULL, NULL},
};
