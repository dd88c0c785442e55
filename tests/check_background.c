/* SPDX-License-Identifier: MIT */
/*
 * check_background.c - the work behind the program's back: rounds called directly, the helper's
 * life from the threshold to its end, and the pieces of background:off.
 *
 * Real time is used with wide margins: a delay of 20 ms stands for scavenge_delay's second. What
 * must not happen is watched for some hundred milliseconds, what must is awaited for a minute.
 */
#include "background.h"
#include "central.h"
#include "cgroup.h"
#include "counter.h"
#include "heap.h"
#include "limit.h"
#include "linear.h"
#include "log.h"
#include "opt.h"
#include "os.h"
#include "scavenge.h"
#include "sweep.h"
#include "thread.h"
#include "waiting.h"
#include "warden.h"

#include <check.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AWAIT_MS 60000

static void short_delay(void) {
    bs_opt.scavenge_delay = 20;
}

#define AWAIT(c)                                                \
    do {                                                        \
        int left_ = AWAIT_MS;                                   \
        for (; !(c) && left_ > 0; left_ -= 5)                   \
            usleep(5000);                                       \
        ck_assert_msg(left_ > 0, "never came true: %s", #c);    \
    } while (0)

/* Frees a touched block of so many bytes through the slow door. */
static void free_dirty(size_t bytes) {
    void *p = bs_heap_alloc(bytes);
    ck_assert_ptr_nonnull(p);
    memset(p, 1, bytes);
    bs_heap_free(p);
}

static size_t dirty(void) {
    return bs_pageheap_dirty_bytes();
}
#if BS_SANITIZE_THREAD /* it has threads of its own */
static bool helper_is_there(void) {
    return bs_os_helper_tid() != 0;
}
#else
static unsigned threads(void) {
    unsigned n = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}
static bool helper_is_there(void) {
    unsigned n = threads();
    for (int i = 0; i < AWAIT_MS && n > 2; i++) { /* one that has ended is listed a moment longer */
        usleep(1000);
        n = threads();
    }
    ck_assert_msg(n <= 2, "%u threads", n);
    return n == 2;
}
#endif

/* How many helpers there may have been since. One that has had nothing to do for two seconds ends, and
 * on a busy machine that may happen between any two steps of a test. */
static uint64_t helpers_since(uint64_t begin_ns) {
    uint64_t took_ms = (bs_os_now_ns() - begin_ns) / 1000000;
    return 1 + took_ms / (BS_IDLE_TICKS * BS_TICK_MS);
}

/* Many spans of small blocks that become empty at once; fewer than the slow door returns itself. */
static void leave_spans_waiting(void) {
    enum { N = 3000 };
    static void *p[N];
    for (int i = 0; i < N; i++)
        p[i] = bs_heap_alloc(1024);
    for (int i = 0; i < N; i++)
        bs_heap_free(p[i]);
    bs_tcache_drain(bs_tcache_self());
}

/* --- rounds ----------------------------------------------------------------------------------- */

START_TEST(a_round_returns_waiting_spans) {
    leave_spans_waiting();
    size_t waiting = bs_waiting_count();
    ck_assert_uint_gt(waiting, 5);
    uint64_t returned = bs_counted(spans_returned), sweeps = bs_counted(sweeps);
    uint64_t wakes = bs_counted(background_wakes);
    ck_assert(bs_sweep_has_work());
    (void)bs_background_round();
    ck_assert_uint_eq(bs_waiting_count(), 0);
    ck_assert(!bs_sweep_has_work());
    ck_assert_uint_ge(bs_counted(spans_returned), returned + waiting);
    ck_assert_uint_gt(bs_counted(sweeps), sweeps);
    ck_assert_uint_eq(bs_counted(background_wakes), wakes + 1);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

static void *leave_a_cache(void *arg) {
    (void)arg;
    bs_heap_free(bs_heap_alloc(100));
    bs_tcache_self()->tid = 0x7ffffff0; /* as if its thread had ended without a word */
    bs_self = &bs_tcache_none.tops;
    return NULL;
}

START_TEST(a_round_finds_caches_without_their_thread) {
    pthread_t thread;
    size_t before = bs_thread_count();
    ck_assert_int_eq(pthread_create(&thread, NULL, leave_a_cache, NULL), 0);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(bs_thread_count(), before + 1);
    (void)bs_background_round();
    ck_assert_uint_eq(bs_thread_count(), before);
    ck_assert_uint_eq(bs_counted(caches_orphaned), 1);
}
END_TEST

START_TEST(rounds_release_what_is_idle) {
    free_dirty(20 * BS_MIB);
    ck_assert_uint_ge(dirty(), 20 * BS_MIB);
    (void)bs_background_round(); /* the peak is fresh: nothing goes yet */
    ck_assert_msg(dirty() >= 20 * BS_MIB, "%zu bytes left of fresh ones", dirty());
    bool more = true;
    for (int i = 0; i < 300 && more; i++) {
        usleep(5000);
        more = bs_background_round();
    }
    ck_assert_msg(dirty() <= BS_RETAIN_MIN_BYTES, "%zu bytes stayed dirty", dirty());
    ck_assert(!more);
    ck_assert_uint_ge(bs_counted(scavenged_bytes), 19 * BS_MIB);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

START_TEST(scavenge_off_releases_nothing) {
    bs_opt.scavenge = false;
    free_dirty(20 * BS_MIB);
    for (int i = 0; i < 20; i++) {
        usleep(5000);
        ck_assert(!bs_background_round());
    }
    ck_assert_uint_ge(dirty(), 20 * BS_MIB);
}
END_TEST

/* --- the helper ------------------------------------------------------------------------------- */

START_TEST(no_helper_below_the_threshold) {
    bs_background_start();
    for (int i = 0; i < 100; i++) {
        free_dirty(BS_BACKGROUND_THRESHOLD_BYTES / 2);
        leave_spans_waiting();
    }
    ck_assert_uint_eq(bs_counted(background_starts), 0);
    ck_assert(!helper_is_there());
}
END_TEST

START_TEST(the_helper_comes_works_and_goes) {
    bs_background_start();
    ck_assert(!helper_is_there()); /* not at the start */
    uint64_t begin_ns = bs_os_now_ns();
    free_dirty(2 * BS_BACKGROUND_THRESHOLD_BYTES);
    ck_assert_uint_eq(bs_counted(background_starts), 1);
    ck_assert(helper_is_there() || helpers_since(begin_ns) > 1);
    AWAIT(dirty() <= BS_RETAIN_MIN_BYTES);
    leave_spans_waiting();
    AWAIT(bs_waiting_count() == 0);
    AWAIT(!helper_is_there()); /* after two idle seconds */
    uint64_t starts = bs_counted(background_starts), wakes = bs_counted(background_wakes);
    ck_assert_uint_le(starts, helpers_since(begin_ns));
    usleep(400000);
    ck_assert_uint_eq(bs_counted(background_wakes), wakes);
    free_dirty(2 * BS_BACKGROUND_THRESHOLD_BYTES); /* and again */
    ck_assert_uint_eq(bs_counted(background_starts), starts + 1);
    AWAIT(dirty() <= BS_RETAIN_MIN_BYTES);
    ck_assert_uint_ne(bs_counted(background_cpu_ns), 0);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* Memory freed while the helper sleeps for the last time: a slow door that saw it running has
 * left the work to it. Its last tick is met within one tick, so a few are tried. */
START_TEST(work_left_in_the_helpers_last_pause_is_done) {
    int early = _i;
    bs_background_start();
    void *held = bs_heap_alloc(16 * BS_MIB);
    memset(held, 1, 16 * BS_MIB);
    free_dirty(2 * BS_BACKGROUND_THRESHOLD_BYTES);
    AWAIT(dirty() <= BS_RETAIN_MIN_BYTES);
    uint64_t last = bs_counted(background_wakes) + BS_IDLE_TICKS - (uint64_t)early;
    AWAIT(bs_counted(background_wakes) >= last || !helper_is_there());
    usleep(BS_TICK_MS * 1000 / 4);
    bs_heap_free(held);
    AWAIT(dirty() <= BS_RETAIN_MIN_BYTES);
}
END_TEST

START_TEST(many_threads_make_one_helper) {
    bs_background_start();
    uint64_t begin_ns = bs_os_now_ns();
    for (int i = 0; i < 50; i++)
        free_dirty(2 * BS_BACKGROUND_THRESHOLD_BYTES);
    ck_assert_uint_ge(bs_counted(background_starts), 1);
    ck_assert_uint_le(bs_counted(background_starts), helpers_since(begin_ns));
    ck_assert(helper_is_there() || helpers_since(begin_ns) > 1);
}
END_TEST

/* --- background:off --------------------------------------------------------------------------- */

START_TEST(pieces_when_there_is_no_helper) {
    bs_opt.background = false;
    bs_background_start();
    free_dirty(20 * BS_MIB);
    uint64_t largest = 0, before = bs_counted(scavenged_bytes);
    void *p = NULL;
    for (int i = 0; i < 8000 && dirty() > 8 * BS_MIB; i++) { /* through one slow door at a time */
        usleep(1000);
        p = p == NULL ? memset(bs_heap_alloc(64 * BS_KIB), 1, 64 * BS_KIB) : (bs_heap_free(p), NULL);
        uint64_t now = bs_counted(scavenged_bytes);
        largest = bs_max(largest, now - before);
        before = now;
    }
    ck_assert_msg(dirty() <= 8 * BS_MIB, "%zu bytes stayed dirty", dirty());
    ck_assert_msg(largest <= BS_SCAVENGE_PIECE_BYTES, "one piece was %zu bytes",
                  (size_t)largest);
    ck_assert_uint_eq(bs_counted(background_starts), 0);
    ck_assert(!helper_is_there());
}
END_TEST

#if BS_FAULTS && !BS_SANITIZED
START_TEST(pieces_when_no_helper_can_be_had) {
    bs_background_start();
    void *p = bs_heap_alloc(2 * BS_BACKGROUND_THRESHOLD_BYTES);
    memset(p, 1, 2 * BS_BACKGROUND_THRESHOLD_BYTES);
    (void)bs_os_fail(1, 12, true);
    bs_heap_free(p); /* the helper's stack is refused */
    (void)bs_os_fail(0, 0, false);
    ck_assert_uint_eq(bs_counted(background_starts), 0);
    for (int i = 0; i < 4000 && dirty() > 8 * BS_MIB; i++) {
        usleep(2000);
        free_dirty(64 * BS_KIB);
    }
    ck_assert_msg(dirty() <= 8 * BS_MIB, "%zu bytes stayed dirty", dirty());
    ck_assert_uint_eq(bs_counted(background_starts), 0);
}
END_TEST

static unsigned notes_in(const char *path) {
    unsigned n = 0;
    char line[1024];
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f) != NULL)
        n += strstr(line, "no helper thread can be had") != NULL;
    fclose(f);
    return n;
}
/* Whoever finds out: the log knows, and once. */
START_TEST(who_calls_in_vain_is_told) {
    char path[] = "/tmp/check_background.XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    snprintf(bs_opt.log, sizeof bs_opt.log, "%s", path);
    bs_log_start();
    bs_background_start();
    (void)bs_os_fail(1, 12, false); /* the helper's stack is refused */
    if (_i == 0)
        ck_assert(!bs_background_call());
    else
        bs_background_wake(); /* a handler of a signal, which says nothing */
    ck_assert_uint_eq(notes_in(path), _i == 0);
    ck_assert(!bs_background_is_there());
    ck_assert(!bs_background_call());
    ck_assert_uint_eq(notes_in(path), 1);
    ck_assert_uint_eq(bs_counted(background_starts), 0);
    unlink(path);
}
END_TEST
#endif

/* --- company for who searches (linear.h) ---------------------------------------------------------- */

static uint64_t seen_wakes, joined_wakes; /* [atomic] the helper's ticks so far: when it last asked, and last joined */
static bool always(void) {
    return true;
}
static void ignore(uint64_t now_ns) {
    (void)now_ns;
}
/* What the quarantine does at each tick, and when it is woken. */
static void join_if_wanted(uint64_t now_ns) {
    uint64_t wakes = bs_counted(background_wakes);
    (void)now_ns;
    if (bs_linear_join())
        bs_store_release(&joined_wakes, wakes);
    bs_store_release(&seen_wakes, wakes);
}
static uint64_t at_once(void) {
    return 0;
}
static uint64_t no_leaks(void) {
    return 0;
}
static void not_forked(void) {
}

/* Who begins to read while all stand wakes the helper. At each of its ticks it asks once by itself; after that,
 * and before the next tick, it comes only if it is called. A tick that comes between, or a helper that gets no CPU in
 * time, is a reason to try once more. */
START_TEST(who_searches_calls_the_helper) {
    static const struct bs_background_scans scans = {always, ignore, join_if_wanted, at_once, no_leaks, not_forked};
    enum { BYTES = 8 << 20, TIMES = 32 };
    static struct bs_range root[TIMES];
    static struct bs_linear linear;
    struct bs_linear_sums sums;
    uint64_t cpu_ns, end_ns = bs_os_now_ns() + AWAIT_MS * UINT64_C(1000000);
    char *bytes = malloc(BYTES);
    ck_assert_ptr_nonnull(bytes);
    memset(bytes, 1, BYTES);
    for (unsigned i = 0; i < TIMES; i++)
        root[i] = (struct bs_range){(uintptr_t)bytes, (uintptr_t)bytes + BYTES};
    bs_cgroup_set_root(NULL); /* how many CPUs there are */
    bs_warden_start();
    bs_background_set_scans(&scans);
    bs_background_start();
    AWAIT(bs_load_acquire(&seen_wakes) != 0); /* it has asked for that */
    if (bs_limit_cpu_pct() < 200) {
        printf("skipped: with one CPU nobody is called\n");
        return;
    }
    for (bool called = false; !called;) {
        ck_assert_msg(bs_os_now_ns() < end_ns, "nobody was called");
        uint64_t wakes = bs_counted(background_wakes);
        if (wakes == 0 || bs_load_acquire(&seen_wakes) != wakes) {
            usleep(100);
            continue;
        }
        bs_store(&joined_wakes, (uint64_t)0);
        ck_assert(bs_linear_begin(&linear, NULL, root, TIMES));
        bool helped = bs_linear_work_in_company(&linear, &cpu_ns);
        bs_linear_end(&linear, &sums);
        ck_assert_uint_eq(sums.root_bytes, (size_t)BYTES * TIMES);
        called = helped && bs_load_acquire(&joined_wakes) == wakes;
    }
}
END_TEST

/* --- a helper that stays (log_interval, scan_interval) ------------------------------------------- */

static uint64_t rounds_of_scans; /* [atomic] */
static void count_round(uint64_t now_ns) {
    (void)now_ns;
    (void)bs_add(&rounds_of_scans, 1);
}
static uint64_t later_ns; /* [init] */
static uint64_t later(void) {
    return later_ns;
}
static bool stands_still(void) {
    uint64_t wakes = bs_counted(background_wakes);
    usleep(10 * BS_TICK_MS * 1000);
    return wakes == bs_counted(background_wakes);
}

/* It comes when a slow door finds work, when it is called, and when it is due; in between it sleeps. */
START_TEST(a_helper_that_stays_sleeps_while_there_is_no_work) {
    static const struct bs_background_scans scans = {always, ignore, count_round, later, no_leaks, not_forked};
    later_ns = UINT64_MAX;
    bs_background_set_scans(&scans);
    bs_background_start();
    AWAIT(helper_is_there());
    AWAIT(stands_still());
    for (int i = 0; i < 3; i++) {
        uint64_t rounds = bs_load(&rounds_of_scans);
        free_dirty(2 * BS_BACKGROUND_THRESHOLD_BYTES);
        AWAIT(dirty() <= BS_RETAIN_MIN_BYTES);
        AWAIT(stands_still());
        ck_assert_uint_gt(bs_load(&rounds_of_scans), rounds);
        rounds = bs_load(&rounds_of_scans);
        ck_assert(bs_background_call());
        AWAIT(bs_load(&rounds_of_scans) > rounds);
        AWAIT(stands_still());
    }
    ck_assert_uint_eq(bs_counted(background_starts), 1);
}
END_TEST

START_TEST(a_helper_that_stays_is_there_when_it_is_due) {
    static const struct bs_background_scans scans = {always, ignore, count_round, later, no_leaks, not_forked};
    uint64_t due = later_ns = bs_os_now_ns() + 4 * BS_IDLE_TICKS * BS_TICK_MS * UINT64_C(1000000);
    bs_background_set_scans(&scans);
    bs_background_start();
    AWAIT(stands_still() || bs_os_now_ns() > due);
    AWAIT(bs_os_now_ns() > due);
    uint64_t rounds = bs_load(&rounds_of_scans);
    AWAIT(bs_load(&rounds_of_scans) > rounds);
}
END_TEST

int main(void) {
    bs_cgroup_set_root("/nowhere"); /* memory that the machine lacks is nobody's business here */
    Suite *suite = suite_create("background");
    TCase *tc = tcase_create("background");
    tcase_set_timeout(tc, 100);
    tcase_add_checked_fixture(tc, short_delay, NULL);
    tcase_add_test(tc, a_round_returns_waiting_spans);
    tcase_add_test(tc, a_round_finds_caches_without_their_thread);
    tcase_add_test(tc, rounds_release_what_is_idle);
    tcase_add_test(tc, scavenge_off_releases_nothing);
    tcase_add_test(tc, no_helper_below_the_threshold);
    tcase_add_test(tc, the_helper_comes_works_and_goes);
    tcase_add_loop_test(tc, work_left_in_the_helpers_last_pause_is_done, 0, 4);
    tcase_add_test(tc, many_threads_make_one_helper);
    tcase_add_test(tc, pieces_when_there_is_no_helper);
    tcase_add_test(tc, who_searches_calls_the_helper);
    tcase_add_test(tc, a_helper_that_stays_sleeps_while_there_is_no_work);
    tcase_add_test(tc, a_helper_that_stays_is_there_when_it_is_due);
#if BS_FAULTS && !BS_SANITIZED
    tcase_add_test(tc, pieces_when_no_helper_can_be_had);
    tcase_add_loop_test(tc, who_calls_in_vain_is_told, 0, 2);
#endif
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
