/* SPDX-License-Identifier: MIT */
/*
 * collect_internal.h - what collect.c (the order, and what is remembered) and collect_judge.c (who is
 * doomed) know of each other. Nobody else includes it.
 */
#ifndef BS_COLLECT_INTERNAL_H
#define BS_COLLECT_INTERNAL_H

#include "collect.h"
#include "park.h"

#define BS_COLLECT_KEPT 65536
#define BS_COLLECT_STACKS 1024
#define BS_COLLECT_SIZES (BS_NCLASSES + 64) /* classes, then large ones by their power of two */

/* In metadata, where no scan looks for pointers. */
struct bs_collect_store {
    const char *off; /* why nothing is collected any more; NULL: it is */
    size_t nkept;
    uintptr_t kept[BS_COLLECT_KEPT]; /* blocks that were touched while they were lost: roots */
    size_t nstacks;
    struct bs_stack *stack[BS_COLLECT_STACKS]; /* whose blocks are left alone */
    bool size[BS_COLLECT_SIZES];               /* the same, where the stack is not known */
    size_t ncandidates;
    struct bs_range candidate[BS_PARK_MAX]; /* spans to be closed next */
    struct bs_collect_report report;
};

struct bs_collect {
    struct bs_collect_rules rules;
    struct bs_collect_store *store; /* NULL: off */
    const struct bs_collect_faults *faults;
    bool counts;         /* the scan that is under way does */
    bool inherited;      /* a forked child: begin anew */
    uint64_t counted_ns; /* when the last one that counted did; 0: never */
    uint64_t events;     /* of park.h, while all stood for the scan */
    uint64_t closed_ns;
};
BS_LOCAL extern struct bs_collect bs_collect;

/* What walks over the heap see: each span that has a bit of kind `side`, in address order. */
typedef void bs_collect_visitor(void *ctx, struct bs_span *s);
void bs_collect_each(enum bs_side side, bs_collect_visitor *visit, void *ctx);
/* The span's words of that kind. True: one is not 0. */
bool bs_collect_words(const struct bs_span *s, enum bs_side side, uint64_t bits[BS_MARKS_PLANES]);

/* --- collect_judge.c --------------------------------------------------------------------------- */

void bs_collect_judge(struct bs_trace *t);
/* The index into `size` of a block. */
unsigned bs_collect_size(unsigned class, size_t bytes);

#endif
