/* SPDX-License-Identifier: MIT */
/*
 * heap_internal.h - what heap.c (the doors that blocks go through) and heap_whole.c (the heap as a whole) share. Nobody
 * else includes it.
 */
#ifndef BS_HEAP_INTERNAL_H
#define BS_HEAP_INTERNAL_H

#include "heap.h"

BS_LOCAL extern const struct bs_heap_keeper *bs_heap_keeper; /* [init] with hidden classes only; NULL: nobody */

/* There is no memory. Under a hard limit everything that can go goes then, at most once in a while, whatever it costs,
 * since the alternative is none; what is held back whenever there is some. True: another try is worth it. `tries`: how
 * often that was said of this request. */
BS_COLD bool bs_heap_make_room(unsigned tries);
/* The answer to a request that was tried again, or could not be. */
BS_COLD void *bs_heap_settle(void *p);

#endif
