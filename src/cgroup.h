/* SPDX-License-Identifier: MIT */
/*
 * cgroup.h - what the process's control groups allow it and how short memory is, read from /proc
 * and from the cgroup file systems, version 1, version 2, or both at once (hybrid).
 *
 * It knows numbers, NOT what follows from them (limit.h). Reads whole small files with a bounded
 * buffer, holds no file descriptor, allocates nothing, and takes any garbage in them for "says
 * nothing". It makes dozens of system calls, so it is asked by the helper or in a round (round.h),
 * never on the way of an allocation. One caller at a time: it remembers the mount points.
 */
#ifndef BS_CGROUP_H
#define BS_CGROUP_H

#include "base.h"

#define BS_CGROUP_NONE UINT64_MAX /* no limit, or nobody says */

struct bs_cgroup {
    uint64_t limit_bytes; /* the least memory.max, memory.high or memory.limit_in_bytes from our
                              cgroup up to the root that we see; or BS_CGROUP_NONE */
    uint64_t anon_bytes; /* anonymous memory of all in the cgroup that has this limit; 0: unknown */
    uint64_t own_bytes;  /* anonymous memory of this process; 0: unknown */
    uint64_t memory_bytes; /* of the machine; or BS_CGROUP_NONE */
    uint32_t stall_pcm;    /* share of the last 10 s that some task waited for memory, in 1/100 % */
    uint32_t cpu_pct; /* CPUs that we may use, in percent of one: quota or affinity; 0: unknown */
};
/* False: the process or the system has no room for an open file just now; ask again later. */
bool bs_cgroup_read(struct bs_cgroup *out);

/* Tests: all files are looked for below this directory (kept, not copied). "" is the system. */
void bs_cgroup_set_root(const char *dir);

#endif
