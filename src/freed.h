/* SPDX-License-Identifier: MIT */
/*
 * freed.h - a byte beside each slot that says whether its block is in quarantine (quarantine.h): 1 from its
 * free to the end of the search that found no pointer to it, else 0.
 *
 * A byte and not a bit, because threads set it without asking each other: a plain store, where a bit of a
 * word that is shared would take a locked instruction at each free, which waits until the stores before it,
 * those that zero the block, are done. The byte goes back to 0 under the lock that protects the span's slots,
 * after the slot is free.
 *
 * Bytes are found through the arena and lie as side bits do (marks.h): those of slots 64 w to 64 w + 63 in
 * plane w at the span's first page, so that of most planes nothing is touched: a hundredth of the heap is the
 * rule, where blocks are of 128 bytes and more.
 *
 * It is NOT about what a search has to know: that is the held bits'. No lock.
 */
#ifndef BS_FREED_H
#define BS_FREED_H

#include "marks.h"

struct bs_freed {
    uint8_t slot[BS_MARKS_PLANES][BS_ARENA_PAGES][64];
};

/* The table of p's arena, which is one; NULL: there is none. */
BS_INLINE struct bs_freed *bs_freed_table(uintptr_t p) {
    return bs_load_acquire(&bs_pagemap_arena(p)->freed); /* pairs with the release that published it */
}
/* Makes it if there is none. Any thread. False: no memory. */
bool bs_freed_make(uintptr_t p);

/* The bytes of 64 slots, from slot 64 w of the span at base on. */
BS_INLINE uint8_t *bs_freed_bytes(struct bs_freed *table, uintptr_t base, size_t w) {
    return table->slot[w][(base >> BS_PAGE_SHIFT) % BS_ARENA_PAGES];
}
/* The same as bits of word w: 0 without a table. */
uint64_t bs_freed_bits(uintptr_t base, size_t w);
/* Those of `bits` are in quarantine no more. */
void bs_freed_clear(uintptr_t base, size_t w, uint64_t bits);

#endif
