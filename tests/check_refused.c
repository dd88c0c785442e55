/* SPDX-License-Identifier: MIT */
/*
 * check_refused.c - scenario by scenario, each system call that it makes is refused: the first time, some other time,
 * and for good. check_faults.c does that to calls that may fail in the field, and to the heap; here are all numbers,
 * as a filter in a sandbox knows them, and what searches memory, writes files and forks.
 *
 * Every run is a fresh process with a limit in time. While calls are refused less may be found, and nothing wrong: no
 * block that something points to is lost, given away or changed. With the calls allowed again everything works.
 *
 * Needs BS_FAULTS (the test copy of the core has it).
 */
#define _GNU_SOURCE
#include "collect_unit.h"
#include "scan_unit.h"

#include "background.h"
#include "fork.h"
#include "ledger.h"
#include "limit.h"
#include "log.h"
#include "record.h"
#include "scavenge.h"
#include "warden.h"

#include <sys/mman.h>
#include <sys/stat.h>

#define SECONDS 60 /* a run, at most */

static struct bs_os_call_faults *calls; /* shared with all copies of the process */

/* --- what is known to be in use -------------------------------------------------------------- */

enum { NODES = 400 };
struct node {
    struct node *next;
    uintptr_t value[6];
};
/* All that leads to it is a word on the first thread's stack, whose mapping comes last of all. */
static uintptr_t hidden_list;
static struct node *list(void) {
    return (struct node *)~hidden_list;
}

