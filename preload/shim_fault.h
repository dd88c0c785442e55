/* SPDX-License-Identifier: MIT */
/*
 * shim_fault.h - SIGSEGV while memory is closed (src/park.h): our handler stands before the program's, opens
 * what was closed, and hands everything else on. Off unless scan:collect is on; then nothing here runs.
 *
 * The kernel has our handler with the program's flags and mask, so that it runs on the stack that the program's
 * would (but where threads share one), and the program's is called with what the kernel gave. Two things
 * differ. SIGSEGV is never blocked: a fault on closed memory inside a handler, or in a thread that blocks
 * everything, has to reach us; so a fault inside the program's own handler of SIGSEGV calls that once more,
 * where it would have ended the process, and a SIGSEGV that is sent to a thread that blocks it is delivered.
 * And a program that installs a handler by other ways (rt_sigaction of its own, sigset) takes ours away: that
 * is seen before anything is closed, and what is closed is opened.
 */
#ifndef BS_SHIM_FAULT_H
#define BS_SHIM_FAULT_H

#include "collect.h"

#include <signal.h>

extern const struct bs_collect_faults besom_shim_faults;

bool bs_shim_faults_are_on(void);
/* sigaction(2) for SIGSEGV, as the program sees it. While they are on. */
int bs_shim_fault_action(const struct sigaction *action, struct sigaction *old);
/* Threads share an alternate stack (os.h): two that touch closed memory at once must not meet there. */
void bs_shim_fault_share_stacks(void);
/* The calling thread does not block SIGSEGV, whatever it was made with. While they are on. */
void bs_shim_fault_unblock(void);

#endif
