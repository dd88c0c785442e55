/* SPDX-License-Identifier: MIT */
/* scanner.c - see scanner.h. Takes no lock; scan.h says what a scan takes. */
#include "scanner.h"

#include "background.h"
#include "heap.h"
#include "limit.h"
#include "log.h"
#include "opt.h"
#include "os.h"
#include "out.h"
#include "pacer.h"
#include "park.h"
#include "round.h"
#include "scan.h"
#include "suppress.h"
#include "thread.h"
#include "warden.h"

#include <signal.h>

#define NS_PER_MS UINT64_C(1000000)
#define LAST_TRIES 5 /* scans at the end, of which two are wanted: each takes BS_SCAN_STOP_NS at most */
#define LAST_WAIT_NS (10000 * NS_PER_MS) /* for another that is to quit: it may want the CPU for that */

static uint64_t next_scan_ns; /* [helper] of scan_interval */
static struct bs_pacer pacer; /* [helper] what scans may cost */
static uint64_t copies_ns;    /* [helper] CPU time of the copies of this scan */

static uint32_t asked;                /* [atomic] by scan_signal, since the last scan began */
static struct bs_world_shim *front;   /* [init] */

static bool are_due(void) {
    return bs_opt.scan != BS_SCAN_MODE_OFF && bs_opt.background && bs_log_is_on() &&
           (bs_opt.scan_interval != 0 || front->scan_signal != 0);
}

static unsigned ended; /* [helper] copies in a row that had to be ended, BS_SCAN_DOUBLINGS at most */

/* Of a copy that had to be ended nobody knows. */
static uint64_t copy_ns(const struct bs_scan_result *result) {
    bool of_copy = !result->concurrent && !result->in_place && result->verdict != NULL;
    return of_copy ? result->verdict->search_ns : result->end == BS_SCAN_KILLED ? result->ns : 0;
}

static void say_scan(void *reason, const struct bs_scan_result *result) {
    copies_ns += copy_ns(result);
    ended = result->end != BS_SCAN_KILLED ? 0 : ended + (ended < BS_SCAN_DOUBLINGS);
    bs_log_scan(reason, result);
    if (bs_opt.scan == BS_SCAN_MODE_COLLECT)
        bs_log_collect(bs_collect_after(result));
}

/* What is closed has to be opened for whoever searches. */
static const struct bs_scan_guest *guest(void) {
    return bs_opt.scan == BS_SCAN_MODE_COLLECT ? bs_collect_guest() : NULL;
}

static void begin(uint64_t now_ns) {
    next_scan_ns = now_ns + (bs_opt.scan_interval * 1000u * NS_PER_MS << ended);
    bs_pacer_start_scans(&pacer, now_ns);
}

/* The next one comes later where they cost more than the helper's share of a CPU. */
static void pay(uint64_t now_ns, uint64_t cpu_ns) {
    uint64_t wait = bs_pacer_scan_wait_ns(&pacer, now_ns, cpu_ns, bs_opt.scavenge_cpu);
    next_scan_ns = now_ns + bs_max(bs_opt.scan_interval * 1000u * NS_PER_MS << ended, wait);
}

static unsigned searchers(void) {
    unsigned cpus = bs_limit_cpu_pct() / 100;
    return bs_opt.scan_threads != 0 ? (unsigned)bs_opt.scan_threads
           : cpus < BS_SCAN_SEARCHERS_AUTO ? cpus
                                           : BS_SCAN_SEARCHERS_AUTO;
}

static struct bs_scan_rules rules_now(uint64_t age_ns) {
    return (struct bs_scan_rules){.age_ns = age_ns,
                                  .in_place_bytes = BS_SCAN_IN_PLACE_BYTES,
                                  .concurrent = bs_opt.scan_way == BS_SCAN_WAY_CONCURRENT
                                                    ? BS_SCAN_CONCURRENT_IF_SHORT
                                                    : BS_SCAN_CONCURRENT_NEVER,
                                  .guest = guest(),
                                  .searchers = searchers(),
                                  .searchers_bytes =
                                      bs_opt.scan_threads != 0 ? 0 : BS_SCAN_SEARCHERS_BYTES,
                                  .copy_ns = bs_opt.scan_time * 1000u * NS_PER_MS,
                                  .copied = bs_opt.scan_copied,
                                  .owners = bs_opt.scan_owners != 0};
}