/* So many mappings that the kernel tells of them in several pieces. */
static void make_mappings(void) {
    enum { PAGES = 200 };
    size_t os_page = bs_os_page_size();
    char *p = mmap(NULL, PAGES * os_page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHILD_CHECK(p != MAP_FAILED);
    for (size_t i = 0; i < PAGES; i += 2)
        CHILD_CHECK(mprotect(p + i * os_page, os_page, PROT_NONE) == 0);
}

static void make_list(void) {
    struct node *first = NULL;
    make_mappings();
    for (unsigned i = 0; i < NODES; i++) {
        struct node *n = bs_heap_alloc(i % 40 == 0 ? 40000 : sizeof *n);
        CHILD_CHECK(n != NULL);
        n->next = first;
        for (unsigned k = 0; k < BS_ARRAY_LEN(n->value); k++)
            n->value[k] = i + k;
        first = n;
    }
    hidden_list = ~(uintptr_t)first;
}
static bool is_lost(const void *p) {
    uint32_t slot;
    struct bs_span *s = bs_span_of((uintptr_t)p);
    CHILD_CHECK(s != NULL && bs_slot_of(s, (uintptr_t)p, &slot) && bs_bit_test(s->alloc, slot));
    return (bs_marks_bits(s->base, BS_SIDE_LOST, slot / 64) >> (slot % 64) & 1) != 0;
}
static void check_list(void) {
    unsigned i = NODES;
    for (const struct node *n = list(); n != NULL; n = n->next) {
        i--;
        for (unsigned k = 0; k < BS_ARRAY_LEN(n->value); k++)
            CHILD_CHECK(n->value[k] == i + k);
    }
    CHILD_CHECK(i == 0);
}
static void no_node_is_lost(void) {
    for (const struct node *n = list(); n != NULL; n = n->next)
        CHILD_CHECK(!is_lost(n));
}

static char folder[] = "/tmp/check_refused.XXXXXX";
static void log_to(const char *name) {
    snprintf(bs_opt.log, sizeof bs_opt.log, "%s/%s", folder, name);
    bs_opt.log_format = BS_LOG_JSON;
    bs_opt.log_stacks = 10;
    bs_log_start();
}

/* --- scans ------------------------------------------------------------------------------------ */

static void log_result(void *ctx, const struct bs_scan_result *result) {
    note_result(ctx, result);
    bs_log_scan("test", result);
}
static void scan_as(int way) {
    setup(way);
    log_to("%p");
    make_list();
    start_threads(1, busy);
    (void)site_a(100);
    wipe();
}
static void in_place(void) {
    scan_as(IN_PLACE);
}
static void by_copy(void) {
    scan_as(BY_COPY);
    rules.searchers = 3;
}
static void concurrent(void) {
    scan_as(CONCURRENT);
}
static void scan(void) {
    for (unsigned i = 0; i < 2; i++) {
        wipe();
        CHILD_CHECK(bs_scan_run(&rules, log_result, &got));
        CHILD_CHECK(got.end != BS_SCAN_DIED || calls->number == SYS_wait4); /* then nobody knows how it ended */
        CHILD_CHECK((got.end == BS_SCAN_DONE) == (got.verdict != NULL));
        CHILD_CHECK(got.verdict == NULL || verdict.lost_blocks <= 1);
        no_node_is_lost();
    }
}
/* The leak is found, whatever was learned about the kernel. */
static void scans_find_it(void) {
    for (unsigned i = 0; i < 3; i++) {
        wipe();
        CHILD_CHECK(bs_scan_run(&rules, log_result, &got));
        CHILD_CHECK(got.end == BS_SCAN_DONE);
    }
    CHILD_CHECK(verdict.lost_blocks == 1 && verdict.reported.leaks == 1);
    no_node_is_lost();
    join_threads(1);
}

/* --- collection ------------------------------------------------------------------------------- */

static uintptr_t lost[4];
static unsigned given; /* blocks that were given away */
static bool is_watched(void) {
    return true;
}
static void collect_in(int way) {
    static const struct bs_collect_faults faults = {start_watching, is_watched};
    static const struct bs_collect_rules times = {.scans = 2};
    scan_as(way);
    bs_heap_set_freed_hook(bs_park_freed);
    CHILD_CHECK(bs_collect_start(&times, &faults));
    for (unsigned i = 0; i < BS_ARRAY_LEN(lost); i++) {
        lost[i] = site_b(64 * BS_KIB);
        *SHOWN(lost[i]) = SHOWN((uintptr_t)i);
    }
    wipe();
}
static void collect_in_place(void) {
    collect_in(IN_PLACE);
}
static void collect_by_copy(void) {
    collect_in(BY_COPY);
}
static void log_collection(void *ctx, const struct bs_scan_result *result) {
    log_result(ctx, result);
    const struct bs_collect_report *report = bs_collect_after(result);
    for (size_t i = 0; i < report->n; i++)
        given += report->note[i].what == BS_COLLECT_RECLAIMED ? (unsigned)report->note[i].blocks : 0;
    bs_log_collect(report);
}
static void collect_once(void) {
    wipe();
    rules.guest = bs_collect_guest();
    CHILD_CHECK(bs_scan_run(&rules, log_collection, &got));
    no_node_is_lost();
    check_list();
}
/* Somebody comes to one of them while it is closed. */
static void collect(void) {
    for (unsigned i = 0; i < 3; i++)
        collect_once();
    if (given == 0)
        CHILD_CHECK(*SHOWN(lost[0]) == SHOWN((uintptr_t)0));
    for (unsigned i = 0; i < 3; i++)
        collect_once();
}
static void collects_again(void) {
    uintptr_t more = site_a(128 * BS_KIB);
    unsigned before_it = given;
    (void)more;
    for (unsigned i = 0; i < 6 && given == before_it; i++)
        collect_once();
    CHILD_CHECK(given != before_it);
    join_threads(1);
}

/* --- the quarantine --------------------------------------------------------------------------- */

enum { HELD = 40 };
static void *pointed[HELD / 4];
static uintptr_t unpointed[HELD];

static void __attribute__((noinline)) free_half(void) {
    for (unsigned i = 0; i < HELD; i++) {
        unpointed[i] = site_a(i % 8 == 0 ? 50000 : 600);
        if (i % 4 == 0)
            pointed[i / 4] = SHOWN(unpointed[i]);
    }
    for (unsigned i = 0; i < HELD; i++)
        bs_heap_free(SHOWN(unpointed[i]));
}
static void quarantine_as(enum bs_hunt_mode mode) {
    setup(IN_PLACE);
    log_to("%p");
    bs_opt.scan = BS_SCAN_MODE_QUARANTINE;
    bs_opt.quarantine_mode = mode;
    bs_warden_start();
    make_list();
    start_threads(1, busy);
    free_half();
    wipe();
}
static void quarantine_concurrent(void) {
    quarantine_as(BS_HUNT_CONCURRENT);
}
static void quarantine_sound(void) {
    quarantine_as(BS_HUNT_SOUND);
}
static void quarantine_probabilistic(void) {
    quarantine_as(BS_HUNT_PROBABILISTIC);
}
static bool is_out(const void *p) {
    uint32_t slot;
    struct bs_span *s = bs_span_of((uintptr_t)p);
    return s != NULL && (s->class == 0 ? s->base == (uintptr_t)p
                                       : bs_slot_of(s, (uintptr_t)p, &slot) && bs_bit_test(s->alloc, slot));
}
static void check_pointed(void) {
    for (unsigned i = 0; i < BS_ARRAY_LEN(pointed); i++) {
        CHILD_CHECK(is_out(pointed[i]));
        CHILD_CHECK(*(uintptr_t *)pointed[i] == 0); /* as it was when it was freed, or zeros */
    }
}
static void hunt(void) {
    for (unsigned i = 0; i < 3; i++) {
        wipe();
        (void)bs_heap_trim(0);
        check_pointed();
    }
}
static void hunts_release_the_others(void) {
    unsigned out = 0;
    bs_heap_free(bs_heap_alloc(600)); /* at the least one more */
    hunt();
    for (unsigned i = 0; i < HELD; i++)
        out += is_out(SHOWN(unpointed[i]));
    CHILD_CHECK(out < HELD / 2);
    join_threads(1);
}

/* --- files, forks, the helper ----------------------------------------------------------------- */

static void make_record(void) {
    snprintf(bs_opt.record, sizeof bs_opt.record, "%s/%%e.%%p.%%n", folder);
    make_list();
}
static void record(void) {
    bs_record_start();
    for (unsigned i = 0; i < 3000; i++) {
        void *p = bs_heap_alloc(i);
        bs_record_made(BS_RECORD_MALLOC, p, i, 16);
        bs_record_freed(p);
        bs_heap_free(p);
    }
    bs_record_finish();
}
static void nothing(void) {
}

static void make_log(void) {
    snprintf(bs_opt.log, sizeof bs_opt.log, "%s/%%e.%%n", folder);
    bs_opt.log_format = BS_LOG_TEXT;
    bs_opt.log_stacks = 10;
    bs_opt.sample = 1;
    bs_heap_start_sampling();
    make_list();
}
static void write_log(void) {
    struct bs_ledger ledger;
    bs_log_start();
    for (unsigned i = 0; i < 3; i++) {
        bs_log_note("a note");
        bs_log_report("exit");
        (void)bs_ledger_take(&ledger);
    }
}
static void lines_are_whole(void) {
    char command[128];
    if (!bs_log_is_on())
        return;
    bs_log_note("the last");
    snprintf(command, sizeof command, "! cat %s/* | grep -v '^besom\\[[0-9]*\\] '", folder);
    CHILD_CHECK(system(command) == 0);
}

static void fork_options(void) {
    bs_opt.scavenge_delay = 10;
    log_to("%p");
    bs_fork_start();
    bs_background_start();
    make_list();
}
static void fork_often(void) {
    for (unsigned i = 0; i < 3; i++) {
        void *p = bs_heap_alloc(40 * BS_MIB);
        CHILD_CHECK(p == NULL || memset(p, 1, 40 * BS_MIB) != NULL);
        bs_heap_free(p);
        bs_background_nudge();
        int status;
        pid_t pid = fork();
        if (pid < 0)
            continue;
        if (pid == 0) {
            check_list();
            for (unsigned k = 0; k < 100; k++)
                bs_heap_free(bs_heap_alloc(k * 1000));
            bs_log_note("a child");
            _exit(0);
        }
        CHILD_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    }
}

static void closing_heap(void) {
    bs_opt.decommit = BS_DECOMMIT_HARD;
    make_list();
}
static void lazy_heap(void) {
    bs_opt.advice = BS_ADVICE_FREE;
    make_list();
}
static void edge_heap(void) {
    bs_opt.thp = BS_THP_EDGE;
    make_list();
}
static void never_heap(void) {
    bs_opt.thp = BS_THP_NEVER;
    make_list();
}
static void up_and_down(void) {
    enum { BLOCKS = 60 };
    unsigned char *p[BLOCKS];
    bs_opt.scavenge_delay = 0;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < BLOCKS; i++)
            if ((p[i] = bs_heap_alloc(i % 2 == 0 ? BS_MIB + i * 5000 : 3000 + i)) != NULL)
                memset(p[i], (int)i, 3000);
        for (unsigned i = 0; i < BLOCKS; i++) {
            unsigned char *q = p[i] != NULL && i % 4 == 0 ? bs_heap_realloc(p[i], 9 * BS_MIB) : NULL;
            p[i] = q != NULL ? q : p[i];
        }
        for (unsigned i = 0; i < BLOCKS; i++) {
            CHILD_CHECK(p[i] == NULL || (p[i][0] == i && p[i][2999] == i));
            bs_heap_free(p[i]);
        }
        (void)bs_background_round();
        (void)bs_heap_trim(0);
    }
}
static void works(void) {
    for (unsigned i = 0; i < 30; i++) {
        void *p = bs_heap_alloc(1000 + i * 200000);
        CHILD_CHECK(p != NULL);
        bs_heap_free(p);
    }
    CHILD_CHECK(bs_heap_trim(0) || true);
}

