/* SPDX-License-Identifier: MIT */
/*
 * tcache_counted.h - a thread cache that counts what it hands out, while sampling is on (sampler.h): two
 * magazines a class. For tcache.c and tcache_life.c.
 *
 * Allocations can be counted without an instruction on their path if nothing comes in unseen: what a cache held at the
 * last visit of the slow door, less what it holds now, is what was handed out. So free must not add to what malloc
 * takes from. Free finds the magazine by the byte that the page map has for the page; while sampling is on, that byte
 * is BS_RETURNED more than the class, and behind the tops and limits of the cache lie those of second magazines. What
 * came back waits there until malloc's is empty, and moves over at the slow door: as much as lies before the next mark,
 * so that the allocation which has the mark finds nothing ready, whoever makes it. That is exact, and both fast paths are
 * what they are without sampling, instruction by instruction; the slow door is visited once for as many blocks as
 * move. Pages in which a sampled block begins have the byte 0: a free there comes to the slow door.
 *
 * A block is in one place at a time, also while it moves (tcache.h). No lock: all is the cache's owner's.
 */
#ifndef BS_TCACHE_COUNTED_H
#define BS_TCACHE_COUNTED_H

#include "sampler.h"
#include "tcache_internal.h"

struct bs_counting {
    struct bs_sampler sampler;   /* [owner] */
    void *closed;                /* NULL: where top and limit of a magazine lead to that was never used */
    void **bottom[BS_NCLASSES];  /* [init] what came back lies above it, in ... */
    uint16_t room[BS_NCLASSES];  /* [init] so many blocks of it at most */
    void *storage[BS_RETURNED_WORDS]; /* ... not written to before it is used: most is not */
};

/* The cache's magazines for what comes back, closed; tc->counting is there. */
void bs_counted_init(struct bs_tcache *tc);

/* In a cache that counts: what was handed out since the last visit brought the next mark nearer. Before the owner moves
 * blocks. */
void bs_counted_account(struct bs_tcache *tc, unsigned class);
/* After it. */
void bs_counted_recount(struct bs_tcache *tc, unsigned class);

/* The slow door's work of a cache that counts. */
void *bs_counted_alloc(struct bs_tcache *tc, unsigned class);
/* True if the central lists were asked, as whenever a cache that does not count comes to its slow door. */
bool bs_counted_free(struct bs_tcache *tc, unsigned class, void *p);
/* One part in `part` of what came back, the oldest, goes to the central lists. */
void bs_counted_flush(struct bs_tcache *tc, unsigned class, size_t part);

/* Blocks that came back; 0 in a cache that does not count. Any thread; relaxed. */
BS_INLINE size_t bs_counted_returned(const struct bs_tcache *tc, unsigned class) {
    if (BS_LIKELY(tc->counting == NULL))
        return 0;
    void **top = bs_load(&tc->tops.top[BS_RETURNED + class]);
    return top == &tc->counting->closed ? 0 : (size_t)(top - tc->counting->bottom[class]);
}

#endif
