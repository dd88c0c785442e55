/* SPDX-License-Identifier: MIT */
/*
 * check_fork.c - fork from a thread while seven others allocate and free: the child finds a valid
 * heap, allocates, frees, starts threads of its own and exits; the parent goes on undisturbed. And from a process of
 * one thread, which takes no lock, and may have some.
 *
 * The handlers of bs_fork_start are libc's for the whole process, so everything happens in one
 * child of the test, which is bounded in time: a lock lost in a fork is a hang.
 */
#include "background.h"
#include "central.h"
#include "cgroup.h"
#include "child.h"
#include "counter.h"
#include "fork.h"
#include "heap.h"
#include "ledger.h"
#include "lock.h"
#include "log.h"
#include "opt.h"
#include "os.h"
#include "round.h"
#include "sweep.h"
#include "thread.h"
#include "unit.h"

#include <pthread.h>

#define THREADS 8
#if BS_SANITIZED
#define ROUNDS 30
#else
#define ROUNDS 120
#endif
#define SLOTS 200
/* What hangs does so for ever: the limits are far above what a busy machine needs. */
#define CHILD_LIMIT_S 240
#define LIMIT_S 480
/* So long forks are tried, or as many as were asked for, and one in ten of these at least: where a thread gets a CPU
 * every few seconds one takes 9 s. */
#define ENOUGH_NS (60 * UINT64_C(1000000000))

static uint32_t stop;

/*
 * The sanitizers' own allocator is not safe against fork (gcc 12: a child of a fork that happened
 * while another thread started or ended finds its locks taken, for ever; seen as hangs in
 * QuarantineChunk). In their builds no thread starts or ends while another forks: all threads meet
 * here after they began and before they end, the helper stays for reports of the log that never come due,
 * and who has started threads has no helper when it forks again. The plain build does without, so there
 * forks do meet starts and ends.
 */
static pthread_barrier_t gate;

static void pass_gate(void) {
    if (BS_SANITIZED)
        pthread_barrier_wait(&gate);
}

/* One thread's blocks: it replaces them at random and finds each as it left it. */
struct worker {
    uint64_t seed;
    unsigned char *p[SLOTS];
    size_t size[SLOTS];
    unsigned char byte[SLOTS];
};

static uint64_t next_random(struct worker *w) {
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return w->seed;
}

static void verify(const struct worker *w, size_t i) {
    for (size_t at = 0; w->p[i] != NULL && at < w->size[i]; at += 61)
        CHILD_CHECK(w->p[i][at] == w->byte[i]);
}

static void work(struct worker *w, unsigned steps) {
    for (unsigned k = 0; k < steps; k++) {
        uint64_t r = next_random(w);
        size_t i = r % SLOTS, size = 1 + (r >> 20) % (r % 97 == 0 ? 300000 : 3000);
        verify(w, i);
        bs_heap_free(w->p[i]);
        w->p[i] = bs_heap_alloc(size);
        CHILD_CHECK(w->p[i] != NULL);
        w->size[i] = size;
        w->byte[i] = (unsigned char)(r >> 8);
        memset(w->p[i], w->byte[i], size);
    }
}

static void give_all(struct worker *w) {
    for (size_t i = 0; i < SLOTS; i++) {
        verify(w, i);
        bs_heap_free(w->p[i]);
        w->p[i] = NULL;
    }
}

static void *work_until_stopped(void *arg) {
    struct worker *w = arg;
    pass_gate();
    while (bs_load(&stop) == 0)
        work(w, 100);
    give_all(w);
    return NULL;
}

static void *work_a_little(void *arg) {
    struct worker w = {.seed = (uintptr_t)arg};
    work(&w, 500);
    give_all(&w);
    return NULL;
}

/* In the forked child: everything a program may do. `mine` are the blocks of the thread that
 * forked. */
