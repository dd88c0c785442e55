/* SPDX-License-Identifier: MIT */
/*
 * check_faults.c - the fault loop: in each scenario the nth system call that may fail does fail,
 * once or from then on, for n = 1, 2, ... until a run needs fewer than n calls.
 *
 * Every run is a fresh process with a limit in time. In it an allocation either works or is NULL;
 * afterwards the blocks that were handed out hold what was written into them, the page heap is
 * valid, and with the faults gone everything works again and nothing has leaked.
 *
 * Needs BS_FAULTS (the test copy of the core has it).
 */
#include "background.h"
#include "child.h"
#include "counter.h"
#include "cycle.h"
#include "heap.h"
#include "ledger.h"
#include "limit.h"
#include "log.h"
#include "opt.h"
#include "os.h"
#include "pagemap.h"
#include "scavenge.h"
#include "sweep.h"
#include "thp.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>

#define SECONDS 60   /* a run, at most */
#define MAX_RUNS 2000 /* a scenario that still meets faults then is broken */
#define NO_FAULT 7   /* exit status: fewer than n calls were made */

/* --- blocks with known contents --------------------------------------------------------------- */

#define MAX_BLOCKS 100000
#define EDGE 64

static struct {
    unsigned char *p;
    size_t size;
} block[MAX_BLOCKS];
static size_t nblocks, nrefused;

static unsigned char byte_of(size_t i, size_t at) {
    return (unsigned char)(i * 7 + at + 1);
}
/* Both ends: touching all of every block would take the time of the test. */
static void mark(size_t i) {
    for (size_t at = 0; at < bs_min(block[i].size, EDGE); at++) {
        block[i].p[at] = byte_of(i, at);
        block[i].p[block[i].size - 1 - at] = byte_of(i, block[i].size - 1 - at);
    }
}
static bool is_marked(size_t i, size_t size) {
    for (size_t at = 0; at < bs_min(size, EDGE); at++)
        if (block[i].p[at] != byte_of(i, at))
            return false;
    for (size_t at = block[i].size - bs_min(block[i].size, EDGE); at < size; at++)
        if (at < block[i].size && block[i].p[at] != byte_of(i, at))
            return false;
    return true;
}
static void check_blocks(void) {
    for (size_t i = 0; i < nblocks; i++)
        CHILD_CHECK(block[i].p == NULL || is_marked(i, block[i].size));
}

static void keep(void *p, size_t size) {
    if (p == NULL) {
        nrefused++;
        return;
    }
    CHILD_CHECK(nblocks < MAX_BLOCKS);
    CHILD_CHECK(bs_heap_usable(p) >= size);
    block[nblocks].p = p;
    block[nblocks].size = size;
    mark(nblocks++);
}
static void keep_new(size_t size) {
    keep(bs_heap_alloc(size), size);
}
static void drop(size_t i) {
    if (block[i].p == NULL)
        return;
    CHILD_CHECK(is_marked(i, block[i].size));
    bs_heap_free(block[i].p);
    block[i].p = NULL;
}

/* --- scenarios -------------------------------------------------------------------------------- */

static void nothing(void) {
}

static void first_ever(void) {
    keep_new(100);
    keep_new(40000);
    keep_new(5 * BS_MIB);
    keep_new(100);
}

static void grow_by(unsigned nsmall, unsigned nlarge) {
    for (unsigned i = 0; i < nsmall; i++)
        keep_new(1000 + i % 5000);
    for (unsigned i = 0; i < nlarge; i++)
        keep_new(100000 + i * 25000);
}
static void growth(void) {
    grow_by(20000, 100); /* about 70 MB of small blocks, 130 MB of large ones */
}

/* So many that metadata for their spans must be mapped on the way. */
static void many_large(void) {
    for (size_t i = 0; i < 5000; i++)
        keep_new(33000 + i);
}

/* So much that each of them is several arenas, whose tables must be mapped. */
static void very_large(void) {
    for (int i = 0; i < 4; i++)
        keep_new(900 * BS_MIB);
}

