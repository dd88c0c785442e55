/* SPDX-License-Identifier: MIT */
/*
 * background.h - when the work behind the program's back is done: by a helper thread, or, with
 * background:off or where no thread can be had, in small pieces at slow doors.
 *
 * The helper is made when a slow door finds work and the heap has passed a threshold, or, where it is to report or scan
 * every few seconds, at once; it ticks while there is work and ends when there has been none for a while (or sleeps until
 * a report or scan is due), so an idle process has no helper and no wake-ups. A forked child has none until it needs one.
 */
#ifndef BS_BACKGROUND_H
#define BS_BACKGROUND_H

#include "base.h"

/* Once, after the options were read and before threads exist. */
void bs_background_start(void);
/* One round of all work, as the helper does it (tests call it directly). True: more remains. */
bool bs_background_round(void);
/* How long the helper sleeps after one that took so much time of a CPU, and ended now (for tests, too). */
struct bs_pacer;
uint64_t bs_background_pause_ns(struct bs_pacer *pacer, uint64_t now_ns, uint64_t worked_ns);
/* What scanner.h adds in libbesom-scan.so. */
struct bs_background_scans {
    bool (*are_due)(void);          /* the helper stays for them, work or not */
    void (*begin)(uint64_t now_ns); /* the helper begins */
    void (*round)(uint64_t now_ns); /* the helper's, outside bs_round */
    uint64_t (*next)(void);         /* [helper] when, if they are due and nobody calls; 0: at each tick */
    uint64_t (*last)(void);         /* at the end of the process: the number of leaks */
    void (*forked)(void);           /* in a forked child, with all locks free */
};
/* The helper does its round of scans soon; it is made for that if need be. False: there can be none. No
 * lock is held. */
bool bs_background_call(void);
/* There is a helper, or one is just being made. */
bool bs_background_is_there(void);
/* Before bs_background_start. */
void bs_background_set_scans(const struct bs_background_scans *scans);
/* The helper looks at once whether something is due; it is made if there is none. Async-signal-safe. */
void bs_background_wake(void);
/* The same, but none is made: while all stand, too. */
void bs_background_nudge(void);
/* At the end of the process, with option `scan`: the number of leaks. */
uint64_t bs_background_last_scan(void);

/* In a forked child. */
void bs_background_forked(void);

#endif