static void live_as_child(struct worker *mine, unsigned round) {
    pthread_t thread;
    alarm(CHILD_LIMIT_S); /* a hang ends here, and the parent sees the signal */
    CHILD_CHECK(bs_pageheap_is_valid());
    work(mine, 300);
    CHILD_CHECK(pthread_create(&thread, NULL, work_a_little, (void *)(uintptr_t)(round + 1)) == 0);
    CHILD_CHECK(pthread_join(thread, NULL) == 0);
    give_all(mine);
    (void)bs_sweep(SIZE_MAX, 100); /* the caches of threads that do not exist here */
    (void)bs_background_round();
    if (round % 8 == 0) {
        struct bs_ledger ledger;
        (void)bs_ledger_take(&ledger);
        bs_log_note("of the child");
        (void)bs_heap_trim(0);
        CHILD_CHECK(bs_thread_count() <= 1); /* its own cache alone is left */
    }
    if (round % 10 == 0) { /* a grandchild */
        pid_t pid = fork();
        if (pid == 0) {
            struct worker w = {.seed = 99};
            bs_opt.background = bs_opt.background && !BS_SANITIZED; /* our helper may be starting: see `gate` */
            work(&w, 300);
            give_all(&w);
            CHILD_CHECK(bs_pageheap_is_valid());
            _exit(0);
        }
        int status;
        CHILD_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    }
    CHILD_CHECK(bs_pageheap_is_valid());
    _exit(0);
}

static void fork_rounds(struct worker *mine, unsigned rounds) {
    uint64_t enough_ns = bs_os_now_ns() + ENOUGH_NS;
    for (unsigned i = 0; i < rounds && (i <= rounds / 10 || bs_os_now_ns() < enough_ns); i++) {
        work(mine, 50);
        pid_t pid = fork();
        CHILD_CHECK(pid >= 0);
        if (pid == 0)
            live_as_child(mine, i);
        int status;
        CHILD_CHECK(waitpid(pid, &status, 0) == pid);
        CHILD_CHECK(status == 0);
    }
}

/* Gives the heap work until the helper runs: it must not be starting during a fork (see `gate`). Without a sanitizer one
 * that has had nothing to do for two seconds ends: on a busy machine what runs may be the next. */
static void wait_for_helper(void) {
    uint64_t end_ns = bs_os_now_ns() + CHILD_LIMIT_S * UINT64_C(1000000000);
    while (bs_counted(background_wakes) == 0 && bs_os_now_ns() < end_ns) {
        void *p = bs_heap_alloc(16 * BS_MIB);
        memset(p, 1, 16 * BS_MIB);
        bs_heap_free(p);
        if (bs_counted(background_starts) != 0)
            usleep(10000);
    }
    CHILD_CHECK(bs_counted(background_wakes) != 0);
    CHILD_CHECK(bs_counted(background_starts) == 1 || !BS_SANITIZED);
}

static void start_besom(void) {
    snprintf(bs_opt.log, sizeof bs_opt.log, "/dev/null");
    bs_opt.scavenge_delay = 20;
    if (BS_SANITIZED)
        bs_opt.log_interval = 86400; /* so that the helper does not end: see `gate` */
    pthread_barrier_init(&gate, NULL, THREADS);
    bs_fork_start();
    bs_log_start();
    bs_background_start();
    wait_for_helper();
}

