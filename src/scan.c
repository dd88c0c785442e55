/* SPDX-License-Identifier: MIT */
/*
 * scan.c - see scan.h: the order of a scan, its verdicts and its copy. What leads into the heap is listed by
 * scan_roots.c, and searched by scan_judge.c.
 *
 * Locks: the round from the first stop to the last resume, and for a copy those that the child must find free.
 */
#include "scan_internal.h"

#include "counter.h"
#include "cycle.h"
#include "lock.h"
#include "meta.h"
#include "pageheap.h"
#include "round.h"
#include "sample.h"
#include "sides.h"
#include "snapshot.h"
#include "thread.h"

#include <errno.h>
#include <sys/auxv.h>

/* Memory that a copy writes to: a verdict, and behind it owners if they are wanted, and tables of side bits. */
struct shared {
    struct bs_scan_verdict *verdict; /* NULL: none */
    size_t bytes, ntables;
};

static struct {
    uint32_t busy;        /* [atomic] a thread scans: it owns the rest */
    uint32_t last;        /* [atomic] the process ends, and scans once more for that; others quit */
    struct shared now, before;
    bool is_inherited;    /* both are of scans of the parent's, and go when that can be done */
    size_t nroots;        /* room that was needed */
    size_t root_bytes;    /* of the last scan */
} scan = {.nroots = BS_SCAN_ROOTS};

/* --- memory ----------------------------------------------------------------------------------- */

static size_t verdict_bytes(void) {
    return bs_align_up(sizeof(struct bs_scan_verdict), BS_MIB);
}
static size_t owners_bytes(const struct bs_scan_rules *rules) {
    return rules->owners ? bs_align_up(sizeof(struct bs_owners), BS_MIB) : 0;
}

static bool make_shared(const struct bs_scan_rules *rules) {
    size_t n = bs_sides_count(), kinds = rules->guest != NULL ? 2 : 1;
    scan.now.bytes = verdict_bytes() + owners_bytes(rules) + n * kinds * sizeof(struct bs_marks);
    scan.now.ntables = n;
    scan.now.verdict = bs_os_alloc_shared(scan.now.bytes);
    if (scan.now.verdict != NULL && rules->owners)
        scan.now.verdict->owners = (struct bs_owners *)(void *)((char *)scan.now.verdict + verdict_bytes());
    return scan.now.verdict != NULL;
}

static void drop(struct shared *s) {
    if (s->verdict != NULL)
        bs_os_free(s->verdict, s->bytes);
    *s = (struct shared){NULL, 0, 0};
}

size_t bs_scan_verdicts(struct bs_range *range) {
    const struct shared *const ours[] = {&scan.now, &scan.before};
    size_t n = 0;
    for (size_t i = 0; i < BS_ARRAY_LEN(ours); i++)
        if (ours[i]->verdict != NULL)
            range[n++] = (struct bs_range){(uintptr_t)ours[i]->verdict,
                                           (uintptr_t)ours[i]->verdict + ours[i]->bytes};
    return n;
}

static void publish_tables(const struct bs_scan_rules *rules) {
    struct bs_marks *tables = (struct bs_marks *)(void *)((char *)scan.now.verdict + verdict_bytes() + owners_bytes(rules));
    bs_sides_publish(BS_SIDE_NOW, tables, scan.now.ntables);
    if (rules->guest != NULL)
        bs_sides_publish(BS_SIDE_DOOMED, tables + scan.now.ntables, scan.now.ntables);
}

/* What was found now is what the next scan compares with. */
static void keep_verdict(struct shared *old) {
    bs_sides_turn(BS_SIDE_NOW, BS_SIDE_LOST);
    *old = scan.before;
    scan.before = scan.now;
    scan.now.verdict = NULL;
}

/* --- the copy --------------------------------------------------------------------------------- */

