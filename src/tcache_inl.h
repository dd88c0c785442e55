/* SPDX-License-Identifier: MIT */
/*
 * tcache_inl.h - the fast path: the only inline code of malloc and free.
 *
 * No atomic instruction, no lock, no store outside the thread's cache, no "initialised?" branch.
 * doc/DESIGN.md states its instruction counts; no change goes in without new ones.
 *
 * Both work on the magazine alone: what this thread freed last is what its CPU has cached, and
 * taking a slot out of a run costs three times the instructions of taking a block out of a magazine.
 */
#ifndef BS_TCACHE_INL_H
#define BS_TCACHE_INL_H

#include "tcache.h"

/* Moves the top of a magazine by one. Where the machine can add to memory it is one instruction
 * after the load of the old value; two stores' worth of work either way. */
BS_INLINE void bs_tcache_step(struct bs_tops *tops, size_t index, void **top, int by) {
#if defined(__x86_64__) && !BS_SANITIZED && defined(__OPTIMIZE__) /* `by` is no constant without */
    (void)top;
    __asm__ __volatile__("addq %1, %0" : "+m"(tops->top[index]) : "i"(by * (int)sizeof(void *)) : "cc");
#else
    bs_store(&tops->top[index], top + by);
#endif
}

/* Takes a block of the class's magazine into *out; false: the slow door's turn. (Not a NULL result:
 * the compiler would test the pointer it has just loaded.) */
BS_INLINE bool bs_tcache_take(struct bs_tops *tops, size_t class, void **out) {
    void **top = tops->top[class], *p = *top;
#ifdef __x86_64__
    __asm__("" : "+a"(p)); /* where malloc's answer has to be; gcc 12 moves it there otherwise */
#endif
    if (BS_LIKELY(p != NULL)) {
        *out = p;
        bs_tcache_step(tops, class, top, -1);
        return true;
    }
    return false;
}

/* Takes a slot of the run into *out; false: the run is used up. Not inline in malloc: the run's
 * slots come to it through the magazine (bs_tcache_spread). */
BS_INLINE bool bs_tcache_take_run(struct bs_tcache *tc, size_t class, void **out) {
    struct bs_bin *bin = &tc->bin[class];
    uint64_t mask = bin->run_mask;
    if (BS_UNLIKELY(mask == 0))
        return false;
    bs_store(&bin->run_mask, mask & (mask - 1));
    *out = bin->run_base + (size_t)bs_ctz(mask) * bin->size;
    return true;
}

/* Puts a block into the class's magazine. False: it is full, or class 0's, which always is: the slow door's turn. */
BS_INLINE bool bs_tcache_put(struct bs_tops *tops, size_t class, void *p) {
    void **top = tops->top[class];
    if (BS_UNLIKELY(top == tops->limit[class]))
        return false;
    top[1] = p;
    /* the block is there before it counts, for a snapshot by fork (tcache.h) */
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bs_tcache_step(tops, class, top, +1);
    return true;
}

#endif
