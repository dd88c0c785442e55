/* SPDX-License-Identifier: MIT */
/* numbers.c - see numbers.h. */
#include "numbers.h"

#include "meta.h"

#define FIRST_CAP 4096

/* Blocks that lie together are spread: the product's upper bits depend on every bit of the key. */
static size_t home(const struct bs_numbers *t, uintptr_t key) {
    return (size_t)(((uint64_t)key * 0x9e3779b97f4a7c15u) >> 20) & (t->cap - 1);
}

/* The key's slot, or the empty one where it belongs. */
static size_t find(const struct bs_numbers *t, uintptr_t key) {
    size_t i = home(t, key);
    while (t->slot[i].key != 0 && t->slot[i].key != key)
        i = (i + 1) & (t->cap - 1);
    return i;
}

static bool grow(struct bs_numbers *t) {
    struct bs_numbers big = {.cap = t->cap != 0 ? t->cap * 2 : FIRST_CAP, .n = t->n};
    big.slot = bs_meta_map(big.cap * sizeof *big.slot);
    if (big.slot == NULL)
        return false;
    for (size_t i = 0; i < t->cap; i++)
        if (t->slot[i].key != 0)
            big.slot[find(&big, t->slot[i].key)] = t->slot[i];
    if (t->cap != 0)
        bs_meta_unmap(t->slot, t->cap * sizeof *t->slot);
    *t = big;
    return true;
}

bool bs_numbers_put(struct bs_numbers *t, uintptr_t key, uint64_t number) {
    if (t->n >= t->cap / 2 && !grow(t))
        return false;
    struct bs_number *s = &t->slot[find(t, key)];
    BS_ASSERT(key != 0 && s->key == 0);
    *s = (struct bs_number){key, number};
    t->n++;
    return true;
}

uint64_t bs_numbers_get(const struct bs_numbers *t, uintptr_t key) {
    size_t i = t->cap != 0 && key != 0 ? find(t, key) : 0;
    return t->cap != 0 && key != 0 && t->slot[i].key == key ? t->slot[i].number : BS_NUMBERS_NONE;
}

uint64_t bs_numbers_take(struct bs_numbers *t, uintptr_t key) {
    if (t->cap == 0 || key == 0)
        return BS_NUMBERS_NONE;
    size_t gap = find(t, key);
    if (t->slot[gap].key == 0)
        return BS_NUMBERS_NONE;
    uint64_t number = t->slot[gap].number;
    /* What follows without a gap moves into it, unless that were before its home. */
    for (size_t i = (gap + 1) & (t->cap - 1); t->slot[i].key != 0; i = (i + 1) & (t->cap - 1)) {
        size_t from_home = (i - home(t, t->slot[i].key)) & (t->cap - 1);
        if (from_home >= ((i - gap) & (t->cap - 1))) {
            t->slot[gap] = t->slot[i];
            gap = i;
        }
    }
    t->slot[gap].key = 0;
    t->n--;
    return number;
}

void bs_numbers_clear(struct bs_numbers *t) {
    if (t->cap != 0)
        bs_meta_unmap(t->slot, t->cap * sizeof *t->slot);
    *t = (struct bs_numbers){0};
}
