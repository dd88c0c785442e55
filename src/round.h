/* SPDX-License-Identifier: MIT */
/*
 * round.h - one round of background work at a time: the helper's, a piece at a slow door, or
 * malloc_trim. Whoever is inside may hold pages and spans that are on no list for a moment;
 * malloc_trim and fork wait for them, a piece does not.
 *
 * Lock: BS_RANK_ROUND, below all but fork's; held across system calls, for about 10 ms at most.
 */
#ifndef BS_ROUND_H
#define BS_ROUND_H

#include "base.h"

void bs_round_enter(void);
/* False: another thread is in a round. */
bool bs_round_try(void);
void bs_round_leave(void);
void bs_round_reset_lock(void);

#endif
