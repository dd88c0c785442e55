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
#include "holes.h"
#include "idle.h"
#include "limit.h"
#include "linear.h"
#include "log.h"
#include "opt.h"
#include "os.h"
#include "pacer.h"
#include "scavenge.h"
#include "refuse_call.h"
#include "sweep.h"
#include "text.h"
#include "thread.h"
#include "unit.h"
#include "waiting.h"
#include "warden.h"

#include <check.h>
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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

/* --- the log ---------------------------------------------------------------------------------- */

static char log_path[] = "/tmp/check_background.XXXXXX";

static void start_log(void) {
    int fd = mkstemp(log_path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    snprintf(bs_opt.log, sizeof bs_opt.log, "%s", log_path);
    bs_opt.log_format = BS_LOG_TEXT;
    bs_opt.trace = BS_TRACE_SCAVENGE | BS_TRACE_SWEEP;
    bs_log_start();
}
static unsigned lines_with(const char *text) {
    unsigned n = 0;
    static char line[65536];
    FILE *f = fopen(log_path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f) != NULL)
        n += strstr(line, text) != NULL;
    fclose(f);
    return n;
}
static void end_log(void) {
    unlink(log_path);
}

#define LINE(event) "] " event ":"

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
    char line[1024];
    unsigned long goal_bytes = 0;
    start_log();
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
    FILE *f = fopen(log_path, "r");
    ck_assert_ptr_nonnull(f);
    while (goal_bytes == 0 && fgets(line, sizeof line, f) != NULL)
        if (strstr(line, LINE("scavenge")) != NULL && strstr(line, " goal ") != NULL)
            goal_bytes = strtoul(strstr(line, " goal ") + 6, NULL, 10);
    fclose(f);
    ck_assert_uint_ge(goal_bytes, BS_RETAIN_MIN_BYTES); /* of 20 MiB that were dirty */
    end_log();
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

/* --- how long the helper sleeps --------------------------------------------------------------- */

#define MS UINT64_C(1000000)

/* After so much work, from the credit that it begins with (300 ms). */
static uint64_t pause_ms(uint64_t worked_ms) {
    struct bs_pacer pacer;
    bs_pacer_start(&pacer, 5000 * MS);
    return bs_background_pause_ns(&pacer, 5000 * MS, worked_ms * MS) / MS;
}

static char *cgroup_root;

/* Where the process may use no more of a CPU than this. */
static void look_at_cpu(unsigned quota_pct) {
    char path[64];
    snprintf(path, sizeof path, "%s/proc/self/status", cgroup_root);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "Name:\tx\nCpus_allowed_list:\t0-3\n");
    fclose(f);
    snprintf(path, sizeof path, "%s/cg/cpu.max", cgroup_root);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "%u000 100000\n", quota_pct);
    fclose(f);
    bs_cgroup_set_root(cgroup_root);
    bs_limit_look_again();
    (void)bs_background_round();
    bs_cgroup_set_root("/nowhere");
    ck_assert_uint_eq(bs_limit_cpu_pct(), bs_min(quota_pct, 400));
}

/* What the process may use is what the helper's share is of, where that is less than a CPU. */
START_TEST(the_share_is_of_what_the_process_may_use) {
    char dir[] = "/tmp/check_background.XXXXXX", path[64];
    FILE *f;
    cgroup_root = mkdtemp(dir);
    ck_assert_ptr_nonnull(cgroup_root);
    for (const char *const *name = (const char *const[]){"proc", "proc/self", "cg", NULL}; *name != NULL; name++) {
        snprintf(path, sizeof path, "%s/%s", cgroup_root, *name);
        ck_assert_int_eq(mkdir(path, 0700), 0);
    }
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", cgroup_root);
    ck_assert_ptr_nonnull(f = fopen(path, "w"));
    fprintf(f, "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw\n");
    fclose(f);
    snprintf(path, sizeof path, "%s/proc/self/cgroup", cgroup_root);
    ck_assert_ptr_nonnull(f = fopen(path, "w"));
    fprintf(f, "0::/\n");
    fclose(f);
    bs_opt.scavenge_cpu = 50;
    ck_assert_uint_eq(bs_limit_cpu_pct(), 0); /* nobody has looked */
    ck_assert_uint_eq(pause_ms(500), 400);
    look_at_cpu(50);
    ck_assert_uint_eq(pause_ms(500), 1400); /* as if it had worked a second */
    look_at_cpu(300);
    ck_assert_uint_eq(pause_ms(500), 400);
    look_at_cpu(100);
    ck_assert_uint_eq(pause_ms(500), 400);
    const char *const made[] = {"cg/cpu.max", "proc/self/status", "proc/self/mountinfo", "proc/self/cgroup",
                                "cg", "proc/self", "proc", ""};
    for (size_t i = 0; i < BS_ARRAY_LEN(made); i++) {
        snprintf(path, sizeof path, "%s/%s", cgroup_root, made[i]);
        ck_assert_int_eq(remove(path), 0);
    }
}
END_TEST

