/* SPDX-License-Identifier: MIT */
/*
 * leaks.h - what a trace did not reach, sorted into leaks: one for each block, or ring of blocks, that
 * no other unreached block leads to, with all that hangs on it.
 *
 * Two searches over the unreached blocks (alloc & ~idle & ~held & ~mark), with a bit a slot each:
 *
 *   up     in address order: whoever was not seen yet becomes a head, and all that it leads to seen.
 *          Each component that nobody else leads to has exactly one head in it, the first of it met.
 *   down   heads in the opposite order: whoever is still not reached is the head of such a
 *          component, and what it reaches now is its own.
 *
 * A head of the first search that was led to only from blocks met later is reached by their head in the
 * second one. So each unreached block belongs to one leak, and the sums add up; what two leaks lead to
 * counts for the one at the higher address. Linear in what leaked; memory: two tables of side bits and
 * a list of regions, from bs_meta_map.
 */
#ifndef BS_LEAKS_H
#define BS_LEAKS_H

#include "trace.h"

struct bs_leak {
    struct bs_marked head; /* the block; of a ring, one of them */
    size_t blocks, bytes;  /* with all that hangs on it */
};
/* It must not allocate from besom. */
typedef void bs_leak_reporter(void *ctx, const struct bs_leak *leak);

/* Of a trace that ran while the program did (trace.h) the unreached blocks are those of BS_SIDE_NOW, which was
 * written while all stood; what has become of their spans since is checked at each look.
 *
 * After the workers of t have returned and before bs_trace_end, with idle slots noted (cycle.h). Calls
 * report for each leak, from the highest address to the lowest. The sums of all leaks: *total, whose
 * head is empty. False: no memory, or t was cancelled; what was reported is no whole. */
bool bs_leaks_find(struct bs_trace *t, bs_leak_reporter *report, void *ctx, struct bs_leak *total);

#endif
