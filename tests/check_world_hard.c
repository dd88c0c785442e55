/* SPDX-License-Identifier: MIT */
/*
 * check_world_hard.c - stopping the world where it is hard: threads that cannot be stopped are named and
 * nothing is left over, signals and answers are lost, forks and vforks and the helper go on beside it,
 * and the signal is somebody else's.
 */
#define _GNU_SOURCE
#include "world_unit.h"

#include "fork.h"
#include "heap.h"

#include <spawn.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>

/* --- threads that cannot be stopped ----------------------------------------------------------- */

static void *blocker(void *arg) {
    struct runner *r = arg;
    sigset_t all, waiting;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    bs_store_release(&r->tid, bs_os_tid());
    while (sem_wait(&go_on) != 0)
        ;
    sigpending(&waiting);
    for (int i = 1; i <= 64; i++)
        require(!sigismember(&waiting, i) || i == 32 || i == 33, "signal %d waits", i);
    return NULL;
}
static void *sigwaiter(void *arg) {
    struct runner *r = arg;
    struct timespec some_time = {100, 0};
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* as who waits for signals does: it may be between two waits */
    bs_store_release(&r->tid, bs_os_tid());
    int got = sigtimedwait(&all, NULL, &some_time);
    require(got == SIGUSR2, "sigtimedwait gave %d (errno %d)", got, errno);
    return NULL;
}
/* It runs, and so is no thread that waits for a CPU on its way out of somewhere. */
static void *busy_blocker(void *arg) {
    struct runner *r = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_all))
        turn(r);
    return NULL;
}
static void *(*const unstoppable[])(void *) = {blocker, sigwaiter, busy_blocker};

START_TEST(who_blocks_the_signal_is_named) {
    bool in_sigwait = unstoppable[_i] == sigwaiter;
    signal(SIGUSR2, wait_in_handler); /* with its default effect it would end the process, waited for or not */
    start_threads(1, unstoppable[_i]);
    if (in_sigwait)
        wait_until_in_call(runners[0].tid, SYS_rt_sigtimedwait, 0, UINTPTR_MAX);
    else if (unstoppable[_i] == blocker)
        wait_until_asleep(runners[0].tid, &go_on, sizeof go_on);
    uint64_t start = bs_os_now_ns();
    ck_assert_int_eq(stop_within(10 * LONG), BS_WORLD_BLOCKED);
    ck_assert_uint_lt(bs_os_now_ns() - start, 4 * LONG); /* long before the deadline */
    ck_assert_int_eq(bs_world_culprit(), runners[0].tid);
    ck_assert_uint_eq(bs_counted(world_abandoned), 1);
    if (in_sigwait)
        pthread_kill(runners[0].thread, SIGUSR2);
    join_threads(1);
    must_stop();
    resume();
}
END_TEST

/* What is on its way to a thread. */
static bool signal_waits(int tid) {
    char path[64], text[2048];
    snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
    require(bs_os_read_text(path, text, sizeof text) > 0, "%s", path);
    uint64_t waiting = strtoull(strstr(text, "SigPnd:") + 7, NULL, 16);
    return (waiting >> (bs_world_signal() - 1) & 1) != 0;
}

static void *toggler(void *arg) {
    struct runner *r = arg;
    sigset_t all, waiting;
    uint64_t seed = (uint64_t)(uintptr_t)r;
    sigfillset(&all);
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        pthread_sigmask(SIG_BLOCK, &all, NULL);
        usleep(random_below(&seed, 30000));
        pthread_sigmask(SIG_UNBLOCK, &all, NULL);
        usleep(random_below(&seed, 8000));
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
    sigset_t blocked;
    start_threads(2, toggler);
    /* and as often as it takes until both were met without: where they are woken late, each state lasts long */
    for (unsigned i = 0; i < 200 / UNIT_SLOWNESS || (stopped == 0 && i < 20000); i++) {
        usleep(2000);
        uint64_t start = bs_os_now_ns();
        enum bs_world_result result = stop_within(LONG);
        require(result == BS_WORLD_STOPPED || result == BS_WORLD_BLOCKED, "result %d", result);
        require(bs_os_now_ns() - start < LONG / 2, "it took too long");
        if (result == BS_WORLD_STOPPED) {
            uint64_t before = all_turns(2);
            require(all_turns(2) == before, "somebody moved");
            stopped++;
            resume();
        }
        for (unsigned k = 0; k < 2 && result != BS_WORLD_STOPPED; k++)
            require(!signal_waits(runners[k].tid), "our signal waits after result %d", result);
        pthread_sigmask(SIG_BLOCK, NULL, &blocked); /* they are held while others are stopped */
        require(sigismember(&blocked, SIGUSR1) == 0, "signals are blocked after result %d", result);
    }
    require(stopped > 0, "stopped %u times", stopped);
    bs_store(&end_all, 1u);
    for (unsigned i = 0; i < 2; i++)
        sem_wait(&ready);
    join_threads(2);
}
END_TEST

