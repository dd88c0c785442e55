/* SPDX-License-Identifier: MIT */
/*
 * scan.h - one scan for leaks from its beginning to its verdict: the world stops, what leads into the
 * heap is listed, the program goes on while a copy of it is searched (or, where that takes less time
 * than a copy, it waits), and what nothing leads to is summed up by the stack it was allocated from.
 *
 *   caller     a thread of the program, or the helper; holds no lock; one scan at a time
 *   round      from the preparations to the resume, or to the verdict if the search is done in place;
 *              so fork and malloc_trim do not wait for a copy
 *   stopped    roots, registers, kernel's words; then the search in place, or the clone
 *
 * A block is reported if nothing led to it in this scan and in the last one that came to a verdict,
 * and it is older than the rules say, where its age is known (it is sampled). What was seen in a scan
 * stands in side bits (BS_SIDE_LOST, BS_SIDE_NOW) in memory that the copy shares.
 *
 * Nothing is changed: a leak stays where it is. When scans run is scanner.c's matter, the text of
 * the report log_leaks.c's. It is NOT a judgement of a program that hides its pointers: roots.h and
 * trace.h say what counts as one.
 */
#ifndef BS_SCAN_H
#define BS_SCAN_H

#include "budget.h"
#include "owners.h"
#include "sizeclass.h"
#include "suppress.h"
#include "trace.h"
#include "world.h"

struct bs_stack;

enum bs_scan_end {
    BS_SCAN_DONE,
    BS_SCAN_WORLD,     /* the threads did not stand: see `world` */
    BS_SCAN_NO_MEMORY,
    BS_SCAN_NO_ROOTS,  /* the kernel does not say what there is, or there is too much */
    BS_SCAN_NO_COPY,   /* clone fails, and the heap is too large to be searched while all wait */
    BS_SCAN_DIED,      /* the copy did */
    BS_SCAN_KILLED     /* it took too long or too much memory, memory ran short, or it was to quit: see `why` */
};

/* Somebody who wants to know more of the same search than its report says (collect.h). */
struct bs_roots;
struct bs_scan_guest {
    enum bs_past_end past_end;
    void (*roots)(struct bs_roots *roots); /* all stand: adds ranges to be read */
    void (*open)(void);                    /* before any block is read, in the copy if there is one; slots
                                              of its own can be made idle */
    void (*close)(void);                   /* after a search in place */
    void (*judge)(struct bs_trace *t);     /* last: BS_SIDE_NOW is there, BS_SIDE_DOOMED its own; what it
                                              marks besides counts for nothing else */
};

/* When a heap is marked while the program runs (scan_concurrent.c), where the kernel can. */
enum bs_scan_concurrent {
    BS_SCAN_CONCURRENT_NEVER,
    BS_SCAN_CONCURRENT_IF_SHORT, /* if little of what is searched are roots, which have to be read in a stop */
    BS_SCAN_CONCURRENT_ALWAYS
};

struct bs_scan_rules {
    uint64_t age_ns;       /* of blocks to be reported, if it is known */
    bool is_last;          /* no other follows: if nobody else stands, who could have hidden a pointer for a
                              moment, what is lost once is reported */
    size_t in_place_bytes; /* heap and roots up to this size are searched while the program waits, */
    enum bs_scan_concurrent concurrent; /* if they are not marked while it runs; larger ones, and where that comes
                                           to nothing, in a copy */
    uint64_t finish_ns;    /* so long may its second stop last, else it is given up; 0: BS_SCAN_FINISH_NS */
    const struct bs_scan_guest *guest; /* NULL: none */
    unsigned searchers;    /* threads of a copy that search, BS_SCAN_SEARCHERS at most; 0: one */
    size_t searchers_bytes; /* one alone searches less than that */
    bool owners;           /* what the program's words own is summed up, by one searcher alone */
    uint64_t copy_ns;      /* a copy is ended after so long; 0: BS_SCAN_TIME_NS */
    struct bs_opt_limit copied; /* what it may have for itself: bytes, or a share of what is searched */
};

