/* SPDX-License-Identifier: MIT */
/*
 * check_scan_threads.c - threads that allocate, resize, free and hand over while the program is searched in every
 * way that there is: nothing of theirs is used twice or loses its pattern, nobody comes to a stop for ever.
 *
 * This is the program for ThreadSanitizer: it runs for a fixed time. What searches find is the business of
 * check_scan.c and check_quarantine.c.
 */
#define _GNU_SOURCE
#include "world_unit.h"

#include "background.h"
#include "cgroup.h"
#include "collect.h"
#include "freed.h"
#include "heap.h"
#include "hunt.h"
#include "ledger.h"
#include "linear.h"
#include "opt.h"
#include "reader.h"
#include "referrers.h"
#include "sample.h"
#include "scan.h"
#include "text.h"
#include "waiting.h"
#include "warden.h"

#define RUN_NS (600 * MS)
#define WORKERS 4
#define LEAST_TURNS 1000 /* of all workers, who on a busy machine may get next to no CPU in that time */
#define OWN 200
#define SHARED 64

/* The functions of the program; all else is besom's text, the rest of this file too. */
#define PROGRAM __attribute__((section("program"), noinline))
extern const char __start_program[], __stop_program[];

struct header { /* the start of every block: what is behind it follows from these */
    uint32_t size, tag;
};
static struct header *shared[SHARED]; /* [atomic] */

static bool stops = true; /* [init] the program is stopped: who is in besom all of the time could not be, and pauses */
#define PAUSE_US 300
#define MOST_FREED (8 * BS_MIB) /* without stops, before a search that a busy machine keeps from coming */

/* --- the program ------------------------------------------------------------------------------ */

PROGRAM static uint64_t next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}
/* A block in quarantine would be zero. */
PROGRAM static void check(const struct header *h) {
    const unsigned char *p = (const unsigned char *)h;
    size_t step = h->size < 256 ? 1 : 61;
    for (size_t i = sizeof *h; i < h->size; i += step)
        require(p[i] == (unsigned char)(h->tag + i), "block %p of %u bytes: byte %zu is %x", (const void *)h,
                h->size, i, p[i]);
}
PROGRAM static struct header *stamp(struct header *h, size_t size, uint64_t *seed) {
    unsigned char *p = (unsigned char *)h;
    require(h != NULL, "no memory");
    h->size = (uint32_t)size;
    h->tag = (uint32_t)next(seed) | 1;
    for (size_t i = sizeof *h; i < size; i++)
        p[i] = (unsigned char)(h->tag + i);
    return h;
}
PROGRAM static size_t some_size(uint64_t *seed) {
    uint64_t kind = next(seed) % 64;
    return sizeof(struct header) + next(seed) % (kind == 0 ? 100000 : kind < 8 ? 4000 : 200);
}
PROGRAM static void destroy(struct header *h) {
    check(h);
    bs_heap_free(h);
}
PROGRAM static void step(struct header **own, uint64_t *seed) {
    struct header **place = &own[next(seed) % OWN];
    size_t size = some_size(seed);
    switch (next(seed) % 8) {
    case 0: /* to another thread, and whatever lay there from it */
        *place = __atomic_exchange_n(&shared[next(seed) % SHARED], *place, __ATOMIC_ACQ_REL);
        break;
    case 1:
        if (*place != NULL) {
            check(*place);
            *place = stamp(bs_heap_realloc(*place, size), size, seed);
        }
        break;
    default:
        if (*place != NULL)
            destroy(*place);
        *place = next(seed) % 2 == 0 ? NULL : stamp(bs_heap_alloc(size), size, seed);
    }
}
PROGRAM static void run(struct runner *r, uint64_t seed, unsigned steps) {
    struct header *own[OWN] = {NULL};
    for (unsigned i = 0; steps == 0 ? !bs_load(&end_all) : i < steps; i++) {
        step(own, &seed);
        turn(r);
        while (!stops && bs_load(&bs_quarantine_fresh) > MOST_FREED && !bs_load(&end_all))
            bs_os_yield();
    }
    for (unsigned i = 0; i < OWN; i++)
        if (own[i] != NULL)
            destroy(own[i]);
}
PROGRAM static void *work(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
    run(r, (uint64_t)(r - runners), 0);
    return NULL;
}
PROGRAM static void *live_briefly(void *arg) {
    run(arg, 1, 100);
    return NULL;
}
PROGRAM static void *start_mortals(void *arg) {
    struct runner *r = arg, mortal = {.turns = 0};
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        require(pthread_create(&mortal.thread, NULL, live_briefly, &mortal) == 0, "no thread");
        pthread_join(mortal.thread, NULL);
    }
    return NULL;
}

