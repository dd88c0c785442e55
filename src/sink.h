/* SPDX-License-Identifier: MIT */
/*
 * sink.h - where log lines go: stderr or a file by name. Only log_line.c writes; others ask whether it is open, and
 * which of the two.
 *
 * A file is opened in append mode for each line and closed again (one write, so lines of several
 * processes do not mix). Lock: BS_RANK_LOG, for the expansion of the name and the write.
 */
#ifndef BS_SINK_H
#define BS_SINK_H

#include "base.h"

/* Expands the option `log`: %p process id, %e program name, %n the lowest number that makes a new
 * file, %% a percent sign. Says on stderr what cannot be written; the sink stays closed then. */
void bs_sink_open(void);
bool bs_sink_is_open(void);
bool bs_sink_is_stderr(void);
/* True in a sandbox that lets nothing be opened, neither the log nor what /proc tells: such a one may end the
 * process for the calls that a report makes, and for those that would say so. */
bool bs_sink_is_walled(void);
void bs_sink_write(const char *line, size_t bytes);

void bs_sink_forked(void);
void bs_sink_lock(void);
void bs_sink_unlock(void);
void bs_sink_reset_lock(void);

#endif
