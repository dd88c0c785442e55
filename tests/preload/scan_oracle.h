/* SPDX-License-Identifier: MIT */
/*
 * scan_oracle.h - the places of scan_oracle.c in which the one pointer to a graph of blocks may lie. Each
 * is a function that runs in a thread of its own, puts the pointer there, waits, and takes it away.
 *
 * No function keeps the pointer anywhere else. So it is handed around with all its bits turned (`hidden`),
 * and turned back in the one instruction sequence that stores it, or on a stack that is overwritten
 * afterwards (oracle_aside).
 */
#ifndef SCAN_ORACLE_H
#define SCAN_ORACLE_H

#include "promise.h"

#include <pthread.h>
#include <ucontext.h>

enum { oracle_threads = 64 };

struct oracle_holder { /* of one thread */
    unsigned number;
    pthread_t thread;
    const struct oracle_place *place;
    uintptr_t hidden;
    uint32_t order;    /* [atomic] 1: hold; 2: end */
    uint32_t ready;    /* [atomic] the pointer is where it should be */
    uint32_t released; /* [atomic] take it away */
    uint32_t done;     /* [atomic] that is done */
    char *aside;       /* a stack */
    void (*work)(struct oracle_holder *h);
    ucontext_t here, there;
};

enum oracle_sight {
    ORACLE_SEEN,  /* a scan finds it there */
    ORACLE_BLIND, /* none does: doc/besom.conf.5 lists it, under `scan` */
};
enum { ORACLE_SPINS = 1, ORACLE_FOR_EVER = 2 };

struct oracle_place {
    const char *name;
    void (*hold)(struct oracle_holder *h);
    enum oracle_sight sight;
    unsigned flags;
    bool (*is_there)(void); /* NULL: everywhere */
};

extern const struct oracle_place oracle_memory_places[], oracle_queue_places[], oracle_thread_places[],
    oracle_register_places[]; /* up to the one without a name */

/* Threads that come and go, libraries, children: until oracle_end_storm, which says how many. */
void oracle_begin_storm(void);
void oracle_end_storm(void);

/* What functions that have returned have left below the caller, and in registers. */
void oracle_forget(void);
/* Says that the pointer is there, and waits in a system call until it has to go. */
void oracle_stay(struct oracle_holder *h);
/* h->work on a stack that is overwritten afterwards, and so are the registers. */
void oracle_aside(struct oracle_holder *h, void (*work)(struct oracle_holder *h));

/* They have registers in them. */
static inline void oracle_forget_contexts(struct oracle_holder *h) {
    memset(&h->here, 0, sizeof h->here);
    memset(&h->there, 0, sizeof h->there);
}

/* *dest = what is hidden, and nothing is left of it in a register. */
static inline void oracle_put(void *dest, uintptr_t hidden) {
#if defined __x86_64__
    __asm__ volatile("mov %1, %%rax; not %%rax; mov %%rax, (%0); xor %%eax, %%eax"
                     :
                     : "r"(dest), "r"(hidden)
                     : "rax", "cc", "memory");
#else
    uintptr_t shown = ~hidden;
    __asm__ volatile("" : "+r"(shown));
    *(volatile uintptr_t *)dest = shown;
    shown = 0;
    __asm__ volatile("" : "+r"(shown));
#endif
}

/* The usual place: memory. */
static inline void oracle_hold_at(struct oracle_holder *h, void *dest) {
    oracle_put(dest, h->hidden);
    oracle_stay(h);
    *(volatile uintptr_t *)dest = 0;
}

/* Aside only. */
#define ORACLE_SHOWN(h) ((void *)~(h)->hidden)

#endif
