/* SPDX-License-Identifier: MIT */
/*
 * Promise: scan:quarantine gives nobody a block that a swapped-out word points to, whatever kind of memory the word lies in.
 * What nothing points to it does give.
 */
#include "quarantine_hidden.h"
#include "swapped.h"

#include <malloc.h>

enum { FREE = SWAP_KINDS, BLOCKS };
static uintptr_t hidden[BLOCKS];
static unsigned found[BLOCKS];

static void __attribute__((noinline)) plant(void) {
    for (unsigned k = 0; k < BLOCKS; k++) {
        void *p = malloc(SIZE);
        BS_CHECK(p != NULL, "no memory");
        hidden[k] = ~(uintptr_t)p;
        if (k != FREE)
            *swap_memory[k].at = p;
        free(p);
    }
}

/* Which of them come out of malloc. */
static void __attribute__((noinline)) look(void) {
    static uintptr_t got[BATCH];
    for (unsigned i = 0; i < BATCH; i++) {
        got[i] = ~(uintptr_t)malloc(SIZE);
        for (unsigned k = 0; k < BLOCKS; k++)
            found[k] += got[i] == hidden[k];
    }
    for (unsigned i = 0; i < BATCH; i++)
        free((void *)~got[i]);
}

int main(void) {
    unsigned whole = 0;
    swap_make();
    plant();
    wipe();
    swap_map_again();
    malloc_trim(0); /* smaps is read now and then before a stop, and knows of no swapped page yet */
    for (unsigned i = 0; i < 5; i++) {
        whole += swap_out();
        malloc_trim(0);
        look();
        for (unsigned k = 0; k < FREE; k++)
            BS_CHECK(found[k] == 0, "round %u: %s: its block was handed out", i, swap_name[k]);
    }
    BS_CHECK(found[FREE] != 0, "what nothing points to was never handed out: nothing was tried");
    return swap_end(whole, 5);
}
