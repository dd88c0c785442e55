/* SPDX-License-Identifier: MIT */
/*
 * trace_internal.h - a worker of a trace, and what its engine (trace.c) and the sharing of work
 * (trace_work.c) ask of each other. Nobody else includes it.
 */
#ifndef BS_TRACE_INTERNAL_H
#define BS_TRACE_INTERNAL_H

#include "trace.h"

#define BS_TRACE_QUEUE 32 /* candidates; a power of two */
#define BS_TRACE_LOW 12   /* with fewer of them, and ranges on the stack, a range is read first */

/* A range whose end has this bit is of a large block: only its populated pages are read. */
#define BS_TRACE_LARGE ((uintptr_t)1)
/* The same of what the program may take away: it is copied. */
#define BS_TRACE_COPIED ((uintptr_t)2)

struct bs_tracer {
    struct bs_trace *t;
    struct {
        uintptr_t p;
        struct bs_span *span; /* what the page map says of p, or NULL */
    } queue[BS_TRACE_QUEUE];
    unsigned head, n;
    unsigned room;       /* candidates that may be in it, at most BS_TRACE_QUEUE */
    uintptr_t at, moved; /* where the last one that came lay: its address as it was read, and what to add to such */
    unsigned steps; /* so that not each asks whether it is to go on */
    size_t depth, capacity;
    struct bs_range *stack;
    struct bs_trace_sums sums;
} BS_PADDED;

enum bs_job_kind { BS_JOB_NONE, BS_JOB_ROOT, BS_JOB_RANGE, BS_JOB_REGION };
struct bs_job {
    enum bs_job_kind kind;
    struct bs_range range; /* ROOT: words that begin in it; its end may be read up to `limit` */
    uintptr_t limit;
    uint64_t alloc[BS_REGION_PAGES / 64]; /* REGION: range.start is its base */
};

/* --- trace.c ---------------------------------------------------------------------------------- */

/* All that the worker has, until it has nothing. */
void bs_trace_drain(struct bs_tracer *w);
void bs_trace_do(struct bs_tracer *w, const struct bs_job *job);

/* --- trace_work.c ----------------------------------------------------------------------------- */

/* Leaves half of the stack, its oldest half, to those that wait. */
void bs_trace_share(struct bs_tracer *w);
/* A range that had no room. */
void bs_trace_forget(struct bs_tracer *w, uintptr_t start, uintptr_t end);
/* Begins a round over regions with forgotten ranges; false: there are none. */
bool bs_trace_start_round(struct bs_trace *t);
/* The next region of it; false: none. */
bool bs_trace_next_region(struct bs_trace *t, struct bs_job *job);

#endif
