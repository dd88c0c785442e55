/* SPDX-License-Identifier: MIT */
/*
 * check_world.c - stopping the world: nobody moves while it stands, everybody is known, goes on as if
 * nothing had been, and what cannot be stopped is found out and left as it was.
 *
 * Test and core are one file of code, so a section of its own stands for besom's text (INSIDE). What
 * a program notices of the signal is tests/preload/no_eintr.c's question. Under ThreadSanitizer this
 * does not run: its run-time library is interrupted with its own locks held, and knows nothing of the
 * order that a stop makes.
 */
#define _GNU_SOURCE
#include "child.h"
#include "counter.h"
#include "fork.h"
#include "heap.h"
#include "os.h"
#include "round.h"
#include "text.h"
#include "unit.h"
#include "world.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <sys/syscall.h>

#define MAX_THREADS 64
#define MS UINT64_C(1000000)

/* Functions that count as besom's. */
#define INSIDE __attribute__((section("inside_besom"), noinline))
extern const char __start_inside_besom[], __stop_inside_besom[];

static void inside_text(void) {
    bs_text_set((uintptr_t)__start_inside_besom, (uintptr_t)__stop_inside_besom);
}

struct runner {
    pthread_t thread;
    int tid;        /* [atomic] */
    uint64_t turns; /* [atomic] */
    char pad[48];
} __attribute__((aligned(64)));

static struct runner runners[MAX_THREADS];
static uint32_t end_all; /* [atomic] */
static sem_t ready, go_on;

static enum bs_world_result stop_within(uint64_t ns) {
    bs_round_enter();
    enum bs_world_result result = bs_world_stop(bs_os_now_ns() + ns);
    if (result != BS_WORLD_STOPPED)
        bs_round_leave();
    return result;
}
static void resume(void) {
    bs_world_resume();
    bs_round_leave();
}
static void must_stop(void) {
    enum bs_world_result result = stop_within(2000 * MS);
    require(result == BS_WORLD_STOPPED, "result %d, thread %d", result, bs_world_culprit());
}

static void start_on(struct runner *r, void *(*fn)(void *)) {
    r->turns = 0;
    r->tid = 0;
    ck_assert_int_eq(pthread_create(&r->thread, NULL, fn, r), 0);
    while (bs_load(&r->tid) == 0)
        bs_os_yield();
}
static void start_threads(unsigned n, void *(*fn)(void *)) {
    inside_text();
    bs_store(&end_all, 0u);
    sem_init(&ready, 0, 0);
    sem_init(&go_on, 0, 0);
    for (unsigned i = 0; i < n; i++)
        start_on(&runners[i], fn);
}
static void join_threads(unsigned n) {
    bs_store(&end_all, 1u);
    for (unsigned i = 0; i < n; i++)
        sem_post(&go_on);
    for (unsigned i = 0; i < n; i++)
        pthread_join(runners[i].thread, NULL);
}

static void turn(struct runner *r) {
    bs_store(&r->turns, r->turns + 1);
}

/* Runs, computes, sleeps in turn. */
static void *busy(void *arg) {
    struct runner *r = arg;
    bs_store(&r->tid, bs_os_tid());
    errno = 4711;
    for (unsigned i = 0; !bs_load(&end_all); i++) {
        turn(r);
        if (i % 64 == 0)
            bs_os_yield();
        if (i % 1024 == 0)
            usleep(100);
        if (i % 1024 == 0)
            errno = 4711; /* usleep's own business */
        require(errno == 4711, "errno became %d", errno);
    }
    return NULL;
}

struct seen {
    unsigned n, known;
    uint64_t turns;
};
static void visit(void *ctx, const struct bs_world_thread *t) {
    struct seen *seen = ctx;
    seen->n++;
    for (unsigned i = 0; i < MAX_THREADS; i++)
        if (t->tid == bs_load(&runners[i].tid))
            seen->known++;
    require(t->tid != bs_os_tid(), "the stopper stands");
    require(t->on_usual_stack && t->sp > t->stack_base && t->sp < t->stack_end,
            "stack pointer %#zx of thread %d, stack %#zx to %#zx", t->sp, t->tid, t->stack_base,
            t->stack_end);
    require(t->pc != 0 && t->regs < t->sp && t->regs_end > t->regs, "no registers");
}
static uint64_t all_turns(unsigned n) {
    uint64_t turns = 0;
    for (unsigned i = 0; i < n; i++)
        turns += bs_load(&runners[i].turns);
    return turns;
}

