/* SPDX-License-Identifier: MIT */
/*
 * pagemap.h - address -> class byte and span, for any word whatever.
 *
 * Two ways lead to a page's class byte. Near: the 64 GiB of addresses that begin with the first
 * arena have one flat map of their bytes, so the fast path of free subtracts, compares and loads.
 * Far: a table indexed by the address's arena number holds the arenas that besom owns, and an
 * arena knows where its class bytes are. Both lie in read-only zero pages (no commit charge, no
 * RSS); only the OS pages that arenas of besom's need become writable. Before besom has its first
 * arena neither has entries, so the lookups need no "initialised" branch.
 *
 * Lock-free for readers with any garbage word. Writers hold what makes them the only writer of
 * their pages: an arena is added under the grow lock, class and span of a page are set by the
 * thread that owns the page (it took it from the page heap and has not published a block in it).
 * A span that is gone is left in the tables until another one takes its place: a reader checks what it finds
 * (span.h).
 */
#ifndef BS_PAGEMAP_H
#define BS_PAGEMAP_H

#include "tunables.h"

struct bs_span;
struct bs_heap_arena;
struct bs_marks;
struct bs_freed;

enum { BS_NSIDES = 13 }; /* kinds of side bits: marks.h */

/* Which pages of a group, 64 of them, belong to a large span that covers the group's first page, its
 * last page, or (both the same) all. Such a span is named once and not in an entry for each page: it may be
 * much longer than what is used of it, and entries would be memory that an untouched block costs. */
struct bs_group {
    uint8_t low, high; /* [atomic] pages at the start, at the end */
};
#define BS_GROUP_PAGES 64
#define BS_ARENA_GROUPS (BS_ARENA_PAGES / BS_GROUP_PAGES)

/* One arena's tables, in demand-zero metadata. What a small program needs of them is the first 500 bytes. */
struct bs_arena {
    uint8_t *class; /* [init] for each page the size class of a small block's page, else 0 */
    struct bs_span *whole; /* the large span that covers every page, or NULL; nothing of it is in the
                              tables below then */
    bool was_whole; /* [atomic] there was one; beside the pointer, since both are written for it */
    struct bs_group group[BS_ARENA_GROUPS];
    uint8_t thp[BS_ARENA_SIZE / BS_HUGE_SIZE]; /* [lock:thp], read relaxed: enum bs_thp_state */
    struct bs_heap_arena *pages; /* [lock:page heap] the page heap's bitmaps */
    struct bs_marks *side[BS_NSIDES]; /* [atomic] NULL while not needed: marks.h */
    struct bs_freed *freed; /* [atomic] the same: freed.h */
    struct bs_span *span[BS_ARENA_PAGES]; /* the last other span that held the page, or NULL */
    /* [atomic; it and the byte together under the lock of metadata] While class bytes are hidden, and in no memory
     * before: what the page's would be, and which blocks begin in it whose free matters. One word, so that a free
     * looks once. */
    uint64_t hidden[BS_ARENA_PAGES];
    struct bs_span *low[BS_ARENA_GROUPS], *high[BS_ARENA_GROUPS]; /* whose the groups' pages are, or were */
};

/* The flat map: class bytes of the BS_NEAR_PAGES pages from address 0 - bs_pagemap_minus_base on.
 * Each changes once, the map before the base (release). Before that the base is an address that no
 * pointer has: not canonical, and unlikely in garbage. */
BS_LOCAL extern uintptr_t bs_pagemap_minus_base;
BS_LOCAL extern uint8_t *bs_pagemap_near;

/* The table of arenas: entries before count (release). */
BS_LOCAL extern struct bs_arena **bs_pagemap_table;
BS_LOCAL extern size_t bs_pagemap_narenas; /* entries: 0, then BS_MAX_ARENAS */

/* The class of the small block's page that p lies in, unless it is hidden (bs_pagemap_hide); 0 for everything else,
 * and for pages that the flat map does not cover. */
BS_INLINE uint8_t bs_pagemap_near_class(uintptr_t p) {
    /* acquire only orders start-up against the very first lookups: a plain load on x86 and a
     * cheap one elsewhere; entries are published before blocks that need them */
    size_t page = (bs_load_acquire(&bs_pagemap_minus_base) + p) >> BS_PAGE_SHIFT;
    if (BS_UNLIKELY(page >= BS_NEAR_PAGES))
        return 0;
    return bs_load(&bs_load(&bs_pagemap_near)[page]);
}