static void start_workers(pthread_t *thread, struct worker *w, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        w[i].seed = i + 1;
        CHILD_CHECK(pthread_create(&thread[i], NULL, work_until_stopped, &w[i]) == 0);
    }
}
static void stop_workers(pthread_t *thread, unsigned n) {
    bs_store(&stop, 1u);
    for (unsigned i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    CHILD_CHECK(bs_pageheap_is_valid());
}

static void fork_from_one(void *arg) {
    static struct worker w[THREADS];
    pthread_t thread[THREADS - 1];
    (void)arg;
    start_besom();
    start_workers(thread, w + 1, THREADS - 1);
    pass_gate();
    w[0].seed = 4711;
    fork_rounds(&w[0], ROUNDS);
    stop_workers(thread, THREADS - 1);
    give_all(&w[0]);
    (void)bs_heap_trim(0);
    CHILD_CHECK(bs_heap_totals().allocated == 0); /* nothing was lost in the parent */
    CHILD_CHECK(bs_pageheap_is_valid());
}

static void *fork_in_thread(void *arg) {
    struct worker w = {.seed = (uintptr_t)arg};
    pass_gate();
    fork_rounds(&w, ROUNDS / 10);
    give_all(&w);
    pass_gate();
    return NULL;
}

static void fork_from_all(void *arg) {
    pthread_t thread[THREADS];
    (void)arg;
    start_besom();
    for (uintptr_t i = 0; i < THREADS; i++)
        CHILD_CHECK(pthread_create(&thread[i], NULL, fork_in_thread, (void *)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    CHILD_CHECK(bs_pageheap_is_valid());
}

/* The child has no helper, whatever the parent had, and gets its own when it needs one. */
static void helper_of_the_child(void *arg) {
    struct worker w = {.seed = 5};
    (void)arg;
    start_besom();
    pid_t pid = fork();
    if (pid == 0) {
        alarm(CHILD_LIMIT_S);
        uint64_t wakes = bs_counted(background_wakes), starts = bs_counted(background_starts);
        usleep(400000);
        CHILD_CHECK(bs_counted(background_wakes) == wakes);
        CHILD_CHECK(bs_counted(background_starts) == starts);
        void *p = bs_heap_alloc(16 * BS_MIB);
        memset(p, 1, 16 * BS_MIB);
        bs_heap_free(p);
        work(&w, 3000);
        CHILD_CHECK(bs_counted(background_starts) > starts);
        for (int i = 0; i < 4000 && bs_counted(background_wakes) == wakes; i++)
            usleep(10000);
        CHILD_CHECK(bs_counted(background_wakes) > wakes);
        _exit(0);
    }
    int status;
    CHILD_CHECK(waitpid(pid, &status, 0) == pid);
    CHILD_CHECK(status == 0);
}

/* A process of one thread takes no lock: its handler of a signal may fork in the middle of anything, and what was
 * interrupted goes on in both. */
static void fork_without_locks(void *arg) {
    struct worker w = {.seed = 6};
    (void)arg;
    bs_opt.background = false;
    bs_fork_start();
    work(&w, 300);
    bs_central_lock_all();
    bs_pageheap_lock();
    pid_t pid = fork();
    if (pid == 0)
        alarm(CHILD_LIMIT_S);
    bs_pageheap_unlock();
    bs_central_unlock_all();
    if (pid == 0)
        live_as_child(&w, 8);
    int status;
    CHILD_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    work(&w, 300);
    give_all(&w);
    CHILD_CHECK(bs_pageheap_is_valid());
}

/* The same beside a helper, which sleeps for one of the locks, or is asleep. */
static void fork_with_locks_of_its_own(void *arg) {
    struct worker w = {.seed = 7};
    unsigned stuck = 0;
    (void)arg;
    start_besom();
    for (unsigned round = 0; round < 24 || stuck < 6; round++) {
        CHILD_CHECK(round < 1000);
        work(&w, 300);
        bool one = round % 4 == 3; /* the helper may have locks below it */
        if (!one)
            bs_central_lock_all();
        bs_pageheap_lock();
        if (round % 2 != 0)
            for (unsigned i = 0; i < 250 && !bs_lock_helper_is_stuck(); i++)
                usleep(1000);
        stuck += bs_lock_helper_is_stuck();
        if (round % 3 == 0) /* what was interrupted is a fork */
            bs_fork_before();
        /* or one that has kept the helper just now, or is about to let it go */
        bool kept = round % 3 == 1 && bs_round_keep_helper();
        pid_t pid = fork();
        if (pid == 0)
            alarm(CHILD_LIMIT_S);
        if (round % 3 == 0)
            bs_fork_in_parent();
        if (kept)
            bs_round_let_helper();
        bs_pageheap_unlock();
        if (!one)
            bs_central_unlock_all();
        if (pid == 0)
            live_as_child(&w, 8);
        int status;
        CHILD_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    }
    give_all(&w);
    CHILD_CHECK(bs_pageheap_is_valid());
}

/* A handler forks between bs_fork_before and the system call, beside another thread. What was interrupted goes on in the
 * child, which has no locks to release. */
static void fork_in_a_fork(void *arg) {
    struct worker w = {.seed = 8}, other = {.seed = 9};
    pthread_t thread;
    (void)arg;
    start_besom();
    CHILD_CHECK(pthread_create(&thread, NULL, work_until_stopped, &other) == 0);
    uint64_t enough_ns = bs_os_now_ns() + ENOUGH_NS;
    for (unsigned round = 0; round < 20 && (round < 2 || bs_os_now_ns() < enough_ns); round++) {
        work(&w, 300);
        bs_fork_before();
        pid_t pid = fork();
        if (pid == 0)
            alarm(CHILD_LIMIT_S);
        bs_fork_in_parent();
        if (pid == 0)
            live_as_child(&w, 8);
        int status;
        CHILD_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    }
    bs_store(&stop, 1u);
    pthread_join(thread, NULL);
    give_all(&w);
    CHILD_CHECK(bs_pageheap_is_valid());
}

/* The helper is at its end, has stored that there is none, and looks once more; and a thread that has seen that is about to
 * make another one, which it cannot while the old one is there. So the helper waits for the thread to give up. Just
 * then a handler of the thread's forks, and waits for the helper to sleep. (The linker puts the two functions that begin
 * with __wrap before those of besom's: see Makefile.am.) */
static uint32_t meeting; /* [atomic] nobody waits; the helper is to wait at its end; it waits; it goes on */
enum { NOBODY_WAITS, HELPER_IS_TO, HELPER_WAITS, HELPER_GOES_ON };

bool __real_bs_scavenge_has_work(void);
bool __wrap_bs_scavenge_has_work(void);
bool __wrap_bs_scavenge_has_work(void) {
    if (bs_load_acquire(&meeting) == HELPER_IS_TO && bs_os_is_helper()) {
        bs_store_release(&meeting, (uint32_t)HELPER_WAITS);
        while (bs_load_acquire(&meeting) == HELPER_WAITS)
            bs_os_pause(1000000);
    }
    return __real_bs_scavenge_has_work();
}

int __real_bs_os_helper_start(void (*fn)(void *), void *arg);
int __wrap_bs_os_helper_start(void (*fn)(void *), void *arg);
int __wrap_bs_os_helper_start(void (*fn)(void *), void *arg) {
    if (bs_load_acquire(&meeting) == HELPER_WAITS) {
        bs_store_release(&meeting, (uint32_t)HELPER_GOES_ON);
        usleep(100000); /* it looks for work, finds some, and cannot begin with it */
        raise(SIGUSR1);
    }
    return __real_bs_os_helper_start(fn, arg);
}

static volatile sig_atomic_t handled;
static void fork_and_wait(int number) {
    (void)number;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    int status;
    CHILD_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    handled = 1;
}

static void fork_at_the_helpers_end(void *arg) {
    struct worker w = {.seed = 10};
    (void)arg;
    alarm(CHILD_LIMIT_S);
    signal(SIGUSR1, fork_and_wait);
    start_besom();
    bs_store_release(&meeting, (uint32_t)HELPER_IS_TO);
    for (int i = 0; i < 12000 && bs_load_acquire(&meeting) != HELPER_WAITS; i++)
        usleep(10000);
    CHILD_CHECK(bs_load_acquire(&meeting) == HELPER_WAITS);
    bs_background_wake();
    CHILD_CHECK(handled);
    work(&w, 300);
    give_all(&w);
    CHILD_CHECK(bs_pageheap_is_valid());
}

/* Another thread is about to get the key of libc's by which ends of threads are told: the child, in which it is not,
 * gets one of its own. */
static uint32_t maker; /* [atomic] nobody makes it; who does is to wait; waits; goes on */
enum { NOBODY_MAKES, MAKER_IS_TO, MAKER_WAITS, MAKER_GOES_ON };

int __real_pthread_key_create(pthread_key_t *key, void (*at_exit)(void *));
int __wrap_pthread_key_create(pthread_key_t *key, void (*at_exit)(void *));
int __wrap_pthread_key_create(pthread_key_t *key, void (*at_exit)(void *)) {
    if (bs_load_acquire(&maker) == MAKER_IS_TO) {
        bs_store_release(&maker, (uint32_t)MAKER_WAITS);
        while (bs_load_acquire(&maker) == MAKER_WAITS)
            bs_os_pause(1000000);
    }
    return __real_pthread_key_create(key, at_exit);
}

static void fork_while_the_key_is_made(void *arg) {
    struct worker w = {.seed = 11};
    pthread_t thread;
    int status;
    (void)arg;
    bs_opt.background = false;
    bs_fork_start();
    bs_store_release(&maker, (uint32_t)MAKER_IS_TO);
    CHILD_CHECK(pthread_create(&thread, NULL, work_a_little, (void *)12) == 0);
    for (int i = 0; i < 12000 && bs_load_acquire(&maker) != MAKER_WAITS; i++)
        usleep(10000);
    CHILD_CHECK(bs_load_acquire(&maker) == MAKER_WAITS);
    pid_t pid = fork();
    if (pid == 0) {
        bs_store(&maker, (uint32_t)NOBODY_MAKES);
        live_as_child(&w, 1);
    }
    CHILD_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    bs_store_release(&maker, (uint32_t)MAKER_GOES_ON);
    CHILD_CHECK(pthread_join(thread, NULL) == 0);
    work(&w, 300);
    give_all(&w);
    CHILD_CHECK(bs_pageheap_is_valid());
}

static void assert_ends_well(void (*fn)(void *), const char *name) {
    struct outcome o = child_run(fn, NULL, LIMIT_S);
    ck_assert_msg(child_ended_well(&o), "%s: status %x (9: it hung): %s", name, o.status, o.err);
}

START_TEST(forks_of_one_thread_among_eight) {
    assert_ends_well(fork_from_one, "one of eight");
}
END_TEST

START_TEST(forks_of_eight_threads) {
    assert_ends_well(fork_from_all, "all of eight");
}
END_TEST

START_TEST(the_helper_is_not_inherited) {
    assert_ends_well(helper_of_the_child, "helper");
}
END_TEST

START_TEST(a_handler_forks_in_the_middle) {
#if !BS_SANITIZED
    assert_ends_well(fork_in_a_fork, "fork in a fork");
#else
    (void)fork_in_a_fork;
#endif
}
END_TEST

START_TEST(the_child_makes_what_another_was_making) {
#if !BS_SANITIZED /* the child starts a thread: see `gate` */
    assert_ends_well(fork_while_the_key_is_made, "key");
#else
    (void)fork_while_the_key_is_made;
#endif
}
END_TEST

START_TEST(a_thread_alone_takes_no_lock) {
#if !BS_SANITIZED /* a sanitizer may have threads of its own, and libc is told of them */
    assert_ends_well(fork_without_locks, "alone");
    assert_ends_well(fork_with_locks_of_its_own, "beside a helper");
#else
    (void)fork_without_locks, (void)fork_with_locks_of_its_own;
#endif
}
END_TEST

START_TEST(a_handler_forks_while_the_helper_ends) {
#if !BS_SANITIZED /* as above */
    assert_ends_well(fork_at_the_helpers_end, "at the helper's end");
#else
    (void)fork_at_the_helpers_end;
#endif
}
END_TEST

int main(void) {
    bs_cgroup_set_root("/nowhere"); /* memory that the machine lacks is nobody's business here */
    Suite *suite = suite_create("fork");
    TCase *tc = add_case(suite, "fork");
    tcase_set_timeout(tc, LIMIT_S + 10);
    tcase_add_test(tc, forks_of_one_thread_among_eight);
    tcase_add_test(tc, forks_of_eight_threads);
    tcase_add_test(tc, the_helper_is_not_inherited);
    tcase_add_test(tc, a_handler_forks_in_the_middle);
    tcase_add_test(tc, a_handler_forks_while_the_helper_ends);
    tcase_add_test(tc, the_child_makes_what_another_was_making);
    tcase_add_test(tc, a_thread_alone_takes_no_lock);
    return run_suite(suite);
}