static const unsigned thread_counts[] = {1, 2, 3, 8, 64};

START_TEST(nobody_moves) {
    unsigned n = thread_counts[_i];
    start_threads(n, busy);
    for (unsigned i = 0; i < 300 / UNIT_SLOWNESS; i++) {
        struct seen seen = {0};
        must_stop();
        uint64_t before = all_turns(n);
        ck_assert(bs_world_find_stacks());
        bs_world_each(visit, &seen);
        require(seen.n == n && seen.known == n, "%u seen, %u known, of %u", seen.n, seen.known, n);
        require(bs_world_count() == n, "count");
        if (i % 10 == 0)
            usleep(1000);
        require(all_turns(n) == before, "somebody moved");
        resume();
        if (i % 10 == 0) /* and they go on */
            while (all_turns(n) == before)
                usleep(100);
    }
    ck_assert_uint_eq(bs_counted(world_abandoned), 0);
    join_threads(n);
}
END_TEST

/* --- registers and stacks --------------------------------------------------------------------- */

#define MARK_GENERAL 0x123456789abcdef0u
#define MARK_VECTOR 0x0fedcba987654321u

static void *marked(void *arg) {
    struct runner *r = arg;
    bs_store(&r->tid, bs_os_tid());
#if defined(__x86_64__)
    __asm__ volatile("movq %1, %%xmm15\n\t"
                     "mov %0, %%r13\n"
                     "1:\tcmpl $0, (%2)\n\t"
                     "je 1b"
                     :
                     : "r"(MARK_GENERAL), "r"(MARK_VECTOR), "r"(&end_all)
                     : "r13", "xmm15", "memory");
#else
    __asm__ volatile("fmov d15, %1\n\t"
                     "mov x20, %0\n"
                     "1:\tldr w21, [%2]\n\t"
                     "cbz w21, 1b"
                     :
                     : "r"(MARK_GENERAL), "r"(MARK_VECTOR), "r"(&end_all)
                     : "x20", "x21", "v15", "memory");
#endif
    return NULL;
}
static bool holds(uintptr_t from, uintptr_t to, uint64_t value) {
    for (; from + 8 <= to; from += 8)
        if (*(const uint64_t *)from == value)
            return true;
    return false;
}
static void visit_marks(void *ctx, const struct bs_world_thread *t) {
    unsigned *found = ctx;
    *found += holds(t->regs, t->regs_end, MARK_GENERAL);
    *found += holds(t->regs, t->regs_end, MARK_VECTOR);
    require(t->regs_end - t->regs < 16384, "%zu bytes of registers", t->regs_end - t->regs);
}

START_TEST(registers_are_shown) {
    unsigned found = 0;
    start_threads(3, marked);
    usleep(20000);
    must_stop();
    bs_world_each(visit_marks, &found);
    resume();
    ck_assert_uint_eq(found, 6);
    join_threads(3);
}
END_TEST

static char alternate[2][65536];

static void set_alternate(unsigned i) {
    stack_t s = {.ss_sp = alternate[i], .ss_size = sizeof alternate[i]};
    ck_assert_int_eq(sigaltstack(&s, NULL), 0);
}
static void wait_in_handler(int signo) {
    (void)signo;
    sem_post(&ready);
    while (!bs_load(&end_all))
        usleep(1000);
}
static void *in_alternate(void *arg) {
    struct runner *r = arg;
    set_alternate(0);
    bs_store(&r->tid, bs_os_tid());
    pthread_kill(pthread_self(), SIGUSR1);
    return NULL;
}
static void *beside_alternate(void *arg) {
    struct runner *r = arg;
    set_alternate(1);
    bs_store(&r->tid, bs_os_tid());
    while (!bs_load(&end_all))
        bs_os_yield();
    return NULL;
}
static void visit_alternate(void *ctx, const struct bs_world_thread *t) {
    unsigned i = t->tid == runners[1].tid;
    uintptr_t base = (uintptr_t)alternate[i];
    (*(unsigned *)ctx)++;
    ck_assert_uint_eq(t->alt_base, base);
    ck_assert_uint_eq(t->alt_end, base + sizeof alternate[i]);
    ck_assert(t->regs > t->alt_base && t->regs < t->alt_end);
    ck_assert_int_eq(t->regs_elsewhere, i == 1);
    ck_assert_int_eq(t->on_usual_stack, i == 1);
    ck_assert_int_eq(t->sp > t->alt_base && t->sp < t->alt_end, i == 0);
    ck_assert_uint_ne(t->stack_base, 0);
}