static void scan_if_due(uint64_t now_ns) {
    const struct bs_scan_rules rules = rules_now(bs_opt.leak_age * 1000u * NS_PER_MS);
    static char by_time[] = "interval", by_signal[] = "signal";
    bool in_time = bs_opt.scan_interval != 0 && now_ns >= next_scan_ns;
    if (!are_due() || (__atomic_exchange_n(&asked, 0u, __ATOMIC_ACQUIRE) == 0 && !in_time))
        return;
    uint64_t cpu = bs_os_thread_cpu_ns();
    copies_ns = 0;
    (void)bs_scan_run(&rules, say_scan, in_time ? by_time : by_signal);
    pay(bs_os_now_ns(), bs_sub_clamped(bs_os_thread_cpu_ns(), cpu) + copies_ns);
}

static uint64_t next(void) {
    return bs_opt.scan_interval != 0 ? next_scan_ns : UINT64_MAX;
}

/* A leak is what was lost twice, so two have to come to a verdict; unless nobody else is there, or nothing was
 * lost for the first time: then a second would say the same. */
struct last_scans {
    unsigned verdicts;
    bool may_come; /* the last one had none, and another one may */
    uint64_t leaks;
};

static void note_last_scan(void *ctx, const struct bs_scan_result *result) {
    struct last_scans *last = ctx;
    const struct bs_scan_verdict *v = result->verdict;
    bool decides = v != NULL && (last->verdicts != 0 || result->threads == 0 || v->waiting == 0);
    if (decides || v == NULL)
        bs_log_scan("exit", result);
    if (v != NULL) {
        last->verdicts = decides ? 2 : 1;
        last->leaks = decides ? v->reported.leaks : 0;
    }
    last->may_come = result->end == BS_SCAN_WORLD &&
                     (result->world == BS_WORLD_LATE || result->world == BS_WORLD_SILENT ||
                      result->world == BS_WORLD_INSIDE);
}

/* The helper is at it, and quits. It may want this thread to stand, which has nothing in its hands. */
static void let_quit(void) {
    bs_round_knock();
    bs_os_pause(NS_PER_MS);
    bs_round_go_away();
}

/* On a busy machine a thread may not stand in time; and here is no later scan that would do it. */
static uint64_t last(void) {
    struct bs_scan_rules rules = rules_now(0);
    struct last_scans two = {.verdicts = 0};
    rules.is_last = true;
    rules.concurrent = BS_SCAN_CONCURRENT_NEVER; /* nobody minds a stop, and a copy may have several searchers */
    if (!bs_log_is_on() && bs_opt.leak_exit_code == 0)
        return 0;
    bs_scan_want_last(bs_thread_are_ours()); /* (a child of vfork does not say what its parent wants) */
    for (unsigned tries = 0; tries < LAST_TRIES && two.verdicts < 2; tries++) {
        unsigned verdicts = two.verdicts;
        two.may_come = false;
        uint64_t deadline = bs_os_now_ns() + LAST_WAIT_NS;
        while (!bs_scan_run(&rules, note_last_scan, &two) && bs_os_now_ns() < deadline && !bs_os_helper_is_lost())
            let_quit();
        if (two.verdicts == verdicts && !two.may_come)
            break;
    }
    bs_scan_want_last(false);
    return two.leaks;
}

static void forked(void) {
    ended = 0; /* no copy of this process was */
    bs_world_forked();
    bs_scan_forked();
    bs_collect_forked();
}

/* --- by signal -------------------------------------------------------------------------------- */

