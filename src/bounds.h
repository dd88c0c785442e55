/* SPDX-License-Identifier: MIT */
/*
 * bounds.h - where the stacks of threads begin and end, so that a scan can leave out what is dead in them:
 * below the stack pointer of a thread that lives, and of a stack that libc keeps for the next thread all
 * but the upper part with thread-local variables. A mapping does not say it: neighbours merge.
 *
 * Each thread tells of itself when it begins (preload/shim_thread.c), with a thread-local word that gets a
 * mark. What is known of a stack holds as long as the mark is there: libc clears thread-local memory
 * before it gives the stack to another thread, and memory that was unmapped and mapped again does
 * not have it. A thread that told nothing, because libc made it or the table was full, has no bounds here, and
 * all of its stack's mapping counts as alive. So errors are on the side of what is kept.
 *
 * bs_bounds_note is lock-free, and besom's code: at a stop no thread is in it. The others are the stopper's.
 */
#ifndef BS_BOUNDS_H
#define BS_BOUNDS_H

#include "os.h"

struct bs_bounds {
    int tid;
    uintptr_t low, high;  /* what the thread may use */
    uintptr_t kept;       /* from here up the stack outlives the thread's functions */
    uintptr_t *mark;      /* thread-local, on this stack */
    bool is_libc;         /* libc made it, and keeps it; not memory of the program's */
};

/* The calling thread's. thread_pointer: as world.h has it. */
void bs_bounds_note(uintptr_t thread_pointer, const struct bs_bounds *b);

/* While all stand. The lowest byte of the stack that the living thread is on with this stack pointer; 0: it
 * is elsewhere, or it is not known. */
uintptr_t bs_bounds_low(uintptr_t thread_pointer, uintptr_t sp);
/* While all stand. The thread on whose stack the address lies, or whose it was last; 0: not known. */
int bs_bounds_thread_at(uintptr_t p);
/* Then, once: dead parts of the stacks whose threads have not been asked for since the last time, and are not
 * there with another thread pointer, as those of emulators may be; how many, at most max. */
size_t bs_bounds_ended(struct bs_range *dead, size_t max);

/* From now on no living thread is believed to be on its usual stack because its stack pointer is: it may be in a handler
 * on a part of it that counts as an alternate stack, which nobody can see (SS_AUTODISARM). */
void bs_bounds_doubt(void);
bool bs_bounds_are_in_doubt(void);

#define BS_BOUNDS_MAX 2048 /* stacks, a power of two */

#endif
