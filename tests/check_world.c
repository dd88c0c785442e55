/* SPDX-License-Identifier: MIT */
/*
 * check_world.c - stopping the world: nobody moves while it stands, whoever comes and goes meanwhile;
 * everybody is known with stack and registers; nobody is inside besom. What cannot be stopped, and what
 * goes on beside it, is check_world_hard.c's; what a program notices tests/preload/no_eintr.c's.
 */
#define _GNU_SOURCE
#include "world_unit.h"

#include "heap.h"
#include "thread.h"

struct seen {
    unsigned n, known;
    uint64_t turns;
};
/* The thread block is there as well, above all frames; but for the first thread's. */
static bool is_on_usual_stack(const struct bs_world_thread *t) {
    return t->thread_pointer - t->sp < BS_MIB;
}
static void visit(void *ctx, const struct bs_world_thread *t) {
    struct seen *seen = ctx;
    seen->n++;
    for (unsigned i = 0; i < MAX_THREADS; i++)
        if (t->tid == bs_load(&runners[i].tid))
            seen->known++;
    require(t->tid != bs_os_tid(), "the stopper stands");
    require(is_on_usual_stack(t), "stack pointer %#zx of thread %d, thread pointer %#zx", t->sp, t->tid,
            t->thread_pointer);
    require(t->pc != 0 && (t->regs < t->sp || t->regs_elsewhere) && t->regs_end > t->regs, "no registers");
}
static const unsigned thread_counts[] = {1, 2, 3, 8, 64};

START_TEST(nobody_moves) {
    unsigned n = thread_counts[_i];
    start_threads(n, busy);
    for (unsigned i = 0; i < STOPS(300); i++) {
        struct seen seen = {0};
        must_stop();
        uint64_t before = all_turns(n);
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
    bs_store_release(&r->tid, bs_os_tid());
#if defined(__x86_64__)
    __asm__ volatile("movq %1, %%xmm15\n\t"
                     "mov %0, %%r13\n\t"
                     "movq $1, (%3)\n"
                     "1:\tcmpl $0, (%2)\n\t"
                     "je 1b"
                     :
                     : "r"(MARK_GENERAL), "r"(MARK_VECTOR), "r"(&end_all), "r"(&r->turns)
                     : "r13", "xmm15", "memory");
#else
    __asm__ volatile("fmov d15, %1\n\t"
                     "mov x20, %0\n\t"
                     "mov x21, #1\n\t"
                     "str x21, [%3]\n"
                     "1:\tldr w21, [%2]\n\t"
                     "cbz w21, 1b"
                     :
                     : "r"(MARK_GENERAL), "r"(MARK_VECTOR), "r"(&end_all), "r"(&r->turns)
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
    for (unsigned i = 0; i < 3; i++)
        while (bs_load(&runners[i].turns) == 0) /* until its registers hold them */
            bs_os_yield();
    must_stop();
    bs_world_each(visit_marks, &found);
    resume();
    ck_assert_uint_eq(found, 6);
    join_threads(3);
}
END_TEST

static volatile sig_atomic_t handled;
static void note_handled(int number) {
    (void)number;
    handled = 1;
}

/* A handler on the thread that stops the others could fork, or need what they have. */
START_TEST(who_stops_others_gets_no_signals) {
    sigset_t before, after;
    sigemptyset(&before);
    sigemptyset(&after);
    signal(SIGUSR2, note_handled);
    sigprocmask(SIG_SETMASK, NULL, &before);
    start_threads(2, marked);
    for (unsigned turn = 0; turn < 3; turn++) {
        handled = 0;
        must_stop();
        kill(getpid(), SIGUSR2);
        bool early = handled;
        resume();
        for (unsigned i = 0; i < 10000 && !handled; i++) /* another thread may have been chosen */
            usleep(1000);
        ck_assert(!early && handled);
    }
    sigprocmask(SIG_SETMASK, NULL, &after);
    for (int i = 1; i < NSIG; i++)
        ck_assert_msg(sigismember(&before, i) == sigismember(&after, i), "signal %d is %s", i, sigismember(&after, i) ? "blocked" : "open");
    join_threads(2);
}
END_TEST

static char alternate[2][65536];

static stack_t set_alternate(unsigned i) {
    stack_t s = {.ss_sp = alternate[i], .ss_size = sizeof alternate[i]}, old;
    ck_assert_int_eq(sigaltstack(&s, &old), 0);
    return old; /* a sanitizer's */
}
static void *in_alternate(void *arg) {
    struct runner *r = arg;
    stack_t old = set_alternate(0);
    bs_store_release(&r->tid, bs_os_tid());
    pthread_kill(pthread_self(), SIGUSR1);
    sigaltstack(&old, NULL);
    return NULL;
}
static void *beside_alternate(void *arg) {
    struct runner *r = arg;
    stack_t old = set_alternate(1);
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_all))
        bs_os_yield();
    sigaltstack(&old, NULL);
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
    ck_assert_int_eq(is_on_usual_stack(t), i == 1);
    ck_assert_int_eq(t->sp > t->alt_base && t->sp < t->alt_end, i == 0);
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
        bs_world_each(visit_alternate, &n);
        resume();
    }
    ck_assert_uint_eq(n, 100);
    join_threads(2);
}
END_TEST

