/* SPDX-License-Identifier: MIT */
/*
 * holes.h - gives back whole OS pages without a block inside spans that are partly used: what
 * keeps a heap large after most of it was freed at random.
 *
 * A pass walks the spans in address order and takes those that were quiet for an epoch: no slot
 * came or went. It goes on where the last call stopped. A new pass begins when blocks were given
 * back since the last one began, or when that one met spans that were not quiet yet; else there
 * is nothing to do. The caller is in a round (round.h).
 */
#ifndef BS_HOLES_H
#define BS_HOLES_H

#include "base.h"

struct bs_holes_work {
    size_t bytes;   /* given back */
    unsigned calls; /* of the OS */
    size_t spans;   /* with something to give */
};

/* One piece of a pass: until budget_ns is over (0: unbounded) or max_regions of 4 MiB were walked.
 * `force`: a whole pass at once, quiet or not, whatever the option scavenge says (malloc_trim). True: more remains, now
 * or later. */
bool bs_holes_round(uint64_t budget_ns, size_t max_regions, bool force, struct bs_holes_work *work);

/* Cheap question for slow doors: were many blocks given back since the last pass began? */
bool bs_holes_have_work(void);

#endif