/* The arena of the address, or NULL. */
BS_INLINE struct bs_arena *bs_pagemap_arena(uintptr_t p) {
    uintptr_t number = p >> BS_ARENA_SHIFT;
    if (BS_UNLIKELY(number >= bs_load_acquire(&bs_pagemap_narenas)))
        return NULL;
    return bs_load_acquire(&bs_pagemap_table[number]);
}
/* The same for all pages. */
BS_INLINE uint8_t bs_pagemap_class(uintptr_t p) {
    uint8_t class = bs_pagemap_near_class(p);
    if (BS_LIKELY(class != 0))
        return class;
    struct bs_arena *arena = bs_pagemap_arena(p);
    return arena != NULL ? bs_load(&arena->class[(p >> BS_PAGE_SHIFT) % BS_ARENA_PAGES]) : 0;
}
/* The entry of the address's own page: the span, if it is a small one; else any that is or was. */
BS_INLINE struct bs_span *bs_pagemap_entry(uintptr_t p) {
    struct bs_arena *arena = bs_pagemap_arena(p);
    if (BS_UNLIKELY(arena == NULL))
        return NULL;
    /* acquire: pairs with the releases in bs_pagemap_set, so the span's fields are there */
    return bs_load_acquire(&arena->span[(p >> BS_PAGE_SHIFT) % BS_ARENA_PAGES]);
}
/* The same for a page that has, or had, a class byte: so there is an arena. */
BS_INLINE struct bs_span *bs_pagemap_entry_of_small(uintptr_t p) {
    struct bs_arena *arena = bs_load_acquire(&bs_pagemap_table[p >> BS_ARENA_SHIFT]);
    return bs_load_acquire(&arena->span[(p >> BS_PAGE_SHIFT) % BS_ARENA_PAGES]);
}
/* What the tables say of the address: may be a span that is gone. NULL if none. */
BS_INLINE struct bs_span *bs_pagemap_span(uintptr_t p) {
    struct bs_arena *arena = bs_pagemap_arena(p);
    if (BS_UNLIKELY(arena == NULL))
        return NULL;
    struct bs_span *whole = bs_load_acquire(&arena->whole);
    if (BS_UNLIKELY(whole != NULL))
        return whole;
    size_t page = (p >> BS_PAGE_SHIFT) % BS_ARENA_PAGES, i = page % BS_GROUP_PAGES;
    const struct bs_group *group = &arena->group[page / BS_GROUP_PAGES];
    /* what a live block's neighbours change of the two numbers does not change its answer */
    if (i < bs_load_acquire(&group->low))
        return bs_load_acquire(&arena->low[page / BS_GROUP_PAGES]);
    if (BS_GROUP_PAGES - i <= bs_load_acquire(&group->high))
        return bs_load_acquire(&arena->high[page / BS_GROUP_PAGES]);
    return bs_load_acquire(&arena->span[page]);
}

/* False: no span ever held the address. */
bool bs_pagemap_was_ours(uintptr_t p);

/* Makes ready what it takes to make the arenas of [base, base+bytes) known. False: no memory. Grow lock held. */
bool bs_pagemap_reserve(uintptr_t base, size_t bytes);
/* Makes them known: all, or none. Idempotent. False: no memory, and that cannot be after bs_pagemap_reserve. */
bool bs_pagemap_add(uintptr_t base, size_t bytes);
/* Sets span (if not NULL) and class of npages pages. The caller owns the pages. */
void bs_pagemap_set(uintptr_t base, size_t npages, struct bs_span *span, unsigned class);
/* The same for pages of a small span: while classes are hidden they are entered as such. */
void bs_pagemap_set_small(uintptr_t base, size_t npages, struct bs_span *span, unsigned class);

/* Hidden classes: what the page's class is stands beside its byte, which is 0, so that a free comes to the slow
 * door. Some: of pages where a block begins whose free matters to somebody (bs_pagemap_count). All: of every page. For good,
 * once it is on, but some may become all; switched on by one thread, by the first call, and, if it is all, for the pages
 * that there are by a call for each run of them. Others may enter and clear pages, and count, meanwhile. */
enum bs_hiding { BS_HIDE_NONE, BS_HIDE_SOME, BS_HIDE_ALL };
void bs_pagemap_hide(uintptr_t base, size_t npages, enum bs_hiding which);
BS_LOCAL extern uint32_t bs_pagemap_hidden; /* [atomic] enum bs_hiding */
BS_INLINE bool bs_pagemap_is_hidden(void) {
    return bs_load(&bs_pagemap_hidden) != 0;
}
/* A page's word then: its class, how many blocks begin in it whose free matters, and where: in units of 8 bytes, from 1
 * on. Of more than four some places are not known, until as many are left as are. */
