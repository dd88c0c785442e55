/* SPDX-License-Identifier: MIT */
/*
 * background.c - see background.h. The helper holds no lock and no file descriptor between rounds.
 *
 *   state   NONE or OWED --a slow door (CAS)--> RUNNING --the helper, at its end--> NONE or OWED
 *           RESTING <--the helper--> RUNNING, also by a slow door (CAS), which wakes it
 *
 * Lost work is impossible: a slow door that sees RUNNING leaves its work to the helper, which
 * looks for work once more after it has stored NONE or RESTING. (But where it ends since its rights were given
 * up: then the next door finds the work.)
 */
#include "background.h"

#include "counter.h"
#include "heap.h"
#include "idle.h"
#include "limit.h"
#include "lock.h"
#include "log.h"
#include "opt.h"
#include "os.h"
#include "pacer.h"
#include "round.h"
#include "scavenge.h"
#include "sink.h"
#include "sweep.h"
#include "thp.h"

#include <errno.h>

#define NS_PER_MS UINT64_C(1000000)

/* OWED: none, but there is to be one whether there is work or not. heap.c knows them as heap.h says. */
enum { NONE = BS_HELPER_NONE, RUNNING = BS_HELPER_LOOKS, OWED = BS_HELPER_WANTED, RESTING = BS_HELPER_RESTS };

static struct {
    const struct bs_background_scans *scans; /* [init] NULL: the plain library */
    uint32_t state;         /* [atomic] */
    uint32_t sleep;         /* [atomic] futex word; 1: do not sleep */
    int pid;                /* [init; child after fork] a vfork child is seen by its other pid */
    bool refused;           /* [atomic] no thread to be had: pieces from now on */
    bool unsaid;            /* [atomic] and the log does not know yet: a handler has found out */
    uint64_t next_piece_ns; /* [atomic] no piece before */
    uint64_t looked_ns;     /* [atomic] when the clock was last asked for that */
    uint32_t skips;         /* [atomic] so many calls more do without */
    bool idle_noted;        /* [helper] */
    uint64_t marks_refused; /* [helper] of that counter, what was noted */
    uint64_t next_report_ns; /* [helper] of log_interval */
    uint64_t next_refusal_ns; /* [atomic] no line about a refused request before */
} bg;

/* --- one round -------------------------------------------------------------------------------- */

static void note_if_unavailable(void) {
    if (bg.idle_noted || !bs_idle_is_unavailable())
        return;
    bg.idle_noted = true;
    bs_log_note("membarrier or /proc is missing, or closed to a process that has changed its user: caches of sleeping threads are "
                "not emptied");
}

