/* SPDX-License-Identifier: MIT */
/*
 * check_sweep_threads.c - sweeps while threads allocate, resize, free and lose blocks: between two
 * barriers, where every thread is outside besom, the test marks the blocks that the threads hold;
 * then they go on, and the sweep runs beside them and in them. What is reported must be exactly
 * what was lost, and every block that is held keeps what was written into it.
 *
 * This is the program for ThreadSanitizer. It runs for a fixed time.
 */
#include "cycle.h"
#include "heap.h"
#include "large.h"
#include "os.h"
#include "round.h"
#include "settle.h"
#include "thread.h"
#include "unit.h"

#include "central.h"
#include "counter.h"

#include <pthread.h>
#include <time.h>

#define WORKERS 4
#define OWN 300
#define LOST_MAX 4000 /* a worker */
#define RUN_MS 1500

struct worker {
    pthread_t thread;
    uint64_t seed;
    unsigned char *own[OWN];
    size_t size[OWN];
    void *lost[LOST_MAX];
    unsigned nlost;
};

static struct worker worker[WORKERS];
static uint32_t stop_wanted, end; /* [atomic] */
static pthread_barrier_t gate;

/* --- the program ------------------------------------------------------------------------------ */

static unsigned char byte_of(const unsigned char *p, size_t size) {
    return (unsigned char)(((uintptr_t)p >> 3) + size);
}
static void fill(unsigned char *p, size_t size) {
    memset(p, byte_of(p, size), bs_min(size, 64));
    memset(p + size - bs_min(size, 64), byte_of(p, size), bs_min(size, 64));
}
static void verify(const unsigned char *p, size_t size, unsigned char byte) {
    for (size_t i = 0; i < bs_min(size, 64); i++)
        require(p[i] == byte && p[size - 1 - i] == byte, "block %p of %zu bytes has changed",
                (const void *)p, size);
}

static size_t some_size(struct worker *w) {
    size_t kind = random_below(&w->seed, 64);
    return 1 + (kind == 0 ? 33000 + random_below(&w->seed, 400000) : random_skewed(&w->seed, 12));
}

static void replace(struct worker *w, size_t i) {
    w->size[i] = some_size(w);
    w->own[i] = bs_heap_alloc(w->size[i]);
    require(w->own[i] != NULL, "no memory");
    fill(w->own[i], w->size[i]);
}

static void step(struct worker *w) {
    size_t i = random_below(&w->seed, OWN), what = random_below(&w->seed, 40);
    unsigned char *p = w->own[i];
    if (p != NULL)
        verify(p, w->size[i], byte_of(p, w->size[i]));
    if (p != NULL && what == 0 && w->nlost < LOST_MAX) {
        w->lost[w->nlost++] = p; /* and nobody knows of it any more */
        replace(w, i);
    } else if (p != NULL && what < 6) {
        size_t size = some_size(w), kept = bs_min(size, w->size[i]);
        unsigned char byte = byte_of(p, w->size[i]);
        w->own[i] = p = bs_heap_realloc(p, size);
        verify(p, bs_min(kept, 64), byte);
        w->size[i] = size;
        fill(p, size);
    } else {
        bs_heap_free(p);
        w->own[i] = NULL;
        if (what % 4 != 0)
            replace(w, i);
    }
}

static void *work(void *arg) {
    struct worker *w = arg;
    while (!bs_load(&end)) {
        step(w);
        if (bs_load(&stop_wanted)) {
            pthread_barrier_wait(&gate);
            pthread_barrier_wait(&gate);
        }
    }
    return NULL;
}

/* --- the scan --------------------------------------------------------------------------------- */

#define REPORTS_MAX (2 * WORKERS * LOST_MAX)
static uintptr_t reported[REPORTS_MAX];
static unsigned nreported; /* [atomic] */

static void note(void *ctx, const struct bs_found *found) {
    (void)ctx;
    for (unsigned i = 0, n = 0; n < found->reported; i++)
        if (bs_bit_test(found->bits, i)) {
            unsigned at = bs_add(&nreported, 1);
            require(at < REPORTS_MAX, "too many reports");
            bs_store(&reported[at], found->base + i * found->size);
            n++;
        }
}

static void stop(void) {
    bs_store(&stop_wanted, 1u);
    pthread_barrier_wait(&gate);
}
static void resume(void) {
    bs_store(&stop_wanted, 0u);
    pthread_barrier_wait(&gate);
}

static uintptr_t lost[WORKERS * LOST_MAX];
static unsigned nlost;

static void mark_all(void) {
    struct bs_marked block;
    nlost = 0;
    for (unsigned k = 0; k < WORKERS; k++) {
        struct worker *w = &worker[k];
        for (unsigned i = 0; i < OWN; i++)
            require(w->own[i] == NULL ||
                        (bs_mark((uintptr_t)w->own[i] + w->size[i] - 1, &block) &&
                         block.base == (uintptr_t)w->own[i] && block.size >= w->size[i]),
                    "block %p is not marked", (void *)w->own[i]);
        for (unsigned i = 0; i < w->nlost; i++)
            lost[nlost++] = (uintptr_t)w->lost[i];
    }
}

