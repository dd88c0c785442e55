/* SPDX-License-Identifier: MIT */
/*
 * sample.h - the sampled blocks: from which stack, how large, since when; and the estimate of what the
 * program holds by stack that follows from them. Which blocks are sampled is sampler.h's matter, the
 * stacks are stacks.h's. heap.c calls, at the slow doors.
 *
 * A block whose memory scan:collect uses again counts as freed.
 *
 * Thread-safe; BS_RANK_SAMPLE, which may map metadata, is held for one look into the table.
 */
#ifndef BS_SAMPLE_H
#define BS_SAMPLE_H

#include "base.h"

struct bs_stack;

/* After the options were read, while the process has one thread: what option `sample` says. False: it
 * is off, or there is no memory for it (that is said on stderr). With `all` the caller has to give
 * thread caches up. */
bool bs_sample_start(void);

/* p, a block of `size` bytes in `room` bytes (its class's), is sampled: takes the stack. False: there was no memory to
 * know it by. */
BS_NOINLINE bool bs_sample_made(const void *p, size_t size, size_t room);
/* p, which may be sampled, is freed. False: it is not. */
bool bs_sample_freed(const void *p);

/* A sampled block, for reports. */
struct bs_sampled {
    struct bs_stack *stack;
    size_t size;     /* asked for */
    uint64_t bytes;  /* what it stands for */
    uint64_t blocks;
    uint64_t time_ns; /* monotonic, when it was made */
};
/* The same as bs_sample_freed, and what was known of it. */
bool bs_sample_take(const void *p, struct bs_sampled *out);
/* False: p is not sampled. */
bool bs_sample_find(const void *p, struct bs_sampled *out);
/* Of one sampled block, while they are gone through. */
struct bs_sampled_at {
    uintptr_t p;
    struct bs_stack *stack;
    uint64_t blocks; /* what it stands for */
};
enum { BS_SAMPLE_PART = 24 }; /* places of the table that one call looks at, under the lock */
/* Goes through the table: copies what lies at *place (0 to begin) and behind to out, and moves *place on. False: that was
 * the end, and *n is 0. While blocks come and go the table may be put in another order, so that a block is missed, or
 * seen twice. */
bool bs_sample_part(size_t *place, struct bs_sampled_at out[BS_SAMPLE_PART], size_t *n);
/* Blocks that were sampled and had no room in the table. */
uint64_t bs_sample_lost(void);
/* For tests: samples that are alive. */
size_t bs_sample_count(void);

void bs_sample_lock(void);
void bs_sample_unlock(void);
void bs_sample_reset_lock(void);

#endif