/* Blocks behind the growing ones, so that they must move. */
static void grow_by_moving(void) {
    for (size_t size = 30000; size < 12 * BS_MIB; size = size * 3 / 2) {
        if (nblocks == 0)
            keep_new(size);
        if (nblocks == 0)
            continue;
        unsigned char *p = bs_heap_realloc(block[0].p, size);
        if (p != NULL) {
            size_t kept = bs_min(block[0].size, size);
            block[0].p = p;
            CHILD_CHECK(is_marked(0, kept));
            block[0].size = size;
            mark(0);
        } else {
            nrefused++;
        }
        CHILD_CHECK(is_marked(0, block[0].size));
        keep_new(BS_MIB);
    }
    for (size_t size = 4 * BS_MIB; nblocks != 0 && size > 100; size /= 5) { /* and back */
        unsigned char *p = bs_heap_realloc(block[0].p, size);
        if (p == NULL) {
            nrefused++;
            continue;
        }
        block[0].p = p;
        for (size_t at = 0; at < bs_min(size, EDGE); at++)
            CHILD_CHECK(p[at] == byte_of(0, at));
        block[0].size = size;
        mark(0);
    }
}

static void dirty_heap(void) {
    for (int i = 0; i < 3000; i++)
        keep_new(3000);
    for (int i = 0; i < 20; i++)
        keep_new(BS_MIB);
    for (size_t i = 0; i < nblocks; i++) {
        if (block[i].p == NULL)
            continue;
        memset(block[i].p, 0xee, block[i].size);
        mark(i);
        if (i % 100 != 0)
            drop(i);
    }
}

static void hard_heap(void) {
    bs_opt.decommit = BS_DECOMMIT_HARD;
    dirty_heap();
}
static void edge_heap(void) {
    bs_opt.thp = BS_THP_EDGE;
    dirty_heap();
}
static void huge_heap(void) {
    bs_thp_pretend(BS_THP_KERNEL_ALWAYS, 0);
    dirty_heap();
}

/* About 20 MiB are dirty; the next blocks find no room in them. */
static void limited_heap(void) {
    dirty_heap();
    bs_opt.limit = (struct bs_opt_limit){BS_LIMIT_BYTES, 16 * BS_MIB};
    bs_limit_start();
}
static void at_the_limit(void) {
    for (int i = 0; i < 8; i++) {
        keep_new(i == 0 ? 20 * BS_MIB : 3 * BS_MIB);
        if (i % 4 == 1)
            (void)bs_background_round(); /* with a look at the control groups */
    }
}

static void zeroed(void) {
    static const size_t sizes[] = {10, 2000, 9000, 32768, 50000, BS_MIB, 6 * BS_MIB};
    for (size_t i = 0; i < 10 * BS_ARRAY_LEN(sizes); i++) {
        size_t size = sizes[i % BS_ARRAY_LEN(sizes)];
        unsigned char *p = bs_heap_alloc_zero(size);
        for (size_t at = 0; p != NULL && at < size; at++)
            CHILD_CHECK(p[at] == 0);
        keep(p, size);
        if (i % 9 == 0)
            (void)bs_scavenge_to(0);
    }
}

static void aligned(void) {
    for (size_t align = 16; align <= 256 * BS_MIB; align *= 4) {
        unsigned char *p = bs_heap_alloc_aligned(align, 3000);
        CHILD_CHECK(((uintptr_t)p & (align - 1)) == 0);
        keep(p, 3000);
    }
}

