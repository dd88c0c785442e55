/* SPDX-License-Identifier: MIT */
/*
 * pins.h - which stacks allocated the blocks that hold OS pages otherwise free: the ledger's `pinned`, which says
 * how much it is and not whose, by stack.
 *
 *   pinned(block) = sum, over the OS pages that it is on, of (free bytes of its span there) / (blocks that are out there)
 *   pinned(stack) = sum, over its sampled blocks that are alive, of pinned(block) * (blocks that it stands for)
 *
 * So a page's free bytes are shared out equally among those that hold it, and over all stacks the sum is an
 * estimate of the ledger's figure, but for the shares of blocks that nobody has (in magazines or quarantine), and for
 * pages that are not in memory. Blocks of a page and more have none: whole pages are theirs.
 *
 * It is NOT about what would be free if a stack's blocks went: others may be on the same pages. Any thread; locks of
 * ranks central and sample, one at a time.
 */
#ifndef BS_PINS_H
#define BS_PINS_H

#include "numbers.h"
#include "stacks.h"

struct bs_pins {
    struct bs_numbers of; /* by the address of the struct bs_stack */
    uint64_t bytes;       /* of all */
};

/* Goes through all sampled blocks, at some 0.4 us each. False: there was no memory for the table, and *pins is empty. */
bool bs_pins_take(struct bs_pins *pins);
/* Bytes; 0 for a stack that pins nothing. */
uint64_t bs_pins_of(const struct bs_pins *pins, const struct bs_stack *stack);
void bs_pins_drop(struct bs_pins *pins);

#endif
