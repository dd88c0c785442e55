/* SPDX-License-Identifier: MIT */
/*
 * lock.h - the only lock type of besom and the order in which locks may be taken.
 *
 * A lock is one futex word: 0 free, 1 held, 2 held and somebody may sleep. It spins a moment, since
 * most critical sections are shorter than a context switch. Not recursive, not async-signal-safe.
 * In debug builds (BS_DEBUG >= 1) each thread's held ranks are kept and an acquisition that is not
 * strictly upward is fatal.
 */
#ifndef BS_LOCK_H
#define BS_LOCK_H

#include "base.h"
#include "lockprof.h"

/* Lowest first; a thread may only take a lock of a higher rank than all it holds. Two central
 * locks are never held together except by fork, which takes them in class order. */
enum bs_rank {
    BS_RANK_FORK,      /* one fork at a time prepares */
    BS_RANK_ROUND,     /* one round of background work at a time */
    BS_RANK_RELIEF,    /* one thread at a time gives memory back at the limit (relief.h) */
    BS_RANK_BORROW,    /* one cache is borrowed from its sleeping thread at a time (tcache.h) */
    BS_RANK_RECORD,    /* what a program asks for, written down; held across the write */
    BS_RANK_LOG,       /* the log's file and its rate limits */
    BS_RANK_REGISTRY,  /* the list of thread caches and the total of their capacities */
    BS_RANK_CENTRAL,   /* one per size class: its spans' bitmaps and fullness groups */
    BS_RANK_WAITING,   /* the list of empty spans that wait for the sweeper */
    BS_RANK_GROW,      /* the heap's address space: reserve and map */
    BS_RANK_THP,       /* the advice on huge pages; held across it */
    BS_RANK_PAGE_HEAP, /* bitmaps and summaries of pages; no system call under it */
    BS_RANK_SAMPLE,    /* the table of sampled blocks */
    BS_RANK_STACKS,    /* new stacks and modules */
    BS_RANK_META,      /* metadata pools; may map memory */
    BS_RANK_COUNT
};

/* Where nobody asks for the rank a lock is all zeros, and so are the structures that have one: they cost a
 * process no page that it does not use. */
#define BS_LOCK_RANKS (BS_DEBUG >= 1 || BS_LOCK_PROFILE)

struct bs_lock {
    uint32_t word; /* [atomic] 0 free, 1 held, 2 held with sleepers */
#if BS_LOCK_RANKS
    uint32_t rank; /* [init] enum bs_rank */
#endif
#if BS_LOCK_PROFILE
    struct bs_lockprof prof;
#endif
};

#if BS_LOCK_RANKS
#define BS_LOCK_INIT(r) {.word = 0, .rank = (r)}
#else
#define BS_LOCK_INIT(r) {.word = 0}
#endif

void bs_lock_slow(struct bs_lock *lock);
void bs_unlock_wake(struct bs_lock *lock);

#if BS_DEBUG >= 1
void bs_lock_note(const struct bs_lock *lock, int step);
bool bs_lock_held(const struct bs_lock *lock);
#else
BS_INLINE void bs_lock_note(const struct bs_lock *lock, int step) {
    (void)lock, (void)step;
}
#endif
/* For function heads: the caller holds this lock. Checked in debug builds. */
#if BS_DEBUG >= 1
#define BS_ASSERT_HELD(lock) BS_CHECK(bs_lock_held(lock))
#else
#define BS_ASSERT_HELD(lock) ((void)(lock))
#endif

BS_INLINE void bs_lock_acquire(struct bs_lock *lock) {
    uint32_t expected = 0;
    uint64_t asked = bs_lockprof_now();
    bs_lock_note(lock, +1);
    /* acquire: pairs with the release in bs_lock_release */
    if (BS_UNLIKELY(!__atomic_compare_exchange_n(&lock->word, &expected, 1, false,
                                                 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
        bs_lock_slow(lock);
    bs_lockprof_got(lock, asked, expected != 0);
}

/* Takes the lock if it is free. */
BS_INLINE bool bs_lock_try(struct bs_lock *lock) {
    uint32_t expected = 0;
    if (!__atomic_compare_exchange_n(&lock->word, &expected, 1, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return false;
    bs_lock_note(lock, +1);
    bs_lockprof_got(lock, 0, false);
    return true;
}

BS_INLINE void bs_lock_release(struct bs_lock *lock) {
    bs_lockprof_leaves(lock);
    bs_lock_note(lock, -1);
    if (BS_UNLIKELY(__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2))
        bs_unlock_wake(lock);
}

/* For a holder with a long way to go: gives the lock up, lets one of those who sleep for it have it,
 * and takes it again. Without that wait a sleeper would find it taken each time it wakes. */
void bs_lock_breathe(struct bs_lock *lock);

/* The helper sleeps for a lock, and somebody else has it: who asks is the only other thread, so it is himself, and the
 * helper sleeps on. */
bool bs_lock_helper_is_stuck(void);

/* Whether waiters spin before they sleep; they do at first. */
void bs_lock_set_spinning(bool on);

/* In a forked child, where no other thread exists: the lock becomes free. */
BS_INLINE void bs_lock_reset(struct bs_lock *lock) {
    bs_store(&lock->word, 0u);
}
/* In a forked child: the forking thread holds nothing any more. */
void bs_lock_forget_held(void);

#endif
