/* SPDX-License-Identifier: MIT */
/*
 * settle.h - how one span is swept after a scan: what its bits mean, who may touch it, and the
 * marker's way to a slot. When and how many is cycle.h's matter.
 *
 * A cycle adds 2 to bs_sweepgen, which makes every span one of the old generation at once:
 *
 *   sweepgen      the span is        who may touch its bits and its side words
 *   gen - 2       not swept yet      small: who holds its class's lock; it may free slots (their
 *                                    marks go, too), and must sweep before it claims any.
 *                                    large: its owner may only turn it into gen (bs_settle_keep)
 *   gen - 1       being swept        the thread that swapped gen - 2 for it: small spans under
 *                                    their class's lock all the while, large ones under the
 *                                    cycle's, so that fork never meets one
 *   gen           swept, or made     small: who holds its class's lock; large: the block's owner.
 *                 in this cycle      Side words of mark and idle are nobody's: their tables go
 *                                    when the last span is swept
 *
 * A span that leaves its class (to the waiting list) or its owner (to the page heap) has the
 * current generation, and one that is made gets it first. Descriptors are type-stable. So whoever
 * swaps gen - 2 for gen - 1 knows that the span has been in service since before the cycle began:
 * no stale pointer, no check of anything else is needed. The generation is published last (release),
 * after bits and counts; the sweeper's acquiring swap pairs with it.
 *
 * A marked slot is allocated: bs_mark sets bits of allocated slots only, nothing is claimed from a
 * span before it is swept, and a slot that is freed into one loses its mark under the same lock. So
 * a mark on a free slot means damaged bits, and is fatal.
 */
#ifndef BS_SETTLE_H
#define BS_SETTLE_H

#include "marks.h"
#include "span.h"

/* a alloc, i idle, h held, m mark:     released          reported           */
enum bs_sweep_mode {
    BS_SWEEP_PLAIN,     /*              -                 -                  */
    BS_SWEEP_LEAKS,     /*              -                 a & ~i & ~h & ~m   */
    BS_SWEEP_COLLECT,   /*              a & ~i & ~h & ~m  the same           */
    BS_SWEEP_QUARANTINE /*              a & ~i & h & ~m   a & ~i & h & m     */
};

/* What the sweep of one span found. */
struct bs_found {
    uintptr_t base;    /* of slot 0 */
    size_t size;       /* bytes of a slot */
    unsigned class;    /* 0: large */
    unsigned released; /* slots that went: their number */
    unsigned reported; /* bits below that are set */
    uint64_t bits[BS_MARKS_PLANES]; /* slots to report */
};
/* Called with no lock but those of the round and the cycle, by the thread that swept: the helper or
 * one that came for memory. Several may call at once. It must not allocate from besom, and the
 * blocks it is told of may be gone or another's by then: it gets addresses, not contents. */
typedef void bs_reporter(void *ctx, const struct bs_found *found);

enum bs_settle_phase { BS_SETTLE_NONE, BS_SETTLE_MARKING, BS_SETTLE_SWEEPING };

/* The cycle that is under way; cycle.c writes it. */
struct bs_settling {
    uint32_t phase;      /* [atomic] enum bs_settle_phase */
    uint32_t mode;       /* written while no thread is inside besom, as all below */
    bs_reporter *report; /* NULL: none */
    void *ctx;
    void (*help)(void);  /* sweeps some spans for a thread whose class has no free slot left */
};
BS_LOCAL extern struct bs_settling bs_settling;

/* acquire: pairs with the release that ends a cycle. Who reads NONE, an owner of a large block say,
 * does not look at the generation, and has to see what the sweeps have written all the same. */
BS_INLINE bool bs_settling_is_open(void) {
    return bs_load_acquire(&bs_settling.phase) != BS_SETTLE_NONE;
}
BS_INLINE bool bs_span_is_unswept(const struct bs_span *s) {
    return bs_load(&s->sweepgen) + 2 == bs_load(&bs_sweepgen);
}
/* False also while somebody is at it. */
BS_INLINE bool bs_span_is_swept(const struct bs_span *s) {
    return bs_load(&s->sweepgen) == bs_load(&bs_sweepgen);
}

/* --- sweeping --------------------------------------------------------------------------------- */

/* From gen - 2 to gen - 1. False: swept, or being swept, or no such span any more. */
bool bs_settle_own(struct bs_span *s);
/* Of an owned span: releases and reports as the mode says, clears mark and idle bits. Returns 0, or
 * the address of a free slot that is marked; then nothing else was done. */
uintptr_t bs_settle_bits(struct bs_span *s, struct bs_found *found);
/* Outside of any cycle, by whoever holds what protects the span: held slots without a mark are free;
 * *found->bits are those with one. All marks are clear then. */
void bs_settle_held(struct bs_span *s, struct bs_found *found);
/* gen - 1 to gen: the end of the ownership. */
void bs_settle_publish(struct bs_span *s);
/* The three in one for a span without any slot out, which leaves its class. */
void bs_settle_empty(struct bs_span *s);
/* The owner of a large block uses it: gen - 2 to gen. False: a sweep has released the block. */
bool bs_settle_keep(struct bs_span *s);
BS_COLD _Noreturn void bs_settle_damaged(uintptr_t slot, unsigned class);
void bs_settle_report(const struct bs_found *found);

/* --- bits of one slot ------------------------------------------------------------------------- */

/* The slot that byte p of the span lies in; false: the span's tail. */
BS_INLINE bool bs_slot_of(const struct bs_span *s, uintptr_t p, uint32_t *slot) {
    *slot = s->class != 0 ? bs_class_slot(bs_span_class(s), (uint32_t)(p - s->base)) : 0;
    return *slot < s->nslots;
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
/* For the marker, while the phase is MARKING: marks the allocated slot that p points into, at
 * whatever byte. True: it was not marked before; *block is what it holds. False: marked already, or
 * p points at no allocated slot. Any word may be asked; several markers at once. (A pointer just
 * past a block's end is the marker's to ask for as p - 1.) */
bool bs_mark(uintptr_t p, struct bs_marked *block);
/* The slot at p is nobody's, in a thread's cache say: idle, so that it is not judged, and marked, so that stale
 * pointers to it lead nowhere. While no thread is inside besom. */
void bs_settle_spare(uintptr_t p);
/* The slot at p was freed into an unswept span. */
void bs_settle_forget(struct bs_span *s, uintptr_t p);
/* For tests: the slot at p, allocated, is held from now on; the arena has a table of held bits, and
 * the caller what protects the span. A cycle that has begun does not judge it any more. False: it
 * is held already. While slots are held, every free has to come here. */
bool bs_settle_hold(struct bs_span *s, uintptr_t p);

#endif