/* Spans come and go also while what is freed stays in quarantine: of slots that are taken and returned at once. */
PROGRAM static void *take_and_return(void *arg) {
    struct runner *r = arg;
    uint64_t seed = 7;
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        unsigned class = 1 + (unsigned)(next(&seed) % (BS_NCLASSES - 1));
        struct bs_refill taken = {.max_blocks = 0};
        require(bs_central_refill(class, 1, &taken), "no memory");
        void *slot = taken.run_base + bs_ctz(taken.run_mask) * bs_class_info[class].size;
        bs_central_release(class, &slot, 1);
        bs_central_give_up_empty();
        (void)bs_waiting_return(BS_EMPTY_BATCH);
        if (stops)
            usleep(PAUSE_US);
    }
    return NULL;
}

/* --- the searches ----------------------------------------------------------------------------- */

static unsigned searches, kept;

static void ignore_kept(void *ctx, uintptr_t base, size_t size, bool again) {
    (void)ctx, (void)base, (void)size, (void)again;
    kept++;
}
static void do_nothing(void) {
}
static void ignore_roots(const struct bs_roots *roots) {
    (void)roots;
}
static struct bs_range no_memory(void) {
    return (struct bs_range){0, 0};
}
static void hunt(int mode) {
    static const struct bs_hunt_guest guest = {do_nothing, ignore_roots, no_memory, do_nothing, ignore_kept, do_nothing};
    struct bs_hunt_result got;
    (void)bs_hunt_run((enum bs_hunt_mode)mode, 0, &guest, &got);
    searches += got.end == BS_SCAN_DONE;
}

static void ignore_result(void *ctx, const struct bs_scan_result *result) {
    (void)ctx;
    searches += result->end == BS_SCAN_DONE;
}
static void look_for_leaks(int number) {
    static const struct bs_scan_rules rules[] = {
        {.in_place_bytes = SIZE_MAX, .finish_ns = LONG, .concurrent = BS_SCAN_CONCURRENT_NEVER},
        {.finish_ns = LONG, .concurrent = BS_SCAN_CONCURRENT_NEVER},
        {.finish_ns = LONG, .concurrent = BS_SCAN_CONCURRENT_ALWAYS},
    };
    (void)bs_scan_run(&rules[number], ignore_result, NULL);
}

static void be_besom(void) {
    bs_cgroup_set_root("/nowhere");
    bs_text_set(bs_text().base, (uintptr_t)__start_program);
    ck_assert((uintptr_t)bs_heap_alloc < (uintptr_t)__start_program);
    ck_assert((uintptr_t)bs_heap_alloc >= bs_text().base);
#if BS_SANITIZE_THREAD
    bs_opt.idle_threads = false; /* see check_threads.c */
#endif
}
static void run_beside(void (*search)(int), int number) {
    bs_store(&end_all, 0u);
    for (unsigned i = 0; i < WORKERS; i++)
        start_on(&runners[i], work);
    start_on(&runners[WORKERS], start_mortals);
    start_on(&runners[WORKERS + 1], take_and_return);
    for (uint64_t end = bs_os_now_ns() + RUN_NS;
         bs_os_now_ns() < end || searches < 2 || all_turns(WORKERS) < LEAST_TURNS;) {
        search(number);
        bs_background_round();
        usleep(1000);
    }
    bs_store(&end_all, 1u);
    for (unsigned i = 0; i < WORKERS + 2; i++)
        pthread_join(runners[i].thread, NULL);
    for (unsigned i = 0; i < SHARED; i++)
        if (shared[i] != NULL)
            destroy(shared[i]);
}

