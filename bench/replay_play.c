/* SPDX-License-Identifier: MIT */
/*
 * replay_play.c - see replay.h: plays a plan. Each player writes into its blocks as a program
 * would, a value that follows from the block's address and size, and looks for it before the block
 * goes; so does realloc's result for what it had to keep, and calloc's for zeros.
 *
 * Player 0 is the main thread: a trace of one thread is played in a process of one thread.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bench.h"
#include "replay.h"

#include <pthread.h>
#include <sched.h>

#define PAGE 4096
#define SPINS 200

struct play {
    struct bs_replay_plan *plan;
    const struct bs_replay_how *how;
    pthread_barrier_t ready;
};

struct part {
    struct play *play;
    struct bs_replay_player *player;
};

/* --- contents --------------------------------------------------------------------------------- */

static inline uint64_t tag_of(const void *p, size_t size) {
    return ((uint64_t)(uintptr_t)p ^ size) * 0x9e3779b97f4a7c15u | 1;
}

static inline size_t word_bytes(size_t size) {
    return size < sizeof(uint64_t) ? size : sizeof(uint64_t);
}

static inline void fill(void *p, size_t size, enum bs_replay_touch touch) {
    uint64_t tag = tag_of(p, size);
    char *c = p;

    if (touch == BS_TOUCH_NONE || size == 0)
        return;
    if (touch == BS_TOUCH_ALL) {
        memset(p, (int)(tag & 0xff), size);
    } else {
        for (size_t at = PAGE; at < size; at += PAGE)
            c[at] = (char)tag;
        c[size - 1] = (char)tag;
    }
    if (size >= sizeof tag)
        memcpy(p, &tag, sizeof tag);
    else
        memcpy(p, &tag, size);
}

static inline bool bytes_are(const char *c, size_t from, size_t end, char value) {
    while (from < end && c[from] == value)
        from++;
    return from >= end;
}

/* keep: how much of the size bytes that were filled at `place` must be here. */
static inline void check(const char *what, const void *p, const void *place, size_t size,
                         size_t keep, const struct bs_replay_how *how) {
    uint64_t tag = tag_of(place, size);
    const char *c = p;

    if (how->touch == BS_TOUCH_NONE || keep == 0)
        return;
    bool ok = memcmp(p, &tag, word_bytes(keep < size ? keep : size)) == 0;
    if (ok && keep == size && size > sizeof tag)
        ok = c[size - 1] == (char)tag;
    if (ok && how->verify)
        ok = bytes_are(c, sizeof tag, keep, (char)tag);
    if (!ok)
        bs_bench_die("%s: a block of %zu bytes does not hold what was written into it", what, size);
}

static inline void check_zero(const void *p, size_t size, const struct bs_replay_how *how) {
    const char *c = p;

    if (how->touch == BS_TOUCH_NONE || size == 0)
        return;
    if (!bytes_are(c, 0, how->verify ? size : word_bytes(size), 0) || c[size - 1] != 0)
        bs_bench_die("calloc: a block of %zu bytes is not zero", size);
}

/* --- blocks that pass between players --------------------------------------------------------- */

static void publish(struct bs_replay_block *cell, void *p, size_t size) {
    cell->size = size;
    __atomic_store_n(&cell->p, p, __ATOMIC_RELEASE); /* pairs with the acquire in await */
}

static struct bs_replay_block await(struct bs_replay_block *cell) {
    void *p;
    for (unsigned i = 0; !(p = __atomic_load_n(&cell->p, __ATOMIC_ACQUIRE)); i++)
        if (i >= SPINS)
            sched_yield();
    struct bs_replay_block block = {p, cell->size};
    cell->p = NULL; /* whoever ends it is the last to look */
    return block;
}

/* --- playing ---------------------------------------------------------------------------------- */

static inline void *make(struct bs_replay_word w, const struct bs_replay_how *how) {
    void *p = NULL;
    size_t align = (size_t)1 << w.align_log2;

    switch ((enum bs_trace_op)w.op) {
    case BS_TRACE_MALLOC:
        p = malloc(w.size);
        break;
    case BS_TRACE_CALLOC:
        p = calloc(1, w.size);
        break;
    default:
        if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, w.size) != 0)
            p = NULL;
        if ((uintptr_t)p & (align - 1))
            bs_bench_die("a block is not aligned to %zu bytes", align);
    }
    if (!p)
        bs_bench_die("no memory for a block of %u bytes", w.size);
    if (w.op == BS_TRACE_CALLOC)
        check_zero(p, w.size, how);
    fill(p, w.size, how->touch);
    return p;
}

