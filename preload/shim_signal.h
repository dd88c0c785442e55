/* SPDX-License-Identifier: MIT */
/* shim_signal.h - sets of signals without the one that besom has taken. See shim.h. */
#ifndef BS_SHIM_SIGNAL_H
#define BS_SHIM_SIGNAL_H

#include <signal.h>

/* `set` if it does not hold it, else a copy without it. */
const sigset_t *bs_shim_without_ours(const sigset_t *set, sigset_t *copy);
/* The same for what is to be blocked, and without SIGSEGV where faults are ours (shim_fault.h). */
const sigset_t *bs_shim_mask(const sigset_t *set, sigset_t *copy);

#endif