enum { BS_HIDDEN_NUMBER = 1 << 8, BS_HIDDEN_PLACES = 4, BS_HIDDEN_FIRST = 20, BS_HIDDEN_BITS = 11 };
_Static_assert(BS_PAGE_SIZE / 8 < 1 << BS_HIDDEN_BITS &&
               BS_PAGE_SIZE / 8 * BS_HIDDEN_NUMBER < (size_t)1 << BS_HIDDEN_FIRST &&
               BS_HIDDEN_FIRST + BS_HIDDEN_PLACES * BS_HIDDEN_BITS <= 64, "a word holds all");
BS_INLINE uint64_t bs_pagemap_hidden_word(uintptr_t p) {
    struct bs_arena *arena = bs_pagemap_arena(p);
    return BS_LIKELY(arena != NULL) ? bs_load(&arena->hidden[(p >> BS_PAGE_SHIFT) % BS_ARENA_PAGES]) : 0;
}
BS_INLINE unsigned bs_hidden_number(uint64_t word) {
    return (unsigned)(word % (1 << BS_HIDDEN_FIRST) / BS_HIDDEN_NUMBER);
}
BS_INLINE unsigned bs_hidden_place(uint64_t word, unsigned i) {
    return (unsigned)(word >> (BS_HIDDEN_FIRST + i * BS_HIDDEN_BITS)) % (1 << BS_HIDDEN_BITS);
}
BS_INLINE unsigned bs_hidden_at(uintptr_t p) {
    return (unsigned)(p % BS_PAGE_SIZE / 8 + 1);
}
/* The block at p may be one whose free matters to somebody. */
BS_INLINE bool bs_hidden_matters(uint64_t word, uintptr_t p) {
    unsigned unknown = bs_hidden_number(word);
    for (unsigned i = 0; unknown != 0 && i < BS_HIDDEN_PLACES; i++) {
        unsigned place = bs_hidden_place(word, i);
        if (place == bs_hidden_at(p))
            return true;
        unknown -= place != 0;
    }
    return unknown != 0;
}
/* The byte of a page whose word has no class: none of its blocks is small, it is shown, or about to be hidden. */
BS_INLINE unsigned bs_pagemap_class_not_hidden(uintptr_t p) {
    struct bs_arena *arena = bs_pagemap_arena(p);
    if (BS_UNLIKELY(arena == NULL))
        return 0;
    unsigned byte = bs_load_acquire(&arena->class[(p >> BS_PAGE_SHIFT) % BS_ARENA_PAGES]);
    unsigned class = bs_pagemap_hidden_word(p) % BS_HIDDEN_NUMBER; /* it may have been hidden meanwhile */
    return class != 0 ? class : byte;
}
/* What bs_pagemap_class would be. */
BS_INLINE unsigned bs_pagemap_hidden_class(uintptr_t p) {
    unsigned class = bs_pagemap_hidden_word(p) % BS_HIDDEN_NUMBER;
    return BS_LIKELY(class != 0) ? class : bs_pagemap_class_not_hidden(p);
}
/* The same where the free of p matters to nobody and its page is hidden by now, or was once; else 0. */
BS_INLINE unsigned bs_pagemap_plain_class(uintptr_t p) {
    uint64_t word = bs_pagemap_hidden_word(p);
    return BS_UNLIKELY(word >= BS_HIDDEN_NUMBER) && bs_hidden_matters(word, p) ? 0 : word % BS_HIDDEN_NUMBER;
}
/* The free of the block at p may matter to somebody. */
BS_INLINE bool bs_pagemap_matters(uintptr_t p) {
    return bs_hidden_matters(bs_pagemap_hidden_word(p), p);
}
/* The free of the block at p, a small one, matters to one more, or (-1) less. When it returns, frees in its page come to
 * the slow door. */
void bs_pagemap_count(uintptr_t p, int step);

/* The same for pages of a large span, whose class bytes are 0 as those of all free pages are. A span may
 * be set piece by piece as it grows. */
void bs_pagemap_set_large(uintptr_t base, size_t npages, struct bs_span *span);
/* Before the pages of a large span are others': arenas and groups forget it. */
void bs_pagemap_forget_large(uintptr_t base, size_t npages, const struct bs_span *span);
/* The same for what is behind the first npages of it. */
void bs_pagemap_cut_large(uintptr_t base, size_t npages, size_t old_npages, struct bs_span *span);
/* Class bytes to 0: a free of an address in these pages goes to the slow door from now on. */
void bs_pagemap_clear_class(uintptr_t base, size_t npages);

#endif