/* A limit beside the 60 MiB that are used, or none. */
static void limit_to(size_t mib) {
    bs_opt.limit = (struct bs_opt_limit){mib == 0 ? BS_LIMIT_OFF : BS_LIMIT_BYTES, mib * BS_MIB};
    bs_limit_start();
    ck_assert_int_eq(bs_limit_pressure(), mib == 0 ? BS_PRESSURE_NONE : mib < 60 ? BS_PRESSURE_OVER : BS_PRESSURE_NEAR);
}

/* Near the limit and beyond it the share is ten times the option's, up to half a CPU; one that is larger stays. Ticks
 * come sooner where there is memory to give back, and the helper owes no time. */
START_TEST(under_pressure_the_share_is_larger) {
    const uint64_t none[][2] = {{1, 2000}, {4, 2000}, {10, 1000}, {50, 200}, {80, 125}};
    const uint64_t more[][2] = {{1, 1000}, {4, 250}, {10, 200}, {50, 200}, {80, 125}};
    void *p[3];
    for (size_t i = 0; i < BS_ARRAY_LEN(p); i++) {
        p[i] = bs_heap_alloc(20 * BS_MIB);
        ck_assert_ptr_nonnull(p[i]);
        memset(p[i], 1, 20 * BS_MIB);
    }
    for (size_t limit_mib = 0; limit_mib <= 62; limit_mib += 31) { /* none; over; near */
        limit_to(limit_mib);
        for (size_t i = 0; i < BS_ARRAY_LEN(none); i++) {
            bs_opt.scavenge_cpu = none[i][0];
            ck_assert_uint_eq(pause_ms(400), limit_mib == 0 ? none[i][1] : more[i][1]);
        }
        ck_assert_uint_eq(pause_ms(100), BS_TICK_MS); /* all is in use */
    }
    bs_opt.limit.kind = BS_LIMIT_OFF;
    bs_limit_start();
    for (size_t i = 0; i < BS_ARRAY_LEN(p); i++)
        bs_heap_free(p[i]);
    ck_assert_uint_ge(dirty(), 60 * BS_MIB);
    bs_opt.scavenge_cpu = 4;
    for (size_t limit_mib = 0; limit_mib <= 62; limit_mib += 31) {
        limit_to(limit_mib);
        if (limit_mib == 62)
            ck_assert_uint_gt(bs_limit_excess(), BS_LIMIT_HELP_MIN_BYTES);
        ck_assert_uint_eq(pause_ms(100), limit_mib == 31 ? BS_LIMIT_TICK_MS : BS_TICK_MS);
        ck_assert_uint_eq(pause_ms(350), limit_mib == 0 ? 1250 : 125); /* it owes some */
    }
}
END_TEST

/* --- what is said ------------------------------------------------------------------------------- */

START_TEST(each_want_of_mark_bits_is_noted_once) {
    start_log();
    for (unsigned n = 0; n < 3; n++) {
        for (int i = 0; i < 3; i++)
            (void)bs_background_round();
        ck_assert_uint_eq(lines_with("no memory for mark bits"), n);
        bs_count(marks_refused, 1);
    }
    end_log();
}
END_TEST

START_TEST(an_excess_is_noted_once) {
    char *p = bs_heap_alloc(20 * BS_MIB);
    ck_assert_ptr_nonnull(p);
    bs_opt.limit = (struct bs_opt_limit){BS_LIMIT_BYTES, 10 * BS_MIB};
    bs_limit_start();
    start_log();
    for (int i = 0; i < 3; i++)
        (void)bs_background_round();
    ck_assert_uint_eq(lines_with(LINE("limit")), 1);
    ck_assert_uint_eq(lines_with(" refused 0"), 1);
    end_log();
}
END_TEST