static int by_value(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

/* One whole cycle; at its end the lost blocks are known again if they were collected. */
static void cycle(enum bs_sweep_mode mode) {
    bool begun = false;
    bs_round_enter();
    while (!begun) {
        require(bs_cycle_prepare(), "no memory for marks");
        stop();
        begun = bs_cycle_begin();
        if (!begun)
            resume();
    }
    nreported = 0;
    mark_all();
    bs_cycle_start(mode, note, NULL);
    if (mode == BS_SWEEP_COLLECT)
        for (unsigned k = 0; k < WORKERS; k++)
            worker[k].nlost = 0;
    resume();
    bs_round_leave();
    /* All spans are to be swept now, and the threads run: the first refill sweeps one. Where CPUs are few
     * the walk would be over before any of them runs again. */
    for (unsigned tries = 0; tries < 60000 && bs_counted(spans_swept_on_demand) == 0; tries++)
        usleep(1000);
    while (bs_cycle_is_under_way()) {
        bs_round_enter();
        (void)bs_cycle_walk(16, 0);
        bs_round_leave();
        sched_yield();
    }
    /* a span swept by a refill may be reported a moment later: after the stop all are outside */
    stop();
    ck_assert_uint_eq(bs_load(&nreported), nlost);
    qsort(reported, nreported, sizeof *reported, by_value);
    qsort(lost, nlost, sizeof *lost, by_value);
    for (unsigned i = 0; i < nlost; i++)
        require(reported[i] == lost[i], "reported %zx, lost %zx", reported[i], lost[i]);
    ck_assert(bs_cycle_is_complete());
    resume();
}

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void empty_all(void) {
    for (unsigned k = 0; k < WORKERS; k++)
        for (unsigned i = 0; i < OWN; i++)
            bs_heap_free(worker[k].own[i]);
    bs_heap_trim(0);
}

START_TEST(what_is_reported_is_what_was_lost) {
    uint64_t end_ms = now_ms() + RUN_MS;
    unsigned cycles = 0;
    pthread_barrier_init(&gate, NULL, WORKERS + 1);
    for (unsigned k = 0; k < WORKERS; k++) {
        worker[k].seed = k + 1;
        ck_assert_int_eq(pthread_create(&worker[k].thread, NULL, work, &worker[k]), 0);
    }
    while (now_ms() < end_ms || cycles < 4)
        cycle(cycles++ % 3 == 0 ? BS_SWEEP_LEAKS : BS_SWEEP_COLLECT);
    stop();
    bs_store(&end, 1u);
    resume();
    for (unsigned k = 0; k < WORKERS; k++)
        pthread_join(worker[k].thread, NULL);
    ck_assert_uint_gt(bs_counted(slots_swept), 0);
    ck_assert_uint_gt(bs_counted(spans_swept_on_demand), 0);
    /* the rest of what was lost */
    ck_assert(bs_cycle_prepare() && bs_cycle_begin());
    mark_all();
    nreported = 0;
    bs_cycle_start(BS_SWEEP_COLLECT, note, NULL);
    bs_cycle_finish();
    ck_assert_uint_eq(nreported, nlost);
    empty_all();
    ck_assert_uint_eq(bs_heap_totals().spans, 0);
    ck_assert_uint_eq(bs_large_span_bytes(), 0);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 0);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* A refill that has begun to sweep a span reads the tables of marks: the cycle does not end, and they do not
 * go, before it lets the class's lock go. */
static void *finish(void *arg) {
    (void)arg;
    bs_cycle_finish();
    return NULL;
}
START_TEST(a_cycle_waits_for_who_sweeps) {
    void *p = bs_heap_alloc(100);
    struct bs_span *s = bs_span_of((uintptr_t)p);
    struct bs_marked block;
    pthread_t thread;
    ck_assert(bs_cycle_prepare() && bs_cycle_begin() && bs_mark((uintptr_t)p, &block));
    bs_cycle_start(BS_SWEEP_PLAIN, NULL, NULL);
    bs_central_lock_all();
    ck_assert(bs_settle_own(s));
    ck_assert_int_eq(pthread_create(&thread, NULL, finish, NULL), 0);
    usleep(50000); /* for it to end the cycle, if it does not wait */
    ck_assert(bs_cycle_is_under_way());
    bs_settle_publish(s);
    bs_central_unlock_all();
    pthread_join(thread, NULL);
    ck_assert(!bs_cycle_is_under_way());
}
END_TEST

#if !BS_SANITIZED /* whose own work counts as CPU time */
/* Who frees a large block that is being swept sleeps while it takes long: a thread of higher priority would keep the CPU
 * from who sweeps. */
static uint64_t cpu_ns;
static void *free_it(void *block) {
    uint64_t start = bs_os_thread_cpu_ns();
    bs_heap_free(block);
    cpu_ns = bs_os_thread_cpu_ns() - start;
    return NULL;
}
START_TEST(an_owner_that_waits_sleeps) {
    void *p = bs_heap_alloc(100000);
    struct bs_span *s = bs_span_of((uintptr_t)p);
    struct bs_marked block;
    pthread_t thread;
    ck_assert(bs_cycle_prepare() && bs_cycle_begin() && bs_mark((uintptr_t)p, &block));
    bs_cycle_start(BS_SWEEP_PLAIN, NULL, NULL);
    ck_assert(bs_settle_own(s));
    ck_assert_int_eq(pthread_create(&thread, NULL, free_it, p), 0);
    usleep(500000);
    bs_settle_publish(s);
    pthread_join(thread, NULL);
    ck_assert_uint_lt(cpu_ns, 150000000);
    bs_cycle_finish();
}
END_TEST
#endif

int main(void) {
    Suite *suite = suite_create("sweep_threads");
    TCase *tc = add_case(suite, "sweep_threads");
    tcase_add_test(tc, what_is_reported_is_what_was_lost);
    tcase_add_test(tc, a_cycle_waits_for_who_sweeps);
#if !BS_SANITIZED
    tcase_add_test(tc, an_owner_that_waits_sleeps);
#endif
    return run_suite(suite);
}
