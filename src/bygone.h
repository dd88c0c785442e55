/* SPDX-License-Identifier: MIT */
/*
 * bygone.h - what is known of blocks in quarantine (quarantine.h) that were sampled when they were allocated
 * (sample.h): from which stack they were freed, and from which allocated. For the report of what the
 * quarantine has to keep (dangling.h).
 *
 *   live, sampled --free: bs_bygone_note--> known --bs_bygone_settle: about to be released--> forgotten
 *
 * An entry is made before the block is in quarantine, and goes while it is still held: so what an entry says
 * of a held block is true of it. One whose block never gets there, for want of memory for its bits, stays.
 *
 * The lock is sample.h's: the two tables have each block's knowledge in turn. There are at most BS_BYGONE_MAX
 * entries; blocks beyond count as not sampled.
 */
#ifndef BS_BYGONE_H
#define BS_BYGONE_H

#include "base.h"

struct bs_stack;

struct bs_bygone {
    struct bs_stack *stack;  /* of the free */
    struct bs_stack *origin; /* of the allocation */
    size_t size;             /* asked for */
    uint64_t bytes, blocks;  /* what it stands for */
    uint64_t time_ns;        /* of the free, monotonic */
    bool kept;               /* the last search found something that points to it */
    uint8_t looks;           /* in vain, for what that is */
};

/* p is about to be freed by the caller. False: it is not sampled. */
bool bs_bygone_note(const void *p);
/* It was not, in the end. */
void bs_bygone_forget(const void *p);
/* Something points to p: what is known of it, as it was before. False: nothing is. */
bool bs_bygone_keep(uintptr_t p, struct bs_bygone *out);
/* Something was looked for in vain. */
void bs_bygone_looked(uintptr_t p);

/* After a search, before its release: forgets blocks that are held and have no mark. */
void bs_bygone_settle(void);
/* Calls visit for each entry, under the lock; until it says false. */
typedef bool bs_bygone_visitor(void *ctx, uintptr_t p, const struct bs_bygone *freed);
void bs_bygone_each(bs_bygone_visitor *visit, void *ctx);

size_t bs_bygone_count(void);

#endif