static void scavenging(void) {
    struct bs_scavenge_work work;
    size_t goal_pages;
    bs_opt.scavenge_delay = 0;
    (void)bs_sweep(SIZE_MAX, 10);
    for (int i = 0; i < 3; i++)
        (void)bs_scavenge_round(i == 0, &work, &goal_pages);
    for (int i = 0; i < 3; i++)
        (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    for (int i = 0; i < 10; i++)
        keep_new(BS_MIB);
}

static void trim(void) {
    for (int i = 0; i < 3; i++) {
        keep_new(200000);
        (void)bs_heap_trim(0);
    }
}

/* Three times marks for every block: what cannot have its marks is given up, and nothing is lost. */
static void scan(void) {
    for (int round = 0; round < 3; round++) {
        keep_new(70 * BS_MIB); /* an arena without tables */
        uint64_t refused = bs_counted(marks_refused);
        if (!bs_cycle_prepare()) {
            CHILD_CHECK(bs_counted(marks_refused) == refused + 1);
            nrefused++;
            continue;
        }
        CHILD_CHECK(bs_cycle_begin());
        for (size_t i = 0; i < nblocks; i++) {
            uintptr_t p = (uintptr_t)block[i].p;
            const struct bs_span *s = bs_span_of(p);
            uint32_t slot;
            CHILD_CHECK(p == 0 || (bs_slot_of(s, p, &slot) && bs_marks_set(s->base, BS_SIDE_MARK, slot)));
        }
        bs_cycle_end();
    }
}

static uint32_t block_lock; /* the threads below take turns, they do not race */
static void *allocate_in_thread(void *arg) {
    (void)arg;
    for (size_t size = 8; size <= 40000; size *= 2) {
        void *p[40];
        for (int i = 0; i < 40; i++)
            if ((p[i] = bs_heap_alloc(size)) != NULL)
                memset(p[i], 0x77, size);
        for (int i = 0; i < 40; i++)
            bs_heap_free(p[i]);
        while (__atomic_exchange_n(&block_lock, 1, __ATOMIC_ACQUIRE) != 0)
            sched_yield();
        keep_new(size);
        bs_store_release(&block_lock, 0u);
    }
    return NULL;
}
static void caches_of_threads(void) {
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        CHILD_CHECK(pthread_create(&thread[i], NULL, allocate_in_thread, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
}

static void background_options(void) {
    bs_opt.scavenge_delay = 10;
    bs_background_start();
}
static void helper_start(void) {
    for (int round = 0; round < 3; round++) {
        dirty_heap();
        usleep(40000);
    }
}

static char log_path[64];
static void log_options(void) {
    snprintf(log_path, sizeof log_path, "/tmp/check_faults.%d", (int)getpid());
    snprintf(bs_opt.log, sizeof bs_opt.log, "%s", log_path);
    bs_opt.log_format = BS_LOG_JSON;
    bs_opt.trace = BS_TRACE_SWEEP | BS_TRACE_SCAVENGE;
    dirty_heap();
}
/* Every line is whole: a failed write leaves none. */
static void check_log(void) {
    char line[8192];
    FILE *f = fopen(log_path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        size_t n = strlen(line);
        CHILD_CHECK(n > 3 && line[0] == '{' && line[n - 2] == '}' && line[n - 1] == '\n');
    }
    if (f != NULL)
        fclose(f);
    unlink(log_path);
}
static void log_writing(void) {
    struct bs_scavenge_work work = {.calls = 1};
    struct bs_ledger ledger;
    bs_log_start();
    bs_log_note("a note");
    bs_log_sweep(&(struct bs_sweep_work){1, 2}, &(struct bs_idle_work){3, 4, false}, 5);
    bs_log_scavenge(&work, 1, 2, 3);
    bs_log_report("exit");
    (void)bs_ledger_take(&ledger);
    CHILD_CHECK(ledger.live <= 4096 * BS_MIB);
}

static const struct scenario {
    const char *name;
    void (*prepare)(void), (*run)(void), (*after)(void);
    unsigned min_calls; /* that the scenario is known to make: else it shows nothing */
    bool may_refuse;    /* faults may show as NULL */
} scenarios[] = {
    {"first ever", nothing, first_ever, nothing, 6, true},
    {"growth", nothing, growth, nothing, 40, true},
    {"many large", nothing, many_large, nothing, 40, true},
    {"very large", nothing, very_large, nothing, 20, true},
    {"realloc", nothing, grow_by_moving, nothing, 15, true},
    {"calloc", dirty_heap, zeroed, nothing, 10, true},
    {"aligned", nothing, aligned, nothing, 10, true},
    {"scavenge", dirty_heap, scavenging, nothing, 5, true},
    {"scavenge, decommit:hard", hard_heap, scavenging, nothing, 10, true},
    {"scavenge, thp:edge", edge_heap, scavenging, nothing, 10, true},
    {"scavenge, huge pages", huge_heap, scavenging, nothing, 10, true},
    {"limit", limited_heap, at_the_limit, nothing, 20, true},
    {"scan", dirty_heap, scan, nothing, 5, true},
    {"trim", dirty_heap, trim, nothing, 3, true},
    {"threads", nothing, caches_of_threads, nothing, 6, true},
    {"helper", background_options, helper_start, nothing, 5, true},
    {"log", log_options, log_writing, check_log, 20, false},
};

/* --- a run ------------------------------------------------------------------------------------ */

/* Where the page map knows an arena the heap has memory. What is left of a growth that failed would be taken for the
 * heap's when the program maps something there. */
static void no_arena_is_left(void) {
    for (size_t i = 0; i < bs_load(&bs_pagemap_narenas); i++)
        CHILD_CHECK(bs_pagemap_table[i] == NULL || bs_pagemap_table[i]->pages != NULL);
}

static void everything_works(void) {
    size_t before = nblocks;
    nrefused = 0;
    first_ever();
    grow_by(2000, 10);
    for (size_t i = before; i < nblocks; i += 3) {
        unsigned char *p = bs_heap_realloc(block[i].p, block[i].size * 2);
        CHILD_CHECK(p != NULL);
        block[i].p = p;
        CHILD_CHECK(is_marked(i, block[i].size));
    }
    CHILD_CHECK(nrefused == 0);
    check_blocks();
    CHILD_CHECK(bs_pageheap_is_valid());
}

static void nothing_leaked(void) {
    for (size_t i = 0; i < nblocks; i++)
        drop(i);
    (void)bs_heap_trim(0);
    CHILD_CHECK(bs_pageheap_is_valid());
    CHILD_CHECK(bs_heap_totals().allocated == 0);
    CHILD_CHECK(bs_heap_totals().cached == 0);
    CHILD_CHECK(bs_heap_totals().spans == 0);
    CHILD_CHECK(bs_pageheap_counts().span_pages == 0);
}

static struct {
    const struct scenario *scenario;
    unsigned n;
    bool lasting;
} run;

static void one_run(void *arg) {
    const struct scenario *s = run.scenario;
    (void)arg;
    s->prepare();
    (void)bs_os_fail(run.n, ENOMEM, run.lasting);
    nrefused = 0;
    s->run();
    unsigned calls = bs_os_fail(0, 0, false);
    CHILD_CHECK(s->may_refuse || nrefused == 0);
    CHILD_CHECK(calls >= run.n || nrefused == 0);
    check_blocks();
    CHILD_CHECK(bs_pageheap_is_valid());
    no_arena_is_left();
    s->after();
    everything_works();
    if (strcmp(s->name, "helper") != 0) /* there another thread settles the rest */
        nothing_leaked();
    if (calls < run.n)
        _exit(NO_FAULT);
}

static void loop(const struct scenario *s, bool lasting) {
    for (unsigned n = 1; n < MAX_RUNS; n++) {
        run.scenario = s;
        run.n = n;
        run.lasting = lasting;
        struct outcome o = child_run(one_run, NULL, SECONDS);
        if (WIFEXITED(o.status) && WEXITSTATUS(o.status) == NO_FAULT) {
            ck_assert_msg(n > s->min_calls, "%s: only %u calls were seen", s->name, n - 1);
            return;
        }
        ck_assert_msg(child_ended_well(&o), "%s, call %u%s: status %x (9: too slow): %s", s->name,
                      n, lasting ? " and all later" : "", o.status, o.err);
    }
    ck_abort_msg("%s: no end after %d runs", s->name, MAX_RUNS);
}

START_TEST(one_call_fails) {
    loop(&scenarios[_i], false);
}
END_TEST

START_TEST(all_later_calls_fail) {
    loop(&scenarios[_i], true);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("faults");
    TCase *tc = tcase_create("faults");
    tcase_set_timeout(tc, 280);
    tcase_add_loop_test(tc, one_call_fails, 0, (int)BS_ARRAY_LEN(scenarios));
    tcase_add_loop_test(tc, all_later_calls_fail, 0, (int)BS_ARRAY_LEN(scenarios));
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
