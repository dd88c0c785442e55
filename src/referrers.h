/* SPDX-License-Identifier: MIT */
/*
 * referrers.h - where the words lie that point to some few blocks: a second look at what a search (hunt.h)
 * has read, for the report of what it has to keep (dangling.h).
 *
 * The search itself notes only that there is such a word. Here each word is compared with a sorted list of
 * blocks, behind a filter of a bit for each page number, less some bits: most words fail at the bounds or
 * there, and what is read comes from memory in sequence.
 *
 *   all stand  bs_referrers_roots: roots and registers; which thread's they are is found out there too
 *   all run    bs_referrers_heap: blocks in use, copied by the kernel, which does not fault. A word that is
 *              written meanwhile may be missed: this is for a report, and releases nothing
 *
 * A word counts if it points to any byte of the block; or just past its end, where no other block begins.
 * Each look has a limit of CPU time; what was not found by then is not told, and `cut` says so. One user at a time
 * (the round's); a mapping of metadata; no lock of its own.
 */
#ifndef BS_REFERRERS_H
#define BS_REFERRERS_H

#include "roots.h"
#include "tunables.h"

struct bs_stack;

enum bs_referrer_kind {
    BS_REFERRER_REGISTER, /* of thread tid */
    BS_REFERRER_STACK,    /* of thread tid, or its thread-local variables */
    BS_REFERRER_MEMORY,   /* a mapping of the program's */
    BS_REFERRER_HEAP,     /* a block in use */
    BS_REFERRER_KERNEL    /* a word that the kernel holds, or that besom has copied; at is 0 */
};

struct bs_referrer {
    enum bs_referrer_kind kind;
    int tid;
    uintptr_t at;            /* address of the word */
    uintptr_t value;         /* what it points to */
    uintptr_t block;         /* of the heap: the block that it lies in, */
    size_t block_size;       /* its slot's size, */
    struct bs_stack *origin; /* and where it was allocated; NULL: not known */
};

/* One of the blocks. */
struct bs_wanted {
    uintptr_t base;
    size_t size; /* of its slot */
    unsigned n;  /* of them are known */
    struct bs_referrer by[BS_REFERRERS_EACH];
};

struct bs_referrers {
    size_t n;                                   /* blocks */
    struct bs_wanted want[BS_REFERRERS_BLOCKS]; /* in address order, once they were prepared */
    bool cut;
    /* the rest is the search's: */
    uintptr_t low, reach;
    size_t left;          /* blocks with room for another word */
    uint64_t deadline_ns; /* of the thread's CPU time */
    size_t unclocked;     /* bytes since somebody looked at the clock */
    uint64_t filter[BS_REFERRERS_FILTER / 64];
    char copy[BS_REFERRERS_COPY_BYTES];
};

/* `want` was filled, in any order. */
void bs_referrers_prepare(struct bs_referrers *r);
void bs_referrers_roots(struct bs_referrers *r, const struct bs_roots *roots);
void bs_referrers_heap(struct bs_referrers *r);
/* The block that begins there, or NULL. */
const struct bs_wanted *bs_referrers_of(const struct bs_referrers *r, uintptr_t base);

#endif
