/* SPDX-License-Identifier: MIT */
/*
 * lockprof.h - how often each lock is taken, how often somebody has to wait for it, and how long it is
 * held: for doc/SCALING.md, in builds configured with --enable-lock-profile only. In all others
 * the functions are empty and the struct is not there, so lock.h compiles to what it was.
 *
 * Called by lock.h alone, and by preload/ctor.c at the end. Everything is written by whoever holds
 * the lock, before it is released, so it needs no atomics and no lock of its own. Times are ticks
 * of the processor's counter, read right after the lock was got and right before it is given up;
 * the bookkeeping lies outside what is measured, and makes the real hold some 10 ns longer.
 */
#ifndef BS_LOCKPROF_H
#define BS_LOCKPROF_H

#include "base.h"

struct bs_lock;

#if BS_LOCK_PROFILE

/* Four buckets for each doubling of the ticks. */
#define BS_LOCKPROF_BUCKETS 160

struct bs_lockprof {
    uint64_t since;                      /* [lock] ticks when it was got */
    uint64_t acquired, contended;        /* [lock] */
    uint64_t held, waited, longest;      /* [lock] ticks */
    uint32_t hist[BS_LOCKPROF_BUCKETS];  /* [lock] holds by their ticks */
    struct bs_lock *next;                /* locks that were ever taken */
    bool listed;                         /* [lock] */
};

BS_INLINE uint64_t bs_lockprof_now(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#endif
}

/* The caller has just got the lock, after it began to ask at `asked`. */
void bs_lockprof_got(struct bs_lock *lock, uint64_t asked, bool contended);
/* The caller is about to release it. */
void bs_lockprof_leaves(struct bs_lock *lock);
/* Appends a line a lock to the file; see there for what it says. */
void bs_lockprof_write(const char *path);

#else

BS_INLINE uint64_t bs_lockprof_now(void) {
    return 0;
}
BS_INLINE void bs_lockprof_got(struct bs_lock *lock, uint64_t asked, bool contended) {
    (void)lock, (void)asked, (void)contended;
}
BS_INLINE void bs_lockprof_leaves(struct bs_lock *lock) {
    (void)lock;
}

#endif

#endif
