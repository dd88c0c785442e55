/* SPDX-License-Identifier: MIT */
/*
 * Promise: what a program moves about while it is marked is not called lost. Three threads have 22 MiB of chains
 * and nothing but moves: the only pointer to a chain goes from one cell to another, over registers, stacks, a
 * global, a thread's own variable; chains are turned around, cut and joined; nodes are freed and made anew, arrays
 * of pointers grow by realloc. Meanwhile scans mark the program while it runs, one after the other, and not
 * one of them may find a single block lost. At the end each chain has all its nodes.
 *
 * Where the kernel cannot watch memory scans are made in a copy, and the same is promised. Argument: SCANS.
 */
#include "promise.h"
#include "scan_drive.h"

#include <pthread.h>

enum { nthreads = 3, ncells = 256, chain_length = 600, node_words = 12, least_scans = 40 };

struct node {
    struct node *next;
    uintptr_t pattern;
    uintptr_t words[node_words - 2];
};
struct mover {
    pthread_t thread;
    struct node **cells; /* an array that grows and shrinks, of blocks that are pointed to from here alone */
    struct node ***far;  /* cells that lie in a block each */
    unsigned long moves;
    uint64_t state;
};

static const struct scan_drive *drive;
static struct mover movers[nthreads];
static struct node *volatile in_global[nthreads];
static __thread struct node *volatile in_tls;
static bool over; /* [atomic] */

static struct node *make_node(struct node *next) {
    struct node *n = malloc(sizeof *n);
    n->next = next;
    n->pattern = (uintptr_t)n ^ 0x5555;
    return n;
}
static struct node *make_chain(void) {
    struct node *n = NULL;
    for (unsigned i = 0; i < chain_length; i++)
        n = make_node(n);
    return n;
}
static unsigned length(const struct node *n) {
    unsigned sum = 0;
    for (; n != NULL; n = n->next, sum++)
        BS_CHECK(n->pattern == ((uintptr_t)n ^ 0x5555), "node %u is another one", sum);
    return sum;
}

/* --- moves ------------------------------------------------------------------------------------ */

static struct node **cell(struct mover *m) {
    unsigned i = (unsigned)rng_below(&m->state, 2 * ncells);
    return i < ncells ? &m->cells[i] : m->far[i - ncells];
}
static void exchange(struct mover *m) {
    struct node **a = cell(m), **b = cell(m), *x = *a;
    *a = *b;
    *b = x;
}
/* The chain is nowhere else for a while. */
static void by_global(struct mover *m) {
    struct node **a = cell(m);
    in_global[m - movers] = *a;
    *a = NULL;
    for (unsigned i = 0; i < 20; i++)
        exchange(m);
    while (*a != NULL) /* another one is in its cell by now; half of them are empty */
        a = cell(m);
    *a = in_global[m - movers];
    in_global[m - movers] = NULL;
}
static void by_tls(struct mover *m) {
    struct node **a = cell(m);
    in_tls = *a;
    *a = NULL;
    *a = in_tls;
    in_tls = NULL;
}
static void turn_around(struct mover *m) {
    struct node **a = cell(m), *turned = NULL, *n = *a;
    while (n != NULL) {
        struct node *next = n->next;
        n->next = turned;
        turned = n;
        n = next;
    }
    *a = turned;
}
/* The tails of two chains change places. */
static void cross(struct mover *m) {
    struct node **a = cell(m), **b = cell(m);
    if (a == b)
        return;
    for (unsigned i = 0; i < 10; i++) {
        if (*a == NULL || *b == NULL)
            return;
        a = &(*a)->next;
        b = &(*b)->next;
    }
    struct node *x = *a;
    *a = *b;
    *b = x;
}
/* A node is replaced by another one. */
static void renew(struct mover *m) {
    struct node **a = cell(m);
    if (*a == NULL)
        return;
    struct node *old = *a;
    *a = make_node(old->next);
    free(old);
}
/* The array goes elsewhere; and each far cell into a block that is new. */
static void grow(struct mover *m) {
    size_t more = rng_below(&m->state, 4000);
    m->cells = realloc(m->cells, (ncells + more) * sizeof(void *));
    unsigned i = (unsigned)rng_below(&m->state, ncells);
    struct node **fresh = malloc(16 + rng_below(&m->state, 200));
    *fresh = *m->far[i];
    free(m->far[i]);
    m->far[i] = fresh;
}

/* Most of the nodes are not written to for long. */
static void *move(void *arg) {
    static void (*const moves[])(struct mover *) = {exchange, by_global, by_tls, cross, renew, exchange, grow};
    struct mover *m = arg;
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        unsigned which = (unsigned)rng_below(&m->state, 500);
        (which == 0 ? turn_around : moves[which % (sizeof moves / sizeof moves[0])])(m);
        m->moves++;
    }
    return NULL;
}

/* --- the whole -------------------------------------------------------------------------------- */

static void begin(struct mover *m, uint64_t seed) {
    m->state = seed;
    m->cells = malloc(ncells * sizeof(void *));
    m->far = malloc(ncells * sizeof(void *));
    for (unsigned i = 0; i < ncells; i++) {
        m->far[i] = malloc(sizeof(void *));
        m->cells[i] = i % 4 == 0 ? make_chain() : NULL;
        *m->far[i] = i % 4 == 1 ? make_chain() : NULL;
    }
    BS_CHECK(pthread_create(&m->thread, NULL, move, m) == 0, "no thread");
}

static unsigned nodes_of(const struct mover *m) {
    unsigned nodes = 0;
    for (unsigned i = 0; i < ncells; i++)
        nodes += length(m->cells[i]) + length(*m->far[i]);
    return nodes;
}

/* A program that is busy may not be stopped at once. */
static struct scan_seen scan(void) {
    struct scan_seen seen;
    for (uint64_t end = now_ms() + 120000; now_ms() < end;) {
        drive->ask(SCAN_BY_COPY | SCAN_CONCURRENT);
        while (!drive->over(&seen))
            usleep(500);
        if (seen.end == 0)
            return seen;
    }
    BS_CHECK(0, "no verdict: end %d, world %d, thread %d", seen.end, seen.world, seen.culprit);
}

int main(int argc, char **argv) {
    unsigned scans = argc > 1 && atoi(argv[1]) > 0 ? (unsigned)atoi(argv[1]) : least_scans, ran = 0;
    unsigned long moves = 0;
    drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    for (unsigned i = 0; i < nthreads; i++)
        begin(&movers[i], i + 1);
    for (unsigned i = 0; i < scans; i++) {
        struct scan_seen seen = scan();
        ran += seen.concurrent;
        BS_CHECK(seen.lost_blocks == 0, "scan %u (%s) calls %llu blocks lost", i,
                 seen.concurrent ? "while it ran" : "of a copy", (unsigned long long)seen.lost_blocks);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < nthreads; i++) {
        BS_CHECK(pthread_join(movers[i].thread, NULL) == 0, "join");
        moves += movers[i].moves;
        unsigned nodes = nodes_of(&movers[i]);
        BS_CHECK(nodes == ncells / 2 * chain_length, "%u nodes are left", nodes);
    }
    dprintf(STDOUT_FILENO, "%u scans, %u while it ran, %lu moves\n", scans, ran, moves);
    return 0;
}
