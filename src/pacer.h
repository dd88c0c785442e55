/* SPDX-License-Identifier: MIT */
/*
 * pacer.h - how long the helper pauses so that its work stays within a share of one CPU: pure
 * arithmetic over times that the caller measures.
 *
 * Time that passes earns credit, work is paid from it; what is owed is waited for. Every step is
 * clamped, so that a clock that jumps neither gives a fortune nor stops the helper for long
 * (an underflow stalled the Go runtime's pacer twice).
 */
#ifndef BS_PACER_H
#define BS_PACER_H

#include "tunables.h"

struct bs_pacer {
    int64_t credit_ns; /* below 0: owed; at most BS_CREDIT_MAX_NS */
    uint64_t last_ns;  /* when credit was last added */
};

/* The first burst of work is free: BS_CREDIT_START_NS. */
void bs_pacer_start(struct bs_pacer *p, uint64_t now_ns);
/* After worked_ns of CPU time. percent: 1 ... 100 of one CPU. The pause in ns, from one tick
 * (BS_TICK_MS) to BS_PAUSE_MAX_TICKS. */
uint64_t bs_pacer_pause_ns(struct bs_pacer *p, uint64_t now_ns, uint64_t worked_ns,
                           uint64_t percent);

/* Of scans: credit that is there at once is BS_SCAN_CREDIT_NS. After one that took worked_ns, how long the next has to
 * wait: 0 while there is credit, BS_SCAN_WAIT_MAX_NS at most. */
void bs_pacer_start_scans(struct bs_pacer *p, uint64_t now_ns);
uint64_t bs_pacer_scan_wait_ns(struct bs_pacer *p, uint64_t now_ns, uint64_t worked_ns, uint64_t percent);

#endif
