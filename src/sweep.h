/* SPDX-License-Identifier: MIT */
/*
 * sweep.h - what is settled behind the program's back: caches of threads that are gone are
 * flushed, and empty spans go back to the page heap in batches. It decides how much at once; the work itself
 * is the thread cache's and that of what waits (waiting.h).
 *
 * Any thread may call it; several at once share the work.
 */
#ifndef BS_SWEEP_H
#define BS_SWEEP_H

#include "base.h"

struct bs_sweep_work {
    size_t orphans;  /* thread caches of dead threads flushed */
    size_t returned; /* spans given back */
};

/* At most max_spans spans; looks at max_caches caches for dead owners. */
struct bs_sweep_work bs_sweep(size_t max_spans, unsigned max_caches);
/* Cheap question for slow doors: is a batch of empty spans waiting? */
bool bs_sweep_has_work(void);

#endif
