/* SPDX-License-Identifier: MIT */
/*
 * world_internal.h - what world.c (the stop) and world_ask.c (one thread: asking, its handler, waiting
 * for its answer) share. Lock: the round's is the caller's.
 *
 * Each thread that is asked to stop has a slot, and the slot one word: a number that no other asking
 * has, and a state. Every step is a compare-and-swap from the state that it expects, so a signal that
 * comes late, twice or never changes nothing.
 *
 *   FREE --asked--> ASKED --handler--> CLAIMED --handler--> STANDS --resume--> GOES --handler--> FREE
 *                     \--given up--> FREE    \--given up--> GOES
 *
 * Between CLAIMED and FREE the slot is the handler's, which alone writes what it publishes; the
 * stopper reads it in STANDS. Slots are never given back to the system.
 */
#ifndef BS_WORLD_INTERNAL_H
#define BS_WORLD_INTERNAL_H

#include "os.h"
#include "tunables.h"
#include "world.h"

enum { FREE, ASKED, CLAIMED, STANDS, GOES, STATE_MASK = 7 };
#define STATE_BITS 3

#define CHUNK_SLOTS 256
#define MAX_CHUNKS 256

struct slot {
    uint32_t word;      /* [atomic] asking << STATE_BITS | state */
    int tid;            /* [stopper] */
    bool ended;         /* [stopper] it runs no more code of the program */
    unsigned blocked;   /* [stopper] looks in a row at which it blocked the signal, weighted */
    uint64_t ran_ns;    /* [stopper] its CPU time at the last of them */
    bool outside;       /* [stopper] it was found outside besom since it was asked */
    bool again;         /* [stopper] it was let run, and is to be asked again */
    uint64_t asked_ns;  /* [stopper] when a signal was sent last */
    uint64_t pause_ns;  /* [stopper] until the next */
    struct bs_world_thread thread; /* [handler while it has the slot; then stopper] */
};

/* All [lock:round] but where marked. */
struct world {
    int signal;                     /* [atomic] the one taken; 0: none */
    struct bs_world_shim *shim;     /* [init] or NULL */
    struct slot *chunk[MAX_CHUNKS]; /* [atomic] each set once */
    size_t n;                       /* slots in use in this stop */
    uint32_t asking;                /* [atomic] the number of the last asking */
    uint32_t answers;               /* [atomic] to the last askings; the stopper sleeps on it */
    uint32_t wanted;                /* [atomic] so many wake the stopper */
    uint32_t gate;                  /* [atomic] moves after slots were let go; their handlers sleep on it, each
                                       with a bit of its own, so that all or some wake up at once */
    size_t found_new;               /* threads, by the pass over /proc that is going on */
    int self;                       /* the thread that stops the others */
    int sharer[8];                  /* [atomic] processes that have our memory; 0: none */
    uint32_t sharers;               /* [atomic] so many are being made, or had no place above */
    int idler[8];                   /* in these the kernel works: they would not answer, and are not asked */
    unsigned nidlers;
    int culprit;
    int error;
    uint64_t stopped_ns;            /* when the first was asked */
    bool stopped;
    bool wants_quiet;               /* [atomic] */
    uint64_t held;                  /* what the stopper blocked before: it gets no signals meanwhile either */
};
BS_LOCAL extern struct world bs_world;

BS_INLINE struct slot *slot_of(size_t i) {
    return &bs_load_acquire(&bs_world.chunk[i / CHUNK_SLOTS])[i % CHUNK_SLOTS];
}
BS_INLINE uint32_t state_of(const struct slot *s) {
    return bs_load_acquire(&s->word) & STATE_MASK; /* pairs with step: what STANDS publishes */
}
BS_INLINE bool step(struct slot *s, uint32_t asking, uint32_t from, uint32_t to) {
    uint32_t word = asking << STATE_BITS | from;
    return __atomic_compare_exchange_n(&s->word, &word, asking << STATE_BITS | to, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}
BS_INLINE uint32_t asking_of(const struct slot *s) {
    return bs_load(&s->word) >> STATE_BITS;
}

/* In the handler. */
void bs_world_answer_signal(uint64_t value, const struct bs_os_frame *f);

/* False: the thread is the caller, or the helper. */
bool bs_world_may_ask(int tid);
/* Asks the thread of a slot that is FREE and no handler's. */
void bs_world_ask(struct slot *s, uint64_t now_ns);
/* Asks those whom /proc lists and who were not asked yet; how many that were. bs_world.error: no. */
size_t bs_world_ask_new(void);
/* Until every slot stands, is free, or its thread has ended. */
enum bs_world_result bs_world_hear(uint64_t deadline_ns);
/* Whoever stands goes, whoever is asked need not answer. The bits for bs_world_open. */
uint32_t bs_world_let_go(struct slot *s);
/* Wakes those that were let go. */
void bs_world_open(uint32_t bits);
/* Until the handler has left it. False: the time is over. */
bool bs_world_wait_until_free(const struct slot *s, uint64_t deadline_ns);
bool bs_world_blocks(const struct bs_os_task *task);
/* How much a look at one that blocks says for its doing so for good. *ran_ns: its CPU time at the last look, 0
 * before the first. */
unsigned bs_world_weight(const struct bs_os_task *task, uint64_t *ran_ns);

#endif
