/* SPDX-License-Identifier: MIT */
/*
 * route.h - which class serves a size whose own class has no span.
 *
 * Most programs use most sizes above 2 KiB a little, and a span for each of these classes is memory that holds a block or
 * two. So the sizes of a class without a span are served by a larger one, its host, whose blocks are at most twice as
 * large, as long as half of the host's slots are free. The table that malloc reads says so (sizeclass.h).
 *
 * Smaller sizes are many, and the first block of each class is a page. So in the beginning all of up to BS_ROUTE_FIRST_MAX
 * bytes are served by a few powers of two, as long as such a one has no more than one span, and half of that one's slots are free. Then
 * each class has its own, for ever if its spans are short.
 *
 * Whoever comes to the slow door with such a size asks again: the class gets its sizes back when the host has become
 * busier, or it has a span itself. So a class that is used much has spans of its own, and its blocks in too large slots
 * are at most half of what the host has, and a refill's.
 *
 * Law: for each size the table names a class whose slots hold it, at any moment and for any thread; up to BS_TINY_MAX its
 * smallest, or a power of two, whose slots are aligned to all that the size may be aligned to. Nothing else
 * depends on what it says, since a block's class is its page's, never its size's, and nothing is published with it: an entry that
 * is out of date, or entries of one class that two threads have made differ, cost memory until the next visit and are no error.
 *
 * Any thread; no lock. The heap's slow door calls it.
 */
#ifndef BS_ROUTE_H
#define BS_ROUTE_H

#include "base.h"

/* The caller's cache has nothing of `class`, which is to serve `size` bytes (at most BS_SMALL_MAX), its
 * smallest class or another. What serves them from now on. */
unsigned bs_route_choose(unsigned class, size_t size);

#endif