/* Refusals come in crowds: one line a second. */
START_TEST(refusals_are_noted_once_a_second) {
    enum { N = 20 };
    uint64_t begin = bs_os_now_ns();
    unsigned lines;
    bs_opt.limit = (struct bs_opt_limit){BS_LIMIT_BYTES, BS_MIB};
    bs_opt.limit_hard = true;
    bs_limit_start();
    start_log();
    for (int i = 0; i < N; i++) {
        ck_assert(!bs_limit_allows(4 * BS_MIB / BS_PAGE_SIZE));
        (void)bs_background_round();
        ck_assert(!bs_limit_has_note());
        lines = lines_with(LINE("limit"));
        ck_assert_uint_ge(lines, 1);
        ck_assert_uint_le(lines, 1 + (bs_os_now_ns() - begin) / BS_LIMIT_ROOM_NS);
        ck_assert_uint_eq(lines_with(" refused 1"), lines);
    }
    AWAIT(((void)bs_limit_allows(4 * BS_MIB / BS_PAGE_SIZE), bs_background_round(), lines_with(LINE("limit")) > lines));
    end_log();
}
END_TEST

START_TEST(reports_come_once_in_an_interval) {
    uint64_t begin = bs_os_now_ns();
    unsigned lines;
    start_log();
    (void)bs_background_round();
    ck_assert_uint_eq(lines_with(LINE("interval")), 0); /* nobody wants them */
    bs_opt.log_interval = 1;
    for (int i = 0; i < 20; i++) {
        (void)bs_background_round();
        lines = lines_with(LINE("interval"));
        ck_assert_uint_ge(lines, 1);
        ck_assert_uint_le(lines, 1 + (bs_os_now_ns() - begin) / (1000 * MS));
        usleep(2000);
    }
    AWAIT((bs_background_round(), lines_with(LINE("interval")) > lines));
    end_log();
}
END_TEST

static sem_t asleep, go_on;
static int sleeper_tid; /* [atomic] */
static void *sleep_with_cache(void *arg) {
    void *p[300];
    for (unsigned i = 0; i < BS_ARRAY_LEN(p); i++)
        p[i] = bs_heap_alloc(16 + i * 5);
    for (unsigned i = 0; i < BS_ARRAY_LEN(p); i++)
        bs_heap_free(p[i]);
    bs_store(&sleeper_tid, bs_os_tid());
    sem_post(&asleep);
    while (sem_wait(&go_on) != 0)
        ;
    return arg;
}

/* At first it is only seen: who does rounds goes on. What came of it is said. */
START_TEST(caches_of_sleepers_are_looked_after) {
    pthread_t thread;
    struct bs_holes_work holes;
    unsigned rounds = 0;
    sem_init(&asleep, 0, 0);
    sem_init(&go_on, 0, 0);
    bs_text_set(0x10000000000, 0x10000000010); /* no stack shows besom */
    start_log();
    ck_assert_int_eq(pthread_create(&thread, NULL, sleep_with_cache, NULL), 0);
    sem_wait(&asleep);
    wait_until_asleep(bs_load(&sleeper_tid), &go_on, sizeof go_on);
    (void)bs_holes_round(UINT64_MAX, SIZE_MAX, true, &holes); /* nothing else is to be done */
    AWAIT((!bs_background_round() || (rounds++, false)));
    ck_assert_uint_ge(rounds, 1);
    ck_assert_uint_eq(bs_counted(caches_drained), 1);
    ck_assert_uint_eq(lines_with(" idle 1 "), 1);
    sem_post(&go_on);
    pthread_join(thread, NULL);
    end_log();
}
END_TEST