/* A thread that is not stopped, the helper, may hold one of them for a moment. */
static void lock_all(void) {
    bs_thread_lock();
    bs_pageheap_lock();
    bs_sample_lock();
    bs_meta_lock();
}
static void unlock_all(void) {
    bs_meta_unlock();
    bs_sample_unlock();
    bs_pageheap_unlock();
    bs_thread_unlock();
}

void bs_scan_in_copy(void) {
    bs_lock_forget_held();
    bs_meta_reset_lock();
    bs_sample_reset_lock();
    bs_pageheap_reset_lock();
    bs_thread_reset_lock();
}

bool bs_scan_copy(struct bs_scan_work *w, struct bs_snapshot *copy, void (*fn)(void *), void *arg,
                  uint64_t *clone_ns) {
    bool whole = bs_roots_open(&w->roots);
    copy->error = whole ? 0 : ENOTSUP;
    bs_scan_copy_unstable(w);
    uint64_t start = bs_os_now_ns();
    lock_all();
    bool made = whole && bs_snapshot_start(copy, fn, arg);
    unlock_all();
    bs_roots_close(&w->roots);
    if (made && !w->roots.some_wait)
        bs_world_own_pages();
    *clone_ns = bs_os_now_ns() - start;
    return made;
}

enum bs_scan_end bs_scan_copy_end(enum bs_snapshot_end end, const uint32_t *done) {
    uint32_t said = bs_load_acquire(done);
    if (said != 0 && (end == BS_SNAPSHOT_DONE || end == BS_SNAPSHOT_LOST))
        return (enum bs_scan_end)(said - 1);
    return end == BS_SNAPSHOT_KILLED ? BS_SCAN_KILLED : BS_SCAN_DIED;
}

static void in_copy(void *arg) {
    struct bs_scan_work *w = arg;
    bs_scan_in_copy();
    if (!w->rules.is_last) /* nothing of the program's goes on but waits for it */
        bs_os_clone_give_way();
    w->is_copy = true;
    enum bs_scan_end end = bs_roots_copy_has_all(&w->roots) ? bs_scan_judge(w) : BS_SCAN_NO_ROOTS;
    w->verdict->copied_bytes = bs_budget_copied_bytes();
    bs_store_release(&w->verdict->done, (uint32_t)end + 1);
}

/* About: free pages are not searched. */
static size_t searched_bytes(const struct bs_scan_work *w) {
    return bs_sub_clamped(bs_pageheap_used_bytes(), bs_pageheap_dirty_bytes()) + w->roots.bytes;
}

static enum bs_scan_end wait_for_copy(struct bs_snapshot *copy, const struct bs_scan_work *w,
                                      struct bs_scan_result *result) {
    uint64_t time = w->rules.copy_ns != 0 ? w->rules.copy_ns : BS_SCAN_TIME_NS;
    struct bs_budget budget;
    bs_budget_begin(&budget, copy->pid,
                    bs_budget_from(w->rules.copied, searched_bytes(w)));
    budget.quit = w->quit;
    enum bs_scan_end end =
        bs_scan_copy_end(bs_snapshot_wait(copy, bs_os_now_ns() + time, bs_budget_is_over, &budget),
                         &w->verdict->done);
    bool ended_itself = end != BS_SCAN_KILLED && end != BS_SCAN_DIED;
    result->copied_bytes = ended_itself ? w->verdict->copied_bytes : budget.own_bytes;
    if (end == BS_SCAN_KILLED)
        result->why = budget.end != BS_BUDGET_KEPT ? budget.end : BS_BUDGET_TIME;
    return end;
}

/* --- the order -------------------------------------------------------------------------------- */

static enum bs_scan_end search_in_place(struct bs_scan_work *w) {
    enum bs_scan_end end = bs_scan_judge(w);
    if (w->rules.guest != NULL)
        w->rules.guest->close();
    return end;
}

/* So much is searched faster than all are stopped a second time. */
static size_t least_concurrent(const struct bs_scan_work *w) {
    return bs_min(w->rules.in_place_bytes, BS_SCAN_CONCURRENT_BYTES);
}

