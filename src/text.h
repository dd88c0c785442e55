/* SPDX-License-Identifier: MIT */
/*
 * text.h - where besom's own code lies, and whether a thread that stands still is in it.
 *
 * The one home of that question: idle.c asks it of threads that sleep, world.c of threads that were
 * stopped. It does NOT make anybody stand still. No locks.
 */
#ifndef BS_TEXT_H
#define BS_TEXT_H

#include "base.h"

struct bs_text {
    uintptr_t base, end;
};

/* The executable segment of the file that besom was linked into, without the file's headers and tables. */
struct bs_text bs_text(void);

/* Its segment of variables; empty where bs_text_set was called. They lead to no block of the program's: what
 * looks so is the beginning of a span, an arena. */
struct bs_text bs_text_data(void);

/* For programs that link the core (tests), whose own functions would count as besom's otherwise. */
void bs_text_set(uintptr_t base, uintptr_t end);

/* True if the thread, found asleep twice in one system call (bs_os_thread_sleeps), has no word of
 * besom's text anywhere on its stack, but for what lies within the frames of libc that it waits in. May be
 * false for nothing, never true for nothing. `own`: a thread-local variable of it. */
bool bs_text_sleeps_outside(int tid, const void *own);

/* True if the thread that was interrupted at pc with the stack pointer sp, and is still there, is in
 * no function of besom's. False if
 *  - pc is in besom's text;
 *  - a word of the next BS_TEXT_NEAR_BYTES of its stack is, and it is not `in_call`, in a system call
 *    or at its end, other than the clock's: such a word may be the return address of what besom called,
 *    and that is leaves of libc alone (mem*, str*, the clock, a key's value), none of which makes another
 *    call;
 *  - a signal frame on its stack, within BS_TEXT_FAR_BYTES of sp, says that a handler of the program
 *    interrupted besom's code, or what may be such a leaf that it has called;
 *  - its stack cannot be read.
 * Words left by earlier calls in unused parts of the nearest frames make it false for nothing, of a
 * thread that runs, until it has run on. `own`: an address that all of its frames lie below if sp does,
 * or NULL: the stack is read to the end of its mapping, at most so far. */
bool bs_text_is_outside(uintptr_t pc, uintptr_t sp, bool in_call, const void *own);

#endif
