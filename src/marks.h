/* SPDX-License-Identifier: MIT */
/*
 * marks.h - bits beside the spans' own that exist only while somebody needs them: mark and idle
 * bits during a cycle of scan and sweep, held bits while blocks are in quarantine.
 *
 * They are found through the arena, so a descriptor does not grow for them and nothing costs memory
 * while no table is there. Each kind is sixteen planes of a word a page: word w of a span's bits is
 * in plane w at the span's first page. Most spans have one word, so of most planes no OS page is
 * ever touched: 64 KiB an arena and kind is the rule, 1 MiB the most.
 *
 * It is NOT about what the bits mean (settle.h) or when there are tables (cycle.h). No lock: a
 * table is published and withdrawn atomically; who may use a word is settle.h's table.
 */
#ifndef BS_MARKS_H
#define BS_MARKS_H

#include "pagemap.h"

#define BS_MARKS_PLANES 16 /* words of the longest bitmap: 1024 slots */

struct bs_marks {
    uint64_t word[BS_MARKS_PLANES][BS_ARENA_PAGES];
};

enum bs_side { BS_SIDE_MARK, BS_SIDE_IDLE, BS_SIDE_HELD };
_Static_assert(BS_SIDE_HELD + 1 == BS_NSIDES, "an arena has a place for each kind");

/* The table of p's arena, which is one; NULL: there is none. */
struct bs_marks *bs_marks_table(uintptr_t p, enum bs_side side);
/* Publishes a zeroed table, or withdraws it (NULL). */
void bs_marks_set_table(uintptr_t p, enum bs_side side, struct bs_marks *table);
/* Makes a table in a mapping of its own if there is none. Any thread. False: no memory. */
bool bs_marks_make(uintptr_t p, enum bs_side side);

/* Word w of the span that begins at base; NULL without a table. */
BS_INLINE uint64_t *bs_marks_word(uintptr_t base, enum bs_side side, size_t w) {
    struct bs_marks *table = bs_marks_table(base, side);
    return table != NULL ? &table->word[w][(base >> BS_PAGE_SHIFT) % BS_ARENA_PAGES] : NULL;
}

#endif
