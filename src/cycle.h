/* SPDX-License-Identifier: MIT */
/*
 * cycle.h - one cycle of scan and sweep, from making room for mark bits to the last swept span.
 *
 *   NONE --prepare, begin--> MARKING --start--> SWEEPING --walk, finish--> NONE
 *
 *   state      program   side tables                       generations
 *   NONE       runs      none, or made by prepare          all spans have gen
 *   MARKING    stopped   all; bs_mark sets bits            all spans in service have gen - 2
 *   SWEEPING   runs      all; read by who sweeps a span    gen - 2, gen - 1, gen (settle.h)
 *
 * The scans of today end in MARKING, or in a copy, and keep what they found in side bits (scan.h): SWEEPING is for
 * tests and bench/scan.
 *
 * From begin to start *no thread is inside besom*, but for the caller's: none holds a lock of ours,
 * carries slots between a span and its cache, or has read the generation and not used it yet. It is
 * not enough that all threads stand still: whoever stops them lets one that stands inside run on
 * until it is out. That one condition makes the rest simple: what a cache holds is all that is idle,
 * every span is in service or empty, and nobody acts on the state before.
 *
 * The caller is in one round (round.h) from prepare to start, so no span is borrowed then and no fork
 * comes between. bs_cycle_walk and what is below it may be called by any thread. Sweeping also
 * happens in threads that
 * come for slots. Who walks holds the cycle's lock (BS_RANK_CYCLE): fork waits for it, a child goes
 * on with the sweep where the parent was.
 */
#ifndef BS_CYCLE_H
#define BS_CYCLE_H

#include "settle.h"

/* Makes tables for the marks. No cycle is under way. False: no memory; no tables are left, and the
 * scan is off. */
bool bs_cycle_prepare(void);
/* Begins. False: the heap has grown since; nothing has happened: let the program run and prepare
 * again. The previous cycle is complete (checked): bs_cycle_finish. */
bool bs_cycle_begin(void);
/* Before the first mark, for a scan that follows pointers: slots in thread caches become idle and
 * marked, so that stale pointers to them lead nowhere. Once more does no harm. */
void bs_cycle_note_idle(void);
/* The same for marks that are set in no cycle, with tables that were prepared (scan_concurrent.c). */
void bs_cycle_spare_caches(void);
/* After the marks were set: notes what is in thread caches, and the sweep may start. */
void bs_cycle_start(enum bs_sweep_mode mode, bs_reporter *report, void *ctx);
/* Gives a prepared cycle up, or one in MARKING: what marks there are mean nothing then. */
void bs_cycle_abandon(void);

bool bs_cycle_is_under_way(void);
/* Sweeps until max_spans spans were swept or budget_ns is over (0: unbounded), and ends the cycle
 * when none is left. The number of spans. Nothing to do: 0. */
size_t bs_cycle_walk(size_t max_spans, uint64_t budget_ns);
/* Sweeps all that is left. */
void bs_cycle_finish(void);

/* Debug: no cycle is under way and every span in service has the current generation. */
bool bs_cycle_is_complete(void);

void bs_cycle_lock(void);
void bs_cycle_unlock(void);
void bs_cycle_reset_lock(void);

#endif
