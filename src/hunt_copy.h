/* SPDX-License-Identifier: MIT */
/*
 * hunt_copy.h - a search of the quarantine in a copy of the process (snapshot.h), while the program goes on:
 * how the sound mode stops it for a moment only.
 *
 * What was free to be judged at the stop is held since then, and the copy is the memory of that moment. A held
 * block that nothing points to there cannot be pointed to later, since nobody could have its address from
 * anywhere: so what the copy says of it holds for ever, whatever the program has done meanwhile.
 *
 * The copy marks its own tables, and leaves a list of the words that are not zero in memory that it shares;
 * these become the marks here when it has ended. One that did not come to its end has said nothing.
 *
 * For hunt.c, in its round, which lasts until the copy has ended. No lock of its own.
 */
#ifndef BS_HUNT_COPY_H
#define BS_HUNT_COPY_H

#include "hunt.h"
#include "scan_internal.h"
#include "snapshot.h"

struct bs_hunt_copy {
    struct bs_snapshot snapshot; /* pid 0: there is none */
    struct bs_scan_work *work;
    const struct bs_hunt_guest *guest;
    struct bs_hunt_verdict *verdict; /* shared */
    size_t bytes;
};

/* All stand, roots are taken, and `held` blocks are held. False: there is no copy; roots and words are fit for
 * a search in place. */
bool bs_hunt_copy_start(struct bs_hunt_copy *c, struct bs_scan_work *w,
                        const struct bs_hunt_guest *guest, size_t held);
/* The program runs. Waits for the copy's end, and sets the marks. */
enum bs_scan_end bs_hunt_copy_wait(struct bs_hunt_copy *c, struct bs_hunt_result *r);

#endif
