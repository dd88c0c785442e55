/* SPDX-License-Identifier: MIT */
/*
 * tcache.h - what one thread holds ready: per size class a run of slots and a magazine of blocks.
 *
 * A thread's cache is found through one thread-local word, which starts at a static empty cache:
 * every magazine of it is empty and full at once, so both fast paths (tcache_inl.h) fall through to
 * the slow door without asking whether anything is initialised. A second static cache stands for
 * "this thread shall have none" (it is exiting, or check:full): its slow door goes to the central
 * lists directly.
 *
 * Only the owner uses its cache; others may read counts for statistics (relaxed). The one exception
 * is a borrower (idle.c): it exchanges the owner's word for the empty cache, and while the owner is
 * known to sleep outside besom the cache is the borrower's; then it puts the word back. The borrow
 * lock (BS_RANK_BORROW) is held from before the exchange until after the restoration, so
 *  - who finds the empty cache in its word looks again under the lock: there is the truth;
 *  - a thread that gives its cache up does that under the lock: its word is alive until then.
 *
 * A block is in one place at a time, also in the middle of every operation: it leaves the magazine
 * before its bit is cleared and enters it after it was claimed, so a snapshot of the process (fork)
 * may lose blocks in transit but never doubles one.
 */
#ifndef BS_TCACHE_H
#define BS_TCACHE_H

#include "central.h"
#include "list.h"

/* What the slow door needs of a class; what the fast paths need is beside it (struct bs_tcache). */
struct bs_bin {
    uint64_t run_mask; /* [owner] free slots of the run */
    char *run_base;    /* [owner] slot of the run's bit 0 */
    void **blocks;     /* [owner] the magazine: LIFO; blocks[-1] is NULL, its bottom */
    uint16_t cap;      /* [owner] room in it, in blocks: a power of two */
    uint16_t size;     /* [init] bytes of a block */
    uint16_t claim;    /* [owner] slots the next refill asks for */
    bool run_zero;     /* [owner] the run's slots were never used: they read as zeros */
    bool refilled;     /* [owner] since the last trim pass */
};

struct bs_gates;

/* Large blocks' spans, for tcache_kept.c. */
struct bs_kept {
    uint64_t lengths; /* [owner] byte i: pages of span[i]; 0: the place is free */
    uint32_t pages;   /* [owner; others may read] of all of them: the sum of the bytes of `lengths` */
    uint32_t room;    /* [owner] pages that may be kept, as far as was known when there were too many */
    uint16_t allocs;  /* [owner] blocks handed out that bs_counters does not know of yet */
    uint16_t swaps;   /* [owner] the same: spans made of others */
    uint16_t last;    /* [owner] the place that was taken last; before it, going round, they are older */
    uint16_t puts;    /* [owner] so many came: every eighth is one to look for work at */
    struct bs_span *span[8];
};

/* Magazines, as the fast paths find them: by class. */
struct bs_tops {
    void **top[BS_NCLASSES];   /* [owner] the newest block; where NULL is (the bottom, a gate) malloc comes to the slow door */
    void **limit[BS_NCLASSES]; /* [owner] top of a full magazine, or what is just below a gate */
};

struct bs_tcache {
    struct bs_bin bin[BS_NCLASSES]; /* bin 0 stays empty and full: "not a small block" */
    struct bs_link link;            /* [lock:registry] */
    struct bs_tops **word;          /* [init] the owner's thread-local word, bs_self */
    int tid;                        /* [owner; after fork too] kernel's thread id */
    uint32_t exit_rounds;           /* [owner] times the exit hook ran */
    uint32_t slow_ops;              /* [owner; others may read] visits of the slow door */
    bool watched;                   /* [owner; others may read] the thread's end will tell */
    uint8_t idle_drains;            /* [lock:round] idle.c: how often in a row there was little to empty */
    uint32_t idle_looks;            /* [lock:round] idle.c: looks since the last change */
    uint64_t idle_signature;        /* [lock:round] idle.c: what was seen at the last look */
    struct bs_gates *gates;         /* [owner] while blocks are sampled: tcache_gate.h; NULL: none yet */
    size_t extra_bytes;             /* [owner] capacity granted beyond the start, in bytes */
    struct bs_kept kept;
    void **no_block;                /* the static caches: where the words below lead to as well */
    struct bs_tops tops;            /* behind it lies the storage of magazines that never grew */
};

/* The thread's word: where the tops of its cache are, so that the fast paths index from it without an addition. */
BS_LOCAL extern __thread struct bs_tops *bs_self;

BS_INLINE struct bs_tcache *bs_tcache_of(struct bs_tops *tops) {
    return (struct bs_tcache *)((uintptr_t)tops - offsetof(struct bs_tcache, tops));
}
/* What the calling thread's word is. It is read once for each operation: a borrower may exchange it at any moment. */
BS_INLINE struct bs_tops *bs_tcache_tops(void) {
    return bs_load(&bs_self);
}
BS_INLINE struct bs_tcache *bs_tcache_self(void) {
    return bs_tcache_of(bs_tcache_tops());
}

