/* SPDX-License-Identifier: MIT */
/*
 * budget.h - what a copy of the process may cost while it is searched: memory, since each page that the
 * program writes to, or gives back, while the copy has it is in memory twice, or longer; and none at all
 * when memory runs short.
 *
 * It looks and says when to end; whoever waits for the copy ends it (snapshot.h, which knows the time). A look
 * walks the copy's page tables, so looks take at most one part in BS_BUDGET_REST of the time. No lock of its
 * own; the limits are looked at in a round, which is entered for it unless the caller is in it.
 */
#ifndef BS_BUDGET_H
#define BS_BUDGET_H

#include "opt.h"

enum bs_budget_end {
    BS_BUDGET_KEPT,
    BS_BUDGET_TIME,   /* said by who waits */
    BS_BUDGET_COPIED, /* the copy has more pages for itself than it may */
    BS_BUDGET_MEMORY, /* more is used than the limit allows, or tasks wait for memory */
    BS_BUDGET_QUIT    /* it was asked to end */
};

struct bs_budget {
    size_t most_bytes; /* SIZE_MAX: no budget */
    int pid;           /* the copy's */
    bool in_round;     /* the caller's to set: it waits in its round */
    const uint32_t *quit; /* the same: [atomic] not 0: to be ended; NULL: never */
    enum bs_budget_end end;
    size_t own_bytes;  /* of the copy, at the last look */
    uint64_t next_look_ns, next_limits_ns;
};

/* The bytes that the option allows where the copy has so many; SIZE_MAX: any. */
size_t bs_budget_from(struct bs_opt_limit option, size_t bytes);
void bs_budget_begin(struct bs_budget *b, int pid, size_t most_bytes);
/* True: over; see `end`. For bs_snapshot_wait, which calls it every few ms. */
bool bs_budget_is_over(void *budget);

/* In a copy: bytes in pages that it has for itself, less what it has written; 0: the kernel does not say. */
size_t bs_budget_copied_bytes(void);

#endif
