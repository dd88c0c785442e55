/* SPDX-License-Identifier: MIT */
/*
 * usage.h - who uses the heap's memory, as quick sums over counters: cheap enough for every tick
 * of the scavenger and for mallinfo.
 *
 * It is NOT the ledger, which asks the kernel and reads every bitmap (ledger.h). Takes the registry
 * lock and each central lock in turn; the parts are of slightly different moments.
 */
#ifndef BS_USAGE_H
#define BS_USAGE_H

#include "base.h"

/* In bytes, small blocks by the size of their slots. */
struct bs_usage {
    size_t live;      /* blocks the program holds */
    size_t cached;    /* in thread caches */
    size_t free_span; /* free slots of spans, holes among them */
    size_t holes;     /* OS pages of spans that were given back to the OS */
    size_t large;     /* part of live: large blocks, in pages */
    size_t spans;     /* number of spans of small blocks */
};
struct bs_usage bs_usage_now(void);

#endif
