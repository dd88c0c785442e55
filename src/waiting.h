/* SPDX-License-Identifier: MIT */
/*
 * waiting.h - empty spans on their way from the central lists to the page heap, and short large spans
 * whose block was freed.
 *
 * They wait for the sweeper, so that a program that empties and fills spans of a class in turn does
 * not pay the page heap each time: the class takes its own back first, and so does a large block of the
 * same number of pages. Whoever needs pages, or adds one too many, returns a batch as well.
 *
 * A large span that waits is DEAD to everybody who looks at it (span.h), so that a second free of its
 * block is found; its pages are in use for the page heap, and nobody's for the ledger, as those in the
 * scavenger's hands are.
 *
 * Lock: BS_RANK_WAITING, then the page heap's, one after the other. No system call.
 */
#ifndef BS_WAITING_H
#define BS_WAITING_H

#include "span.h"

/* Adds n empty spans of one class that are on no list. */
void bs_waiting_add(unsigned class, struct bs_span *const *spans, size_t n);
/* Is there one of the class? A hint. */
bool bs_waiting_has(unsigned class);
/* A waiting span of the class, or NULL. */
struct bs_span *bs_waiting_take_back(unsigned class);
/* The same for large spans that rest (bs_span_rest), of at most BS_KEPT_SPAN_PAGES. */
void bs_waiting_add_large(struct bs_span *const *spans, size_t n);
/* n of these wait from now on, and one of so many pages leaves, or of one part in BS_KEPT_SLACK_PART more, at an address
 * aligned to `align`: one that was freed lately. It is the caller's, who makes it live again. NULL: there is none. Where
 * many others wait, the one that would go first is *other then, else NULL, and the caller's as well: its pages shall go back,
 * since others are taken. */
struct bs_span *bs_waiting_trade_large(struct bs_span *const *spans, size_t n, size_t npages, size_t align,
                                       struct bs_span **other);
/* Returns at most max waiting spans to the page heap, in batches; how many. */
size_t bs_waiting_return(size_t max);
/* Spans waiting now, of small blocks / with the large ones (relaxed). */
size_t bs_waiting_small_count(void);
size_t bs_waiting_count(void);
/* Bytes of the large ones (relaxed). */
size_t bs_waiting_large_bytes(void);

void bs_waiting_lock(void);
void bs_waiting_unlock(void);
void bs_waiting_reset_lock(void);

#endif
