/* SPDX-License-Identifier: MIT */
/*
 * world_unit.h - what the tests of stopping the world share: threads that count their turns, so that it
 * is seen whether they move, and a section that stands for besom's text, since test and core are one
 * file of code.
 *
 * Under ThreadSanitizer, whose library no thread may stand in, stops take long: tsan_unit.h.
 */
#ifndef BS_TESTS_WORLD_UNIT_H
#define BS_TESTS_WORLD_UNIT_H

#include "child.h"
#include "counter.h"
#include "os.h"
#include "round.h"
#include "text.h"
#include "unit.h"
#include "world.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>

#define MAX_THREADS 64
#define MS UINT64_C(1000000)
/* So many stops instead of n: with a sanitizer each takes longer, and under ThreadSanitizer most signals are sent
 * several times. */
#define STOPS(n) ((n) / UNIT_SLOWNESS / (BS_SANITIZE_THREAD ? 5 : 1))
/* The deadline of a stop that must not depend on how busy the machine is. */
#define LONG (60000 * MS)

/* Functions that count as besom's. */
#define INSIDE __attribute__((section("inside_besom"), noinline))
extern const char __start_inside_besom[], __stop_inside_besom[];
/* So that there is such a section. */
INSIDE __attribute__((used)) static void inside_at_least(void) {
}

static inline void inside_text(void) {
    bs_text_set((uintptr_t)__start_inside_besom, (uintptr_t)__stop_inside_besom);
}

struct runner {
    pthread_t thread;
    int tid;        /* [atomic] */
    uint64_t turns; /* [atomic] */
    char pad[48];
} __attribute__((aligned(64)));

static struct runner runners[MAX_THREADS];
static uint32_t end_all; /* [atomic] */
static sem_t ready, go_on;

/* While the world stands nobody calls libc or libcheck that others may be in: they hold its locks. (libcheck has one
 * of its own, which each assertion takes, and a failed one as well.) */
static inline enum bs_world_result stop_within(uint64_t ns) {
    bs_round_enter();
    enum bs_world_result result = bs_world_stop(bs_os_now_ns() + ns);
    if (result != BS_WORLD_STOPPED)
        bs_round_leave();
    return result;
}
static inline void resume(void) {
    bs_world_resume();
    bs_round_leave();
}
static inline void must_stop(void) {
    enum bs_world_result result = stop_within(LONG);
    require(result == BS_WORLD_STOPPED, "result %d, thread %d", result, bs_world_culprit());
}

static inline void start_on(struct runner *r, void *(*fn)(void *)) {
    r->turns = 0;
    r->tid = 0;
    ck_assert_int_eq(pthread_create(&r->thread, NULL, fn, r), 0);
    while (bs_load_acquire(&r->tid) == 0)
        bs_os_yield();
}
static inline void start_threads(unsigned n, void *(*fn)(void *)) {
    inside_text();
    bs_store(&end_all, 0u);
    sem_init(&ready, 0, 0);
    sem_init(&go_on, 0, 0);
    for (unsigned i = 0; i < n; i++)
        start_on(&runners[i], fn);
}
static inline void join_threads(unsigned n) {
    bs_store(&end_all, 1u);
    for (unsigned i = 0; i < n; i++)
        sem_post(&go_on);
    for (unsigned i = 0; i < n; i++)
        pthread_join(runners[i].thread, NULL);
}

static inline void turn(struct runner *r) {
    bs_store(&r->turns, r->turns + 1);
}

/* Runs, computes, sleeps in turn. */
static inline void *busy(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
    errno = 4711;
    for (unsigned i = 0; !bs_load(&end_all); i++) {
        turn(r);
        if (i % 64 == 0)
            bs_os_yield();
        if (i % 1024 == 0)
            usleep(100);
        if (i % 1024 == 0)
            errno = 4711; /* usleep's own business */
        require(errno == 4711, "errno became %d", errno);
    }
    return NULL;
}

static inline uint64_t all_turns(unsigned n) {
    uint64_t turns = 0;
    for (unsigned i = 0; i < n; i++)
        turns += bs_load(&runners[i].turns);
    return turns;
}

/* A handler that returns at the end. */
static inline void wait_in_handler(int signo) {
    unit_handler_begins(signo);
    sem_post(&ready);
    while (!bs_load(&end_all))
        usleep(1000);
}

static inline void *short_life(void *arg) {
    uint64_t *turns = arg;
    (void)bs_add(turns, 1);
    return NULL;
}

/* A thread that no signal reaches: no stop succeeds while it waits. */
static inline void *blocks_all(void *arg) {
    struct runner *r = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    bs_store_release(&r->tid, bs_os_tid());
    sem_wait(&go_on);
    return NULL;
}

#endif
