/* SPDX-License-Identifier: MIT */
/*
 * replay.h - a trace made ready to be played, and the playing of it.
 *
 * The plan (replay_plan.c) is made before the clock starts and costs no malloc: for each player, a
 * thread of the replay, an array of words. Threads of the program that did not live at the same
 * time share a player. A block that one player makes and ends lives in a slot of that player's
 * table, used again afterwards; one that passes from player to player has a cell of its own for
 * each stage of its life, written once by who makes it, and whoever comes to it earlier waits.
 * Each wait is for an event that is earlier in the trace, and a player keeps the trace's order, so
 * nobody waits for ever.
 */
#ifndef BS_REPLAY_H
#define BS_REPLAY_H

#include "trace.h"

#define BS_REPLAY_MAX_PLAYERS 256
#define BS_REPLAY_SLOT_BITS 23

/* An event: operation, shared (0 or 1), alignment and slot or cell; bytes. A shared REALLOC is two
 * words, the second with the cell of what it makes. */
struct bs_replay_word {
    uint32_t op : 3, shared : 1, align_log2 : 5, slot : BS_REPLAY_SLOT_BITS;
    uint32_t size;
};

struct bs_replay_block {
    void *p; /* NULL: not there. [atomic] in cells: size is written before, with release */
    size_t size;
};

struct bs_replay_player {
    struct bs_replay_word *word;
    size_t nwords;
    struct bs_replay_block *slot;
    size_t nslots;
};

struct bs_replay_plan {
    struct bs_replay_player player[BS_REPLAY_MAX_PLAYERS];
    unsigned nplayers;
    struct bs_replay_block *cell;
    size_t ncells;
    uint64_t events, live; /* of the trace */
};

/* one_thread: all is played by one, in the trace's order. Ends the process where the trace is
 * beyond what can be played (256 players, 8 million slots, blocks of 4 GiB). */
void bs_replay_plan(struct bs_replay_plan *plan, const struct bs_trace *trace, bool one_thread);

enum bs_replay_touch { BS_TOUCH_NONE, BS_TOUCH_FIRST, BS_TOUCH_ALL };

struct bs_replay_how {
    enum bs_replay_touch touch;
    bool verify; /* each byte of a block, with BS_TOUCH_ALL */
};

/* Plays it once and frees what the program left; the nanoseconds of the first part. */
uint64_t bs_replay_play(struct bs_replay_plan *plan, const struct bs_replay_how *how);

#endif
