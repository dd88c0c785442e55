/* SPDX-License-Identifier: MIT */
/*
 * dangling.h - the report of what the quarantine has to keep: blocks that were freed, and that something still
 * points to, by the stack that freed them, each stack once.
 *
 * "Something" is a word that looks like a pointer. Stale words in dead parts of stack frames, and numbers, look
 * so too; they come and go. So a block is told of only when two searches in a row have kept it, and the word
 * is told as well:
 *
 *   search n      a sampled block is kept            it is noted (bygone.h)
 *   search n+1    before it the block is listed; when all is marked, all words that point to what is listed
 *                 are looked for once more (referrers.h); the block is kept again: its stack is told
 *
 * Only sampled blocks have stacks; all that are kept again are counted by quarantine.h. A guest of the search
 * (hunt.h), in its round; what it has to tell is taken, and written, outside of it: log_dangling.c.
 */
#ifndef BS_DANGLING_H
#define BS_DANGLING_H

#include "hunt.h"
#include "referrers.h"
#include "variable.h"

#define BS_DANGLING_WORDS (BS_REFERRERS_OF_STACK * BS_REFERRERS_EACH)

/* A word that points to one of them. */
struct bs_dangling_word {
    struct bs_referrer by;
    uintptr_t base; /* of the freed block that it points to */
    struct bs_variable variable; /* of memory */
};

/* Blocks that were freed from one stack. Estimates, unless every block is sampled. */
struct bs_dangling {
    struct bs_stack *stack;  /* of the free */
    struct bs_stack *origin; /* of the allocation of one of them */
    uint64_t blocks, bytes;
    uint64_t samples;              /* that were seen */
    uint64_t oldest_ns, newest_ns; /* when they were freed */
    unsigned nwords;
    struct bs_dangling_word word[BS_DANGLING_WORDS];
};

struct bs_dangling_report {
    uint64_t first; /* number of the first one, in this process */
    size_t more;    /* stacks that are left for the next search */
    bool cut;       /* not all was searched for words */
    size_t n, mapped_bytes;
    struct bs_stack **stack; /* room for all stacks of the report */
    struct bs_dangling item[];
};

const struct bs_hunt_guest *bs_dangling_guest(void);
/* Stacks that the suppressions have kept out of reports. */
uint64_t bs_dangling_suppressed(void);
/* What the last searches have to tell; the caller's, who drops it. NULL: nothing. */
struct bs_dangling_report *bs_dangling_take(void);
void bs_dangling_drop(struct bs_dangling_report *report);
/* In a forked child, with all locks free: what was ready, and is not told yet, is its parent's to tell. What was told
 * counts as told in the child. */
void bs_dangling_forked(void);

#endif
