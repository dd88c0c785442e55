/* SPDX-License-Identifier: MIT */
/*
 * cycle.h - the time in which there are mark bits: tables for them are made, the marks are set by an engine of a
 * search (trace.h), read by whoever judges, and go with the tables.
 *
 *   NONE --prepare--> tables, the program runs --begin--> MARKING, it stands --end--> NONE
 *
 * A search while the program runs (scan_concurrent.c) prepares and ends, and never begins; one in a copy of the process
 * begins there, and its marks end with the copy. What was found is kept in side bits (scan.h): nothing is swept by marks.
 *
 * From begin to end *no thread is inside besom*, but for the caller's: none holds a lock of ours, or carries slots
 * between a span and its cache. It is not enough that all threads stand still: whoever stops them lets one that stands
 * inside run on until it is out. So what a cache holds is all that is idle.
 *
 * The caller is in one round (round.h) from prepare to end, or is the copy: no fork comes between, and nobody else marks.
 * No lock of its own.
 */
#ifndef BS_CYCLE_H
#define BS_CYCLE_H

#include "settle.h"

/* Makes tables for the marks in all arenas that have none. Again, for arenas that are new, as often as need be. False:
 * no memory; no tables are left. */
bool bs_cycle_prepare(void);
/* Begins. False: the heap has grown since; nothing has happened: let the program run and prepare again. */
bool bs_cycle_begin(void);
/* Before the first mark, for a search that follows pointers: slots in thread caches become idle and
 * marked, so that stale pointers to them lead nowhere. Once more does no harm. */
void bs_cycle_spare_caches(void);
/* The marks and their tables go. Also of what was not begun, or not even prepared. */
void bs_cycle_end(void);

#endif
