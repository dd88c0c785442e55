/* SPDX-License-Identifier: MIT */
/*
 * hunt.h - one search of the program's memory for pointers to blocks in quarantine, and the release of
 * those that have none.
 *
 *   BS_HUNT_SOUND   all is read while the program stands still
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
#include "scan.h"

enum bs_hunt_mode { BS_HUNT_SOUND };

struct bs_hunt_result {
    enum bs_hunt_mode mode;
    enum bs_scan_end end;
    enum bs_world_result world;
    int culprit;    /* thread that could not be stopped, or 0 */
    size_t threads; /* that stood */
    size_t nroots, root_bytes;
    uint64_t stop_ns;   /* from before the first signal to the end of the pause */
    uint64_t search_ns; /* CPU time of reading */
    uint64_t ns;        /* in all */
    struct bs_linear_sums read;
    struct bs_quarantine_sums held; /* what was judged */
    struct bs_quarantine_released released;
};

/* Searches, and releases. `above`: nothing is done if fewer bytes are fresh by the time that it is this
 * thread's turn; then false. `visit`: called for each block that something points to. */
BS_NOINLINE bool bs_hunt_run(enum bs_hunt_mode mode, size_t above, bs_quarantine_visitor *visit,
                             void *ctx, struct bs_hunt_result *result);

#endif
