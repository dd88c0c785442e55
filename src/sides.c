/* SPDX-License-Identifier: MIT */
/* sides.c - see sides.h. */
#include "sides.h"

#include "meta.h"
#include "pageheap.h"

enum what { COUNT, PUBLISH, TURN };

struct visit {
    enum what what;
    enum bs_side side, from;
    struct bs_marks *tables;
    size_t ntables;
    uintptr_t last; /* number of the arena met last */
    size_t n;
};

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                         const uint64_t *released) {
    struct visit *v = ctx;
    uintptr_t arena = base >> BS_ARENA_SHIFT;
    (void)alloc, (void)released;
    if (arena == v->last)
        return true;
    v->last = arena;
    if (v->what == PUBLISH)
        bs_marks_set_table(base, v->side, v->n < v->ntables ? v->tables + v->n : NULL);
    if (v->what == TURN) {
        bs_marks_set_table(base, v->side, bs_marks_table(base, v->from));
        bs_marks_set_table(base, v->from, NULL);
    }
    v->n++;
    return true;
}

static size_t walk(struct visit *v) {
    bs_pageheap_each_region(visit_region, v);
    return v->n;
}

size_t bs_sides_count(void) {
    struct visit v = {.what = COUNT};
    return walk(&v);
}

void bs_sides_publish(enum bs_side side, struct bs_marks *tables, size_t n) {
    struct visit v = {.what = PUBLISH, .side = side, .tables = tables, .ntables = n};
    (void)walk(&v);
}

void bs_sides_turn(enum bs_side from, enum bs_side to) {
    struct visit v = {.what = TURN, .side = to, .from = from};
    (void)walk(&v);
}

bool bs_sides_make(struct bs_sides *sides, enum bs_side side) {
    *sides = (struct bs_sides){.side = side};
    sides->n = bs_sides_count();
    if (sides->n == 0)
        return true;
    sides->tables = bs_meta_map(sides->n * sizeof *sides->tables);
    if (sides->tables == NULL)
        return false;
    bs_sides_publish(side, sides->tables, sides->n);
    return true;
}

void bs_sides_drop(struct bs_sides *sides) {
    struct bs_marks *tables = sides->tables;
    if (tables == NULL)
        return;
    sides->tables = NULL;
    bs_sides_publish(sides->side, NULL, 0);
    bs_meta_unmap(tables, sides->n * sizeof *tables);
}
