/* SPDX-License-Identifier: MIT */
/*
 * tcache_gate.h - how a thread cache meets the allocations that are to be sampled, without an instruction on the fast
 * paths: by gates. Who asks which of them are sampled is sampler.h; here is what shows them.
 *
 * While sampling is on, one place in `spacing` of a magazine is a gate, at phase, phase + spacing ... above its bottom.
 * Of the gates that blocks have reached the highest one is shut: its place holds NULL, the block that lies there
 * waits in `aside`, and so the allocation that would take it comes to the slow door. The limit of the magazine is just below
 * the gate above that, so the free that would put a block into that place comes to the slow door, too, and shuts it.
 *
 *     spacing 4, phase 2      bottom  1  2  3  4  5  6  7  8  9 10
 *                               0     b  b  b  b  b  0  b  b            top = 8, limit = 9, aside = the block of place 6
 *
 * That is fair. An allocation takes its block from some height of the magazine. Heights follow from what the program does, not
 * from where gates are; the phase is drawn evenly, and anew only when the magazine is filled or emptied by more than one block,
 * which follows from the heights as well. So each allocation meets a gate with the chance of 1 / spacing, whoever makes it.
 * One who takes a block and frees it in turn at a gate meets it each time, and so does who keeps one behind him: a mark on
 * a block would be met by the first alone (sampler.h). What comes to the slow door for want of blocks is seen in any case.
 *
 * A block is in one place at a time (tcache.h): `aside` counts only while its place is not above the top and holds
 * NULL. No lock: all is the cache's owner's, or of who owns the cache because its thread sleeps or is gone.
 */
#ifndef BS_TCACHE_GATE_H
#define BS_TCACHE_GATE_H

#include "sampler.h"
#include "tcache_internal.h"

struct bs_gate {
    void **at;    /* [owner] the one that is shut, or the lowest where no block has reached one; NULL: there is none */
    void *aside;  /* [owner] the block of that place */
};

struct bs_gates {
    uint64_t chance; /* [owner] state of the random numbers */
    bool due;        /* [owner] the allocation that is being served is sampled */
    struct bs_gate gate[BS_NCLASSES];
};

/* The cache's gates, made now if it has none; NULL: there is no memory, and what this thread allocates is not seen until
 * there is. */
struct bs_gates *bs_gates_own(struct bs_tcache *tc);
void bs_gates_free(struct bs_tcache *tc);

/* In a cache with gates. */
void bs_gate_lift_there(struct bs_tcache *tc, unsigned class);
void bs_gate_set_there(struct bs_tcache *tc, unsigned class);
/* Before the owner does more to a magazine than take or put one block: there is no gate. */
BS_INLINE void bs_gate_lift(struct bs_tcache *tc, unsigned class) {
    if (BS_UNLIKELY(tc->gates != NULL))
        bs_gate_lift_there(tc, class);
}
/* After it: there are some, at another phase, if the cache has gates. Not where the magazine is closed. */
BS_INLINE void bs_gate_set(struct bs_tcache *tc, unsigned class) {
    if (BS_UNLIKELY(tc->gates != NULL))
        bs_gate_set_there(tc, class);
}

/* One place in so many is a gate, while blocks are sampled. */
uint32_t bs_gate_spacing(unsigned class);

/* The slow door's work in a cache with gates. */
void *bs_gate_alloc(struct bs_tcache *tc, unsigned class);

/* The block that belongs into a place of a magazine that holds NULL; NULL: the place is the bottom. */
BS_INLINE void *bs_gate_block(const struct bs_tcache *tc, unsigned class, void **place) {
    const struct bs_gates *gates = tc->gates;
    return gates != NULL && gates->gate[class].at == place ? gates->gate[class].aside : NULL;
}

#endif
