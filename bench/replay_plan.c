/* SPDX-License-Identifier: MIT */
/*
 * replay_plan.c - see replay.h: who plays what, and where blocks lie meanwhile. Three looks at the
 * trace: when threads live, which blocks stay with one player, and the words. Main thread only;
 * calls no malloc.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bench.h"
#include "replay.h"

#include <inttypes.h>
#include <sys/mman.h>

#define NOBODY UINT32_MAX

/* A block and what realloc makes of it, from malloc to free. */
struct object {
    uint32_t player; /* who made it; once it is gone, the next object whose slot is free */
    uint32_t slot;   /* in the player's table, or the present cell */
    uint8_t shared;
};

struct planner {
    const struct bs_trace *trace;
    struct bs_replay_plan *plan;
    uint32_t *player_of;           /* by thread */
    uint64_t *first, *last;        /* events, by thread */
    uint32_t *object_of;           /* by block */
    struct object *object;
    uint32_t nobjects;
    uint32_t free_object[BS_REPLAY_MAX_PLAYERS];
};

/* For the time of planning: not resident before it is used. */
static void *scratch(size_t n, size_t bytes) {
    void *p = mmap(NULL, n * bytes + 1, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        bs_bench_die("no memory for the plan of %zu things", n);
    return p;
}
static void drop(void *p, size_t n, size_t bytes) {
    munmap(p, n * bytes + 1);
}

/* --- who plays -------------------------------------------------------------------------------- */

static void find_lives(struct planner *pl) {
    struct bs_trace_reader r;
    struct bs_trace_event e;
    uint64_t n = 0;

    bs_trace_begin(&r, pl->trace);
    while (bs_trace_next(&r, &e)) {
        if (pl->last[e.thread] == 0)
            pl->first[e.thread] = n;
        pl->last[e.thread] = ++n;
    }
}

/* A thread takes a player at its first event and leaves it at its last one. */
static void choose_players(struct planner *pl) {
    uint32_t idle[BS_REPLAY_MAX_PLAYERS], nidle = 0;
    struct bs_trace_reader r;
    struct bs_trace_event e;
    uint64_t n = 0;

    bs_trace_begin(&r, pl->trace);
    while (bs_trace_next(&r, &e)) {
        if (pl->first[e.thread] == n) {
            if (nidle == 0 && pl->plan->nplayers == BS_REPLAY_MAX_PLAYERS)
                bs_bench_die("more than %d threads live at once", BS_REPLAY_MAX_PLAYERS);
            pl->player_of[e.thread] = nidle > 0 ? idle[--nidle] : pl->plan->nplayers++;
        }
        if (pl->last[e.thread] == ++n)
            idle[nidle++] = pl->player_of[e.thread];
    }
}

/* --- where blocks lie ------------------------------------------------------------------------- */

static struct object *object_of(struct planner *pl, uint64_t block) {
    return &pl->object[pl->object_of[block]];
}

static void find_objects(struct planner *pl) {
    struct bs_trace_reader r;
    struct bs_trace_event e;

    bs_trace_begin(&r, pl->trace);
    while (bs_trace_next(&r, &e)) {
        uint32_t player = pl->player_of[e.thread];
        struct bs_replay_player *p = &pl->plan->player[player];

        if (e.size > UINT32_MAX)
            bs_bench_die("a block of %" PRIu64 " bytes is beyond what can be played", e.size);
        p->nwords++;
        if (e.op == BS_TRACE_FREE || e.op == BS_TRACE_REALLOC) {
            struct object *o = object_of(pl, e.block);
            if (o->player != player)
                o->shared = 1;
            if (e.op == BS_TRACE_REALLOC) {
                p->nwords++; /* if it is shared; which is known later */
                pl->object_of[e.made] = pl->object_of[e.block];
            }
        } else {
            pl->object_of[e.made] = pl->nobjects;
            pl->object[pl->nobjects++].player = player;
        }
    }
}

static uint32_t checked_slot(size_t slot) {
    if (slot >> BS_REPLAY_SLOT_BITS)
        bs_bench_die("more blocks live at once, or pass from thread to thread, than can be played");
    return (uint32_t)slot;
}

static void give_slot(struct planner *pl, struct object *o, uint32_t player) {
    uint32_t head = pl->free_object[player];

    if (o->shared) {
        o->slot = checked_slot(pl->plan->ncells++);
    } else if (head != NOBODY) {
        o->slot = pl->object[head].slot;
        pl->free_object[player] = pl->object[head].player;
    } else {
        o->slot = checked_slot(pl->plan->player[player].nslots++);
    }
}

static void take_slot(struct planner *pl, struct object *o) {
    uint32_t player = o->player;

    if (o->shared)
        return;
    o->player = pl->free_object[player];
    pl->free_object[player] = (uint32_t)(o - pl->object);
}

/* --- words ------------------------------------------------------------------------------------ */

static void put(struct bs_replay_player *p, const struct bs_trace_event *e,
                const struct object *o) {
    p->word[p->nwords++] = (struct bs_replay_word){
        .op = e->op,
        .shared = o->shared,
        .align_log2 = e->align_log2 & 31,
        .slot = o->slot & ((1u << BS_REPLAY_SLOT_BITS) - 1),
        .size = (uint32_t)e->size,
    };
}

static void write_words(struct planner *pl) {
    struct bs_trace_reader r;
    struct bs_trace_event e;

    bs_trace_begin(&r, pl->trace);
    while (bs_trace_next(&r, &e)) {
        uint32_t player = pl->player_of[e.thread];
        struct bs_replay_player *p = &pl->plan->player[player];
        bool makes = e.op != BS_TRACE_FREE && e.op != BS_TRACE_REALLOC;
        struct object *o = object_of(pl, makes ? e.made : e.block);

        if (e.align_log2 > 31)
            bs_bench_die("an alignment of 2^%u is beyond what can be played", e.align_log2);
        if (makes)
            give_slot(pl, o, player);
        put(p, &e, o);
        if (e.op == BS_TRACE_REALLOC && o->shared) {
            give_slot(pl, o, player);
            put(p, &e, o);
        }
        if (e.op == BS_TRACE_FREE)
            take_slot(pl, o);
    }
}

void bs_replay_plan(struct bs_replay_plan *plan, const struct bs_trace *trace, bool one_thread) {
    struct planner pl = {
        .trace = trace,
        .plan = plan,
        .player_of = scratch(trace->threads, sizeof(uint32_t)),
        .first = scratch(trace->threads, sizeof(uint64_t)),
        .last = scratch(trace->threads, sizeof(uint64_t)),
        .object_of = scratch(trace->blocks, sizeof(uint32_t)),
        .object = scratch(trace->blocks, sizeof(struct object)),
    };

    if (trace->blocks >= NOBODY)
        bs_bench_die("%" PRIu64 " blocks are more than can be played", trace->blocks);
    *plan = (struct bs_replay_plan){.events = trace->events, .live = trace->live};
    find_lives(&pl);
    if (one_thread)
        plan->nplayers = 1;
    else
        choose_players(&pl);
    find_objects(&pl);
    for (unsigned i = 0; i < plan->nplayers; i++) {
        struct bs_replay_player *p = &plan->player[i];
        p->word = bs_bench_table((p->nwords + 1) * sizeof *p->word);
        p->nwords = 0;
        pl.free_object[i] = NOBODY;
    }
    write_words(&pl);
    for (unsigned i = 0; i < plan->nplayers; i++) {
        struct bs_replay_player *p = &plan->player[i];
        p->slot = bs_bench_table((p->nslots + 1) * sizeof *p->slot);
    }
    plan->cell = bs_bench_table((plan->ncells + 1) * sizeof *plan->cell);
    drop(pl.player_of, trace->threads, sizeof(uint32_t));
    drop(pl.first, trace->threads, sizeof(uint64_t));
    drop(pl.last, trace->threads, sizeof(uint64_t));
    drop(pl.object_of, trace->blocks, sizeof(uint32_t));
    drop(pl.object, trace->blocks, sizeof(struct object));
}
