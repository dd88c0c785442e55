/* SPDX-License-Identifier: MIT */
/*
 * numbers.h - a table from the address of a block to its number: open addressing, linear probing,
 * removal by moving back, in a mapping of its own.
 *
 * No lock: the owner's (record.c, sample.c, bygone.c) protects it. It makes system calls (meta.h) when it grows.
 */
#ifndef BS_NUMBERS_H
#define BS_NUMBERS_H

#include "base.h"

#define BS_NUMBERS_NONE UINT64_MAX

struct bs_numbers {
    struct bs_number {
        uintptr_t key; /* 0: empty */
        uint64_t number;
    } *slot;
    size_t cap; /* slots, a power of two, or 0: nothing is mapped */
    size_t n;   /* of them in use, at most half */
};

/* The key (not 0) is not in the table. False: no memory for it, the table is as it was. */
bool bs_numbers_put(struct bs_numbers *t, uintptr_t key, uint64_t number);
/* The key's number, or BS_NUMBERS_NONE. */
uint64_t bs_numbers_get(const struct bs_numbers *t, uintptr_t key);
/* Removes the key; its number, or BS_NUMBERS_NONE if it was not there. */
uint64_t bs_numbers_take(struct bs_numbers *t, uintptr_t key);
/* Empties the table and unmaps it. */
void bs_numbers_clear(struct bs_numbers *t);

#endif