static bool has_few_roots(const struct bs_scan_work *w, size_t root_bytes, size_t bytes) {
    return w->rules.concurrent == BS_SCAN_CONCURRENT_ALWAYS || root_bytes <= bytes / BS_SCAN_ROOTS_PART;
}

/* The search where all stand; or the start of another, and BS_SCAN_DONE. */
static enum bs_scan_end search_or_copy(struct bs_scan_work *w, struct bs_snapshot *copy,
                                       struct bs_scan_result *result) {
    size_t bytes = searched_bytes(w);
    result->concurrent = w->concurrent && bytes > least_concurrent(w) && has_few_roots(w, w->roots.bytes, bytes);
    result->in_place = !result->concurrent && bytes <= w->rules.in_place_bytes;
    if (result->concurrent) {
        bs_scan_concurrent_seed();
        return BS_SCAN_DONE;
    }
    if (!result->in_place) {
        bool made = w->knows_flags && bs_scan_copy(w, copy, in_copy, w, &result->clone_ns);
        result->error = w->knows_flags ? copy->error : ENODATA;
        if (made)
            return BS_SCAN_DONE;
        if (bytes > BS_SCAN_NO_COPY_BYTES)
            return BS_SCAN_NO_COPY;
        result->in_place = true;
    }
    return search_in_place(w);
}

/* What is done in a stop: the roots were taken. */
typedef enum bs_scan_end stopped_work(struct bs_scan_work *w, struct bs_snapshot *copy,
                                      struct bs_scan_result *result);

/* All stand from here to the resume. */
static enum bs_scan_end scan_stopped(struct bs_scan_work *w, struct bs_snapshot *copy,
                                     struct bs_scan_result *result, stopped_work *work, uint64_t *roots_ns) {
    uint64_t start = bs_os_now_ns();
    enum bs_roots_result roots = bs_scan_take_roots(w);
    *roots_ns = bs_os_now_ns() - start;
    result->threads = bs_world_count();
    w->is_enough = w->rules.is_last && result->threads == 0;
    result->nroots = w->roots.n;
    result->root_bytes = w->roots.bytes;
    if (roots == BS_ROOTS_NO_ROOM) /* the next time there is */
        scan.nroots = bs_max(2 * scan.nroots, w->roots.needed + w->roots.needed / 4);
    return roots == BS_ROOTS_TAKEN ? work(w, copy, result) : BS_SCAN_NO_ROOTS;
}

static void note_stop(struct bs_scan_result *result, uint64_t stop_ns, uint64_t stand_ns, uint64_t roots_ns,
                      uint64_t resume_ns) {
    result->stops++;
    result->stopped_ns += stop_ns;
    if (stop_ns <= result->stop_ns)
        return;
    result->stop_ns = stop_ns;
    result->stand_ns = stand_ns;
    result->roots_ns = roots_ns;
    result->resume_ns = resume_ns;
}

static enum bs_scan_end stop_for(struct bs_scan_work *w, struct bs_snapshot *copy, struct bs_scan_result *result,
                                 stopped_work *work) {
    result->world = bs_world_stop(bs_os_now_ns() + BS_SCAN_STOP_NS);
    if (result->world != BS_WORLD_STOPPED) {
        result->culprit = bs_world_culprit();
        return BS_SCAN_WORLD;
    }
    uint64_t stand_ns = bs_os_now_ns() - bs_world_asked_ns(), roots_ns;
    enum bs_scan_end end = scan_stopped(w, copy, result, work, &roots_ns);
    uint64_t standing = bs_os_now_ns();
    bs_world_resume();
    uint64_t now = bs_os_now_ns();
    note_stop(result, now - bs_world_asked_ns(), stand_ns, roots_ns, now - standing);
    return end;
}

static enum bs_scan_end begin_search(struct bs_scan_work *w, struct bs_snapshot *copy,
                                     struct bs_scan_result *result) {
    publish_tables(&w->rules);
    return search_or_copy(w, copy, result);
}

