/* SPDX-License-Identifier: MIT */
/*
 * quarantine_hidden.h - what the programs that keep a dangling pointer share: whether the address that it
 * has was handed out again. A mover is a thread that holds one; of each the test knows the pointer turned
 * over, which no search takes for one.
 */
#ifndef QUARANTINE_HIDDEN_H
#define QUARANTINE_HIDDEN_H

#include "promise.h"

#define SIZE 64
#define BATCH 5000

/* What free has left of the pointer below this frame would hold the block, and the test show nothing. */
static void __attribute__((noinline)) wipe(void) {
    volatile char junk[32768];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}

/* How many of n pointers came out of malloc. hidden: the first one, the others `step` bytes apart; 0: none
 * yet. */
static inline unsigned handed_out(const uintptr_t *hidden, size_t step, unsigned n) {
    static uintptr_t got[BATCH];
    unsigned found = 0;
    for (unsigned i = 0; i < BATCH; i++)
        got[i] = ~(uintptr_t)malloc(SIZE);
    for (unsigned m = 0; m < n; m++) {
        const uintptr_t *at = (const uintptr_t *)((uintptr_t)hidden + m * step);
        uintptr_t turned = __atomic_load_n(at, __ATOMIC_ACQUIRE);
        for (unsigned i = 0; i < BATCH && turned != 0; i++)
            found += got[i] == turned;
    }
    for (unsigned i = 0; i < BATCH; i++)
        free((void *)~got[i]);
    return found;
}

#endif
