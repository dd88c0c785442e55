/* SPDX-License-Identifier: MIT */
/*
 * scan_drive.c - libbesom-scans.so: libbesom-scan.so with a helper that scans when a program of this
 * folder asks for it (scan_drive.h), and SCAN_PER_SECOND times a second besides, every second time by a
 * copy. The program may say how many leaks each of these has to report, and may want a time without any. At
 * the end of the process it is an error if less than SCAN_LEAST of them, or none, came to a verdict: the test
 * would prove nothing. How many a machine manages in a time is no promise, so programs go on until there are
 * enough. Each scan gets its line in the log, if there is one.
 *
 * The helper is of the kind that besom's is, and takes its place, so it uses of libc mem* and str* alone.
 */
#define _GNU_SOURCE
#include "scan_drive.h"

#include "background.h"
#include "heap.h"
#include "log.h"
#include "marks.h"
#include "os.h"
#include "round.h"
#include "scan.h"
#include "settle.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)
#define SHOWN __attribute__((visibility("default")))

static struct {
    uint64_t period_ns, start_ns;
    long leaks;                 /* [atomic] every scan has to report; negative: any */
    unsigned leaks_from;        /* [atomic] verdicts, before it has to */
    unsigned verdicts, others;  /* [atomic] of the periodic scans */
    unsigned wrong;             /* [atomic] leaks that the first wrong one reported, + 1 */
    uint32_t stop, sleep;       /* [atomic] */
    uint32_t asked, answered;   /* [atomic] scans that the program has asked for */
    uint32_t rests, works;      /* [atomic] the program wants nothing but these; the helper is at work */
    unsigned how;
    struct scan_seen seen;
    int pid;                    /* of the process that has the helper */
} drive = {.leaks = -1};

static void note(void *ctx, const struct bs_scan_result *r) {
    struct scan_seen *seen = ctx;
    *seen = (struct scan_seen){.end = (int)r->end,
                               .world = (int)r->world,
                               .culprit = r->culprit,
                               .threads = r->threads,
                               .concurrent = r->concurrent};
    if (r->verdict != NULL) {
        seen->lost_blocks = r->verdict->lost_blocks;
        seen->lost_bytes = r->verdict->lost_bytes;
        seen->leaks = r->verdict->reported.leaks;
        seen->waiting = r->verdict->waiting;
    }
    bs_log_scan("test", r);
}

static void run(unsigned how, struct scan_seen *seen) {
    const struct bs_scan_rules rules = {
        .in_place_bytes = (how & SCAN_BY_COPY) != 0 ? 0 : SIZE_MAX,
        .finish_ns = UINT64_C(60000000000), /* a busy machine is no reason to give up */
        .concurrent = (how & SCAN_CONCURRENT) != 0 ? BS_SCAN_CONCURRENT_ALWAYS : BS_SCAN_CONCURRENT_NEVER};
    *seen = (struct scan_seen){.end = -1};
    (void)bs_scan_run(&rules, note, seen);
}

static void periodic(void) {
    struct scan_seen seen;
    static const unsigned ways[] = {0, SCAN_BY_COPY, SCAN_BY_COPY | SCAN_CONCURRENT};
    run(ways[drive.verdicts % BS_ARRAY_LEN(ways)], &seen);
    if (seen.end != BS_SCAN_DONE) {
        (void)bs_add(&drive.others, 1u);
        return;
    }
    long leaks = bs_load_acquire(&drive.leaks);
    if (leaks >= 0 && drive.verdicts >= bs_load(&drive.leaks_from) && seen.leaks != (uint64_t)leaks &&
        bs_load(&drive.wrong) == 0)
        bs_store(&drive.wrong, (unsigned)seen.leaks + 1);
    (void)bs_add(&drive.verdicts, 1u);
}

/* Each side says what it wants, and then looks at what the other one says. */
static bool begin_work(void) {
    __atomic_store_n(&drive.works, 1u, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&drive.rests, __ATOMIC_SEQ_CST) == 0)
        return true;
    bs_store_release(&drive.works, 0u);
    return false;
}

/* How long nothing is due then. */
static uint64_t work(uint64_t *next) {
    uint64_t now = bs_os_now_ns(), pause = NS_PER_S / 10;
    if (drive.period_ns != 0 && now >= *next) {
        periodic();
        now = bs_os_now_ns();
        *next = *next + drive.period_ns > now ? *next + drive.period_ns : now;
    }
    (void)bs_background_round();
    bs_store_release(&drive.works, 0u);
    return drive.period_ns != 0 ? bs_min(pause, bs_sub_clamped(*next, now) + 1) : pause;
}

