/* SPDX-License-Identifier: MIT */
/*
 * scan_internal.h - what a scan carries, between its order (scan.c), the roots (scan_roots.c), words beside
 * them (scan_words.c) and the search (scan_judge.c); and the searches of the quarantine (hunt.c), which have
 * the same roots. Nobody else includes it.
 */
#ifndef BS_SCAN_INTERNAL_H
#define BS_SCAN_INTERNAL_H

#include "bounds.h"
#include "roots.h"
#include "scan.h"
#include "sieve.h"
#include "snapshot.h"

struct bs_scan_work { /* in a mapping of metadata, for one scan */
    struct bs_scan_rules rules;
    struct bs_roots roots;
    struct bs_trace trace;
    struct bs_scan_verdict *verdict;
    uint64_t now_ns;
    bool knows_flags;    /* of all mappings: else nobody knows what a copy would not have, and there is none */
    bool is_enough;      /* what is lost now need not have been lost before */
    bool is_copy;        /* here: others may help */
    const uint32_t *quit; /* [atomic] not 0: nobody waits for its verdict any more; NULL: somebody does */
    bool concurrent;     /* tables and the watch of scan_concurrent.c are there; another way may be taken still */
    uint64_t others_ns;  /* [atomic] CPU time of those */
    uintptr_t caller_sp; /* 0: the helper, whose stack does not count */
    uintptr_t first_sp;  /* stack pointer of the process's first thread; 0: not seen */
    size_t nstacks;
    struct bs_root_stack stack[BS_BOUNDS_MAX + 2]; /* with a dead part */
    size_t nstood;
    uintptr_t stood[2 * (BS_BOUNDS_MAX + 2)];      /* stack pointers, and where registers lie: whose stacks these are */
    struct bs_range without[BS_BOUNDS_MAX + 5];    /* stacks of threads that ended; our own memory */
    struct bs_range shared;        /* the guest's: no root; empty: none */
    uintptr_t first_stack; /* an address above all frames of that thread's usual stack */
    uintptr_t part[BS_SCAN_PART_BYTES / sizeof(uintptr_t)]; /* of memory that may go, as the kernel copies it; here and
                                                               not on a stack, which may be a small one */
    struct bs_sieve sieve; /* for it */
    size_t nwords;
    uintptr_t word[BS_SCAN_WORDS]; /* stack pointers and the like; what the copy would not see */
    uintptr_t from[BS_SCAN_WORDS]; /* for owners alone, else not mapped: the address of each; 0: it has none */
};

/* --- scan.c ------------------------------------------------------------------------------------ */

/* The memory of this verdict and of the one before: at most two ranges, which lead nowhere. */
size_t bs_scan_verdicts(struct bs_range *range);
/* Makes a copy that runs fn(arg). What it would not have becomes words. All stand. *clone_ns: how long it took. */
bool bs_scan_copy(struct bs_scan_work *w, struct bs_snapshot *copy, void (*fn)(void *), void *arg,
                  uint64_t *clone_ns);
/* The first thing that fn does: no lock is anybody's. */
void bs_scan_in_copy(void);
/* What a copy has come to: what it said itself, in *done, the result plus 1 (0: nothing); or how it ended. */
enum bs_scan_end bs_scan_copy_end(enum bs_snapshot_end end, const uint32_t *done);

/* --- scan_roots.c ----------------------------------------------------------------------------- */

/* Lists all that leads into the heap; for hunt.c, too. Its own words come last: bs_scan_finish_words. All
 * stand. */
enum bs_roots_result bs_scan_take_roots(struct bs_scan_work *w);

/* --- scan_words.c ----------------------------------------------------------------------------- */

void bs_scan_add_word(struct bs_scan_work *w, uintptr_t x);
/* What a copy would not have, or not as it is now, becomes words. All stand. */
void bs_scan_copy_unstable(struct bs_scan_work *w);
/* Once, before the search: pointers in shared memory, of which others may take pages away, and in code, where they
 * lie at any address; then the words are a root. False: there are too many. */
bool bs_scan_finish_words(struct bs_scan_work *w);
/* The words alone, instead: while the program runs, and may unmap what would be read. */
bool bs_scan_add_own_words(struct bs_scan_work *w);

/* --- scan_judge.c ----------------------------------------------------------------------------- */

/* The whole search, from the tables to the verdict, while nothing moves. Leaves marks and tables
 * (cycle.h) to the caller, unless it is a copy, which ends. */
enum bs_scan_end bs_scan_judge(struct bs_scan_work *w);
/* The one searcher's work on the roots; by owner, if that is wanted. */
void bs_scan_mark(struct bs_scan_work *w);
/* Of a trace that is over: the sums, and the bits of what is lost. False: no memory, or it was cancelled. */
bool bs_scan_sum(struct bs_scan_work *w);

/* --- scan_concurrent.c --------------------------------------------------------------------------- */

/* In one round, in this order; end in any case. False: no search of this kind comes to a verdict. */
bool bs_scan_concurrent_begin(struct bs_scan_work *w);
void bs_scan_concurrent_seed(void); /* all stand, and roots were taken */
bool bs_scan_concurrent_mark(struct bs_scan_work *w, struct bs_scan_result *result);
bool bs_scan_concurrent_finish(struct bs_scan_work *w, struct bs_scan_result *result); /* as seed */
bool bs_scan_concurrent_judge(struct bs_scan_work *w);
void bs_scan_concurrent_end(struct bs_scan_work *w);

#endif