START_TEST(alternate_stacks_are_known) {
    struct sigaction action = {.sa_handler = wait_in_handler, .sa_flags = SA_ONSTACK};
    unsigned n = 0;
    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    start_threads(1, in_alternate);
    start_on(&runners[1], beside_alternate);
    sem_wait(&ready);
    for (unsigned i = 0; i < 50; i++) {
        must_stop();
        ck_assert(bs_world_find_stacks());
        bs_world_each(visit_alternate, &n);
        resume();
    }
    ck_assert_uint_eq(n, 100);
    join_threads(2);
}
END_TEST

static void visit_first(void *ctx, const struct bs_world_thread *t) {
    if (t->tid == bs_os_pid()) {
        *(unsigned *)ctx += t->on_usual_stack;
        ck_assert((uintptr_t)ctx >= t->stack_base && (uintptr_t)ctx < t->stack_end);
    }
}
static void *stopper(void *arg) {
    for (unsigned i = 0; i < 20; i++) {
        must_stop();
        ck_assert(bs_world_find_stacks());
        bs_world_each(visit_first, arg);
        resume();
    }
    return NULL;
}

START_TEST(the_first_thread_has_its_stack) {
    pthread_t thread;
    unsigned n = 0;
    inside_text();
    ck_assert_int_eq(pthread_create(&thread, NULL, stopper, &n), 0);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(n, 20);
}
END_TEST

/* --- threads that come and go ----------------------------------------------------------------- */

static void *short_life(void *arg) {
    uint64_t *turns = arg;
    (void)bs_add(turns, 1);
    return NULL;
}
static uint64_t lives; /* [atomic] */

static void *breeder(void *arg) {
    struct runner *r = arg;
    bs_store(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        pthread_t thread[4];
        for (unsigned i = 0; i < 4; i++)
            require(pthread_create(&thread[i], NULL, short_life, &lives) == 0, "no thread");
        for (unsigned i = 0; i < 4; i++)
            pthread_join(thread[i], NULL);
        turn(r);
    }
    return NULL;
}

START_TEST(threads_come_and_go) {
    unsigned stopped = 0, tries = 300 / UNIT_SLOWNESS;
    start_threads(4, breeder);
    for (unsigned i = 0; i < tries; i++) {
        enum bs_world_result result = stop_within(500 * MS);
        if (result == BS_WORLD_STOPPED) {
            uint64_t before = bs_load(&lives) + all_turns(4);
            if (i % 10 == 0)
                usleep(1000);
            require(bs_load(&lives) + all_turns(4) == before, "somebody moved");
            stopped++;
            resume();
        } else {
            require(result == BS_WORLD_BLOCKED, "result %d", result); /* in pthread_create */
        }
        usleep(200);
    }
    require(stopped > tries * 9 / 10, "stopped %u times of %u", stopped, tries);
    join_threads(4);
}
END_TEST

/* --- threads that cannot be stopped ----------------------------------------------------------- */

static void *blocker(void *arg) {
    struct runner *r = arg;
    sigset_t all, waiting;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    bs_store(&r->tid, bs_os_tid());
    while (sem_wait(&go_on) != 0)
        ;
    sigpending(&waiting);
    for (int i = 1; i <= 64; i++)
        require(!sigismember(&waiting, i) || i == 32 || i == 33, "signal %d waits", i);
    return NULL;
}
static void *sigwaiter(void *arg) {
    struct runner *r = arg;
    struct timespec soon = {0, 300000000};
    sigset_t all;
    sigfillset(&all);
    bs_store(&r->tid, bs_os_tid());
    int got = sigtimedwait(&all, NULL, &soon);
    require(got < 0 && errno == EAGAIN, "sigtimedwait gave %d (errno %d)", got, errno);
    return NULL;
}
static void *(*const unstoppable[])(void *) = {blocker, sigwaiter};

