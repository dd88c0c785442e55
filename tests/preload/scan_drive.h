/* SPDX-License-Identifier: MIT */
/*
 * scan_drive.h - what libbesom-scans.so offers to the programs of this folder that scan themselves: a
 * scan when they want one, and whether it found a block lost. They find it by dlsym.
 */
#ifndef SCAN_DRIVE_H
#define SCAN_DRIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SCAN_BY_COPY = 1,   /* else in place */
    SCAN_BY_CALLER = 2  /* else by the helper */
};

struct scan_seen {
    int end;     /* 0: there is a verdict; else enum bs_scan_end, */
    int world;   /* enum bs_world_result */
    int culprit; /* and the thread that did not stand */
    size_t threads;
    uint64_t lost_blocks, lost_bytes; /* nothing led to them in this scan */
    uint64_t leaks;                   /* of them, reported: heads, lost twice */
    uint64_t waiting;                 /* heads that were not lost in the scan before */
};

/* Asks for a scan; with SCAN_BY_CALLER it is made at once. One thread at a time. */
typedef void scan_drive_ask(unsigned how);
/* True: it is over. The program waits itself: a thread that waits in the library cannot be stopped. */
typedef bool scan_drive_over(struct scan_seen *seen);
/* Was the block lost in the last scan that came to a verdict? Negative: there is no such block. */
typedef int scan_drive_lost(const void *block);
/* Verdicts so far of the scans that SCAN_PER_SECOND asks for, and scans without one. */
typedef void scan_drive_counts(unsigned *verdicts, unsigned *others);
/* From now on, each of these has to report so many leaks. */
typedef void scan_drive_expect(unsigned leaks);

/* All of them, under this name. */
struct scan_drive {
    scan_drive_ask *ask;
    scan_drive_over *over;
    scan_drive_lost *is_lost;
    scan_drive_counts *counts;
    scan_drive_expect *expect;
};
#define SCAN_DRIVE_NAME "scan_drive_functions"

#endif
