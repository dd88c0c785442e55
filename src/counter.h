/* SPDX-License-Identifier: MIT */
/*
 * counter.h - the storage of the counters named in stats.def.
 *
 * All of them count slow events (a lock or a system call has been paid already), so they are
 * process-wide and relaxed: no counter is ever touched on the fast path. Values only grow; a
 * reader may see one event of two that belong together.
 */
#ifndef BS_COUNTER_H
#define BS_COUNTER_H

#include "base.h"

struct bs_counters {
#define BS_STAT(name, doc) uint64_t name BS_PADDED;
#include "stats.def"
#undef BS_STAT
};

BS_LOCAL extern struct bs_counters bs_counters;

#define bs_count(name, n) ((void)bs_add(&bs_counters.name, (uint64_t)(n)))
#define bs_counted(name) bs_load(&bs_counters.name)

#endif
