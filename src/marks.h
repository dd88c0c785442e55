/* SPDX-License-Identifier: MIT */
/*
 * marks.h - bits beside the spans' own that exist only while somebody needs them: mark and idle
 * bits during a search, held bits while blocks are in quarantine, and what engines of a scan note beside the marks.
 *
 * They are found through the arena, so a descriptor does not grow for them and nothing costs memory
 * while no table is there. Each kind is sixteen planes of a word a page: word w of a span's bits is
 * in plane w at the span's first page. Most spans have one word, so of most planes no OS page is
 * ever touched: 64 KiB an arena and kind is the rule, 1 MiB the most.
 *
 * It is NOT about what the bits mean (settle.h) or when there are tables (cycle.h, quarantine.h). No lock: a
 * table is published and withdrawn atomically.
 */
#ifndef BS_MARKS_H
#define BS_MARKS_H

#include "pagemap.h"

#define BS_MARKS_PLANES 16 /* words of the longest bitmap: 1024 slots */

struct bs_marks {
    uint64_t word[BS_MARKS_PLANES][BS_ARENA_PAGES];
};

enum bs_side {
    BS_SIDE_MARK,
    BS_SIDE_IDLE,
    BS_SIDE_HELD,
    BS_SIDE_START, /* a pointer to the very start of the slot was seen (trace.h) */
    BS_SIDE_SEEN,  /* of unreached slots, while they are sorted into leaks (leaks.h) */
    BS_SIDE_HEAD,  /* the same: the search began at it once */
    BS_SIDE_LOST,  /* unreached in the last scan (scan.h) */
    BS_SIDE_NOW,   /* the same in the one that is under way */
    BS_SIDE_DOOMED, /* of those, what collect.h may close, or give away */
    BS_SIDE_COUNT0, /* in how many scans in a row: collect.h */
    BS_SIDE_COUNT1,
    BS_SIDE_COUNT2,
    BS_SIDE_KEPT /* in quarantine, held: those that the last search has kept (quarantine.h) */
};
_Static_assert(BS_SIDE_KEPT + 1 == BS_NSIDES, "an arena has a place for each kind");

/* The table of p's arena, which is one; NULL: there is none. */
BS_INLINE struct bs_marks *bs_marks_table(uintptr_t p, enum bs_side side) {
    struct bs_arena *arena = bs_pagemap_arena(p);
    BS_ASSERT(arena != NULL);
    return bs_load_acquire(&arena->side[side]); /* pairs with the release that published it */
}
/* Publishes a zeroed table, or withdraws it (NULL). */
void bs_marks_set_table(uintptr_t p, enum bs_side side, struct bs_marks *table);
/* Makes a table in a mapping of its own if there is none. Any thread. False: no memory. */
bool bs_marks_make(uintptr_t p, enum bs_side side);

/* Word w of the span that begins at base; NULL without a table. */
BS_INLINE uint64_t *bs_marks_word(uintptr_t base, enum bs_side side, size_t w) {
    struct bs_marks *table = bs_marks_table(base, side);
    return table != NULL ? &table->word[w][(base >> BS_PAGE_SHIFT) % BS_ARENA_PAGES] : NULL;
}
/* The bits of word w of the span at base, 0 without a table. */
BS_INLINE uint64_t bs_marks_bits(uintptr_t base, enum bs_side side, size_t w) {
    const uint64_t *word = bs_marks_word(base, side, w);
    return word != NULL ? bs_load(word) : 0;
}
/* Sets the bit of a slot; several may at once. False: it was set, or there is no table. */
BS_INLINE bool bs_marks_set(uintptr_t base, enum bs_side side, uint32_t slot) {
    uint64_t *word = bs_marks_word(base, side, slot / 64), bit = (uint64_t)1 << (slot % 64);
    return word != NULL && (bs_load(word) & bit) == 0 &&
           (__atomic_fetch_or(word, bit, __ATOMIC_RELAXED) & bit) == 0;
}

#endif
