/* SPDX-License-Identifier: MIT */
/*
 * duel.c - bench/duel LIBRARY LIBRARY...: cycles that short patterns of malloc and free take in several
 * allocators loaded into one process and called in turns, so that a neighbour on the machine, the clock
 * and the layout of the program meet all of them alike. Differences of a few percent can be seen, which
 * bench/run cannot show; two builds of one library are the usual case.
 *
 * Each library has its own symbols before those of the process (RTLD_DEEPBIND), so it works on itself.
 * It is NOT a comparison of memory, of threads, or of page faults: bench/run has these. One thread. The
 * cycles are those of the time stamp counter, which counts at one rate whatever the clock does; where it
 * is another processor than x86-64, nanoseconds.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_LIBRARIES = 8, LIVE = 10000, BATCH = 1000, LIST = 20000, SHUFFLED = 300000 };

struct library {
    const char *name;
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    void *live[LIVE]; /* blocks that a pattern replaces one by one */
    double *cycles;   /* of each turn */
};

static struct library libraries[MAX_LIBRARIES];
static unsigned nlibraries;
static uint32_t order[SHUFFLED];
static void *blocks[SHUFFLED];
static struct bs_bench_rng rng = {1};

#ifdef __x86_64__
#define UNIT "cycles"
static uint64_t now(void) {
    return __builtin_ia32_rdtsc();
}
#else
#define UNIT "ns"
static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
#endif

static unsigned draw(unsigned below) {
    return bs_bench_below((uint32_t)bs_bench_next(&rng), below);
}

/* --- patterns: each gives the number of blocks that it took and gave back ---------------------- */

static unsigned pair(struct library *l) {
    for (unsigned i = 0; i < 2 * BATCH; i++) {
        void *volatile p = l->malloc(32);
        l->free(p);
    }
    return 2 * BATCH;
}

static unsigned pair_mixed(struct library *l) {
    for (unsigned i = 0; i < 2 * BATCH; i++) {
        char *volatile p = l->malloc(16 + draw(1008));
        *p = 1;
        l->free(p);
    }
    return 2 * BATCH;
}

static void fill_batch(struct library *l) {
    for (unsigned i = 0; i < BATCH; i++) {
        blocks[i] = l->malloc(64);
        *(char *)blocks[i] = 1;
    }
}

static unsigned batch_lifo(struct library *l) {
    fill_batch(l);
    for (unsigned i = BATCH; i-- > 0;)
        l->free(blocks[i]);
    return BATCH;
}

static unsigned batch_fifo(struct library *l) {
    fill_batch(l);
    for (unsigned i = 0; i < BATCH; i++)
        l->free(blocks[i]);
    return BATCH;
}

static unsigned replace_random(struct library *l) {
    for (unsigned i = 0; i < BATCH; i++) {
        void **cell = &l->live[draw(LIVE)];
        l->free(*cell);
        *cell = l->malloc(16 + draw(497));
        *(char *)*cell = 1;
    }
    return BATCH;
}

static unsigned replace_zeroed(struct library *l) {
    for (unsigned i = 0; i < BATCH; i++) {
        void **cell = &l->live[draw(BATCH)];
        l->free(*cell);
        *cell = l->calloc(1, 16 + draw(497));
        *(char *)*cell = 1;
    }
    return BATCH;
}

static unsigned reserve_and_shrink(struct library *l) {
    for (unsigned i = 0; i < BATCH; i++) {
        void **cell = &l->live[draw(BATCH)];
        unsigned used = 16 + draw(1000);
        l->free(*cell);
        *cell = l->malloc(4096);
        memset(*cell, 1, used);
        *cell = l->realloc(*cell, used);
    }
    return BATCH;
}

