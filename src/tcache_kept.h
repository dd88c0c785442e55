/* SPDX-License-Identifier: MIT */
/*
 * tcache_kept.h - spans of large blocks that a thread freed, kept in its cache for its next blocks of about that
 * length.
 *
 * Without them each block above 32 KiB takes the lock of what waits (waiting.h) twice, and where lengths vary those of
 * the page heap and of the descriptors: two threads that each replaced blocks of 40 to 64 KB took 195 ns a pair on two
 * CPUs, one alone 88 to 119 (2026-11-27).
 *
 * A span here is as one that waits: DEAD to everybody who looks at it (span.h), so that a second free of its block is
 * found; its pages are in use for the page heap, and nobody's for the ledger. It leaves for a block, or for
 * what waits.
 *
 * It is NOT for threads without a cache, nor for the helper: its spans wait.
 * Locks: none, but what a cache's making takes (tcache.h), and the waiting spans' for those that leave.
 */
#ifndef BS_TCACHE_KEPT_H
#define BS_TCACHE_KEPT_H

#include "tcache.h"

enum bs_kept_put { BS_KEPT_REFUSED, BS_KEPT_QUIETLY, BS_KEPT_LOOK };
/* Keeps a resting span (bs_span_rest) of at most BS_KEPT_SPAN_PAGES for the calling thread. Others may leave for it, in
 * batches. Refused: it is still the caller's. Look: there may be work for somebody, of which nobody knows yet; or it is
 * the turn to see, since in a process without a helper nobody else does (one call in eight at least). */
enum bs_kept_put bs_kept_put(struct bs_span *s);
/* A span of npages or one part in BS_KEPT_SLACK_PART more, at an address aligned to `align` bytes (a power of two), or
 * NULL. It is the caller's, who makes it live again (bs_span_revive). counts: as an allocation. */
struct bs_span *bs_kept_take(size_t npages, size_t align, bool counts);

/* What bs_kept_take has not is taken of what waits (bs_waiting_trade_large), where those go that are too many here. */
struct bs_span *bs_kept_trade(size_t npages, size_t align, struct bs_span **other);

/* A block was handed out that does not come from here; a span that waited became another one. Counted with those that do. */
void bs_kept_count_alloc(void);
void bs_kept_count_swap(void);

/* All of them wait. The caller is the owner, or owns the cache. */
void bs_kept_drain(struct bs_tcache *tc);

/* Bytes of the spans. Any thread; relaxed. */
BS_INLINE size_t bs_kept_bytes(const struct bs_tcache *tc) {
    return (size_t)bs_load(&tc->kept.pages) * BS_PAGE_SIZE;
}

#endif
