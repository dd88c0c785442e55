/* SPDX-License-Identifier: MIT */
/*
 * name.h - the names of files that options give: a pattern becomes a name, and the name a file.
 *
 * In a pattern %p is the process id, %e the program's name, %n the lowest number that makes a new
 * file, %% a percent sign; other letters stand for themselves. No lock, no state, no allocation:
 * the buffers are the caller's.
 */
#ifndef BS_NAME_H
#define BS_NAME_H

#include "base.h"

/* Makes the name in path (cap bytes), with `folder` before it as it stands, and opens it: by
 * open_plain, or as a new file where the pattern has a %n. A descriptor or a negated errno
 * (-ENAMETOOLONG: the name does not fit; path holds what did). */
int bs_name_open(const char *folder, const char *pattern, char *path, size_t cap,
                 int (*open_plain)(const char *path));

/* True if another process, or the next call, gets another name: the pattern has a %p or %n. */
bool bs_name_is_own(const char *pattern);

#endif
