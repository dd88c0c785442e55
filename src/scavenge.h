/* SPDX-License-Identifier: MIT */
/*
 * scavenge.h - how much free memory goes back to the OS, when, and in what pieces. The page heap
 * knows how; this module decides.
 *
 * Goal: pages in spans plus free dirty pages come down to the decayed peak of pages in spans, plus
 * 10 %. The peak's excess over the present use halves within an epoch (0.60 of it is left after one
 * at the helper's tick of 100 ms, which decays linearly in ten steps), so a sawtooth with troughs
 * much shorter than an epoch keeps its pages and an idle process loses them. When the page heap has been quiet for
 * BS_IDLE_MS the goal is the pages in spans alone. The option overhead puts a share of what the
 * program holds in the place of the peak. (After the Go runtime's scavenger, whose goal
 * comes from the next collection; a malloc has no such forecast.)
 *
 * The policy is a pure object fed with numbers and time, so that tests need not sleep.
 */
#ifndef BS_SCAVENGE_H
#define BS_SCAVENGE_H

#include "base.h"

struct bs_scavenge_policy {
    uint64_t last_ns;       /* of the last update; 0: none yet */
    uint64_t quiet_since_ns; /* when page-heap activity was last seen to change */
    uint64_t activity;
    size_t peak_pages;      /* decayed peak of pages in spans */
};

/* Feeds the present; the result is how many dirty pages should go now. Absurd clocks (no step,
 * backwards, a suspended machine) are clamped. */
struct bs_scavenge_input {
    uint64_t now_ns, activity, epoch_ns, idle_ns;
    size_t span_pages, dirty_pages, peak_pages; /* peak since the last update */
    size_t keep_pages;                          /* dirty pages never worth it */
    bool has_room;                              /* the option overhead is set, and leaves */
    size_t room_pages;                          /* room for so many dirty pages */
};
size_t bs_scavenge_goal(struct bs_scavenge_policy *policy, const struct bs_scavenge_input *in);

/* Bytes of free pages for which `percent` of live leaves room, when spans hold `in_use` bytes. */
size_t bs_scavenge_room(size_t live, size_t in_use, uint64_t percent);

/* What one call released. */
struct bs_scavenge_work {
    size_t huge_bytes, page_bytes; /* in whole free huge pages / other free pages */
    size_t hole_bytes;             /* OS pages inside spans (holes.h) */
    size_t overfilled_bytes;       /* found in memory though given back or never used (density.h) */
    size_t thp_split, thp_joined;  /* huge pages advised against, given to the kernel again */
    unsigned calls;
    bool failed; /* the OS refused: no more until the next wake */
};

/* Gives back at most max_pages, whole free huge pages first, then highest addresses, in quanta of
 * BS_SCAVENGE_QUANTUM_BYTES, while less than budget_ns has passed (0: no bound). Dense regions rest
 * by `epoch` (struct bs_dirty_search). */
struct bs_scavenge_work bs_scavenge_pages(size_t max_pages, uint32_t epoch, uint64_t budget_ns);
/* Gives back all free pages but keep_bytes; the bytes that went (malloc_trim). */
size_t bs_scavenge_to(size_t keep_bytes);

/* One round of the scavenger (the caller is in a round, round.h): pages over the goal, paced. True:
 * more remains to do, now or when
 * the peak has decayed. `piece` (background:off): at most BS_SCAVENGE_PIECE_BYTES. */
bool bs_scavenge_round(bool piece, struct bs_scavenge_work *work, size_t *goal_pages);

/* Cheap question for slow doors: may a round have something to do? */
bool bs_scavenge_has_work(void);
/* mallopt(M_TRIM_THRESHOLD): free dirty bytes that are kept in any case. */
void bs_scavenge_set_keep(size_t bytes);

#endif
