/* SPDX-License-Identifier: MIT */
/*
 * sweep.h - what is settled behind the program's back: caches of threads that are gone are
 * flushed, spans are swept after a scan, and empty spans go back to the page heap in batches. It
 * decides how much at once; the work itself is the central list's, the thread cache's and the
 * cycle's (cycle.h).
 *
 * Any thread may call it; several at once share the work.
 */
#ifndef BS_SWEEP_H
#define BS_SWEEP_H

#include "base.h"

struct bs_sweep_work {
    size_t orphans;  /* thread caches of dead threads flushed */
    size_t returned; /* spans given back */
    size_t swept;    /* spans settled after a scan */
};

/* At most max_spans spans of each kind; looks at max_caches caches for dead owners. */
struct bs_sweep_work bs_sweep(size_t max_spans, unsigned max_caches);
/* Cheap question for slow doors: is a batch of empty spans waiting, or a sweep under way? */
bool bs_sweep_has_work(void);

#endif
