/* SPDX-License-Identifier: MIT */
/*
 * density.h - for thp:auto, which huge pages are worth their memory: looks at what the kernel has
 * really put behind them.
 *
 *  - Over-filled: the program touched one page, or khugepaged collapsed a range, and the kernel gave
 *    2 MiB. Free pages in it that count as given back or never used are in memory: they become dirty,
 *    so that the scavenger gives them back in its time (and tells the kernel not to do that again).
 *  - Dense again: a huge page that was advised against is wholly in spans and in memory to 97 %, at two
 *    looks an epoch apart. The kernel may make a huge page of it.
 *
 * A pass walks the heap in address order and goes on where the last call stopped. It begins when pages
 * were taken or given since the last one began, at most once an epoch (scavenge_delay). The caller is
 * in a round (round.h). It is NOT about pages that the page heap knows to be dirty: scavenge.h.
 */
#ifndef BS_DENSITY_H
#define BS_DENSITY_H

#include "base.h"

struct bs_density_work {
    size_t overfilled_bytes; /* found in memory though given back or never used */
    size_t joined;           /* huge pages given to the kernel again */
};

/* One piece of a pass, until budget_ns is over (0: unbounded). `force`: a whole pass now, whenever the
 * last one was (malloc_trim). True: more remains, now or later. */
bool bs_density_round(uint64_t budget_ns, bool force, struct bs_density_work *work);

/* Cheap question for slow doors: were many pages taken or given since the last pass began? */
bool bs_density_has_work(void);

#endif
