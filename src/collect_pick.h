/* SPDX-License-Identifier: MIT */
/*
 * collect_pick.h - which OS pages of a span may be closed: those on which every slot is either lost or
 * free; and which lost slots lie on such pages only, so that no byte of them can be touched unseen.
 *
 * Pure arithmetic on one span's bits. The caller holds what keeps them still: the program stands, or
 * this is a copy of it. No locks.
 */
#ifndef BS_COLLECT_PICK_H
#define BS_COLLECT_PICK_H

#include "marks.h"
#include "span.h"

struct bs_pick {
    uint16_t pages;                    /* small: bit i is OS page i (bs_span_os_page_base) */
    uint64_t block[BS_MARKS_PLANES];   /* lost slots that lie on these pages alone */
    uint64_t reserve[BS_MARKS_PLANES]; /* free slots that touch these pages */
};

/* lost: of the span's slots, a subset of those that are out. False: nothing can be closed. */
bool bs_collect_pick(const struct bs_span *s, const uint64_t lost[BS_MARKS_PLANES],
                     struct bs_pick *pick);

/* The next run of adjacent pages in *pages, which it leaves: from *start on. Its bytes; 0: none. */
size_t bs_collect_next_run(const struct bs_span *s, uint16_t *pages, uintptr_t *start);

#endif
