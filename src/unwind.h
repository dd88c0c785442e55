/* SPDX-License-Identifier: MIT */
/*
 * unwind.h - the calls that led here, found inside malloc: no lock, no allocation, no errno, no
 * signal, in any thread, on any stack.
 *
 * Where a module has .eh_frame it is believed, and the frame pointer is the way only through code
 * that has none (made at run time, assembler). The other order would be quicker and wrong: in code
 * that was compiled without frame pointers, as distributions do, the register holds anything, an
 * address of the stack often enough, and then frames are left out without a sign of it. A rule that
 * was found is remembered by its instruction, so that the second walk through the same calls reads no
 * table.
 *
 * Modules are found by _dl_find_object (glibc 2.35), which takes no lock; dl_iterate_phdr does, and
 * is the deadlock that other allocators' profilers are known for. Without it: frame pointers only.
 *
 * The end of the stack is not asked for: a frame lies above its callee's and below the thread's
 * control block, or the main thread's first frame, where that is above; and each page is asked of the
 * kernel before it is read (probe.h). So a stack that a program made itself, an alternate signal
 * stack and a damaged one are safe to walk, without a list of stacks.
 */
#ifndef BS_UNWIND_H
#define BS_UNWIND_H

#include "base.h"

#define BS_UNWIND_MAX 32
#define BS_UNWIND_PLACES 16
#define BS_UNWIND_LASTING 4

/* A module as it is mapped. */
struct bs_place {
    uintptr_t start, end;    /* of its mapping */
    uintptr_t eh_frame_hdr;
    const void *link_map;    /* the loader's; not NULL */
};

struct bs_walk {
    unsigned n; /* frames, the innermost first */
    unsigned nplaces;
    /* The call's address: the return address less one, so that it lies in the line that calls; or
     * that of the instruction where a signal interrupted. */
    uintptr_t pc[BS_UNWIND_MAX];
    uint8_t place[BS_UNWIND_MAX]; /* index below; BS_UNWIND_PLACES: in no module that is known */
    struct bs_place places[BS_UNWIND_PLACES];
    uint8_t lasts[BS_UNWIND_PLACES]; /* its number, from 1 on, if it is known to stay (bs_unwind_note_lasting), or 0 */
};

/* Frame 0 is the caller of this function. */
BS_NOINLINE void bs_unwind(struct bs_walk *w);

/* The module that holds p. False: none, or there is no way to know. */
bool bs_unwind_find_place(const void *p, struct bs_place *place);

/* The module that holds p stays as long as the process, so walks need not ask the loader for it. While the process has one
 * thread. */
void bs_unwind_note_lasting(const void *p);

/* For tests: by frame pointers only, as on an older libc. */
void bs_unwind_set_tables(bool on);

#endif