START_TEST(who_blocks_the_signal_is_named) {
    start_threads(1, unstoppable[_i]);
    usleep(20000);
    uint64_t start = bs_os_now_ns();
    ck_assert_int_eq(stop_within(1000 * MS), BS_WORLD_BLOCKED);
    ck_assert_uint_lt(bs_os_now_ns() - start, 200 * MS);
    ck_assert_int_eq(bs_world_culprit(), runners[0].tid);
    ck_assert_uint_eq(bs_counted(world_abandoned), 1);
    join_threads(1);
    must_stop();
    resume();
}
END_TEST

static void *toggler(void *arg) {
    struct runner *r = arg;
    sigset_t all, waiting;
    uint64_t seed = (uint64_t)(uintptr_t)r;
    sigfillset(&all);
    bs_store(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        pthread_sigmask(SIG_BLOCK, &all, NULL);
        usleep(random_below(&seed, 4000));
        pthread_sigmask(SIG_UNBLOCK, &all, NULL);
        usleep(random_below(&seed, 4000));
        turn(r);
    }
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    sem_post(&ready);
    while (sem_wait(&go_on) != 0)
        ;
    sigpending(&waiting);
    require(!sigismember(&waiting, bs_world_signal()), "our signal waits");
    return NULL;
}

START_TEST(who_blocks_it_for_a_while) {
    unsigned stopped = 0;
    start_threads(3, toggler);
    for (unsigned i = 0; i < 200 / UNIT_SLOWNESS; i++) {
        uint64_t start = bs_os_now_ns();
        enum bs_world_result result = stop_within(200 * MS);
        require(result == BS_WORLD_STOPPED || result == BS_WORLD_BLOCKED, "result %d", result);
        require(bs_os_now_ns() - start < 400 * MS, "it took too long");
        if (result == BS_WORLD_STOPPED) {
            uint64_t before = all_turns(3);
            require(all_turns(3) == before, "somebody moved");
            stopped++;
            resume();
        }
    }
    require(stopped > 5, "stopped %u times", stopped);
    bs_store(&end_all, 1u);
    for (unsigned i = 0; i < 3; i++)
        sem_wait(&ready);
    join_threads(3);
}
END_TEST

START_TEST(lost_signals_and_answers) {
    start_threads(8, busy);
    for (unsigned what = 1; what <= 3; what++) {
        bs_world_lose(what & 1 ? 25 : 0, what & 2 ? 25 : 0);
        for (unsigned i = 0; i < 60 / UNIT_SLOWNESS; i++) {
            must_stop();
            uint64_t before = all_turns(8);
            require(bs_world_count() == 8, "%zu stand", bs_world_count());
            require(all_turns(8) == before, "somebody moved");
            resume();
        }
    }
    bs_world_lose(0, 0);
    ck_assert_uint_gt(bs_counted(world_resent), 0);
    join_threads(8);
}
END_TEST

START_TEST(the_time_is_over) {
    start_threads(1, busy);
    ck_assert_int_eq(stop_within(0), BS_WORLD_LATE);
    must_stop();
    resume();
    join_threads(1);
}
END_TEST

START_TEST(who_does_not_answer_is_named) {
    start_threads(2, busy);
    bs_world_lose(1, 0);
    uint64_t start = bs_os_now_ns();
    ck_assert_int_eq(stop_within(60 * MS), BS_WORLD_SILENT);
    ck_assert_uint_lt(bs_os_now_ns() - start, 500 * MS);
    ck_assert(bs_world_culprit() == runners[0].tid || bs_world_culprit() == runners[1].tid);
    bs_world_lose(0, 0);
    must_stop();
    resume();
    join_threads(2);
}
END_TEST

/* --- inside besom ----------------------------------------------------------------------------- */

static uint32_t within; /* [atomic] 1 while a thread is in the middle of something */

INSIDE static void short_visit(struct runner *r) {
    bs_store(&within, 1u);
    for (unsigned i = 0; i < 400; i++)
        turn(r);
    bs_store(&within, 0u);
}
static void *visitor(void *arg) {
    struct runner *r = arg;
    bs_store(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        short_visit(r);
        for (unsigned i = 0; i < 100; i++)
            turn(r);
    }
    return NULL;
}

