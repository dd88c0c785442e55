/* SPDX-License-Identifier: MIT */
/*
 * ledger.h - where the process's resident memory is: categories from different sources that must
 * add up to what the kernel says.
 *
 *   rss = live + rounding + leaked + cached + held + span_free + pinned + heap_dirty + metadata + outside
 *         + remainder
 *
 * rss and outside come from /proc/self/smaps; which OS pages of the heap are in memory from
 * mincore; whose they are from the page heap's and the spans' bitmaps; cached from the thread
 * caches; live and rounding share the rest by sizes sampled at the slow door (large blocks:
 * exactly). The remainder names what the sources disagree about; it may be negative.
 *
 * Slow: milliseconds per GiB. No lock is held for long; while other threads work the parts are of
 * slightly different moments. Allocates nothing but one metadata mapping, which it gives back.
 */
#ifndef BS_LEDGER_H
#define BS_LEDGER_H

#include "base.h"

/* In bytes of resident memory, but for the last two. */
struct bs_ledger {
    uint64_t rss;
    uint64_t live;       /* blocks the program holds, as asked for */
    uint64_t rounding;   /* what rounding up to classes and pages adds to them */
    uint64_t leaked;     /* blocks that nothing led to in the last scan, by slots: not live */
    uint64_t cached;     /* blocks and slots in thread caches */
    uint64_t held;       /* freed blocks in quarantine, by slots; 0 without scan:quarantine */
    uint64_t span_free;  /* OS pages of spans without a block that is out: returnable */
    uint64_t pinned;     /* free bytes on OS pages that a block which is out holds */
    uint64_t heap_dirty; /* free pages of the page heap that are in memory */
    uint64_t metadata;
    uint64_t outside;    /* everything that is not besom's */
    int64_t remainder;
    uint64_t floor;    /* outside + metadata + OS pages with a block out: the least rss possible */
    uint64_t anon_huge; /* of the heap in huge pages, not part of the sum */
    uint64_t thp_overfill; /* free pages and holes given back or never used that are in memory all
                              the same: part of heap_dirty and span_free */
    uint64_t released; /* free pages given back: in no memory, not part of the sum */
    uint64_t allocated; /* bytes of blocks the program holds, resident or not */
    bool unseen;        /* mincore is refused: of the heap, what is in memory is in `remainder` */
};

/* False: /proc is not there; the heap's own part is filled in, rss and outside are 0. */
bool bs_ledger_take(struct bs_ledger *ledger);

#endif
