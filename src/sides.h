/* SPDX-License-Identifier: MIT */
/*
 * sides.h - tables of one kind of side bits (marks.h) for every arena that the heap has, in one
 * mapping: what engines of a scan note beside the marks, whose tables are cycle.h's.
 *
 * The program stands still, or this is a copy of it; or it runs: then an arena that comes meanwhile has no table, which
 * is what bs_marks_set and bs_marks_word say of it. One user of a kind at a time; no lock of its own, but the page
 * heap's around the copy of a region's bits.
 */
#ifndef BS_SIDES_H
#define BS_SIDES_H

#include "marks.h"

struct bs_sides {
    struct bs_marks *tables; /* NULL: none were needed */
    size_t n;
    enum bs_side side;
};

/* False: no memory, and no table is there. */
bool bs_sides_make(struct bs_sides *sides, enum bs_side side);
void bs_sides_drop(struct bs_sides *sides);

/* --- tables in memory of the caller's ----------------------------------------------------------- */

/* How many there would have to be now. While the program runs: a moment later there may be more. */
size_t bs_sides_count(void);
/* The first n arenas get these, the others none. n 0: none has any. */
void bs_sides_publish(enum bs_side side, struct bs_marks *tables, size_t n);
/* The tables of kind `from` become those of kind `to`. */
void bs_sides_turn(enum bs_side from, enum bs_side to);

#endif