START_TEST(nobody_is_inside) {
    start_threads(1, visitor);
    for (unsigned i = 0; i < 500; i++) {
        must_stop();
        require(bs_load(&within) == 0, "stopped inside");
        resume();
        usleep(50);
    }
    ck_assert_uint_gt(bs_counted(world_let_out), 50);
    join_threads(1);
}
END_TEST

INSIDE static void stay(void) {
    while (!bs_load(&end_all))
        __asm__ volatile("" ::: "memory");
}
/* What besom calls: leaves that return soon. */
__attribute__((noinline)) static void leaf(void) {
    for (unsigned i = 0; i < 100000 && !bs_load(&end_all); i++)
        __asm__ volatile("" ::: "memory");
}
INSIDE static void call_from_inside(void) {
    while (!bs_load(&end_all))
        leaf();
}
static void *stayer(void *arg) {
    bs_store(&((struct runner *)arg)->tid, bs_os_tid());
    stay();
    return NULL;
}
static void *caller(void *arg) {
    bs_store(&((struct runner *)arg)->tid, bs_os_tid());
    call_from_inside();
    return NULL;
}
/* Its handler waits, however deep, with what it has interrupted beneath it. */
static void deep_handler(int signo) {
    volatile char room[8192];
    memset((void *)room, 0, sizeof room);
    wait_in_handler(signo);
    room[0] = 1;
}
static void *interrupted(void *arg) {
    bs_store(&((struct runner *)arg)->tid, bs_os_tid());
    signal(SIGUSR1, deep_handler);
    stay();
    return NULL;
}
static void *(*const insiders[])(void *) = {stayer, caller, interrupted};

START_TEST(who_stays_inside_is_named) {
    start_threads(1, insiders[_i]);
    usleep(20000);
    if (insiders[_i] == interrupted) {
        pthread_kill(runners[0].thread, SIGUSR1);
        sem_wait(&ready);
    }
    ck_assert_int_eq(stop_within(2000 * MS), BS_WORLD_INSIDE);
    ck_assert_int_eq(bs_world_culprit(), runners[0].tid);
    join_threads(1);
    must_stop();
    resume();
}
END_TEST

/* In a frame with words that an earlier call may have left, or below one. */
static void *was_inside(void *arg) {
    volatile uintptr_t left[512];
    for (unsigned i = 0; i < 512; i++)
        left[i] = (uintptr_t)__start_inside_besom + 8;
    bs_store(&((struct runner *)arg)->tid, bs_os_tid());
    while (sem_wait(&go_on) != 0)
        ;
    return left[3] == 0 ? arg : NULL;
}
__attribute__((noinline)) static void wait_deeper(volatile char *above) {
    volatile char room[2048];
    memset((void *)room, 0, sizeof room);
    while (sem_wait(&go_on) != 0)
        ;
    above[0] = room[0];
}
static void *was_inside_above(void *arg) {
    volatile uintptr_t left[512];
    for (unsigned i = 0; i < 512; i++)
        left[i] = (uintptr_t)__start_inside_besom + 8;
    bs_store(&((struct runner *)arg)->tid, bs_os_tid());
    wait_deeper((volatile char *)(uintptr_t)left);
    return NULL;
}

START_TEST(what_is_left_on_a_stack_does_not_count) {
    start_threads(1, was_inside);
    start_on(&runners[1], was_inside_above);
    usleep(20000);
    must_stop();
    resume();
    ck_assert_uint_eq(bs_counted(world_let_out), 0);
    join_threads(2);
}
END_TEST

static void *trimmer(void *arg) {
    struct runner *r = arg;
    bs_store(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        bs_heap_free(bs_heap_alloc(100));
        (void)bs_heap_trim(0);
        turn(r);
    }
    return NULL;
}

/* The real text: the test's own functions are besom's then, so these threads wait in the kernel. */
START_TEST(who_waits_for_the_round_is_outside) {
    inside_text();
    start_threads(3, trimmer);
    for (unsigned i = 0; i < 100 / UNIT_SLOWNESS; i++) {
        bs_round_enter();
        usleep(1000); /* until they wait */
        for (unsigned k = 0; k < 3; k++)
            while (!bs_round_is_waited_for_by(runners[k].tid))
                bs_os_yield();
        bs_text_set(1, UINTPTR_MAX >> 17); /* all there is */
        enum bs_world_result result = bs_world_stop(bs_os_now_ns() + 2000 * MS);
        require(result == BS_WORLD_STOPPED, "result %d", result);
        inside_text();
        resume();
    }
    join_threads(3);
}
END_TEST

