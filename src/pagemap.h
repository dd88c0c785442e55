/* SPDX-License-Identifier: MIT */
/*
 * pagemap.h - address -> class byte and span, for any word whatever.
 *
 * A table indexed by the address's arena number holds, for arenas that besom owns, the address of
 * the arena's class bytes, biased so that adding the page number of an address gives its entry.
 * The table lies in read-only zero pages (no commit charge, no RSS); only the OS page that names
 * an arena becomes writable. Before besom has its first arena the table has no entries at all, so
 * the lookup needs no "initialised" branch.
 *
 * Lock-free for readers with any garbage word. Writers hold what makes them the only writer of
 * their pages: an arena is added under the grow lock, class and span of a page are set by the
 * thread that owns the page (it took it from the page heap and has not published a block in it).
 * Entries in the span table are never cleared: a reader checks what it finds (span.h).
 */
#ifndef BS_PAGEMAP_H
#define BS_PAGEMAP_H

#include "tunables.h"

struct bs_span;
struct bs_heap_arena;
struct bs_marks;

enum { BS_NSIDES = 3 }; /* kinds of side bits: marks.h */

/* One arena's tables, in demand-zero metadata. */
struct bs_arena {
    uint8_t class[BS_ARENA_PAGES];         /* size class of a small block's page, else 0 */
    struct bs_span *span[BS_ARENA_PAGES]; /* the last span that held the page, or NULL */
    struct bs_span *whole; /* the large span that covers every page, or NULL; its entries above are
                              not written then, which saves 72 KiB of memory an arena */
    uint8_t thp[BS_ARENA_SIZE / BS_HUGE_SIZE]; /* [lock:thp], read relaxed: enum bs_thp_state */
    struct bs_heap_arena *pages; /* [lock:page heap] the page heap's bitmaps */
    struct bs_marks *side[BS_NSIDES]; /* [atomic] NULL while not needed: marks.h */
};

/* The fast path reads both; they change once each, entries before count (release). Two objects,
 * so that each is one load relative to the program counter. */
BS_LOCAL extern uintptr_t *bs_pagemap_table; /* arena -> biased address of its class bytes, or 0 */
BS_LOCAL extern size_t bs_pagemap_narenas;   /* entries of the table: 0, then BS_MAX_ARENAS */

/* The class of the small block's page that p lies in; 0 for everything else. */
BS_INLINE uint8_t bs_pagemap_class(uintptr_t p) {
    uintptr_t arena = p >> BS_ARENA_SHIFT;
    /* acquire only orders start-up against the very first lookups: a plain load on x86 and a
     * cheap one elsewhere; entries are published before blocks that need them */
    if (BS_UNLIKELY(arena >= bs_load_acquire(&bs_pagemap_narenas)))
        return 0;
    uintptr_t biased = bs_load(&bs_pagemap_table[arena]);
    if (BS_UNLIKELY(biased == 0))
        return 0;
    return bs_load((const uint8_t *)(biased + (p >> BS_PAGE_SHIFT)));
}

/* The arena of the address, or NULL. */
BS_INLINE struct bs_arena *bs_pagemap_arena(uintptr_t p) {
    uintptr_t number = p >> BS_ARENA_SHIFT;
    if (BS_UNLIKELY(number >= bs_load_acquire(&bs_pagemap_narenas)))
        return NULL;
    uintptr_t biased = bs_load_acquire(&bs_pagemap_table[number]);
    if (BS_UNLIKELY(biased == 0))
        return NULL;
    return (struct bs_arena *)(biased + (number << (BS_ARENA_SHIFT - BS_PAGE_SHIFT)));
}
/* What the span table says of the address's page: may be a span that is gone. NULL if none. */
BS_INLINE struct bs_span *bs_pagemap_span(uintptr_t p) {
    struct bs_arena *arena = bs_pagemap_arena(p);
    if (BS_UNLIKELY(arena == NULL))
        return NULL;
    /* acquire: pairs with the releases in bs_pagemap_set, so the span's fields are there */
    struct bs_span *whole = bs_load_acquire(&arena->whole);
    if (BS_UNLIKELY(whole != NULL))
        return whole;
    return bs_load_acquire(&arena->span[(p >> BS_PAGE_SHIFT) % BS_ARENA_PAGES]);
}

/* Makes the arenas of [base, base+bytes) known. Idempotent. False: no memory. Grow lock held. */
bool bs_pagemap_add(uintptr_t base, size_t bytes);
/* Sets span (if not NULL) and class of npages pages. The caller owns the pages. */
void bs_pagemap_set(uintptr_t base, size_t npages, struct bs_span *span, unsigned class);
/* The same for pages of a large span, whose class bytes are 0 as those of all free pages are: an
 * arena that it covers whole gets one pointer instead of entries. */
void bs_pagemap_set_large(uintptr_t base, size_t npages, struct bs_span *span);
/* Before pages of a large span are others' (it ends, or is cut): arenas that it covers whole forget
 * it. What is left of a cut span is set anew. */
void bs_pagemap_forget_large(uintptr_t base, size_t npages, const struct bs_span *span);
/* Class bytes to 0: a free of an address in these pages goes to the slow door from now on. */
void bs_pagemap_clear_class(uintptr_t base, size_t npages);

#endif
