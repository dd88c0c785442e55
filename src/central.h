/* SPDX-License-Identifier: MIT */
/*
 * central.h - per size class the spans with free slots, grouped by how full they are; and the
 * empty spans that wait to go back to the page heap.
 *
 * A refill claims whole bitmap words of the fullest span, so that sparse spans drain; a release
 * clears bits and moves spans between groups. One empty span a class is kept (or two for a moment,
 * when two threads made one at once); the others
 * join the waiting list, from where the sweeper (or a thread that needs pages) returns them in
 * batches. Among spans of one group a new arrival goes in front if it lies below the front one,
 * else to the back: near enough to lowest address first, in constant time under the lock.
 *
 * Locks: one padded lock a class (BS_RANK_CENTRAL), the waiting list's, then the page heap's. May
 * make system calls when the heap must grow, never while holding a central lock.
 */
#ifndef BS_CENTRAL_H
#define BS_CENTRAL_H

#include "pageheap.h"
#include "settle.h"

/* What a refill brings. */
struct bs_refill {
    char *run_base;    /* slot of bit 0 of the run */
    uint64_t run_mask; /* slots of the run */
    bool run_zero;     /* they were never used and read as zeros */
    bool whole_lines;  /* in: rather slots on cache lines that are free as a whole, if the span has some */
    void **blocks;     /* in: room for max_blocks more; out: the last nblocks are filled, to be used first,
                          and backwards */
    unsigned max_blocks, nblocks;
};

/* Claims at most `want` slots, the rule is just as many: the last word of bits as the run, those before as
 * blocks while they fit. False: no memory. */
bool bs_central_refill(unsigned class, unsigned want, struct bs_refill *r);

/* Gives n blocks back (any spans of this class). A block that is not one, or is free already, is
 * fatal: "invalid free" / "double free". */
void bs_central_release(unsigned class, void *const *blocks, unsigned n);

/* So many pages more are within a hard limit, when waiting spans have been returned for it if need be. */
bool bs_central_has_room(size_t npages);
/* npages for a new span of any kind, aligned to align_pages, ready to be used: from the page heap,
 * else by returning waiting spans, else by growing. False: no memory, or the limit is hard
 * and reached. */
bool bs_central_take_pages(size_t npages, size_t align_pages, struct bs_pages *out);
/* The same, for pages of a span that is gone: these go back first. */
bool bs_central_swap_pages(const struct bs_run *old, size_t npages, size_t align_pages,
                           struct bs_pages *out);
/* Makes pages just taken ready to be used (bs_os_used). False: no memory, and they are given back. */
bool bs_central_make_ready(const struct bs_pages *pages);

/* What is called, without a lock, before pages that have no memory are taken for a small span and BS_SPARE_BYTES
 * were since the last call: the thread gives back slots that it does not need. */
void bs_central_set_spare(void (*give)(void));

/* Moves the kept empty spans of all classes to the waiting list (malloc_trim). */
void bs_central_give_up_empty(void);

/* The hole epoch: spans that were touched in it or in the one before are not quiet. */
void bs_central_next_epoch(void);

enum bs_borrow { BS_BORROW_NONE, BS_BORROW_LATER, BS_BORROWED };
/* Takes the span whose pages hold p off its list, so that nobody claims from it, if it has whole
 * free OS pages that were not given back yet (*pages) and is quiet (or `force`). LATER: it has some
 * but was touched lately. The caller gives those pages to the OS and the span back. */
enum bs_borrow bs_central_borrow(uintptr_t p, bool force, struct bs_span **span, uint16_t *pages);
/* `given`: the OS pages that went. */
void bs_central_give_back(struct bs_span *span, uint16_t given);

/* Of a span with held slots, outside of any cycle: those without a mark are free, and all marks go.
 * *found: how many went, and which stay. True: it is empty and has left its class; the caller gives it to the waiting
 * list and does not touch it again. */
bool bs_central_release_held(struct bs_span *s, struct bs_found *found);

/* For collect.c, while nobody else uses the span: free slots leave it, slots that are out come back.
 * A bit a slot. release: true if the span is empty and has left its class, as after
 * bs_central_release_held. */
void bs_central_reserve(struct bs_span *s, const uint64_t *bits);
bool bs_central_release_bits(struct bs_span *s, const uint64_t *bits);

/* Slots that have left the spans of a class, its spans, and OS pages given back inside them. */
struct bs_central_counts {
    size_t spans, slots_out, holes;
};
struct bs_central_counts bs_central_counts(unsigned class);
/* The first, and the first two, without the lock: hints, each of its own moment. */
size_t bs_central_spans(unsigned class);
struct bs_central_counts bs_central_glance(unsigned class);

/* True if p is a block that has left its span (live, cached or held). Takes the class's lock. */
bool bs_central_is_allocated(struct bs_span *s, uintptr_t p);
/* Copies the span's bits under the lock of its class, and which of its OS pages are holes; nothing if it is of another
 * class by now. For the ledger. */
void bs_central_copy_bits(struct bs_span *s, unsigned class, uint64_t bits[BS_SPAN_WORDS_MAX], uint16_t *holes);

void bs_central_lock_all(void);
void bs_central_unlock_all(void);
void bs_central_reset_locks(void);

#endif
