/* SPDX-License-Identifier: MIT */
/*
 * waiting.h - empty spans on their way from the central lists to the page heap.
 *
 * They wait for the sweeper, so that a program that empties and fills spans of a class in turn does
 * not pay the page heap each time: the class takes its own back first. Whoever needs pages, or adds
 * one too many, returns a batch as well.
 *
 * Lock: BS_RANK_WAITING, then the page heap's, one after the other. No system call.
 */
#ifndef BS_WAITING_H
#define BS_WAITING_H

#include "span.h"

/* Adds n empty spans of one class that are on no list. */
void bs_waiting_add(unsigned class, struct bs_span *const *spans, size_t n);
/* A waiting span of the class, or NULL. */
struct bs_span *bs_waiting_take_back(unsigned class);
/* Returns at most max waiting spans to the page heap, in batches; how many. */
size_t bs_waiting_return(size_t max);
/* A new generation has begun: there is nothing in these spans to sweep, so they get it. No thread is
 * inside besom. */
void bs_waiting_renew(uint32_t sweepgen);
/* Spans waiting now (relaxed). */
size_t bs_waiting_count(void);

void bs_waiting_lock(void);
void bs_waiting_unlock(void);
void bs_waiting_reset_lock(void);

#endif
