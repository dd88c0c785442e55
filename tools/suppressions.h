/* SPDX-License-Identifier: MIT */
/*
 * suppressions.h - a file of option leak_suppressions, as `besom symbolize -s` reads it: the rules leak:,
 * against names that only symbols give. Rules of the other kinds are the library's (src/suppress.h).
 */
#ifndef BS_SUPPRESSIONS_H
#define BS_SUPPRESSIONS_H

#include <stdbool.h>

/* False: it cannot be read; that was said on stderr. */
bool bs_suppressions_read(const char *path);
/* True if there are rules. */
bool bs_suppressions_any(void);
/* True if a rule matches the name of a function or a file; NULL matches nothing. */
bool bs_suppressions_match(const char *name);

#endif
