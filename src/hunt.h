/* SPDX-License-Identifier: MIT */
/*
 * hunt.h - one search of the program's memory for pointers to blocks in quarantine, and the release of
 * those that have none.
 *
 *   BS_HUNT_CONCURRENT      the heap is read while the program runs, and while the kernel notes what is
 *                           written (os.h); then all stand, and what was written since, the roots and
 *                           registers are read. Where the kernel cannot, and with decommit:hard: sound
 *   BS_HUNT_SOUND           all is read as it is at one moment: in a copy of the process while the program
 *                           goes on (hunt_copy.h); if it is little, or there can be no copy, while it stands
 *   BS_HUNT_STOPPED         the same, always while it stands: for a program of which nobody else would run
 *   BS_HUNT_PROBABILISTIC   nobody is stopped: a pointer that moves meanwhile, from memory that is still to
 *                           be read to memory that was, or that is only in a register, is not seen, and
 *                           its block may be used again
 *
 * A pointer is a word at an address that is a multiple of eight, in a root (roots.h), a register or a
 * block that is in use, whose value is the address of any byte of the held block, or of the one just past
 * its end. What a program hides (xor, compressed, in a file) is not seen: roots.h has the list.
 *
 * A search that cannot be made releases nothing. Any thread that holds no lock, or the helper; the round
 * (round.h) is held from beginning to end, so fork and malloc_trim wait.
 */
#ifndef BS_HUNT_H
#define BS_HUNT_H

#include "linear.h"
#include "quarantine.h"
#include "roots.h"
#include "scan.h"

enum bs_hunt_mode { BS_HUNT_CONCURRENT, BS_HUNT_SOUND, BS_HUNT_PROBABILISTIC, BS_HUNT_STOPPED };

struct bs_hunt_result {
    enum bs_hunt_mode mode; /* that was had */
    bool in_copy;           /* sound: in a copy */
    bool helped;            /* the helper has read a part */
    enum bs_scan_end end;
    enum bs_world_result world;
    int culprit;    /* thread that could not be stopped, or 0 */
    size_t threads; /* that stood */
    size_t nroots, root_bytes;
    uint64_t stop_ns;   /* from before the first signal to the end of the pause */
    size_t dirty_bytes; /* of the heap, read again because they were written to */
    uint64_t search_ns; /* CPU time of reading, the helper's too */
    uint64_t ns;        /* in all */
    struct bs_linear_sums read;
    struct bs_quarantine_sums held; /* what was judged */
    struct bs_quarantine_released released;
};

/* Somebody who wants to know more of what is kept (dangling.h). All is called in the round. */
struct bs_hunt_guest {
    void (*begin)(void);                          /* before a search, the program runs */
    /* All stand, and each mark is there; or the same in a copy. Not if nobody is stopped. */
    void (*stopped)(const struct bs_roots *roots);
    struct bs_range (*memory)(void);               /* of the guest's, which a copy may share; no root */
    void (*judged)(void);                          /* the program runs; nothing is released yet */
    bs_quarantine_visitor *visit;                  /* of each block that something points to; with NULL */
    void (*end)(void);                             /* last: after a search that came to its verdict */
};

/* Searches, and releases. `above`: nothing is done if fewer bytes are fresh by the time that it is this
 * thread's turn; then false. guest NULL: none. */
BS_NOINLINE bool bs_hunt_run(enum bs_hunt_mode mode, size_t above, const struct bs_hunt_guest *guest,
                             struct bs_hunt_result *result);

#endif
