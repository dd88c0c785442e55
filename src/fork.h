/* SPDX-License-Identifier: MIT */
/*
 * fork.h - keeps parent and child working after fork() from any thread at any time.
 *
 * Before the fork every lock of besom is taken in rank order, so the child's copy is consistent;
 * the parent releases them, the child makes them free. A process of one thread needs none of that: its helper is kept
 * from work. Blocks that other threads held in transit
 * at that moment are lost to the child (tcache.h); their caches are found by the sweeper, because
 * their threads do not exist there.
 */
#ifndef BS_FORK_H
#define BS_FORK_H

#include "base.h"

/* Registers the handlers with libc, before all others' (preload/atfork.c): prepare handlers run in reverse
 * order, so ours runs last and those of others may still allocate. Later calls do nothing. */
void bs_fork_start(void);

/* What the handlers do, for who copies the process without libc's fork (preload/shim_fork.c). */
void bs_fork_before(void);
void bs_fork_in_parent(void);
void bs_fork_in_child(void);
/* The calling thread is between the first of them and the other two, and has locks. */
bool bs_fork_is_under_way(void);

#endif