enum { NSEARCHING = 8 }; /* the first of them */
static const struct scenario {
    const char *name;
    void (*prepare)(void), (*run)(void), (*after)(void);
    unsigned last; /* of the calls of a number that are refused alone; 0: all that there are */
} scenarios[] = {
    {"scan in place", in_place, scan, scans_find_it, 0},
    {"scan by copy", by_copy, scan, scans_find_it, 2}, /* a copy gives way: on a busy machine it takes long */
    {"concurrent scan", concurrent, scan, scans_find_it, 0},
    {"collection", collect_in_place, collect, collects_again, 0},
    {"collection by copy", collect_by_copy, collect, collects_again, 1},
    {"quarantine, concurrent", quarantine_concurrent, hunt, hunts_release_the_others, 0},
    {"quarantine, sound", quarantine_sound, hunt, hunts_release_the_others, 0},
    {"quarantine, probabilistic", quarantine_probabilistic, hunt, hunts_release_the_others, 0},
    {"record", make_record, record, nothing, 0},
    {"log by number", make_log, write_log, lines_are_whole, 0},
    {"fork", fork_options, fork_often, works, 0},
    {"decommit:hard", closing_heap, up_and_down, works, 0},
    {"MADV_FREE", lazy_heap, up_and_down, works, 0},
    {"thp:edge", edge_heap, up_and_down, works, 0},
    {"thp:never", never_heap, up_and_down, works, 0},
};

