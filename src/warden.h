/* SPDX-License-Identifier: MIT */
/*
 * warden.h - when the quarantine is searched (scan:quarantine), and what the log says of it.
 *
 *   soft   `quarantine` percent of the heap, and of other memory that a search reads, were freed since the last
 *          search, BS_QUARANTINE_FLOOR_BYTES at least: the helper is called; but searches take no more than one
 *          part in BS_QUARANTINE_REST of the time
 *   hard   BS_QUARANTINE_HARD_PCT, or twice `quarantine`, and BS_QUARANTINE_HARD_BYTES: the thread that frees
 *          searches itself, or waits for who does
 *
 * Where no search can be made nothing is released: the program's memory grows, and the log says why. The
 * next try comes later and later. Nothing is ever released unsearched.
 *
 * Only libbesom-scan.so has it: scanner.h. No lock of its own.
 */
#ifndef BS_WARDEN_H
#define BS_WARDEN_H

#include "base.h"

/* Once, after the options were read, while the process has one thread: from now on what is freed is held
 * back. */
void bs_warden_start(void);

#endif
