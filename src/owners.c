/* SPDX-License-Identifier: MIT */
/* owners.c - see owners.h. */
#include "owners.h"

#include "sample.h"

static bool is_empty(const struct bs_owned *e) {
    return e->stack == NULL && e->owner.kind == BS_OWNER_NONE;
}
static bool is_for(const struct bs_owned *e, const struct bs_stack *stack, struct bs_owner owner) {
    return e->stack == stack && e->owner.kind == owner.kind && e->owner.at == owner.at;
}

/* NULL: it is not there, and n places are in use. */
static struct bs_owned *place_for(struct bs_owners *o, struct bs_stack *stack, struct bs_owner owner, size_t n) {
    uint64_t key = ((uint64_t)(uintptr_t)stack >> 4) * UINT64_C(0x9e3779b97f4a7c15) ^ owner.at >> 3 ^ owner.kind;
    size_t i = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 40) % BS_OWNED;
    while (!is_empty(&o->of[i]) && !is_for(&o->of[i], stack, owner))
        i = (i + 1) % BS_OWNED;
    if (!is_empty(&o->of[i]))
        return &o->of[i];
    if (o->n >= n)
        return NULL;
    o->n++;
    o->of[i] = (struct bs_owned){.stack = stack, .owner = owner};
    return &o->of[i];
}
static struct bs_owned *owned_by(struct bs_owners *o, struct bs_stack *stack) {
    struct bs_owner page = {o->now.kind, bs_align_down(o->now.at, BS_OWNERS_PAGE)};
    struct bs_owned *e = place_for(o, stack, o->now, BS_OWNERS_EACH);
    return e != NULL ? e : place_for(o, stack, page, BS_OWNERS_FULL);
}

static void add(struct bs_owned *e, uint64_t blocks, uint64_t bytes, uint64_t samples) {
    if (e == NULL)
        return;
    e->blocks += blocks;
    e->bytes += bytes;
    e->samples += samples;
}

void bs_owners_turn(struct bs_owners *o, struct bs_owner owner) {
    o->now = owner;
}

void bs_owners_found(struct bs_owners *o, uintptr_t p) {
    struct bs_sampled sampled;
    if (!bs_sample_find((void *)p, &sampled))
        return;
    const struct bs_owner none = {BS_OWNER_NONE, 0};
    add(owned_by(o, sampled.stack), sampled.blocks, sampled.bytes, 1);
    add(place_for(o, sampled.stack, none, BS_OWNERS_FULL), sampled.blocks, sampled.bytes, 1);
}

void bs_owners_sum(struct bs_owners *o, size_t blocks, size_t bytes) {
    if (blocks != 0)
        add(owned_by(o, NULL), blocks, bytes, 0);
}

/* --- reports ------------------------------------------------------------------------------------ */

static bool is_listed(const struct bs_owned *e, enum bs_owners_list list, const struct bs_stack *stack) {
    if (list == BS_OWNERS_WORDS)
        return e->stack == NULL && e->owner.kind != BS_OWNER_NONE;
    if (list == BS_OWNERS_STACKS)
        return e->stack != NULL && e->owner.kind == BS_OWNER_NONE;
    return e->stack == stack && e->owner.kind != BS_OWNER_NONE;
}

size_t bs_owners_top(const struct bs_owners *o, enum bs_owners_list list, const struct bs_stack *stack,
                     const struct bs_owned **top, size_t max) {
    size_t n = 0;
    for (size_t place = 0; place < BS_OWNED; place++) {
        const struct bs_owned *e = &o->of[place];
        if (!is_listed(e, list, stack) || max == 0 || (n == max && e->bytes <= top[n - 1]->bytes))
            continue;
        size_t i = n < max ? n++ : n - 1;
        for (; i > 0 && top[i - 1]->bytes < e->bytes; i--)
            top[i] = top[i - 1];
        top[i] = e;
    }
    return n;
}
