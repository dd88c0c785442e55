/* SPDX-License-Identifier: MIT */
/*
 * idle.h - threads that sleep cost nothing: their caches are emptied behind their backs. The owner's
 * fast path pays nothing for it; doc/DESIGN.md has the protocol and why it is safe.
 *
 * It decides whose cache and when; borrowing and emptying are the thread cache's (tcache.h), what a
 * thread is doing is the kernel's to say (text.h). It is NOT about threads that are gone: sweep.h.
 *
 * The caller is in a round (round.h): the helper, or malloc_trim.
 */
#ifndef BS_IDLE_H
#define BS_IDLE_H

#include "base.h"

struct bs_idle_work {
    size_t drained; /* caches emptied */
    size_t bytes;   /* of blocks that were in them */
    bool more;      /* caches that may be found idle at a later round */
};

/* Empties the caches of threads that sleep and have not used them since the last look. */
struct bs_idle_work bs_idle_round(void);
/* The same for all threads that sleep at this moment, however long. */
struct bs_idle_work bs_idle_drain_all(void);
/* Cheap question for slow doors: were they busy, so that a helper should look after the caches? */
bool bs_idle_has_work(void);

/* True once it was found out that the system cannot tell who sleeps. */
bool bs_idle_is_unavailable(void);

#endif
