/* SPDX-License-Identifier: MIT */
/*
 * preloadable.h -- the judge: will the dynamic loader load our library into this program?
 *
 * The loader never says no aloud: a static program has no loader, a set-user-ID program is run in
 * secure mode where LD_PRELOAD is ignored, a library for another machine is skipped with a line
 * that scrolls away. The launcher asks here first and refuses with a reason and a remedy.
 *
 * For run.c. No state, no threads; prints nothing.
 */
#ifndef BS_PRELOADABLE_H
#define BS_PRELOADABLE_H

#include <stdbool.h>
#include <stddef.h>

/* True when `program` (what the kernel runs: an interpreter, never a script) takes `library`, and
 * also when it cannot be known because the file may not be read. False: `why` holds the reason and
 * the remedy, to be printed after the program's name. */
bool bs_preloadable_check(const char *program, const char *library, char *why, size_t why_bytes);

/* True when `library` can be named in LD_PRELOAD and is a shared library; else `why` as above. */
bool bs_preloadable_library(const char *library, char *why, size_t why_bytes);

#endif