/* --- runs ------------------------------------------------------------------------------------- */

/* What no kernel refuses, what ends the process, and what would be waited for again and again. */
static bool may_be_refused(long number) {
    static const long others[] = {SYS_futex,  SYS_exit,         SYS_exit_group,     SYS_getpid,         SYS_gettid,
                                  SYS_getppid, SYS_sched_yield, SYS_clock_gettime, SYS_rt_sigprocmask, SYS_rt_sigreturn,
                                  SYS_close};
    for (size_t i = 0; i < BS_ARRAY_LEN(others); i++)
        if (number == others[i])
            return false;
    return true;
}
static int error_of(long number) {
    switch (number) {
    case SYS_mmap:
    case SYS_mprotect:
    case SYS_munmap:
    case SYS_mremap:
    case SYS_madvise:
    case SYS_getdents64:
        return ENOMEM;
    case SYS_openat:
        return EMFILE;
    case SYS_read:
    case SYS_pread64:
        return EIO;
    case SYS_write:
        return ENOSPC;
    case SYS_clone:
    case SYS_rt_tgsigqueueinfo:
        return EAGAIN;
    default:
        return EPERM;
    }
}

static void one_run(void *arg) {
    const struct scenario *s = arg;
    bs_store(&bs_os_call_faults, (struct bs_os_call_faults *)NULL);
    s->prepare();
    struct node *volatile only = list();
    bs_store(&bs_os_call_faults, calls);
    s->run();
    bs_store(&bs_os_call_faults, (struct bs_os_call_faults *)NULL);
    check_list();
    CHILD_CHECK(waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD); /* no copy is left, dead or alive */
    CHILD_CHECK(bs_pageheap_is_valid());
    s->after();
    CHILD_CHECK(only == list() && bs_pageheap_is_valid());
}
static unsigned nbroken; /* each is said */
static void must_run(const struct scenario *s, long number, unsigned at, int error, bool lasting) {
    *calls = (struct bs_os_call_faults){number, at, (unsigned)error, lasting, {0}};
    struct outcome o = child_run(one_run, (void *)(uintptr_t)s, SECONDS);
    if (child_ended_well(&o))
        return;
    printf("%s: call %u of number %ld%s, error %d: status %x (9: too slow): %s\n", s->name, at, number,
           lasting ? " and all later" : "", error, (unsigned)o.status, o.err);
    nbroken++;
}

