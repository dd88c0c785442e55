/* SPDX-License-Identifier: MIT */
/*
 * settle.h - a span and the bits beside it (marks.h): the way to a slot from any byte of it, what is spared, and
 * which held slots become free after a search.
 *
 *   a alloc   h held   m mark       becomes free: a & h & ~m       stays, and is told of: a & h & m
 *
 * When there are marks is cycle.h's matter, what is held quarantine.h's. It takes no lock: the caller has what protects
 * the span, its class's lock or (large) the round.
 */
#ifndef BS_SETTLE_H
#define BS_SETTLE_H

#include "marks.h"
#include "span.h"

/* What became of the held slots of one span. */
struct bs_found {
    uintptr_t base;    /* of slot 0 */
    size_t size;       /* bytes of a slot */
    unsigned released; /* slots that went: their number */
    unsigned reported; /* bits below that are set */
    uint64_t bits[BS_MARKS_PLANES]; /* those that stay */
};
/* Held slots without a mark are free; *found->bits are those with one. All marks are clear then. */
void bs_settle_held(struct bs_span *s, struct bs_found *found);

/* A cycle has begun, and is not over: for checks. [lock:round] */
BS_LOCAL extern bool bs_marking;

/* --- bits of one slot ------------------------------------------------------------------------- */

/* Here and below the span stays what it is: all stand, or a block in it is the caller's, or held. Where it may become
 * another one bs_span_shape is asked. */

/* The slot that byte p of the span lies in; false: the span's tail. */
BS_INLINE bool bs_slot_of(const struct bs_span *s, uintptr_t p, uint32_t *slot) {
    *slot = s->class != 0 ? bs_class_slot(bs_span_class(s), (uint32_t)(p - s->base)) : 0;
    return *slot < s->nslots;
}
/* A span that begins at base, if it still does: if it has one, it stays what it is; else others may make another one of
 * it while the program runs. */
BS_INLINE bool bs_has_held_slot(const struct bs_span *s, uintptr_t base) {
    for (size_t w = 0; w < bs_span_words(s) && w < BS_MARKS_PLANES; w++)
        if (bs_marks_bits(base, BS_SIDE_HELD, w) != 0)
            return true;
    return false;
}
/* A block that was found. */
struct bs_marked {
    uintptr_t base;
    size_t size;
};
BS_INLINE struct bs_marked bs_slot_block(const struct bs_span *s, uint32_t slot) {
    size_t size = s->class != 0 ? bs_span_class(s)->size : (size_t)s->npages * BS_PAGE_SIZE;
    return (struct bs_marked){s->base + slot * size, size};
}
/* The slot at p is nobody's, in a thread's cache say: idle, so that it is not judged, and marked, so that stale
 * pointers to it lead nowhere. While no thread is inside besom. */
void bs_settle_spare(uintptr_t p);

#endif