/* A line for each excess; refusals come in crowds: at most one in BS_LIMIT_ROOM_NS. */
static void say_limit_notes(uint64_t now_ns) {
    struct bs_limit_note note = bs_limit_take_note();
    if ((note.what & BS_LIMIT_NOTE_REFUSED) != 0) {
        uint64_t due = bs_load(&bg.next_refusal_ns);
        if (now_ns < due ||
            !__atomic_compare_exchange_n(&bg.next_refusal_ns, &due, now_ns + BS_LIMIT_ROOM_NS, false,
                                         __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            note.what &= ~(uint32_t)BS_LIMIT_NOTE_REFUSED;
    }
    if (note.what != 0)
        bs_log_limit(&note);
}

static void note_refused_marks(void) {
    uint64_t refused = bs_counted(marks_refused);
    if (refused == bg.marks_refused)
        return;
    bg.marks_refused = refused;
    bs_log_note("no memory for mark bits: a scan went another way, or was given up");
}

/* A line, if anything came of it. */
static void say_sweep(const struct bs_sweep_work *work, const struct bs_idle_work *idle, uint64_t start_ns) {
    if (work->returned != 0 || work->orphans != 0 || idle->drained != 0)
        bs_log_sweep(work, idle, bs_os_now_ns() - start_ns);
}

static bool sweep_round(void) {
    uint64_t start = bs_os_now_ns();
    bs_round_enter();
    bs_limit_look(start);
    struct bs_sweep_work work = bs_sweep(SIZE_MAX, 64);
    struct bs_idle_work idle = bs_idle_round();
    bs_round_leave();
    note_if_unavailable();
    note_refused_marks();
    say_sweep(&work, &idle, start);
    return work.returned != 0 || idle.drained != 0 || idle.more;
}

static bool scavenge_round(void) {
    uint64_t start = bs_os_now_ns();
    struct bs_scavenge_work work;
    size_t goal_pages;
    bs_round_enter();
    bool more = bs_scavenge_round(false, &work, &goal_pages);
    bs_round_leave();
    if (work.calls != 0)
        bs_log_scavenge(&work, bs_pageheap_dirty_bytes(), goal_pages * BS_PAGE_SIZE,
                        bs_os_now_ns() - start);
    return more;
}

BS_ALWAYS static bool reports_are_due(void) {
    return bs_opt.log_interval != 0 && bs_log_is_on();
}

/* The helper stays for them, work or not. */
BS_ALWAYS static bool stays(void) {
    return reports_are_due() || (bg.scans != NULL && bg.scans->are_due());
}

static void report_if_due(uint64_t now_ns) {
    if (!reports_are_due() || now_ns < bg.next_report_ns)
        return;
    bg.next_report_ns = now_ns + bs_opt.log_interval * 1000u * NS_PER_MS;
    bs_log_report("interval");
}

bool bs_background_round(void) {
    uint64_t cpu = bs_os_thread_cpu_ns();
    bool swept = sweep_round();
    bool more = scavenge_round();
    bs_limit_note_excess(0);
    say_limit_notes(bs_os_now_ns());
    report_if_due(bs_os_now_ns());
    bs_count(background_wakes, 1);
    bs_count(background_cpu_ns, bs_sub_clamped(bs_os_thread_cpu_ns(), cpu));
    return swept || more;
}

/* The pause after a round that took worked_ns. The helper's share is of one CPU, or of what the
 * cgroup may use if that is less; under pressure it is larger. */
uint64_t bs_background_pause_ns(struct bs_pacer *pacer, uint64_t now_ns, uint64_t worked_ns) {
    enum bs_pressure pressure = bs_limit_pressure();
    uint32_t cpu = bs_limit_cpu_pct();
    uint64_t share = bs_opt.scavenge_cpu;
    if (cpu != 0 && cpu < 100)
        worked_ns = worked_ns * 100 / cpu;
    if (pressure != BS_PRESSURE_NONE)
        share = bs_max(share, bs_min(share * BS_LIMIT_CPU_FACTOR, BS_LIMIT_CPU_MAX_PCT));
    uint64_t ns = bs_pacer_pause_ns(pacer, now_ns, worked_ns, share);
    /* the next tick comes soon only if there is something to give back */
    bool hurry = pressure == BS_PRESSURE_OVER && ns == BS_TICK_MS * NS_PER_MS &&
                 bs_limit_excess() > BS_LIMIT_HELP_MIN_BYTES;
    return hurry ? BS_LIMIT_TICK_MS * NS_PER_MS : ns;
}

/* --- the helper ------------------------------------------------------------------------------- */

/* Before has_work is asked. A door counts what it leaves under a lock, lets that go, and looks at the state: if it sees
 * RUNNING it leaves its work to us, so we have to see what it has counted. On x86-64 both the exchange and the letting go
 * are full barriers. Elsewhere neither is, and the door's look may come before its count is to be seen by others: there
 * every thread is made to pass one, here and not at each door. */
static void say_state(uint32_t state) {
    (void)__atomic_exchange_n(&bg.state, state, __ATOMIC_SEQ_CST);
#if !defined(__x86_64__)
    bs_os_barrier_or_wait();
#endif
}

static bool has_work(void) {
    return bs_scavenge_has_work() || bs_sweep_has_work() || bs_idle_has_work() || bs_load(&bg.sleep) != 0;
}

/* Looks once more after NONE was stored. A door that is trying to start a helper cannot succeed while we exist, so we
 * wait until it gave up. A handler of a signal may have interrupted it and fork: our waiting is no work. */
static bool resume(void) {
    while (has_work()) {
        uint32_t expected = NONE;
        if (__atomic_compare_exchange_n(&bg.state, &expected, RUNNING, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return true;
        bs_round_helper_ends();
        bs_os_yield();
        bs_round_helper_begins();
    }
    return false;
}

/* A scan, if one is due. */
static void scan_round(void) {
    if (bg.scans == NULL)
        return;
    uint64_t cpu = bs_os_thread_cpu_ns();
    bg.scans->round(bs_os_now_ns());
    bs_count(background_cpu_ns, bs_sub_clamped(bs_os_thread_cpu_ns(), cpu));
}

/* Waits so long; scans that are called for come between. */
static void pause_for(uint64_t ns) {
    for (uint64_t now = bs_os_now_ns(), end = now + ns; now < end; now = bs_os_now_ns()) {
        bs_round_helper_ends();
        bs_os_wait(&bg.sleep, 0, end - now);
        bs_round_helper_begins();
        if (bs_load(&bg.sleep) == 0)
            continue;
        bs_store(&bg.sleep, 0u);
        scan_round();
    }
}

/* The heap, with what is still to be given back of one that was larger. Doors do such a heap's work themselves, by
 * pieces: without something that is due there would be no helper. */
static bool is_small(void) {
    return bs_pageheap_used_bytes() + bs_pageheap_dirty_bytes() < BS_BACKGROUND_THRESHOLD_BYTES;
}

/* When somebody wants the helper, work or not; 0: now, or nobody does. */
static uint64_t next_due_ns(void) {
    uint64_t due = reports_are_due() ? bg.next_report_ns : UINT64_MAX;
    if (bg.scans != NULL && bg.scans->are_due())
        due = bs_min(due, bg.scans->next());
    return stays() ? due : 0;
}

/* The process has given up rights that this thread has still, and may not give up itself. */
static bool rights_are_lost(void) {
    return !bs_os_same_credentials() && !bs_os_take_credentials();
}

/* (Called for: also in a small heap.) */
static bool wants_helper(void) {
    return is_small() ? bs_load(&bg.sleep) != 0 : has_work();
}

/* Nothing was to be done for a while, or the heap is small, and something will be due: until then, or until a door finds
 * work for the helper. A program that is idle is not disturbed in between, unless it has rights that it may give up, which
 * this thread would keep. True: it has. */
static bool rest(uint64_t until_ns) {
    bool watchful = bs_os_has_capabilities(), given_up = false;
    say_state(RESTING);
    for (uint64_t now = bs_os_now_ns(); now < until_ns && !given_up && bs_load(&bg.state) == RESTING && !wants_helper();
         now = bs_os_now_ns()) {
        bs_round_helper_ends();
        bs_os_wait(&bg.sleep, 0, watchful ? bs_min(until_ns - now, BS_RIGHTS_LOOK_NS) : until_ns - now);
        bs_round_helper_begins();
        given_up = watchful && rights_are_lost();
    }
    bs_store(&bg.state, (uint32_t)RUNNING);
    return given_up || rights_are_lost();
}

static void ask_kernel(void) {
    bs_round_enter();
    bs_thp_refresh(bs_os_now_ns());
    bs_round_leave();
}

static void helper(void *arg) {
    unsigned idle_ticks = 0, ticks = 0;
    bool rights_given_up = false, was_large = false;
    struct bs_pacer pacer;
    (void)arg;
    if (!bs_sink_is_stderr()) /* lines go to the program's, as it is at that moment */
        bs_os_helper_own_descriptors();
    bs_pacer_start(&pacer, bs_os_now_ns());
    bs_round_helper_begins();
    bs_lock_forget_held(); /* debug: a fork may have cut the last helper short in a lock */
    bg.next_report_ns = bs_os_now_ns() + bs_opt.log_interval * 1000u * NS_PER_MS;
    ask_kernel(); /* first: a heap that grows now wants to know */
    if (bg.scans != NULL)
        bg.scans->begin(bs_os_now_ns());
    do {
        for (idle_ticks = 0; idle_ticks < BS_IDLE_TICKS || stays();) {
            uint64_t cpu = bs_os_thread_cpu_ns(), start = bs_os_now_ns();
            bool more = bs_background_round();
            idle_ticks = more ? 0 : idle_ticks + 1;
            rights_given_up = ++ticks % 10 == 0 && rights_are_lost();
            if (rights_given_up)
                break; /* the next helper is made without them */
            uint64_t worked = bs_sub_clamped(bs_os_thread_cpu_ns(), cpu);
            if (worked == 0) /* no such clock here: time on the wall is at least as much */
                worked = bs_sub_clamped(bs_os_now_ns(), start);
            bs_round_helper_gives_way();
            scan_round();
            uint64_t pause = bs_background_pause_ns(&pacer, bs_os_now_ns(), worked);
            was_large |= !is_small(); /* then what is left of it is given back first */
            uint64_t due = idle_ticks < BS_IDLE_TICKS && was_large ? 0 : next_due_ns();
            if (due > bs_os_now_ns() + pause) {
                was_large = false;
                rights_given_up = rest(due);
                bs_store(&bg.sleep, 0u); /* before the round that looks what was called for */
            } else {
                pause_for(pause);
            }
            if (rights_given_up)
                break;
            if (bs_os_now_ns() < due) /* a door has found work */
                idle_ticks = 0;
        }
        say_state(rights_given_up && stays() ? OWED : NONE);
    } while (!rights_given_up && resume());
    bs_round_helper_ends();
}

void bs_background_nudge(void) {
    bs_store(&bg.sleep, 1u);
    bs_os_wake(&bg.sleep, 1);
}

/* (The word keeps a helper from sleeping that has not seen the state.) */
static void wake_resting(void) {
    uint32_t before = RESTING;
    if (__atomic_compare_exchange_n(&bg.state, &before, RUNNING, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        bs_background_nudge();
}

/* In a handler too. */
static void start_helper_quietly(void) {
    uint32_t before = bs_load(&bg.state);
    if (before == RESTING) {
        wake_resting();
        return;
    }
    if (before == RUNNING || !__atomic_compare_exchange_n(&bg.state, &before, RUNNING, false,
                                                          __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    int err = bs_os_pid() != bg.pid ? EBUSY : bs_os_helper_start(helper, NULL);
    if (err == 0) {
        bs_count(background_starts, 1);
        return;
    }
    bs_store_release(&bg.state, err == EBUSY ? before : (uint32_t)NONE);
    if (err == EBUSY) /* the last helper is about to end, or this is a vfork child */
        return;
    bs_store(&bg.unsaid, true);
    bs_store(&bg.refused, true);
}

/* Once in a process. */
static BS_COLD void say_refused(void) {
    if (__atomic_exchange_n(&bg.unsaid, false, __ATOMIC_RELAXED))
        bs_log_note(bs_opt.scan == BS_SCAN_MODE_QUARANTINE
                        ? "no helper thread can be had: memory is returned in small pieces, threads that free search themselves"
                        : "no helper thread can be had: memory is returned in small pieces");
}

static void start_helper(void) {
    start_helper_quietly();
    if (bs_load(&bg.unsaid))
        say_refused();
}

void bs_background_wake(void) {
    bs_background_nudge();
    if (bs_load(&bg.state) != RUNNING && bs_opt.background && !bs_load(&bg.refused))
        start_helper_quietly();
}

/* (One that rests does so no more when it sees the word.) */
bool bs_background_is_there(void) {
    uint32_t state = bs_load(&bg.state);
    return (state == RUNNING || state == RESTING) && !bs_os_helper_is_lost();
}
bool bs_background_call(void) {
    bs_background_wake();
    if (bs_load(&bg.unsaid))
        say_refused();
    return bs_background_is_there();
}

/* --- the slow doors' hook --------------------------------------------------------------------- */

/* A program that stays small and has free pages comes here from each slow door. Where these follow each
 * other quickly most do not ask for the time. */
static bool asks_clock(uint64_t *now) {
    uint32_t skips = bs_load(&bg.skips);
    if (skips != 0) {
        bs_store(&bg.skips, skips - 1);
        return false;
    }
    *now = bs_os_now_ns();
    bs_store(&bg.skips, *now - bs_load(&bg.looked_ns) < BS_PIECE_BUSY_NS ? BS_PIECE_SKIPS : 0u);
    bs_store(&bg.looked_ns, *now);
    return true;
}

static void piece(void) {
    uint64_t now, due = bs_load(&bg.next_piece_ns);
    if (!asks_clock(&now) || now < due ||
        !__atomic_compare_exchange_n(&bg.next_piece_ns, &due, now + BS_TICK_MS * NS_PER_MS, false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    struct bs_scavenge_work work;
    size_t goal_pages;
    (void)bs_tcache_was_busy(); /* sleeping threads are the helper's; do not be called for them */
    if (!bs_round_try())
        return;
    bs_limit_look(now);
    struct bs_sweep_work swept = bs_sweep(BS_EMPTY_BATCH, 4);
    (void)bs_scavenge_round(true, &work, &goal_pages);
    bs_round_leave();
    bs_limit_note_excess(0);
    say_limit_notes(now);
    if (BS_UNLIKELY(bs_load(&bg.unsaid)))
        say_refused();
    say_sweep(&swept, &(struct bs_idle_work){0, 0, false}, now);
    if (work.calls != 0)
        bs_log_scavenge(&work, bs_pageheap_dirty_bytes(), goal_pages * BS_PAGE_SIZE,
                        bs_os_now_ns() - now);
}

static void work_hook(void) {
    if (BS_UNLIKELY(bs_limit_has_note()))
        say_limit_notes(bs_os_now_ns());
    uint32_t state = bs_load(&bg.state);
    if (state == RUNNING)
        return;
    if (state == RESTING && !is_small())
        wake_resting();
    else if (state != RESTING && bs_opt.background && !bs_load(&bg.refused) &&
        (state == OWED || bs_pageheap_used_bytes() >= BS_BACKGROUND_THRESHOLD_BYTES))
        start_helper();
    else
        piece();
}

void bs_background_set_scans(const struct bs_background_scans *scans) {
    bg.scans = scans;
}

uint64_t bs_background_last_scan(void) {
    return bg.scans != NULL ? bg.scans->last() : 0;
}

BS_ALWAYS void bs_background_start(void) {
    bg.pid = bs_os_pid();
    bs_limit_start();
    bs_heap_set_work_hook(work_hook, &bg.state);
    /* a report, or a scan, every few seconds needs the helper whether there is work or not */
    if (stays())
        start_helper();
}

void bs_background_forked(void) {
    bg.pid = bs_os_pid();
    bs_store(&bg.state, (uint32_t)NONE);
    bs_store(&bg.refused, false);
    bs_store(&bg.unsaid, false);
    bs_os_helper_forget();
    if (bg.scans != NULL)
        bg.scans->forked();
}
