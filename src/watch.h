/* SPDX-License-Identifier: MIT */
/*
 * watch.h - which pages of the heap were written to since a moment, for engines that read it while the program
 * runs: what was read before and not written since, is as it was read.
 *
 * All regions that are there at the beginning are watched (os_watch.c). Of what was mapped since, or moved by
 * mremap, all that is in memory counts as written. The program may close the descriptor, which it does
 * not know, at any moment: whether it is ours still is asked before each use.
 *
 * It is NOT about roots outside of the heap: those are read in the stop. In a round (round.h); one thread at a
 * time. No lock but the page heap's around the copy of a region's bits. decommit:hard takes pages away from
 * under a reader: there is no watch then.
 */
#ifndef BS_WATCH_H
#define BS_WATCH_H

#include "base.h"
#include "os.h"

struct bs_watch {
    int fd;            /* what is watched with; negative: nothing is */
    uint64_t identity; /* of it */
};

/* Watches the heap. False: the kernel cannot, or the heap is not to be read while the program runs. */
bool bs_watch_begin(struct bs_watch *w);
/* False: the descriptor is not ours any more. */
bool bs_watch_is_on(const struct bs_watch *w);
void bs_watch_end(struct bs_watch *w);

/* A range of whole OS pages of the heap. False: no more. */
typedef bool bs_watch_visitor(void *ctx, uintptr_t start, uintptr_t end);
/* Calls visit with what was written since the beginning, or since the last call with `again`: then what is
 * written from now on will be told the next time. False: the watch is off, visit wanted no more, or the program has
 * closed a descriptor meanwhile; then what was told is not all. */
bool bs_watch_written(const struct bs_watch *w, bool again, bs_watch_visitor *visit, void *ctx);

#endif
