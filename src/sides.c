/* SPDX-License-Identifier: MIT */
/* sides.c - see sides.h. */
#include "sides.h"

#include "meta.h"
#include "pageheap.h"

struct visit {
    struct bs_sides *sides;
    uintptr_t last; /* number of the arena met last */
    size_t n;
    bool counting;
};

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                         const uint64_t *released) {
    struct visit *v = ctx;
    uintptr_t arena = base >> BS_ARENA_SHIFT;
    (void)alloc, (void)released;
    if (arena == v->last)
        return true;
    v->last = arena;
    if (!v->counting)
        bs_marks_set_table(base, v->sides->side,
                           v->sides->tables != NULL ? v->sides->tables + v->n : NULL);
    v->n++;
    return true;
}

static size_t walk(struct bs_sides *sides, bool counting) {
    struct visit v = {.sides = sides, .counting = counting};
    bs_pageheap_each_region(visit_region, &v);
    return v.n;
}

bool bs_sides_make(struct bs_sides *sides, enum bs_side side) {
    *sides = (struct bs_sides){.side = side};
    sides->n = walk(sides, true);
    if (sides->n == 0)
        return true;
    sides->tables = bs_meta_map(sides->n * sizeof *sides->tables);
    if (sides->tables == NULL)
        return false;
    BS_CHECK(walk(sides, false) == sides->n);
    return true;
}

void bs_sides_drop(struct bs_sides *sides) {
    struct bs_marks *tables = sides->tables;
    if (tables == NULL)
        return;
    sides->tables = NULL;
    (void)walk(sides, false);
    bs_meta_unmap(tables, sides->n * sizeof *tables);
}