static inline void *resize(struct bs_replay_block b, size_t size, const struct bs_replay_how *how) {
    check("realloc", b.p, b.p, b.size, b.size, how);
    uintptr_t place = (uintptr_t)b.p;
    void *p = realloc(b.p, size);
    if (!p)
        bs_bench_die("no memory for %zu bytes in place of %zu", size, b.size);
    check("realloc", p, (void *)place, b.size, b.size < size ? b.size : size, how);
    fill(p, size, how->touch);
    return p;
}

static void end(struct bs_replay_block b, const struct bs_replay_how *how) {
    check("free", b.p, b.p, b.size, b.size, how);
    free(b.p);
}

/* An event of a block that others play too; the number of words. */
static size_t play_shared(struct bs_replay_block *cell, const struct bs_replay_word *w,
                          const struct bs_replay_how *how) {
    switch ((enum bs_trace_op)w->op) {
    case BS_TRACE_FREE:
        end(await(&cell[w->slot]), how);
        return 1;
    case BS_TRACE_REALLOC:
        publish(&cell[w[1].slot], resize(await(&cell[w->slot]), w->size, how), w->size);
        return 2;
    default:
        publish(&cell[w->slot], make(*w, how), w->size);
        return 1;
    }
}

static void play_all(struct part *part) {
    const struct bs_replay_how how = *part->play->how;
    struct bs_replay_block *cell = part->play->plan->cell, *slot = part->player->slot;
    const struct bs_replay_word *w = part->player->word, *stop = w + part->player->nwords;

    while (w < stop) {
        struct bs_replay_block *b = &slot[w->slot];
        if (w->shared) {
            w += play_shared(cell, w, &how);
            continue;
        }
        if (w->op == BS_TRACE_FREE) {
            end(*b, &how);
            b->p = NULL;
        } else {
            b->p = w->op == BS_TRACE_REALLOC ? resize(*b, w->size, &how) : make(*w, &how);
            b->size = w->size;
        }
        w++;
    }
}

static void *thread_main(void *arg) {
    struct part *part = arg;

    pthread_barrier_wait(&part->play->ready);
    play_all(part);
    return NULL;
}

static uint64_t end_left(struct bs_replay_block *b, size_t n, const struct bs_replay_how *how) {
    uint64_t found = 0;
    for (size_t i = 0; i < n; i++)
        if (b[i].p) {
            end(b[i], how);
            b[i].p = NULL;
            found++;
        }
    return found;
}

uint64_t bs_replay_play(struct bs_replay_plan *plan, const struct bs_replay_how *how) {
    static struct part part[BS_REPLAY_MAX_PLAYERS];
    static pthread_t thread[BS_REPLAY_MAX_PLAYERS];
    struct play play = {.plan = plan, .how = how};
    struct bs_bench_run run = {.scale = 1};
    uint64_t left = 0;

    pthread_barrier_init(&play.ready, NULL, plan->nplayers);
    for (unsigned i = 0; i < plan->nplayers; i++) {
        part[i] = (struct part){&play, &plan->player[i]};
        if (i > 0 && pthread_create(&thread[i], NULL, thread_main, &part[i]) != 0)
            bs_bench_die("cannot create %u threads", plan->nplayers);
    }
    if (plan->nplayers > 1)
        pthread_barrier_wait(&play.ready);
    bs_bench_start(&run);
    play_all(&part[0]);
    for (unsigned i = 1; i < plan->nplayers; i++)
        pthread_join(thread[i], NULL);
    bs_bench_stop(&run, plan->events);
    pthread_barrier_destroy(&play.ready);

    for (unsigned i = 0; i < plan->nplayers; i++)
        left += end_left(plan->player[i].slot, plan->player[i].nslots, how);
    left += end_left(plan->cell, plan->ncells, how);
    if (left != plan->live)
        bs_bench_die("%llu blocks are left, but the program left %llu", (unsigned long long)left,
                     (unsigned long long)plan->live);
    return run.elapsed_ns;
}
