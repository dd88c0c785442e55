/* SPDX-License-Identifier: MIT */
/*
 * graph_unit.h - a miniature of the truth: a heap of known blocks, words written into them at
 * random, and a slow marker that knows nothing of spans, to compare the engines of a scan with.
 *
 * Blocks come from the central lists and from large.c, without a thread cache; the reference sees
 * them as a sorted array of addresses and sizes.
 */
#ifndef BS_TESTS_GRAPH_UNIT_H
#define BS_TESTS_GRAPH_UNIT_H

#include "cycle_unit.h"
#include "large.h"
#include "os.h"
#include "trace.h"

struct node {
    uintptr_t base;
    size_t size; /* of the slot: any byte of it counts */
    bool marked; /* by the reference */
    bool start;  /* a pointer to its first byte was met */
    bool gone;   /* freed: no block any more */
};

static struct node *node;
static size_t nnodes, nodes_max;
static uint64_t seed;

static inline int compare_nodes(const void *a, const void *b) {
    uintptr_t x = ((const struct node *)a)->base, y = ((const struct node *)b)->base;
    return x < y ? -1 : x > y;
}
static inline void graph_init(size_t max, uint64_t s) {
    node = calloc(max, sizeof *node);
    ck_assert_ptr_nonnull(node);
    nodes_max = max;
    nnodes = 0;
    seed = s;
}
static inline struct node *add_block(size_t size) {
    require(nnodes < nodes_max, "too many blocks");
    void *p = size <= BS_SMALL_MAX ? claim_one(bs_class_of(size)) : bs_large_alloc(size, 1, true);
    require(p != NULL, "no memory");
    if (size <= BS_SMALL_MAX)
        memset(p, 0, bs_class_info[bs_class_of(size)].size);
    node[nnodes].base = (uintptr_t)p;
    node[nnodes].size = size <= BS_SMALL_MAX ? bs_class_info[bs_class_of(size)].size
                                             : bs_align_up(size, BS_PAGE_SIZE);
    return &node[nnodes++];
}
static inline void graph_sort(void) {
    qsort(node, nnodes, sizeof *node, compare_nodes);
}
/* The block that holds the byte at p, or NULL. */
static inline struct node *block_at(uintptr_t p) {
    size_t low = 0, high = nnodes;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (node[middle].base <= p)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || p - node[low - 1].base >= node[low - 1].size || node[low - 1].gone)
        return NULL;
    return &node[low - 1];
}

/* --- the reference ---------------------------------------------------------------------------- */

static size_t *pending, npending; /* numbers of marked nodes whose words were not read yet */

static inline void reach(struct node *n) {
    if (n == NULL || n->marked)
        return;
    n->marked = true;
    pending[npending++] = (size_t)(n - node);
}
static inline void meet(const struct bs_trace_rules *rules, uintptr_t x) {
    x &= rules->mask != 0 ? rules->mask : ~(uintptr_t)0;
    struct node *n = block_at(x);
    reach(n);
    if (n != NULL && n->base == x)
        n->start = true;
    struct node *before = x != 0 ? block_at(x - 1) : NULL;
    if (before == NULL || before == n)
        return;
    if (n == NULL ? rules->past_end != BS_PAST_END_NEVER : rules->past_end == BS_PAST_END_ALWAYS)
        reach(before);
}
static inline void read_range(const struct bs_trace_rules *rules, uintptr_t start, uintptr_t end) {
    for (; start + 8 <= end; start += rules->unaligned ? 1 : 8) {
        uintptr_t x;
        memcpy(&x, (const void *)start, sizeof x);
        meet(rules, x);
    }
}
static inline void mark_slowly(const struct bs_trace_rules *rules, const struct bs_range *roots,
                               size_t nroots) {
    pending = calloc(nnodes, sizeof *pending);
    npending = 0;
    for (size_t i = 0; i < nnodes; i++)
        node[i].marked = node[i].start = false;
    for (size_t i = 0; i < nroots; i++)
        read_range(rules, roots[i].start, roots[i].end);
    while (npending != 0) {
        const struct node *n = &node[pending[--npending]];
        read_range(rules, n->base, n->base + n->size);
    }
    free(pending);
}

static inline bool has_bit(const struct node *n, enum bs_side side) {
    const struct bs_span *s = bs_span_of(n->base);
    uint32_t slot;
    require(s != NULL && bs_slot_of(s, n->base, &slot), "no slot at %lx", n->base);
    return ((bs_marks_bits(s->base, side, slot / 64) >> (slot % 64)) & 1) != 0;
}
static inline size_t compare_marks(const char *what) {
    size_t n = 0;
    for (size_t i = 0; i < nnodes; i++) {
        if (node[i].gone)
            continue;
        bool m = has_bit(&node[i], BS_SIDE_MARK);
        require(m == node[i].marked, "%s: block %zu of %zu bytes at %lx is %smarked", what, i,
                node[i].size, node[i].base, m ? "" : "not ");
        n += m;
    }
    return n;
}

/* --- words at random -------------------------------------------------------------------------- */

enum { EXACT, INTERIOR, PAST_END, BEFORE, JUNK, KINDS };

static inline uintptr_t random_word(void) {
    const struct node *n = &node[random_below(&seed, nnodes)];
    switch (random_below(&seed, KINDS + 4)) {
    case INTERIOR:
        return n->base + random_below(&seed, n->size);
    case PAST_END:
        return n->base + n->size;
    case BEFORE:
        return n->base - 1 - random_below(&seed, 64);
    case JUNK:
        return random_next(&seed);
    default:
        return n->base;
    }
}
/* In each of `times` blocks, at a random place, a random word. */
static inline void scatter(size_t times, bool unaligned) {
    for (size_t i = 0; i < times; i++) {
        const struct node *n = &node[random_below(&seed, nnodes)];
        uintptr_t x = random_word();
        size_t at = random_below(&seed, n->size - 7);
        if (!n->gone)
            memcpy((char *)n->base + (unaligned ? at : at & ~(size_t)7), &x, sizeof x);
    }
}

#endif