static int the_only_one;
static void *blocks_one(void *arg) {
    struct runner *r = arg;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, the_only_one);
    pthread_sigmask(SIG_SETMASK, &one, NULL);
    bs_store_release(&r->tid, bs_os_tid());
    sem_wait(&go_on);
    return NULL;
}

/* Of those that are next to besom's no thread is kept from being stopped. */
START_TEST(who_blocks_one_of_all) {
    must_stop();
    resume();
    int ours = bs_world_signal();
    for (int signal = ours - 1; signal <= ours + 1; signal++) {
        the_only_one = signal <= SIGRTMAX ? signal : SIGRTMIN;
        start_threads(1, blocks_one);
        enum bs_world_result result = stop_within(LONG);
        if (result == BS_WORLD_STOPPED)
            resume();
        require(result == (signal == ours ? BS_WORLD_BLOCKED : BS_WORLD_STOPPED), "signal %d, ours is %d: result %d", signal,
                ours, result);
        join_threads(1);
    }
    ck_assert_int_eq(bs_world_signal(), ours);
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
    uint64_t start = bs_os_now_ns(), resent = bs_counted(world_resent), most = 0;
    ck_assert_int_eq(stop_within(1000 * MS), BS_WORLD_SILENT);
    for (uint64_t sum = 0, pause = BS_WORLD_RESEND_NS; sum < bs_os_now_ns() - start; pause *= BS_WORLD_RESEND_GROWTH) {
        sum += pause;
        most += 2; /* to each */
    }
    ck_assert_uint_gt(bs_counted(world_resent), resent);
    ck_assert_uint_le(bs_counted(world_resent) - resent, most);
    ck_assert_uint_lt(bs_os_now_ns() - start, LONG / 2);
    ck_assert(bs_world_culprit() == runners[0].tid || bs_world_culprit() == runners[1].tid);
    bs_world_lose(0, 0);
    must_stop();
    resume();
    join_threads(2);
}
END_TEST

/* The user may have so many signals waiting that none can be sent: it is tried again. */
START_TEST(who_cannot_be_asked_now_is_asked_later) {
    struct rlimit limit, none;
    start_threads(1, busy);
    ck_assert_int_eq(getrlimit(RLIMIT_SIGPENDING, &limit), 0);
    none = (struct rlimit){0, limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_SIGPENDING, &none), 0);
    enum bs_world_result result = stop_within(300 * MS);
    ck_assert_int_eq(setrlimit(RLIMIT_SIGPENDING, &limit), 0);
    ck_assert_msg(result == BS_WORLD_SILENT || result == BS_WORLD_LATE, "result %d", result);
    must_stop();
    resume();
    join_threads(1);
}
END_TEST

/* Traces the thread until it is killed, by the name of somebody who stops it for signals or does not. */
static pid_t start_tracer(int tid, const char *name) {
    int ready_pipe[2], status;
    char byte;
    ck_assert_int_eq(pipe(ready_pipe), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NAME, name);
        byte = ptrace(PTRACE_SEIZE, tid, 0, 0) == 0;
        if (write(ready_pipe[1], &byte, 1) != 1 || !byte)
            _exit(0);
        while (waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status))
            ptrace(PTRACE_CONT, tid, 0, status >> 16 != 0 ? 0 : WSTOPSIG(status));
        _exit(0);
    }
    close(ready_pipe[1]);
    prctl(PR_SET_PTRACER, pid);
    bool traces = read(ready_pipe[0], &byte, 1) == 1 && byte == 1;
    close(ready_pipe[0]);
    return traces ? pid : 0;
}

START_TEST(a_debugger_is_left_alone) {
    start_threads(2, busy);
    must_stop(); /* the signal is taken */
    resume();
    pid_t pid = start_tracer(runners[0].tid, "gdb");
    if (pid == 0)
        return; /* nobody may trace here */
    ck_assert_int_eq(stop_within(LONG), BS_WORLD_TRACED);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    must_stop();
    resume();
    pid = start_tracer(runners[0].tid, "strace");
    ck_assert_int_ne(pid, 0);
    must_stop();
    resume();
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    join_threads(2);
}
END_TEST

/* --- beside fork, vfork, the helper ----------------------------------------------------------- */

