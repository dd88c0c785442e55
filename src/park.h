/* SPDX-License-Identifier: MIT */
/*
 * park.h - lost blocks whose memory is closed, so that whoever touches one is seen: a table of spans with
 * closed OS pages, in address order.
 *
 *   CLOSED --fault--> TOUCHED     the pages are open again, the access goes on
 *   CLOSED --free, realloc--> FREED   the same, for a block that the program gives back untouched
 *   CLOSED --bs_park_expire--> GOING --bs_park_take--> TAKEN --bs_park_open--> GONE   nobody came: collect.c
 *                                                        gives its slots back
 *
 * Until it is TAKEN the program may still come: GOING becomes TOUCHED or FREED as CLOSED does. Of one that is
 * GONE nothing is known any more: its slots are whoever's who was given them.
 *
 * What happens in a signal handler, or inside free, is one compare-and-swap and one mprotect: no lock, no
 * memory. Entries come and go only while all threads stand (world.h), and a thread that is in the handler
 * is inside besom, so it is let out first: nobody looks at an entry that goes. Free slots on closed pages
 * are reserved (they count as out), so nobody is given one.
 *
 * The table lies in metadata, which is no root of a scan: an address in it keeps nothing alive. It is NOT
 * about which blocks, and when: collect.c.
 */
#ifndef BS_PARK_H
#define BS_PARK_H

#include "collect_pick.h"

struct bs_stack;

#define BS_PARK_MAX 2048  /* spans at once */
#define BS_PARK_RUNS 2048 /* stretches of pages in them, about: each costs two mappings */

enum bs_park_state {
    BS_PARK_CLOSED,
    BS_PARK_TOUCHED,
    BS_PARK_FREED,
    BS_PARK_GOING,
    BS_PARK_TAKEN,
    BS_PARK_GONE
};

struct bs_parked {
    uintptr_t base;       /* of the span */
    size_t bytes;
    struct bs_span *span;
    uint32_t class;
    uint32_t state;       /* [atomic] enum bs_park_state */
    uintptr_t touched;    /* [who left CLOSED] where */
    struct bs_stack *stack; /* FREED: where that block came from, if it is known */
    struct bs_pick pick;
};

/* Makes the table, once. False: no memory. */
bool bs_park_prepare(void);
size_t bs_park_count(void);
/* A batch is under way: not all of them are GOING, TAKEN or GONE. */
bool bs_park_is_closed(void);
struct bs_parked *bs_park_entry(size_t i);
/* The entry of the span that holds p, or NULL. */
struct bs_parked *bs_park_find(uintptr_t p);
/* TOUCHED and FREED so far; whoever has seen a number sees later whether anything came. */
uint64_t bs_park_events(void);

/* --- all threads stand ------------------------------------------------------------------------- */

/* Closes the picked pages of s, which lies above all entries. False: no room, or the kernel refused. */
bool bs_park_close(struct bs_span *s, const struct bs_pick *pick);
/* All CLOSED become GOING. False: some are GOING already, which could not be opened, and nobody may have watched: none. */
bool bs_park_expire(void);
/* Keeps the entries for which `stays` is true. Their pages are as they were. */
void bs_park_keep(bool (*stays)(void *ctx, struct bs_parked *e), void *ctx);

/* --- the collector, while the program runs ------------------------------------------------------ */

/* From GOING to TAKEN. False: somebody has come. */
bool bs_park_take(struct bs_parked *e);

/* --- any thread, also in a signal handler ------------------------------------------------------- */

/* The pages of the entry can be accessed. False: the kernel refused. It may be that all open, and that what
 * was CLOSED is GOING, with nobody to take it: the next bs_park_keep sees that. */
bool bs_park_open(const struct bs_parked *e);
/* A fault at p: true if the page was closed, and can be accessed now. */
bool bs_park_touch(uintptr_t p);
/* The program gives the block at p back, or resizes it. */
void bs_park_freed(void *p);

/* --- a search (scan.h), in a copy or while all stand --------------------------------------------- */

/* All that is closed can be read for a while. (Where it cannot be closed again all opens, as by bs_park_open.) */
void bs_park_open_all(void);
void bs_park_close_all(void);

#endif
