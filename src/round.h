/* SPDX-License-Identifier: MIT */
/*
 * round.h - one round of background work at a time: the helper's, a piece at a slow door, malloc_trim, or
 * a search of the program's memory. Whoever is inside may hold pages and spans that are on no list for a moment;
 * malloc_trim and fork wait for them, a piece does not.
 *
 * Lock: BS_RANK_ROUND, below all but fork's; held across system calls, for about 10 ms at most; by a search
 * (scan.h, hunt.h) for as long as it takes.
 */
#ifndef BS_ROUND_H
#define BS_ROUND_H

#include "base.h"

void bs_round_enter(void);
/* The same in two steps, for fork, which takes a lock between: a thread that knocks has nothing of the
 * heap's in its hands. */
void bs_round_knock(void);
void bs_round_enter_after_knock(void);
/* Or it does not enter. */
void bs_round_go_away(void);
/* The same as bs_round_enter, but not for ever. False: the time is over, or this thread is inside already: the caller is
 * a handler of a signal that has interrupted it there; or somebody has waited for the end of this round in vain. alone:
 * only the helper is there besides; then not either if that is inside and sleeps for a lock, which what the caller has
 * interrupted has. */
bool bs_round_enter_until(uint64_t deadline_ns, bool alone);
/* False: another thread is in a round. */
bool bs_round_try(void);
void bs_round_leave(void);
/* The calling thread is inside; a handler that has interrupted it, too. */
bool bs_round_is_own(void);
/* For whoever is in the round: thread tid waits for it and has nothing in its hands, but for what a handler that waits
 * has interrupted. (Of a thousand that wait some are not known.) */
bool bs_round_is_waited_for_by(int tid);
/* For whoever is in the round for long: a thread waits for it, for a fork say. Any thread may ask. */
bool bs_round_is_waited_for(void);
/* The helper works, in rounds or with any lock, between the two; else it sleeps, with nothing in its hands. */
void bs_round_helper_begins(void);
void bs_round_helper_ends(void);
/* In the middle of its work it may be kept from the rest. */
void bs_round_helper_gives_way(void);
/* For fork in a process whose only other thread is the helper: waits until it sleeps, and keeps it from work. False:
 * it sleeps for a lock, which the caller has, a handler of a signal that came while he had it; or it is lost. */
bool bs_round_keep_helper(void);
void bs_round_let_helper(void);
/* It is kept. By the thread that asks, if that is the only other one. */
bool bs_round_helper_is_kept(void);

/* In a forked child. */
void bs_round_reset_lock(void);
void bs_round_reset_helper(void);

#endif