/* *again: once more, with more room. */
static enum bs_scan_end stop_and_scan(struct bs_scan_work *w, struct bs_snapshot *copy,
                                      struct bs_scan_result *result, bool *again) {
    *again = false;
    if (!bs_roots_prepare(&w->roots, scan.nroots))
        return BS_SCAN_NO_MEMORY;
    w->knows_flags = bs_roots_learn(&w->roots);
    size_t room = scan.nroots = w->roots.capacity;
    enum bs_scan_end end = stop_for(w, copy, result, begin_search);
    *again = scan.nroots != room;
    if (copy->pid == 0 && !result->concurrent)
        bs_roots_drop(&w->roots);
    return end;
}

/* --- marking while the program runs ------------------------------------------------------------- */

static enum bs_scan_end finish_concurrent(struct bs_scan_work *w, struct bs_snapshot *copy,
                                          struct bs_scan_result *result) {
    (void)copy;
    return bs_scan_concurrent_finish(w, result) ? BS_SCAN_DONE : BS_SCAN_NO_ROOTS;
}

static bool must_quit(const struct bs_scan_work *w) {
    return w->quit != NULL && bs_load(w->quit) != 0;
}

/* After a first stop. False: nothing has come of it. */
static bool go_on_concurrent(struct bs_scan_work *w, struct bs_scan_result *result) {
    uint64_t cpu = bs_os_thread_cpu_ns();
    bool found = bs_scan_concurrent_mark(w, result) && !must_quit(w) &&
                 stop_for(w, NULL, result, finish_concurrent) == BS_SCAN_DONE && bs_scan_concurrent_judge(w);
    bs_roots_drop(&w->roots);
    w->verdict->search_ns = bs_os_thread_cpu_ns() - cpu;
    if (!found && must_quit(w))
        result->why = BS_BUDGET_QUIT;
    return found;
}

/* Another way is tried; fork, and whoever else waits for the round, goes first. */
static bool start_anew(struct bs_scan_work *w, struct bs_scan_result *result) {
    w->rules.concurrent = BS_SCAN_CONCURRENT_NEVER;
    result->concurrent = false;
    bs_sides_publish(BS_SIDE_NOW, NULL, 0);
    drop(&scan.now);
    bs_round_leave();
    bs_os_pause(BS_SCAN_PASS_NS);
    bool made = make_shared(&w->rules);
    bs_round_enter();
    w->verdict = scan.now.verdict;
    return made;
}

/* Not where roots were too much of it the last time. */
static bool wants_concurrent(const struct bs_scan_work *w) {
    size_t heap = bs_pageheap_used_bytes();
    return w->rules.concurrent != BS_SCAN_CONCURRENT_NEVER && w->rules.guest == NULL &&
           heap > least_concurrent(w) && has_few_roots(w, scan.root_bytes, heap + scan.root_bytes);
}

static enum bs_scan_end scan_with(struct bs_scan_work *w, struct bs_scan_result *result) {
    struct bs_snapshot copy = {.pid = 0};
    enum bs_scan_end end;
    bool again;
    unsigned nsearchers = w->rules.searchers != 0 ? w->rules.searchers : 1;
    if (!make_shared(&w->rules) || !bs_trace_prepare(&w->trace, nsearchers, BS_SCAN_STACK_RANGES))
        return BS_SCAN_NO_MEMORY;
    w->verdict = scan.now.verdict;
    bs_round_enter();
    bs_cycle_end(); /* a fork in a handler may have brought a search of its parent's */
    w->now_ns = bs_os_now_ns();
    for (unsigned tries = 0; tries < 3;) {
        if (wants_concurrent(w))
            (void)bs_scan_concurrent_begin(w);
        end = stop_and_scan(w, &copy, result, &again);
        bool found = !result->concurrent || go_on_concurrent(w, result);
        if (w->concurrent)
            bs_scan_concurrent_end(w);
        bs_cycle_end();
        if (!found && result->why != BS_BUDGET_KEPT) {
            end = BS_SCAN_KILLED;
            break;
        }
        if (!found && !start_anew(w, result)) {
            end = BS_SCAN_NO_MEMORY;
            break;
        }
        if (found && !again)
            break;
        tries += found; /* what was not found is searched for in another way, which is a try of its own */
    }
    scan.root_bytes = result->root_bytes;
    bs_round_leave();
    if (copy.pid != 0) {
        end = wait_for_copy(&copy, w, result);
        bs_roots_drop(&w->roots);
    }
    return end;
}