static bool ignore_trim(bool all) {
    return all;
}
static void keep_what_is_freed(void) {
    static const struct bs_heap_keeper keeper = {bs_quarantine_small, bs_quarantine_large, bs_quarantine_resize,
                                                 bs_quarantine_check, ignore_trim, NULL};
    be_besom();
    bs_heap_free(bs_heap_alloc(10));
    bs_heap_set_keeper(&keeper);
}
START_TEST(hunts) {
    keep_what_is_freed();
    run_beside(hunt, _i);
}
END_TEST

/* --- without a stop --------------------------------------------------------------------------- */

/* The walks over spans that are made while the program runs, one after the other: so that ThreadSanitizer sees what they
 * read of a span that becomes another one at that moment. */
static void read_heap(void) {
    static char copy[BS_LINEAR_COPY_BYTES];
    struct bs_quarantine_sums held;
    struct bs_quarantine_released released;
    struct bs_linear linear;
    struct bs_linear_sums sums;
    require(bs_quarantine_turn(&held) && bs_linear_begin(&linear, NULL, NULL, 0), "no memory");
    linear.copy = copy;
    (void)bs_reader_begin();
    bs_linear_work(&linear);
    bs_reader_end();
    bs_linear_end(&linear, &sums);
    bs_quarantine_release(&released, NULL, NULL); /* no thread uses what it has freed */
}
static void look_for_referrers(void) {
    static struct bs_referrers referrers;
    uintptr_t p = (uintptr_t)shared;
    referrers.n = 1;
    referrers.want[0] = (struct bs_wanted){.base = bs_align_down(p, 64), .size = 64};
    bs_referrers_prepare(&referrers);
    bs_referrers_heap(&referrers);
}
static void count_lost(void) {
    const struct bs_scan_result result = {.end = BS_SCAN_DONE};
    (void)bs_collect_after(&result);
}
static void look(int number) {
    struct bs_ledger ledger;
    (void)number;
    bs_round_enter();
    read_heap();
    look_for_referrers();
    bs_round_leave();
    count_lost();
    if (searches++ % 16 == 0)
        (void)bs_ledger_take(&ledger);
}
static bool say_yes(void) {
    return true;
}
START_TEST(looks) {
    static const struct bs_collect_rules rules = {.scans = 2};
    static const struct bs_collect_faults faults = {say_yes, say_yes};
    keep_what_is_freed();
    require(bs_collect_start(&rules, &faults), "no memory");
    stops = false;
    run_beside(look, 0);
}
END_TEST

START_TEST(scans_for_leaks) {
    be_besom();
    bs_heap_free(bs_heap_alloc(10));
    bs_opt.sample = 1;
    bs_heap_start_sampling();
    run_beside(look_for_leaks, _i);
}
END_TEST

/* Whoever frees calls the helper, or searches itself. */
static void wait_for_warden(int number) {
    (void)number;
    searches = (unsigned)bs_counted(scans);
}
START_TEST(the_warden) {
    be_besom();
    bs_opt.scan = BS_SCAN_MODE_QUARANTINE;
    bs_opt.quarantine_mode = (enum bs_hunt_mode)_i;
    bs_opt.quarantine = 1;
    bs_opt.background = true;
    bs_heap_free(bs_heap_alloc(10));
    bs_warden_start();
    run_beside(wait_for_warden, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("scan_threads");
    TCase *tc = add_case(suite, "scan_threads");
    tcase_add_loop_test(tc, hunts, 0, BS_HUNT_STOPPED + 1);
    tcase_add_test(tc, looks);
    tcase_add_loop_test(tc, scans_for_leaks, 0, 3);
    tcase_add_loop_test(tc, the_warden, 0, BS_HUNT_PROBABILISTIC + 1);
    return run_suite(suite);
}
