/* SPDX-License-Identifier: MIT */
/*
 * log.h - besom's story, one event a line and one write a line, as text or JSON; the fields are
 * described one by one in besom.conf(5), which a test compares.
 *
 * The log goes where the option `log` says: stderr, or a file that is opened for each line and
 * closed again, since programs close and reuse descriptors they do not know. Never stdout.
 * Thread-safe; takes the log lock for naming and writing only. Allocates nothing from the heap.
 */
#ifndef BS_LOG_H
#define BS_LOG_H

#include "collect.h"
#include "dangling.h"
#include "hunt.h"
#include "idle.h"
#include "limit.h"
#include "scan.h"
#include "scavenge.h"
#include "sweep.h"

/* After the options were read: expands the path. A path that cannot be written is said on stderr
 * once, and the log is off. */
void bs_log_start(void);
bool bs_log_is_on(void);

/* The memory report, with reason "exit" or "interval". */
void bs_log_report(const char *reason);
/* A trace line for a sweep that returned spans or emptied caches / a scavenge cycle. */
void bs_log_sweep(const struct bs_sweep_work *work, const struct bs_idle_work *idle, uint64_t ns);
void bs_log_scavenge(const struct bs_scavenge_work *work, size_t dirty_bytes, size_t goal_bytes,
                     uint64_t ns);
/* A scan, and the leaks that it found. */
void bs_log_scan(const char *reason, const struct bs_scan_result *result);
/* What hangs on which words, of a verdict that has it. */
void bs_log_owners(const struct bs_scan_verdict *verdict);
/* What was closed, came back, or was given away; nothing if there was nothing. */
void bs_log_collect(const struct bs_collect_report *report);
/* A search of the quarantine: with trace:scan, or if it could not be made. */
void bs_log_hunt(const char *reason, const struct bs_hunt_result *result);
/* What its searches have to tell of blocks that something points to, if anything. */
void bs_log_dangling(void);
/* The heap went over its limit, or a request was refused for it. */
void bs_log_limit(const struct bs_limit_note *note);
/* A condition that changes what besom does: goes to the log if there is one. */
void bs_log_note(const char *text);

/* In a forked child: a path with %p or %n is expanded again at the next line. */
void bs_log_forked(void);
void bs_log_lock(void);
void bs_log_unlock(void);
void bs_log_reset_lock(void);

#endif