/* In a handler: nothing is scanned here. */
static void ask(void) {
    bs_store_release(&asked, 1u);
    bs_background_wake();
}
static void on_signal(uint64_t number, const struct bs_os_frame *frame) {
    (void)number;
    ask();
    bs_world_note_interrupt(frame);
}
static void watch(void) {
    (void)bs_os_signal_watch(front->scan_signal, on_signal);
}

static bool is_watched(void) {
    return bs_os_signal_is_watched(front->scan_signal);
}

static bool may_be_asked_by(int number) {
    static const int others[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP,
                                 SIGSYS,  SIGABRT, 32,      33}; /* the last two are libc's */
    for (size_t i = 0; i < BS_ARRAY_LEN(others); i++)
        if (number == others[i])
            return false;
    return true;
}

static void start_signal(int number) {
    if (number == 0)
        return;
    if (!may_be_asked_by(number)) {
        bs_warn("option scan_signal: %d is a signal of faults, of libc, or one that nobody can handle; there are no scans by "
                "signal; 10 (SIGUSR1) and 12 (SIGUSR2) are free as a rule", number);
        return;
    }
    if (!bs_opt.background)
        bs_warn("option scan_signal: with background:off nobody scans when the signal comes");
    front->ask_scan = ask;
    front->watch = watch;
    front->is_watched = is_watched;
    front->scan_signal = number;
    watch();
}

/* --- collection ------------------------------------------------------------------------------- */

/* So many scans that count take as long as collect_age, and a minute each at least. */
static struct bs_collect_rules collect_rules(void) {
    uint64_t age = bs_opt.collect_age * 1000u * NS_PER_MS, scans = bs_opt.collect_scans;
    return (struct bs_collect_rules){
        .scans = (unsigned)scans,
        .spacing_ns = bs_max(age / (scans - 1), BS_COLLECT_SPACING_NS),
        .age_ns = age,
        .grace_ns = bs_opt.collect_grace * 1000u * NS_PER_MS};
}

/* One word is easily written by mistake, or left in a file: it takes two. */
static void start_collecting(const struct bs_collect_faults *faults) {
    const struct bs_collect_rules rules = collect_rules();
    const char *why = NULL;
    if (bs_opt.collect != BS_COLLECT_RECLAIM)
        why = "memory of the program is reused only if collect:reclaim-unreachable says so as well";
    else if (!bs_opt.background || bs_opt.log[0] == 0)
        why = "it needs background:on and a log";
    else if (!bs_collect_start(&rules, faults))
        why = "no memory, or faults cannot be seen";
    if (why == NULL) {
        bs_heap_set_freed_hook(bs_park_freed);
        return;
    }
    bs_warn("scan:collect refused: %s; leaks are reported only (scan:leak)", why);
    bs_opt.scan = BS_SCAN_MODE_LEAK;
}

/* Threads that libc makes for itself (timers, the queues of aio) block all signals, and the first one what the program
 * was started with. */
static void take_signal(void) {
    (void)bs_world_start();
    bs_world_unblock();
    bs_thread_set_begin_hook(bs_world_unblock);
}

void bs_scanner_start(struct bs_world_shim *shim, const struct bs_collect_faults *faults) {
    static const struct bs_background_scans scans = {are_due, begin, scan_if_due, next, last, forked};
    bs_world_set_shim(shim);
    if (bs_opt.scan != BS_SCAN_MODE_OFF)
        bs_suppress_start();
    if (bs_opt.scan == BS_SCAN_MODE_QUARANTINE) {
        take_signal();
        bs_warden_start();
        return;
    }
    front = shim;
    if (bs_opt.scan != BS_SCAN_MODE_OFF)
        start_signal((int)bs_opt.scan_signal);
    take_signal();
    bs_background_set_scans(&scans);
    if (bs_opt.scan == BS_SCAN_MODE_COLLECT)
        start_collecting(faults);
}