/* Above it, on a stack that counts, are the caller's registers. */
static BS_NOINLINE void run(const struct bs_scan_rules *rules, bs_scan_reporter *report, void *ctx) {
    struct bs_scan_result result = {.end = BS_SCAN_NO_MEMORY};
    struct shared old = {NULL, 0, 0};
    uint64_t start = bs_os_now_ns();
    size_t bytes = rules->owners ? sizeof(struct bs_scan_work) : offsetof(struct bs_scan_work, from);
    struct bs_scan_work *w = bs_meta_map_sparse(bytes, offsetof(struct bs_scan_work, word));
    if (w != NULL) {
        w->rules = *rules;
        w->first_stack = getauxval(AT_RANDOM);
        w->quit = rules->is_last ? NULL : &scan.last;
        if (bs_os_tid() != bs_os_helper_tid())
            w->caller_sp = (uintptr_t)__builtin_frame_address(0);
        result.end = scan_with(w, &result);
        if (w->trace.worker != NULL)
            bs_trace_drop(&w->trace);
        bs_meta_unmap_sparse(w, bytes, offsetof(struct bs_scan_work, word));
    }
    result.before = scan.before.verdict;
    if (result.end == BS_SCAN_DONE) {
        result.verdict = scan.now.verdict;
        keep_verdict(&old);
        bs_count(scans, 1);
    } else {
        bs_sides_publish(BS_SIDE_NOW, NULL, 0);
        bs_sides_publish(BS_SIDE_DOOMED, NULL, 0);
        bs_count(scans_given_up, 1);
    }
    result.ns = bs_os_now_ns() - start;
    report(ctx, &result);
    bs_round_enter(); /* a ledger looks at the bits in one */
    drop(&old);
    bs_round_leave();
    drop(&scan.now);
}

static void drop_inherited(void) {
    scan.is_inherited = false;
    bs_sides_publish(BS_SIDE_NOW, NULL, 0);
    bs_sides_publish(BS_SIDE_LOST, NULL, 0);
    bs_sides_publish(BS_SIDE_DOOMED, NULL, 0);
    drop(&scan.now);
    drop(&scan.before);
}

BS_NOINLINE bool bs_scan_run(const struct bs_scan_rules *rules, bs_scan_reporter *report, void *ctx) {
    uint32_t expected = 0;
    if (!rules->is_last && bs_load(&scan.last) != 0)
        return false;
    if (!__atomic_compare_exchange_n(&scan.busy, &expected, 1, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return false;
    __builtin_unwind_init(); /* callee-saved registers go to this frame */
    if (scan.is_inherited)
        drop_inherited();
    uint32_t keys = bs_os_keys_open();
    run(rules, report, ctx);
    bs_os_keys_back(keys);
    bs_store_release(&scan.busy, 0u);
    return true;
}

void bs_scan_want_last(bool wanted) {
    bs_store(&scan.last, (uint32_t)wanted);
}

void bs_scan_forked(void) {
    bs_store(&scan.last, 0u);
    scan.is_inherited |= scan.now.verdict != NULL || scan.before.verdict != NULL;
    bs_store(&scan.busy, 0u);
    /* a handler that forks may have interrupted its thread with that lock, which is not free in the child then */
    if (scan.is_inherited && !bs_pageheap_is_locked())
        drop_inherited();
}
