/* SPDX-License-Identifier: MIT */
/*
 * suppress.h - leaks that are not to be reported: the rules of option `leak_suppressions`, against the
 * stacks that leaked blocks came from.
 *
 *   leak:PATTERN           a module's path; for `besom symbolize` a function or a source file as well
 *   module:PATTERN         a module's path
 *   frame:BUILD-ID+0xHEX   this address in the file of that build-id (its first 8 digits, or more)
 *
 * The file is read once, while the process has one thread; afterwards nothing changes. Matching takes no lock
 * and no memory: it is done while all threads stand, and in a copy.
 */
#ifndef BS_SUPPRESS_H
#define BS_SUPPRESS_H

#include "base.h"

struct bs_stack;

#define BS_SUPPRESS_RULES 256

/* Reads the file that the option names. What is wrong in it is said on stderr, with the line. */
void bs_suppress_start(void);
/* The first rule that the stack matches, from 0 on; -1: none. */
int bs_suppress_find(const struct bs_stack *stack);
/* A rule for people: its text, and its line. NULL: there is none of that number. */
const char *bs_suppress_rule(unsigned number, unsigned *line);

#endif
