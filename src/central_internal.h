/* SPDX-License-Identifier: MIT */
/*
 * central_internal.h - one class's lists of spans, for central.c (slots out and back) and
 * central_aside.c (holes, collection, quarantine). Nobody else includes it.
 *
 * A span's place, as its nalloc says (invariant 1):
 *   0 < nalloc < nslots   on the list of its fullness group
 *   nalloc == nslots      on no list: the next release puts it back
 *   nalloc == 0           on the list if it is the class's one empty span, else waiting (no owner
 *                         but the waiting list; nobody may find it through a live block)
 *
 * Whatever changed nalloc moves the span with the functions here, under the class's lock.
 */
#ifndef BS_CENTRAL_INTERNAL_H
#define BS_CENTRAL_INTERNAL_H

#include "central.h"

#include "counter.h"
#include "lock.h"
#include "os.h"

struct bs_central {
    struct bs_lock lock;
    uint32_t groups;   /* [lock] bit g: group g has a span */
    uint32_t nempty;   /* [lock] spans without any slot out, kept on group 0's list */
    size_t spans;      /* [lock; read relaxed] of this class, waiting ones not counted */
    size_t slots_out;  /* [lock; read relaxed] sum of nalloc over them */
    size_t holes;      /* [lock] OS pages given back inside them */
    struct bs_link group[BS_GROUPS]; /* [lock] */
} BS_PADDED;

BS_LOCAL extern struct bs_central bs_centrals[BS_NCLASSES];

/* --- groups ----------------------------------------------------------------------------------- */

static inline struct bs_span *span_at(struct bs_link *l) {
    return BS_LIST_ENTRY(l, struct bs_span, link);
}

static inline void unlist_locked(struct bs_central *c, struct bs_span *s) {
    if (!(s->flags & BS_SPAN_LISTED))
        return;
    bs_list_remove(&s->link);
    bs_span_drop_flags(s, BS_SPAN_LISTED);
    if (bs_list_empty(&c->group[s->group]))
        c->groups &= ~(1u << s->group);
}

static inline void list_locked(struct bs_central *c, struct bs_span *s) {
    unsigned g = bs_span_fullness(s);
    struct bs_link *head = &c->group[g];
    if (head->next == NULL) /* static zeros until the first use */
        bs_list_init(head);
    if (bs_list_empty(head) || s->base < span_at(head->next)->base)
        bs_list_push_front(head, &s->link);
    else
        bs_list_push_back(head, &s->link);
    bs_store(&s->group, (uint8_t)g);
    bs_span_add_flags(s, BS_SPAN_LISTED);
    c->groups |= 1u << g;
}

/* Off its list, and to the one where it belongs. */
static BS_NOINLINE void move_locked(struct bs_central *c, struct bs_span *s, bool full) {
    unlist_locked(c, s);
    if (!full)
        list_locked(c, s);
}

/* After slots came or went: the span goes where its fullness says. */
static inline void relist_locked(struct bs_central *c, struct bs_span *s) {
    bool full = bs_span_full(s);
    if (BS_LIKELY(!full && (s->flags & BS_SPAN_LISTED) && bs_span_keeps_group(s)))
        return;
    move_locked(c, s, full);
}

BS_LOCAL extern uint16_t bs_hole_epoch; /* [atomic] wraps; what it is compared with is a few epochs old */

static inline void touch(struct bs_span *s) {
    bs_store(&s->touched, bs_load(&bs_hole_epoch));
}

/* Slots were claimed: pages they lie on are holes no more. */
static inline void fill_holes_locked(struct bs_central *c, struct bs_span *s) {
    if (BS_LIKELY(s->holes == 0))
        return;
    uint16_t left = s->holes & bs_span_free_os_pages(s, bs_os_page_size());
    unsigned filled = bs_popcount(s->holes) - bs_popcount(left);
    c->holes -= filled;
    bs_store(&s->holes, left);
    bs_span_count_holes(0, filled);
    if (filled != 0)
        bs_count(reused_released_bytes, filled * bs_os_page_size());
}

static inline struct bs_span *fullest_locked(struct bs_central *c) {
    if (c->groups == 0)
        return NULL;
    unsigned g = bs_msb(c->groups);
    return span_at(c->group[g].next);
}

/* The empty span is the class's no more. */
static inline void leave_locked(struct bs_central *c, struct bs_span *s) {
    unlist_locked(c, s);
    bs_store(&c->spans, c->spans - 1);
    c->holes -= bs_popcount(s->holes); /* they go with the span, as released pages */
}

/* Blocks of the span came back, and nothing else changes: the rule, in one look at its flags. */
static inline bool stays_listed(const struct bs_span *s) {
    unsigned flags = s->flags & (BS_SPAN_FRESH | BS_SPAN_LISTED | BS_SPAN_BORROWED);
    return flags == BS_SPAN_LISTED && s->nalloc != 0 && bs_span_keeps_group(s);
}

/* After blocks of one span came back: it goes where its fullness says. True if it became one empty
 * span too many: it is off the lists then. */
static inline bool settle_locked(struct bs_central *c, struct bs_span *s) {
    if (BS_UNLIKELY(s->flags & BS_SPAN_BORROWED))
        return false; /* settled when the scavenger gives it back */
    if (BS_LIKELY(s->nalloc != 0)) {
        relist_locked(c, s);
        return false;
    }
    if (c->nempty == 0) {
        c->nempty = 1;
        relist_locked(c, s);
        return false;
    }
    leave_locked(c, s);
    return true;
}

#endif