/* Where the word leads of a thread without a cache: empty, which has none yet, and none, which gets none.
 * Nothing is ever written there; each magazine is empty and full. Their tops and limits are the same pointer, so
 * one lies a word above the other: each word is a relocation, and memory of every process. */
struct bs_no_caches {
    void *below;
    struct bs_tcache cache;
};
BS_LOCAL extern struct bs_no_caches bs_no_caches;
#define bs_tcache_none (*(struct bs_tcache *)&bs_no_caches)
#define bs_tcache_empty bs_no_caches.cache

/* When the magazine is empty: the run's slots move into it, lowest on top, as far as there is room,
 * and one into *out. False: there is no run. Of classes above BS_TINY_MAX one moves at a time, into
 * *out: malloc's inline path does not serve them, and calloc asks for slots that were never used. */
bool bs_tcache_spread(struct bs_tcache *tc, unsigned class, void **out);

/* In a cache with gates (tc->gates): the block of the gate that the magazine's top has come to, and whether it is to be
 * sampled. NULL: the top is at none. */
void *bs_tcache_pass_gate(struct bs_tcache *tc, unsigned class, bool *sampled);
/* p comes back to such a cache, and its place is a gate. False: it is none; p is where it was. */
bool bs_tcache_pass_gate_back(struct bs_tcache *tc, unsigned class, void *p);

/* The slow door's work. Class 1 ... BS_NCLASSES-1. */
void *bs_tcache_alloc_slow(unsigned class);
void bs_tcache_free_slow(unsigned class, void *p);

/* Gives everything the cache holds back to the central lists; the cache stays usable. The caller
 * is the owner, or owns the cache because its thread is gone. */
void bs_tcache_drain(struct bs_tcache *tc);
/* The same for the calling thread's own cache, if it has one. */
void bs_tcache_drain_own(void);
/* Gives up this thread's cache; from now on it has none. */
void bs_tcache_leave(void);
/* The same for a cache that bs_thread_take_orphan gave. */
void bs_tcache_bury(struct bs_tcache *tc);
/* Later caches are not made (check:full, mallopt(M_PERTURB)). */
void bs_tcache_disable(void);

/* Blocks in the magazine. Any thread; relaxed: while the owner changes the storage, 0. */
BS_INLINE size_t bs_tcache_count(const struct bs_tcache *tc, unsigned class) {
    size_t n = ((uintptr_t)bs_load(&tc->tops.top[class]) - (uintptr_t)bs_load(&tc->bin[class].blocks)) /
                   sizeof(void *) + 1;
    return n <= BS_MAGAZINE_MAX ? n : 0;
}
/* Bytes of small blocks in the cache. Any thread; relaxed. */
size_t bs_tcache_bytes(const struct bs_tcache *tc);
/* Calls visit with the address of each block in a cache whose owner stands, or with a copy that a fork made:
 * of the runs and of the magazines. */
void bs_tcache_each_block(const struct bs_tcache *tc, void (*visit)(uintptr_t p));
/* A number that changes when the cache is used, most likely. Any thread; relaxed. */
uint64_t bs_tcache_signature(const struct bs_tcache *tc);

/* Borrowing, for idle.c. A cache that is registered while the lock is held stays so until it is
 * released, and its word stays alive if the cache is watched and its thread exists. */
void bs_tcache_borrow_lock(void);
void bs_tcache_borrow_unlock(void);
void bs_tcache_borrow_reset_lock(void);
/* Takes the owner's way to the cache; false: the word does not lead to it. */
bool bs_tcache_take_word(struct bs_tcache *tc);
void bs_tcache_give_word(struct bs_tcache *tc);
/* Drains a borrowed cache and gives the room its magazines grew by back; the bytes it held. */
size_t bs_tcache_strip(struct bs_tcache *tc);

/* While sampling is on, after bs_tcache_alloc_slow: the block that it gave, of `size` bytes, is to be sampled. */
bool bs_tcache_is_sampled(size_t size);
/* Sampling has begun: the calling thread's cache, if it has one, has gates from now on. Others' come to theirs at the slow
 * door. */
void bs_tcache_begin_sampling(void);

/* Before threads exist: nothing is freed into caches (heap.h's keeper), so their magazines grow as they are filled. */
void bs_tcache_set_one_way(void);

/* There may be something in a cache that its thread does not come for again. True: that was noted before. */
bool bs_tcache_note_busy(void);
/* True, once, if slow doors were busy since the last call; the question alone is cheap. */
bool bs_tcache_was_busy(void);
bool bs_tcache_is_busy(void);

#endif
