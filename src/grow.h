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

/* Adds what is missing of [base, base + npages pages), if the heap's newest part ends in it and what it has of it is
 * free. False: it does not, the addresses behind are others', or the OS gives no more. */
bool bs_grow_behind(uintptr_t base, size_t npages);

void bs_grow_lock(void);
void bs_grow_unlock(void);
void bs_grow_reset_lock(void);

#endif