static void loop(const struct scenario *s) {
    unsigned made[BS_ARRAY_LEN(calls->made)], refused = 0;
    must_run(s, -1, 0, 0, false);
    memcpy(made, calls->made, sizeof made);
    for (long number = 0; number < (long)BS_ARRAY_LEN(made); number++) {
        if (made[number] == 0 || !may_be_refused(number))
            continue;
        refused++;
        must_run(s, number, 1, EPERM, true);
        if (error_of(number) != EPERM && number != SYS_rt_tgsigqueueinfo) /* whose EAGAIN is waited out */
            must_run(s, number, 1, error_of(number), true);
        unsigned last = UNIT_SLOWNESS > 1 ? 1 : s->last != 0 ? s->last : made[number];
        unsigned each = number == SYS_read ? 70 : 2; /* so often one scan reads: any may be the one that tells of a root */
        for (unsigned at = 1; at <= bs_min(last, made[number]); at += at < each ? 1 : at)
            must_run(s, number, at, error_of(number), false);
    }
    ck_assert_uint_gt(refused, 1);
    ck_assert_uint_eq(nbroken, 0);
}

static void make_folder(void) {
    calls = mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(calls, MAP_FAILED);
    ck_assert_ptr_nonnull(mkdtemp(folder));
}
static void remove_folder(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(whatever_is_refused_nothing_is_wrong) {
    loop(&scenarios[_i]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("refused");
    TCase *tc = add_case(suite, "refused");
    tcase_set_timeout(tc, 2 * UNIT_TIMEOUT_S);
    tcase_add_checked_fixture(tc, make_folder, remove_folder);
    if (BS_SANITIZED)
        printf("left out under a sanitizer, whose shadow takes minutes where a lesser way has to search it: scans\n");
    tcase_add_loop_test(tc, whatever_is_refused_nothing_is_wrong, BS_SANITIZED ? NSEARCHING : 0,
                        (int)BS_ARRAY_LEN(scenarios));
    return run_suite(suite);
}
