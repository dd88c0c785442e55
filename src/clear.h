/* SPDX-License-Identifier: MIT */
/*
 * clear.h - how a large block from calloc comes to read as zeros where its pages are dirty: by clearing
 * them, or by giving their memory back.
 *
 * Clearing puts all of the block into memory, also what is never used; giving back costs a page fault for
 * what is. Which is better is seen from what the program does: of blocks that had no memory when they were
 * handed out one at a time is watched, and when it is freed the kernel is asked how much of it is in
 * memory. While the last one was used sparsely, dirty memory goes back, but for what is in memory in as large
 * a part at the block's beginning, which is cleared; while not, all is cleared, and only blocks in fresh memory,
 * which cost their faults in any case, tell when that changes.
 *
 * It is NOT the page heap's knowledge of zeros: what it knows to be zero is not asked for here. No lock:
 * what several threads write at once is a guess all the same.
 */
#ifndef BS_CLEAR_H
#define BS_CLEAR_H

#include "base.h"

/* The block's bytes [dirty_base, dirty_end) become zeros; 0, 0: all are already. */
void bs_clear_block(uintptr_t block, size_t bytes, uintptr_t dirty_base, uintptr_t dirty_end);

BS_LOCAL extern uintptr_t bs_clear_watched; /* [atomic] the watched block; 0: none */
void bs_clear_judge(uintptr_t block, size_t bytes);
/* Before the block's pages are others'; its length may have changed. 0: its memory was moved away, so it
 * tells nothing. */
BS_INLINE void bs_clear_freed(uintptr_t block, size_t bytes) {
    if (BS_UNLIKELY(bs_load(&bs_clear_watched) == block))
        bs_clear_judge(block, bytes);
}

#endif