static unsigned list(struct library *l) {
    struct node {
        struct node *next;
        long key[3];
    } *head = NULL, **tail = &head;
    for (unsigned i = 0; i < LIST; i++) {
        struct node *n = l->malloc(sizeof *n);
        n->next = NULL;
        n->key[0] = i;
        *tail = n;
        tail = &n->next;
    }
    while (head != NULL) {
        struct node *next = head->next;
        l->free(head);
        head = next;
    }
    return LIST;
}

static unsigned shuffled(struct library *l) {
    for (unsigned i = 0; i < SHUFFLED; i++) {
        blocks[i] = l->malloc(16 + draw(128));
        *(char *)blocks[i] = 1;
    }
    for (unsigned i = 0; i < SHUFFLED; i++)
        l->free(blocks[order[i]]);
    return SHUFFLED;
}

static const struct pattern {
    const char *name;
    unsigned (*run)(struct library *l);
    unsigned turns;
} patterns[] = {
    {"pair-32", pair, 4000},
    {"pair-mixed", pair_mixed, 4000},
    {"batch-lifo", batch_lifo, 4000},
    {"batch-fifo", batch_fifo, 4000},
    {"random-10k", replace_random, 4000},
    {"calloc-small", replace_zeroed, 2000},
    {"realloc-shrink", reserve_and_shrink, 2000},
    {"list-20k", list, 300},
    {"shuffle-300k", shuffled, 40},
};

/* --- turns ------------------------------------------------------------------------------------ */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Twice in a row, and only the second counts: the first brings the library's code and data back into
 * the caches after the others' turns. */
static double turn(const struct pattern *p, struct library *l) {
    double cycles = 0;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t start = now();
        unsigned n = p->run(l);
        cycles = (double)(now() - start) / n;
    }
    return cycles;
}

static void run_pattern(const struct pattern *p) {
    for (unsigned t = 0; t < p->turns; t++)
        for (unsigned k = 0; k < nlibraries; k++) {
            struct library *l = &libraries[(k + t) % nlibraries];
            l->cycles[t] = turn(p, l);
        }
    printf("%-15s", p->name);
    double first = 0;
    for (unsigned i = 0; i < nlibraries; i++) {
        qsort(libraries[i].cycles, p->turns, sizeof(double), compare);
        double median = libraries[i].cycles[p->turns / 2];
        first = i == 0 ? median : first;
        printf("  %7.1f (%.2f)", median, median / first);
    }
    puts("");
}

/* --- libraries -------------------------------------------------------------------------------- */

static void *find(void *handle, const char *file, const char *name) {
    void *found = dlsym(handle, name);
    if (found == NULL)
        bs_bench_die("%s has no %s", file, name);
    return found;
}

static void load(struct library *l, const char *file) {
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (handle == NULL)
        bs_bench_die("%s", dlerror());
    l->name = file;
    l->malloc = find(handle, file, "malloc");
    l->calloc = find(handle, file, "calloc");
    l->realloc = find(handle, file, "realloc");
    l->free = find(handle, file, "free");
    for (unsigned i = 0; i < LIVE; i++)
        l->live[i] = l->malloc(16 + draw(497));
    l->cycles = calloc(patterns[0].turns, sizeof(double));
    if (l->cycles == NULL)
        bs_bench_die("%s", strerror(errno));
}

static void shuffle(void) {
    for (uint32_t i = 0; i < SHUFFLED; i++)
        order[i] = i;
    for (uint32_t i = SHUFFLED - 1; i > 0; i--) {
        unsigned j = draw(i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > MAX_LIBRARIES + 1 || argv[1][0] == '-') {
        fprintf(stderr, "usage: duel LIBRARY [LIBRARY...]   (at most %d; the first is 1.00)\n",
                MAX_LIBRARIES);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    shuffle();
    printf("%-15s", UNIT " a block");
    for (int i = 1; i < argc; i++) {
        const char *slash = strrchr(argv[i], '/');
        load(&libraries[nlibraries++], argv[i]);
        printf("  %-14s", slash != NULL ? slash + 1 : argv[i]);
    }
    puts("");
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        run_pattern(&patterns[i]);
    return 0;
}