START_TEST(that_sleepers_are_not_known_is_noted_once) {
    start_log();
    if (!refuse_call(SYS_membarrier)) {
        printf("skipped: no filter can be set\n");
        return;
    }
    for (int i = 0; i < 3; i++)
        (void)bs_background_round();
    ck_assert(bs_idle_is_unavailable());
    ck_assert_uint_eq(lines_with("caches of sleeping threads are not emptied"), 1);
    end_log();
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

static void start_one_that_stays(void) {
    static const struct bs_background_scans scans = {always, ignore, count_round, later, no_leaks, not_forked};
    later_ns = UINT64_MAX;
    bs_background_set_scans(&scans);
    bs_background_start();
    AWAIT(helper_is_there());
    AWAIT(stands_still());
}

/* It comes when a slow door finds work, when it is called, and when it is due; in between it sleeps. */
START_TEST(a_helper_that_stays_sleeps_while_there_is_no_work) {
    start_one_that_stays();
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

/* Doors do its work there, as where nothing is due. */
START_TEST(a_helper_that_stays_leaves_a_small_heap_alone) {
    start_one_that_stays();
    uint64_t wakes = bs_counted(background_wakes), rounds = bs_load(&rounds_of_scans);
    for (int i = 0; i < 20; i++) {
        free_dirty(BS_BACKGROUND_THRESHOLD_BYTES / 8);
        leave_spans_waiting();
        usleep(BS_TICK_MS * 1000 / 4);
    }
    ck_assert_uint_eq(bs_counted(background_wakes), wakes);
    ck_assert(bs_background_call());
    AWAIT(bs_load(&rounds_of_scans) > rounds);
    AWAIT(stands_still());
    free_dirty(2 * BS_BACKGROUND_THRESHOLD_BYTES);
    AWAIT(dirty() <= BS_RETAIN_MIN_BYTES);
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

/* The first one when the first interval is over, when the helper rests; also where scans are due later. */
START_TEST(a_helper_that_stays_reports_when_it_is_due) {
    static const struct bs_background_scans scans = {always, ignore, ignore, later, no_leaks, not_forked};
    const uint64_t interval_ns = (uint64_t)(BS_IDLE_TICKS + 10) * BS_TICK_MS * MS;
    bs_opt.log_interval = interval_ns / (1000 * MS);
    start_log();
    later_ns = UINT64_MAX;
    if (_i == 1)
        bs_background_set_scans(&scans);
    uint64_t begin = bs_os_now_ns();
    bs_background_start();
    AWAIT(bs_counted(background_wakes) >= 2);
    unsigned lines = lines_with(LINE("interval"));
    ck_assert_uint_le(lines, (bs_os_now_ns() - begin) / interval_ns);
    AWAIT(lines_with(LINE("interval")) > lines);
    ck_assert_uint_ge(bs_os_now_ns() - begin, interval_ns);
    end_log();
}
END_TEST

int main(void) {
    bs_cgroup_set_root("/nowhere"); /* memory that the machine lacks is nobody's business here */
    Suite *suite = suite_create("background");
    TCase *tc = tcase_create("rounds");
    tcase_set_timeout(tc, 100);
    tcase_add_checked_fixture(tc, short_delay, NULL);
    tcase_add_test(tc, a_round_returns_waiting_spans);
    tcase_add_test(tc, a_round_finds_caches_without_their_thread);
    tcase_add_test(tc, rounds_release_what_is_idle);
    tcase_add_test(tc, scavenge_off_releases_nothing);
    tcase_add_test(tc, the_share_is_of_what_the_process_may_use);
    tcase_add_test(tc, under_pressure_the_share_is_larger);
    tcase_add_test(tc, each_want_of_mark_bits_is_noted_once);
    tcase_add_test(tc, an_excess_is_noted_once);
    tcase_add_test(tc, refusals_are_noted_once_a_second);
    tcase_add_test(tc, caches_of_sleepers_are_looked_after);
    tcase_add_test(tc, reports_come_once_in_an_interval);
    tcase_add_test(tc, that_sleepers_are_not_known_is_noted_once);
    suite_add_tcase(suite, tc);
    tc = tcase_create("helper");
    tcase_set_timeout(tc, 100);
    tcase_add_checked_fixture(tc, short_delay, NULL);
    tcase_add_test(tc, no_helper_below_the_threshold);
    tcase_add_test(tc, the_helper_comes_works_and_goes);
    tcase_add_loop_test(tc, work_left_in_the_helpers_last_pause_is_done, 0, 4);
    tcase_add_test(tc, many_threads_make_one_helper);
    tcase_add_test(tc, pieces_when_there_is_no_helper);
    tcase_add_test(tc, who_searches_calls_the_helper);
    tcase_add_test(tc, a_helper_that_stays_sleeps_while_there_is_no_work);
    tcase_add_test(tc, a_helper_that_stays_leaves_a_small_heap_alone);
    tcase_add_test(tc, a_helper_that_stays_is_there_when_it_is_due);
    tcase_add_loop_test(tc, a_helper_that_stays_reports_when_it_is_due, 0, 2);
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
