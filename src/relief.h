/* SPDX-License-Identifier: MIT */
/*
 * relief.h - what a thread does itself when the heap comes to its limit (limit.h): it gives free
 * memory back before its new block is touched, in bounded pieces; the helper does the rest.
 *
 * It is NOT the scavenger's policy: no pacing, no rest for dense regions. Lock: BS_RANK_RELIEF, so
 * that one thread at a time pays and fork finds no pages in its hands; held across the advice.
 */
#ifndef BS_RELIEF_H
#define BS_RELIEF_H

#include "base.h"

/* Pays what is owed. The caller holds no lock. */
void bs_relief_pay(void);

/* Around fork. */
void bs_relief_lock(void);
void bs_relief_unlock(void);
void bs_relief_reset_lock(void);

#endif
