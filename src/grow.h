/* SPDX-License-Identifier: MIT */
/*
 * grow.h - more address space for the page heap. May make system calls; takes the grow lock.
 */
#ifndef BS_GROW_H
#define BS_GROW_H

#include "base.h"

/* Adds at least npages contiguous free pages to the page heap. `grown` is the count of growths the
 * caller saw before its search failed: if the heap grew since, nothing is added and the caller
 * searches again. False: the OS gives no more. */
bool bs_grow(size_t npages, uint64_t grown);

void bs_grow_lock(void);
void bs_grow_unlock(void);
void bs_grow_reset_lock(void);

#endif