/* --- beside fork, vfork, the helper ----------------------------------------------------------- */

static void child_stops(void) {
    inside_text();
    CHILD_CHECK(stop_within(1000 * MS) == BS_WORLD_STOPPED);
    CHILD_CHECK(bs_world_count() == 0);
    resume();
    pthread_t thread;
    uint64_t n = 0;
    CHILD_CHECK(pthread_create(&thread, NULL, short_life, &n) == 0);
    pthread_join(thread, NULL);
    CHILD_CHECK(n == 1);
    _exit(0);
}
static void *forker(void *arg) {
    struct runner *r = arg;
    bs_store(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        int status;
        pid_t pid = fork();
        require(pid >= 0, "no fork");
        if (pid == 0)
            child_stops();
        require(waitpid(pid, &status, 0) == pid && status == 0, "the child ended with %#x", status);
        turn(r);
    }
    return NULL;
}
static uint32_t vfork_refused; /* [atomic] */

static void *spawner(void *arg) {
    struct runner *r = arg;
    char name[] = "true", *words[] = {name, NULL}, *none[] = {NULL};
    bs_store(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        int status;
        pid_t pid;
        if (r->turns % 2 == 0) {
            require(posix_spawn(&pid, "/bin/true", NULL, NULL, words, none) == 0, "no spawn");
        } else if ((pid = vfork()) == 0) {
            _exit(0);
        }
        require(waitpid(pid, &status, 0) == pid && status == 0, "the child ended with %#x", status);
        turn(r);
    }
    return NULL;
}
static void *(*const parents[])(void *) = {forker, spawner};

START_TEST(beside_forks) {
    unsigned stopped = 0;
    bs_fork_start();
    start_threads(2, parents[_i]);
    start_on(&runners[2], busy);
    for (unsigned i = 0; i < 150 / UNIT_SLOWNESS; i++) {
        enum bs_world_result result = stop_within(500 * MS);
        require(result == BS_WORLD_STOPPED || result == BS_WORLD_BLOCKED, "result %d, thread %d",
                result, bs_world_culprit());
        if (result == BS_WORLD_STOPPED) {
            uint64_t before = all_turns(3);
            usleep(500);
            require(all_turns(3) == before, "somebody moved");
            stopped++;
            resume();
        }
        usleep(2000);
    }
    require(stopped > 50 / UNIT_SLOWNESS, "stopped %u times", stopped);
    join_threads(3);
}
END_TEST

START_TEST(not_from_a_vfork_child) {
    inside_text();
    must_stop();
    resume();
    bs_heap_free(bs_heap_alloc(100)); /* so that it is known whose threads they are */
    bs_round_enter();
    pid_t pid = vfork();
    if (pid == 0) {
        bs_store(&vfork_refused, bs_world_stop(bs_os_now_ns() + 100 * MS) == BS_WORLD_NOT_OURS);
        _exit(0);
    }
    bs_round_leave();
    waitpid(pid, NULL, 0);
    ck_assert_uint_eq(vfork_refused, 1);
}
END_TEST

static void helper(void *arg) {
    struct runner *r = arg;
    bs_store(&r->tid, bs_os_tid());
    while (!bs_load(&end_all))
        bs_store(&r->turns, bs_load(&r->turns) + 1);
    bs_store(&r->tid, -1);
}

START_TEST(the_helper_is_left_alone) {
    start_threads(1, busy);
    ck_assert_int_eq(bs_os_helper_start(helper, &runners[1]), 0);
    while (bs_load(&runners[1].tid) == 0)
        bs_os_yield();
    for (unsigned i = 0; i < 20; i++) {
        must_stop();
        uint64_t before = bs_load(&runners[1].turns);
        require(bs_world_count() == 1, "%zu stand", bs_world_count());
        while (bs_load(&runners[1].turns) == before)
            usleep(100);
        resume();
    }
    join_threads(1);
    while (bs_load(&runners[1].tid) != -1)
        bs_os_yield();
}
END_TEST