struct bs_leak_sums {
    uint64_t leaks;       /* blocks, or rings of blocks, that no other lost block leads to */
    uint64_t blocks, bytes; /* of these: one of each */
    uint64_t indirect_blocks, indirect_bytes; /* what hangs on them */
};

#define BS_SCAN_STACKS 4096 /* a power of two */

/* A stack's leaks. Estimates, unless every block is sampled: each sampled leak stands for others. */
struct bs_leak_stack {
    struct bs_stack *stack; /* NULL: an empty place */
    struct bs_leak_sums sums; /* `leaks`: those that were seen, not an estimate */
    uint64_t oldest_ns, newest_ns; /* when they were allocated */
    uint64_t possible_blocks, possible_bytes; /* that only pointers to their middle lead to */
    uint32_t rule; /* 0: not asked yet; 1: none; 2 and more: suppressed by rule - 2 */
};

/* What the search found. In memory that the copy shares. */
struct bs_scan_verdict {
    uint32_t done; /* [atomic] enum bs_scan_end + 1 */
    struct bs_trace_sums trace;
    uint64_t search_ns; /* CPU time */
    unsigned searchers;
    size_t copied_bytes; /* pages that the program wrote to, or gave back, while a copy had them; about */
    uint64_t lost_blocks, lost_bytes;         /* nothing led to them this time */
    uint64_t interior_blocks, interior_bytes; /* only pointers into their middle did */
    struct bs_leak_sums reported;             /* as the rules say: exact */
    uint64_t waiting;                         /* leaks that may be reported the next time */
    struct bs_leak_sums class[BS_NCLASSES];   /* reported leaks that are not sampled; 0: large ones */
    struct bs_leak_sums other;                /* sampled, without a place in the table */
    struct bs_leak_sums suppressed;           /* not reported: exact, and by the rule */
    struct bs_leak_sums rule[BS_SUPPRESS_RULES];
    struct bs_owners *owners;                 /* in the same memory; NULL: nobody wants it */
    size_t nstacks;
    struct bs_leak_stack stack[BS_SCAN_STACKS]; /* hashed by address */
};

struct bs_scan_result {
    enum bs_scan_end end;
    enum bs_world_result world;
    int culprit;       /* thread that could not be stopped, or 0 */
    int error;         /* errno of the clone */
    bool in_place;
    bool concurrent;   /* neither that nor in a copy */
    size_t again_bytes; /* of this kind: written while it was read, and read again */
    size_t threads;    /* that stood */
    size_t nroots, root_bytes;
    unsigned stops;    /* that came about */
    uint64_t stopped_ns; /* all of them together; the other times are of the longest one: */
    uint64_t stop_ns;  /* from before the first signal to the end of the pause; 0: nobody stood */
    uint64_t stand_ns; /* of that, until all stood */
    uint64_t roots_ns; /* of that, the listing of roots */
    uint64_t clone_ns;
    uint64_t resume_ns; /* of that, waking all */
    uint64_t ns;       /* in all */
    enum bs_budget_end why; /* KILLED */
    size_t copied_bytes; /* as in the verdict; of a copy that was ended, all that it had for itself */
    const struct bs_scan_verdict *verdict; /* NULL: none */
    const struct bs_scan_verdict *before;  /* of the last scan that had one; NULL: none */
};
typedef void bs_scan_reporter(void *ctx, const struct bs_scan_result *result);

/* Scans, and tells. False: another thread scans, or only a last scan is wanted; nothing was done. */
BS_NOINLINE bool bs_scan_run(const struct bs_scan_rules *rules, bs_scan_reporter *report, void *ctx);
/* From now on no scan is wanted but such as are the last: another one that is under way ends soon, without a verdict
 * (BS_SCAN_KILLED, BS_BUDGET_QUIT). False: as before. */
void bs_scan_want_last(bool wanted);
/* The place of a stack in a verdict, or NULL. */
const struct bs_leak_stack *bs_scan_find(const struct bs_scan_verdict *v, const struct bs_stack *stack);

/* In a forked child: no scan was ever made. */
void bs_scan_forked(void);

#endif
