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
    SCAN_BY_CALLER = 2, /* else by the helper */
    SCAN_CONCURRENT = 4    /* with the first alone: marked while the program runs */
};

struct scan_seen {
    int end;     /* 0: there is a verdict; else enum bs_scan_end, */
    int world;   /* enum bs_world_result */
    int culprit; /* and the thread that did not stand */
    size_t threads;
    bool concurrent; /* the verdict is of a search of this kind */
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

/* From now on the helper makes none of these, and does nothing else either, until it is not wanted any more.
 * True: it is not at work. (The program asks again until then: it may have been.) */
typedef bool scan_drive_rest(bool wanted);

/* All of them, under this name. */
struct scan_drive {
    scan_drive_ask *ask;
    scan_drive_over *over;
    scan_drive_lost *is_lost;
    scan_drive_counts *counts;
    scan_drive_expect *expect;
    scan_drive_rest *rest;
};
#define SCAN_DRIVE_NAME "scan_drive_functions"

#ifdef BS_TESTS_PROMISE_H /* for programs, not for the library */
/* What a scan has for a moment (descriptors, a copy) is not there between these two. */
static inline void scan_drive_begin_rest(const struct scan_drive *drive) {
    for (unsigned tries = 0; !drive->rest(true); tries++) {
        BS_CHECK(tries < 120000, "the helper is at work for two minutes");
        sleep_ms(1);
    }
}
static inline void scan_drive_end_rest(const struct scan_drive *drive) {
    (void)drive->rest(false);
}

/* A scan that has to come to a verdict. On a busy machine a stop is given up now and then, and it is asked for again. */
static inline void scan_drive_must(const struct scan_drive *drive, unsigned how, struct scan_seen *seen) {
    unsigned tries = 0;
    do {
        drive->ask(how);
        while (!drive->over(seen))
            sleep_ms(1);
    } while (seen->end != 0 && tries++ < 100);
    BS_CHECK(seen->end == 0, "way %u: no verdict: end %d, world %d, thread %d", how, seen->end, seen->world, seen->culprit);
}

/* False while less than so many of the periodic scans came to a verdict, for two minutes at most: what a busy
 * machine manages in a given time is no promise. */
static inline bool scan_drive_has_made(const struct scan_drive *drive, unsigned least) {
    static uint64_t start_ms;
    unsigned verdicts, others;
    if (start_ms == 0)
        start_ms = now_ms();
    drive->counts(&verdicts, &others);
    return verdicts >= least || now_ms() - start_ms > 120000;
}
#endif

#endif