static void stopping_helper(void *arg) {
    unsigned *stops = arg;
    for (unsigned i = 0; i < 200; i++) {
        bs_round_enter();
        if (bs_world_stop(bs_os_now_ns() + 500 * MS) == BS_WORLD_STOPPED) {
            uint64_t before = all_turns(8);
            bs_os_yield();
            (*stops) += all_turns(8) == before && bs_world_count() == 9; /* and the first thread */
            bs_world_resume();
        }
        bs_round_leave();
    }
    bs_store(&end_all, 2u);
}

START_TEST(the_helper_stops_all) {
    unsigned stops = 0;
    start_threads(8, busy);
    ck_assert_int_eq(bs_os_helper_start(stopping_helper, &stops), 0);
    while (bs_load(&end_all) != 2)
        usleep(1000);
    join_threads(8);
    ck_assert_uint_eq(stops, 200);
}
END_TEST

/* --- the signal ------------------------------------------------------------------------------- */

static void stray(void *arg) {
    union sigval value = {.sival_ptr = arg};
    inside_text();
    CHILD_CHECK(stop_within(1000 * MS) == BS_WORLD_STOPPED);
    resume();
    if (arg == NULL)
        kill(getpid(), bs_world_signal());
    else
        sigqueue(getpid(), bs_world_signal(), value);
    usleep(100000);
}

START_TEST(a_signal_from_elsewhere_has_its_default_effect) {
    struct outcome o = child_run(stray, _i == 0 ? NULL : (void *)0x1234, 10);
    ck_assert_msg(WIFSIGNALED(o.status) && WTERMSIG(o.status) >= SIGRTMIN, "status %#x: %s",
                  (unsigned)o.status, o.err);
}
END_TEST

START_TEST(a_signal_in_use_is_not_taken) {
    struct sigaction action = {.sa_handler = wait_in_handler};
    inside_text();
    must_stop();
    resume();
    int first = bs_world_signal();
    ck_assert_int_ge(first, SIGRTMIN);
    sigaction(first, &action, NULL); /* now the program's */
    must_stop();
    resume();
    ck_assert_int_ne(bs_world_signal(), first);
    struct sigaction now;
    sigaction(first, NULL, &now);
    ck_assert(now.sa_handler == wait_in_handler);
}
END_TEST

START_TEST(a_signal_that_is_waited_for_is_not_taken) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMAX - 3);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    ck_assert(bs_world_start());
    ck_assert_int_eq(bs_world_signal(), SIGRTMAX - 4);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("world");
    TCase *tc = add_case(suite, "stop");
    tcase_add_loop_test(tc, nobody_moves, 0, 5);
    tcase_add_test(tc, threads_come_and_go);
    tcase_add_test(tc, lost_signals_and_answers);
    tcase_add_test(tc, the_time_is_over);
    tc = add_case(suite, "where");
    tcase_add_test(tc, registers_are_shown);
    tcase_add_test(tc, alternate_stacks_are_known);
    tcase_add_test(tc, the_first_thread_has_its_stack);
    tc = add_case(suite, "cannot");
    tcase_add_loop_test(tc, who_blocks_the_signal_is_named, 0, 2);
    tcase_add_test(tc, who_blocks_it_for_a_while);
    tcase_add_test(tc, who_does_not_answer_is_named);
    tc = add_case(suite, "inside");
    tcase_add_test(tc, nobody_is_inside);
    tcase_add_loop_test(tc, who_stays_inside_is_named, 0, 3);
    tcase_add_test(tc, what_is_left_on_a_stack_does_not_count);
    tcase_add_test(tc, who_waits_for_the_round_is_outside);
    tc = add_case(suite, "beside");
    tcase_add_loop_test(tc, beside_forks, 0, 2);
    tcase_add_test(tc, not_from_a_vfork_child);
    tcase_add_test(tc, the_helper_is_left_alone);
    tcase_add_test(tc, the_helper_stops_all);
    tc = add_case(suite, "signal");
    tcase_add_loop_test(tc, a_signal_from_elsewhere_has_its_default_effect, 0, 2);
    tcase_add_test(tc, a_signal_in_use_is_not_taken);
    tcase_add_test(tc, a_signal_that_is_waited_for_is_not_taken);
    return run_suite(suite);
}