struct first {
    uintptr_t own; /* an address on its stack */
    unsigned found;
};
static void visit_first(void *ctx, const struct bs_world_thread *t) {
    struct first *first = ctx;
    if (t->tid == bs_os_pid())
        first->found += first->own - t->sp < BS_MIB;
}
/* The first thread may stand in the middle of an assertion, and hold libcheck's lock: so nothing is asserted here
 * before it goes on. */
static void *stopper(void *arg) {
    for (unsigned i = 0; i < 20; i++) {
        struct first first = {(uintptr_t)arg, 0};
        must_stop();
        bs_world_each(visit_first, &first);
        resume();
        *(unsigned *)arg += first.found == 1;
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

static uint64_t lives; /* [atomic] */

static void *breeder(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
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
    unsigned stopped = 0, wanted = STOPS(270);
    start_threads(4, breeder);
    for (unsigned i = 0; i < 20 * wanted && stopped < wanted; i++) {
        enum bs_world_result result = stop_within(LONG);
        if (result == BS_WORLD_STOPPED) {
            uint64_t before = bs_load(&lives) + all_turns(4);
            if (i % 10 == 0)
                usleep(1000);
            require(bs_load(&lives) + all_turns(4) == before, "somebody moved");
            stopped++;
            resume();
        } else {
            /* in pthread_create, where a busy machine may leave a thread for long */
            require(result == BS_WORLD_BLOCKED, "result %d", result);
        }
        usleep(200);
    }
    require(stopped == wanted, "stopped %u times only", stopped);
    join_threads(4);
}
END_TEST

/* Each makes its successor before it ends: a list of threads is old when it has been read. */
static void *link_in_chain(void *arg) {
    struct runner *r = arg;
    pthread_attr_t detached;
    pthread_t next;
    bs_store_release(&r->tid, bs_os_tid());
    for (unsigned i = 0; i < 20000; i++)
        turn(r);
    if (bs_load(&end_all)) {
        sem_post(&ready);
        return NULL;
    }
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    require(pthread_create(&next, &detached, link_in_chain, arg) == 0, "no thread");
    return NULL;
}

START_TEST(threads_that_make_their_successors) {
    unsigned stopped = 0, wanted = STOPS(150);
    start_threads(0, NULL);
    for (unsigned i = 0; i < 4; i++)
        link_in_chain(&runners[i]);
    for (unsigned i = 0; i < 20 * wanted && stopped < wanted; i++) {
        if (stop_within(5000 * MS) != BS_WORLD_STOPPED)
            continue;
        uint64_t before = all_turns(4);
        usleep(300);
        require(all_turns(4) == before, "somebody moved");
        stopped++;
        resume();
    }
    require(stopped == wanted, "stopped %u times only", stopped);
    bs_store(&end_all, 1u);
    for (unsigned i = 0; i < 4; i++)
        sem_wait(&ready);
}
END_TEST

/* Signals of stops that are over, as if they had been on their way for long. */
static void *sender(void *arg) {
    struct runner *r = arg;
    uint64_t seed = 1;
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        int tid = bs_load(&runners[random_below(&seed, 4)].tid);
        (void)bs_os_signal_send(bs_world_signal(), tid, random_below(&seed, 4));
        turn(r);
        usleep(10);
    }
    return NULL;
}

START_TEST(late_signals_change_nothing) {
    start_threads(4, busy);
    must_stop();
    resume();
    start_on(&runners[4], sender);
    for (unsigned i = 0; i < STOPS(500); i++) {
        must_stop();
        uint64_t before = all_turns(5);
        require(bs_world_count() == 5, "%zu stand", bs_world_count());
        require(all_turns(5) == before, "somebody moved");
        resume();
        usleep(100);
    }
    join_threads(5);
}
END_TEST

/* Processes that have our memory cannot be asked to stand: none is made meanwhile. Who has ended by now has none. */
START_TEST(nobody_is_stopped_while_memory_becomes_anothers) {
    int status;
    start_threads(1, busy);
    bs_world_sharer_comes();
    ck_assert_int_eq(stop_within(LONG), BS_WORLD_SILENT);
    pid_t child = fork();
    if (child == 0) { /* has a copy, and nobody makes one of that */
        bs_world_forked();
        bs_thread_forked();
        _exit(stop_within(LONG) == BS_WORLD_STOPPED ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    bs_world_sharer_came(0); /* it was not made */
    must_stop();
    resume();
    for (unsigned i = 0; i < 20; i++) {
        bs_world_sharer_comes();
        bs_world_sharer_came(child);
    }
    must_stop();
    resume();
    join_threads(1);
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
/* Half of its time inside: BS_WORLD_TURNS times in a row with one chance in 2^64. With six parts of seven it
 * was one in 16000 stops. */
static void *visitor(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        short_visit(r);
        for (unsigned i = 0; i < 400; i++)
            turn(r);
    }
    return NULL;
}

START_TEST(nobody_is_inside) {
    start_threads(1, visitor);
    /* and as often as it takes until it was met inside 51 times: it may not have run in between */
    for (unsigned i = 0; i < 500 || (i < 20000 && bs_counted(world_let_out) <= 50); i++) {
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
    bs_store(&within, 1u);
    while (!bs_load(&end_all))
        __asm__ volatile("" ::: "memory");
}
/* What besom calls: leaves that return soon. */
__attribute__((noinline)) static void leaf(void) {
    for (unsigned i = 0; i < 100000 && !bs_load(&end_all); i++)
        __asm__ volatile("" ::: "memory");
}
INSIDE static void call_from_inside(void) {
    bs_store(&within, 1u);
    while (!bs_load(&end_all))
        leaf();
}
static void *stayer(void *arg) {
    bs_store_release(&((struct runner *)arg)->tid, bs_os_tid());
    stay();
    return NULL;
}
static void *caller(void *arg) {
    bs_store_release(&((struct runner *)arg)->tid, bs_os_tid());
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
    bs_store_release(&((struct runner *)arg)->tid, bs_os_tid());
    signal(SIGUSR1, deep_handler);
    stay();
    return NULL;
}
/* As one that executes another program does, it waits for the round. */
static void round_handler(int signo) {
    unit_handler_begins(signo);
    while (!bs_load(&end_all))
        if (bs_round_enter_until(bs_os_now_ns() + 10 * LONG, false))
            bs_round_leave();
}
static void *waits_for_round(void *arg) {
    bs_store_release(&((struct runner *)arg)->tid, bs_os_tid());
    signal(SIGUSR1, round_handler);
    stay();
    return NULL;
}
static void *(*const insiders[])(void *) = {stayer, caller, interrupted, waits_for_round};

START_TEST(who_stays_inside_is_named) {
    start_threads(1, insiders[_i]);
    while (bs_load(&within) == 0)
        bs_os_yield();
    if (insiders[_i] == interrupted) {
        pthread_kill(runners[0].thread, SIGUSR1);
        sem_wait(&ready);
    }
    bs_round_enter();
    if (insiders[_i] == waits_for_round) {
        pthread_kill(runners[0].thread, SIGUSR1);
        while (!bs_round_is_waited_for_by(runners[0].tid))
            bs_os_yield();
    }
    ck_assert_int_eq(bs_world_stop(bs_os_now_ns() + LONG), BS_WORLD_INSIDE);
    ck_assert_int_eq(bs_world_culprit(), runners[0].tid);
    bs_store(&end_all, 1u);
    bs_round_leave();
    join_threads(1);
    must_stop();
    resume();
}
END_TEST

static uint32_t left_inside; /* [atomic] */

/* Inside for as long as nobody waits for it; then it sees nothing of that any more. */
INSIDE static void stay_until_asked(struct runner *r) {
    bs_store(&within, 1u);
    while (!bs_world_wants_quiet() && !bs_load(&end_all))
        turn(r);
    bs_store(&within, 0u);
}
static void *polite(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
    stay_until_asked(r);
    bs_store(&left_inside, 1u);
    while (!bs_load(&end_all))
        turn(r);
    return NULL;
}

START_TEST(who_is_asked_for_quiet_need_not_be_asked_twice) {
    start_threads(1, polite);
    while (bs_load(&within) == 0)
        bs_os_yield();
    uint64_t stopped_ns = bs_counted(world_stopped_ns), start = bs_os_now_ns();
    ck_assert(!bs_world_wants_quiet());
    ck_assert_int_eq(stop_within(LONG), BS_WORLD_STOPPED);
    ck_assert_uint_eq(bs_load(&within), 0);
    ck_assert(!bs_world_wants_quiet());
    resume();
    uint64_t most = bs_os_now_ns() - start;
    ck_assert_uint_gt(bs_counted(world_stopped_ns), stopped_ns);
    ck_assert_uint_le(bs_counted(world_stopped_ns) - stopped_ns, most);
    join_threads(1);
    ck_assert_uint_eq(bs_load(&left_inside), 1);
}
END_TEST

/* In a frame with words that an earlier call may have left, or below one. */
static void *was_inside(void *arg) {
    volatile uintptr_t left[512];
    for (unsigned i = 0; i < 512; i++)
        left[i] = (uintptr_t)__start_inside_besom + 8;
    bs_store_release(&((struct runner *)arg)->tid, bs_os_tid());
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
    bs_store_release(&((struct runner *)arg)->tid, bs_os_tid());
    wait_deeper((volatile char *)(uintptr_t)left);
    return NULL;
}

START_TEST(what_is_left_on_a_stack_does_not_count) {
    start_threads(1, was_inside);
    start_on(&runners[1], was_inside_above);
    for (unsigned i = 0; i < 2; i++)
        wait_until_asleep(runners[i].tid, &go_on, sizeof go_on);
    must_stop();
    resume();
    ck_assert_uint_eq(bs_counted(world_let_out), 0);
    join_threads(2);
}
END_TEST

/* The same without waiting: calls that end at once, one after the other. */
static void *was_inside_and_yields(void *arg) {
    volatile uintptr_t left[512];
    for (unsigned i = 0; i < 512; i++)
        left[i] = (uintptr_t)__start_inside_besom + 8;
    bs_store_release(&((struct runner *)arg)->tid, bs_os_tid());
    while (!bs_load(&end_all))
        sched_yield();
    return left[3] == 0 ? arg : NULL;
}
START_TEST(who_only_yields_is_outside) {
    start_threads(2, was_inside_and_yields);
    for (unsigned i = 0; i < 20 && !BS_SANITIZED; i++) {
        must_stop();
        resume();
    }
    join_threads(2);
}
END_TEST

static void *trimmer(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
    sem_wait(&go_on);
    while (!bs_load(&end_all)) {
        bs_heap_free(bs_heap_alloc(100));
#if BS_SANITIZE_THREAD /* to trim is to empty the caches of those that sleep: see check_idle.c */
        bs_round_enter();
        bs_round_leave();
#else
        (void)bs_heap_trim(0);
#endif
        turn(r);
    }
    return NULL;
}

/* The real text: the test's own functions are besom's then, so these threads wait in the kernel. From before they begin
 * until they end: to a thread that trims, one that waits within besom would be asleep outside, and its cache empty from
 * one instruction to the next. */
#define WAITERS 40
START_TEST(who_waits_for_the_round_is_outside) {
    start_threads(WAITERS, trimmer);
    bs_text_set(1, UINTPTR_MAX >> 17); /* all there is */
    for (unsigned i = 0; i < WAITERS; i++)
        sem_post(&go_on);
    uint64_t end_ns = bs_os_now_ns() + 5000 * MS; /* on a busy machine fewer stops */
    for (unsigned i = 0; i < 20 / UNIT_SLOWNESS + 1 && (i == 0 || bs_os_now_ns() < end_ns); i++) {
        bs_round_enter();
        usleep(1000); /* until they wait */
        for (unsigned k = 0; k < WAITERS; k++)
            while (!bs_round_is_waited_for_by(runners[k].tid))
                bs_os_yield();
        enum bs_world_result result = bs_world_stop(bs_os_now_ns() + LONG);
        require(result == BS_WORLD_STOPPED, "result %d", result);
        resume();
    }
    join_threads(WAITERS);
    ck_assert_uint_eq(bs_counted(caches_drained), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("world");
    TCase *tc = add_case(suite, "stop");
    tcase_add_loop_test(tc, nobody_moves, 0, 5);
    tcase_add_test(tc, threads_come_and_go);
    tcase_add_test(tc, threads_that_make_their_successors);
    tcase_add_test(tc, late_signals_change_nothing);
    add_but_tsan(tc, nobody_is_stopped_while_memory_becomes_anothers, "it forks beside a thread");
    tc = add_case(suite, "where");
    tcase_add_test(tc, registers_are_shown);
    add_but_tsan(tc, who_stops_others_gets_no_signals, "it waits for a signal that the sanitizer delivers later");
    tcase_add_test(tc, alternate_stacks_are_known);
    tcase_add_test(tc, the_first_thread_has_its_stack);
    tc = add_case(suite, "inside");
    tcase_add_test(tc, nobody_is_inside);
    tcase_add_loop_test(tc, who_stays_inside_is_named, 0, 2);
    add_loop_but_tsan(tc, who_stays_inside_is_named, 2, (int)BS_ARRAY_LEN(insiders), "it calls handlers later, and not from where the signal came");
    tcase_add_test(tc, who_is_asked_for_quiet_need_not_be_asked_twice);
    tcase_add_test(tc, what_is_left_on_a_stack_does_not_count);
    tcase_add_test(tc, who_only_yields_is_outside);
    tcase_add_test(tc, who_waits_for_the_round_is_outside);
    return run_suite(suite);
}