static void child_stops(void) {
    inside_text();
    bs_world_forked(); /* as the scanner does in its fork handler: others had not left their handlers */
    enum bs_world_result result = stop_within(LONG);
    if (result != BS_WORLD_STOPPED)
        dprintf(2, "a child's stop: result %d, thread %d\n", result, bs_world_culprit());
    CHILD_CHECK(result == BS_WORLD_STOPPED);
    CHILD_CHECK(bs_world_count() == 0);
    resume();
#if !BS_SANITIZED /* AddressSanitizer's lock around its threads may be held by one that is not here */
    pthread_t thread;
    uint64_t n = 0;
    CHILD_CHECK(pthread_create(&thread, NULL, short_life, &n) == 0);
    pthread_join(thread, NULL);
    CHILD_CHECK(n == 1);
#endif
    _exit(0);
}
static void *forker(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
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
    bs_store_release(&r->tid, bs_os_tid());
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
    unsigned stopped = 0, wanted = 100 / UNIT_SLOWNESS;
    bs_fork_start();
    start_threads(2, parents[_i]);
    start_on(&runners[2], busy);
    for (unsigned i = 0; i < 20 * wanted && stopped < wanted; i++) {
        enum bs_world_result result = stop_within(LONG);
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
    require(stopped == wanted, "stopped %u times only", stopped);
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
    bs_store_release(&r->tid, bs_os_tid());
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
        if (bs_world_stop(bs_os_now_ns() + LONG) == BS_WORLD_STOPPED) {
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
    CHILD_CHECK(stop_within(LONG) == BS_WORLD_STOPPED);
    resume();
    if (arg == NULL)
        kill(getpid(), bs_world_signal());
    else
        sigqueue(getpid(), bs_world_signal(), value);
    usleep(100000);
}

START_TEST(a_signal_from_elsewhere_has_its_default_effect) {
    struct outcome o = child_run(stray, _i == 0 ? NULL : (void *)0x1234, 60);
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

/* A stop that is given up takes its signals back, by another action for a moment. */
static uint32_t discards; /* [atomic] */
static void *discard_again(void *arg) {
    while (!bs_load(&end_all)) {
        bs_os_signal_discard(*(int *)arg);
        (void)bs_add(&discards, 1u);
    }
    return NULL;
}

START_TEST(a_handler_installed_meanwhile_stays) {
    struct sigaction action = {.sa_handler = wait_in_handler}, ours, now;
    pthread_t thread;
    ck_assert(bs_world_start());
    int signal = bs_world_signal();
    ck_assert_int_eq(sigaction(signal, NULL, &ours), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, discard_again, &signal), 0);
    for (unsigned i = 0; i < 2000; i++) {
        sigaction(signal, &action, NULL);
        for (uint32_t seen = bs_load(&discards); bs_load(&discards) - seen < 2;)
            sched_yield();
        sigaction(signal, NULL, &now);
        ck_assert_msg(now.sa_handler == wait_in_handler, "time %u: it is gone", i);
        sigaction(signal, &ours, NULL);
    }
    bs_store(&end_all, 1u);
    pthread_join(thread, NULL);
}
END_TEST

START_TEST(none_is_sent_that_is_forgone) {
    struct sigaction now;
    start_threads(1, busy);
    must_stop();
    resume();
    int signal = bs_world_signal();
    bs_os_signal_recall(); /* of nobody */
    bs_os_signal_forgo(signal);
    bs_os_signal_forgo(signal);
    for (unsigned i = 0; i < 2; i++) {
        sigaction(signal, NULL, &now);
        ck_assert(now.sa_handler == SIG_IGN);
        ck_assert_int_eq(bs_os_signal_send(signal, runners[0].tid, 0), EAGAIN);
        ck_assert_int_eq(stop_within(LONG), BS_WORLD_SILENT);
        bs_os_signal_recall();
    }
    must_stop();
    resume();
    ck_assert_int_eq(bs_world_signal(), signal);
    join_threads(1);
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
    Suite *suite = suite_create("world_hard");
    TCase *tc = add_case(suite, "cannot");
    tcase_add_loop_test(tc, who_blocks_the_signal_is_named, 0, 3);
    tcase_add_test(tc, who_blocks_it_for_a_while);
    tcase_add_test(tc, who_blocks_one_of_all);
    tcase_add_test(tc, lost_signals_and_answers);
    tcase_add_test(tc, the_time_is_over);
    tcase_add_test(tc, who_does_not_answer_is_named);
    tcase_add_test(tc, who_cannot_be_asked_now_is_asked_later);
    tcase_add_test(tc, a_debugger_is_left_alone);
    tc = add_case(suite, "beside");
    tcase_add_loop_test(tc, beside_forks, 0, 2);
    add_but_tsan(tc, not_from_a_vfork_child, "it makes vfork a fork");
    tcase_add_test(tc, the_helper_is_left_alone);
    tcase_add_test(tc, the_helper_stops_all);
    tc = add_case(suite, "signal");
    tcase_add_loop_test(tc, a_signal_from_elsewhere_has_its_default_effect, 0, 2);
    tcase_add_test(tc, a_signal_in_use_is_not_taken);
    tcase_add_test(tc, a_signal_that_is_waited_for_is_not_taken);
    tcase_add_test(tc, a_handler_installed_meanwhile_stays);
    tcase_add_test(tc, none_is_sent_that_is_forgone);
    return run_suite(suite);
}
