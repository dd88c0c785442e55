/* SPDX-License-Identifier: MIT */
/* marks.c - see marks.h. No lock but that of the metadata. */
#include "marks.h"

#include "meta.h"

void bs_marks_set_table(uintptr_t p, enum bs_side side, struct bs_marks *table) {
    bs_store_release(&bs_pagemap_arena(p)->side[side], table);
}

bool bs_marks_make(uintptr_t p, enum bs_side side) {
    struct bs_marks *none = NULL;
    if (bs_marks_table(p, side) != NULL)
        return true;
    struct bs_marks *table = bs_meta_map_sparse(sizeof *table, sizeof table->word[0]);
    if (table == NULL)
        return false;
    /* another thread may have been first: its table counts */
    if (!__atomic_compare_exchange_n(&bs_pagemap_arena(p)->side[side], &none, table, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        bs_meta_unmap_sparse(table, sizeof *table, sizeof table->word[0]);
    return true;
}