static void helper(void *arg) {
    uint64_t next = bs_os_now_ns();
    (void)arg;
    bs_os_helper_own_descriptors();
    bs_round_helper_begins(); /* as background.c: a fork waits for it, or keeps it */
    while (!bs_load(&drive.stop)) {
        uint32_t asked = bs_load_acquire(&drive.asked);
        if (asked != bs_load(&drive.answered)) {
            run(drive.how, &drive.seen);
            bs_store_release(&drive.answered, asked);
            bs_os_wake(&drive.answered, 1);
        }
        uint64_t pause = begin_work() ? work(&next) : NS_PER_S / 10;
        bs_round_helper_ends();
        bs_os_wait(&drive.asked, asked, pause);
        bs_round_helper_begins();
    }
    bs_round_helper_ends();
}

/* --- for programs ----------------------------------------------------------------------------- */

static BS_NOINLINE void ask(unsigned how) {
    if ((how & SCAN_BY_CALLER) != 0 || drive.pid != bs_os_pid()) {
        run(how, &drive.seen);
        return;
    }
    drive.how = how;
    (void)bs_add(&drive.asked, 1u);
    bs_os_wake(&drive.asked, 1);
}

static bool over(struct scan_seen *seen) {
    if (drive.pid == bs_os_pid() && bs_load_acquire(&drive.answered) != bs_load(&drive.asked))
        return false;
    *seen = drive.seen;
    return true;
}

static int is_lost(const void *block) {
    uint32_t slot;
    struct bs_span *s = bs_span_of((uintptr_t)block);
    if (s == NULL || !bs_slot_of(s, (uintptr_t)block, &slot))
        return -1;
    return (int)(bs_marks_bits(s->base, BS_SIDE_LOST, slot / 64) >> (slot % 64) & 1);
}

static void counts(unsigned *verdicts, unsigned *others) {
    *verdicts = bs_load(&drive.verdicts);
    *others = bs_load(&drive.others);
}

/* One scan may be under way, one finds them lost, the next one reports them. */
static void expect(unsigned leaks) {
    bs_store(&drive.leaks_from, bs_load(&drive.verdicts) + 2);
    bs_store_release(&drive.leaks, (long)leaks);
}

static bool rest(bool wanted) {
    __atomic_store_n(&drive.rests, wanted ? 1u : 0u, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&drive.works, __ATOMIC_SEQ_CST) == 0;
}

extern const struct scan_drive scan_drive_functions;
SHOWN const struct scan_drive scan_drive_functions = {ask, over, is_lost, counts, expect, rest};

/* --- begin and end ---------------------------------------------------------------------------- */

__attribute__((constructor(102))) static void start(void) {
    const char *rate = getenv("SCAN_PER_SECOND");
    drive.period_ns = rate != NULL && atoi(rate) > 0 ? NS_PER_S / (unsigned)atoi(rate) : 0;
    drive.start_ns = bs_os_now_ns();
    /* A thread of the program would find besom's own helper missing, and do its work itself: with descriptors. */
    static const uint32_t looks = BS_HELPER_LOOKS;
    if (bs_os_helper_start(helper, NULL) == 0) {
        drive.pid = bs_os_pid();
        bs_heap_set_work_hook(NULL, &looks);
    }
}

__attribute__((destructor(102))) static void finish(void) {
    if (drive.pid != bs_os_pid())
        return;
    bs_store(&drive.stop, 1u);
    bs_os_wake(&drive.asked, 1);
    while (bs_os_helper_tid() != 0)
        usleep(1000);
    if (drive.period_ns == 0)
        return;
    const char *text = getenv("SCAN_LEAST");
    uint64_t due = (bs_os_now_ns() - drive.start_ns) / drive.period_ns;
    uint64_t least = text != NULL ? (uint64_t)atoi(text) : 1;
    dprintf(1, "scan_drive: %u verdicts, %u scans without one\n", drive.verdicts, drive.others);
    if (drive.wrong != 0)
        dprintf(2, "scan_drive: %u leaks were reported, not %ld\n", drive.wrong - 1, drive.leaks);
    if (drive.verdicts < least)
        dprintf(2, "scan_drive: only %u verdicts of %llu due\n", drive.verdicts,
                (unsigned long long)due);
    if (drive.wrong != 0 || drive.verdicts < least)
        _exit(1);
}
