/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program that shares the signal of the stops with besom (scan_shared_signal.c) may do with it what it likes
 * while threads are being stopped: the default action, or none, ends no process that is about to be sent that
 * signal, and is no reason that the stop does not come about; a handler that is there again is not called for besom's
 * signals. Signals that the program sends meanwhile are all handled afterwards, once each. And what a child of vfork does
 * with it, on its parent's memory, is the child's business.
 *
 * The thread that scans is held (hold_call.h) where it sends the signal: to the first thread, or to the last, when the
 * others stand.
 */
#include "promise.h"

#include "../hold_call.h"
#include "scan_drive.h"

#include <pthread.h>
#include <sys/wait.h>

#define FIRST 34
#define LAST 64
#define TAKEN 61 /* besom.7 */
#define FLAGS (SA_SIGINFO | SA_RESTART | SA_ONSTACK)
#define EACH 5 /* signals of each number */

static const struct scan_drive *drive;

/* --- handlers --------------------------------------------------------------------------------- */

static unsigned handled[LAST + 1]; /* [atomic] by number */
static int wrong;                  /* [atomic] the last value that was not sent along */

static void handle(int number, siginfo_t *info, void *context) {
    (void)context;
    if (info->si_value.sival_int != 7 * number)
        __atomic_store_n(&wrong, info->si_value.sival_int, __ATOMIC_RELAXED);
    __atomic_fetch_add(&handled[number], 1, __ATOMIC_RELEASE);
}
static unsigned count(int number) {
    return __atomic_load_n(&handled[number], __ATOMIC_ACQUIRE);
}
static void install(int number) {
    struct sigaction action = {.sa_flags = FLAGS};
    action.sa_sigaction = handle;
    sigfillset(&action.sa_mask);
    BS_CHECK(sigaction(number, &action, NULL) == 0, "signal %d", number);
}
static void send_to(pthread_t thread, int number) {
    BS_CHECK(pthread_sigqueue(thread, number, (union sigval){.sival_int = 7 * number}) == 0, "signal %d", number);
}
static bool has(__sighandler_t handler) {
    struct sigaction now;
    return sigaction(TAKEN, NULL, &now) == 0 && now.sa_handler == handler;
}
static void wait_until_handled(int number, unsigned n) {
    for (unsigned i = 0; i < 60000 && count(number) < n; i++)
        sleep_ms(1);
    BS_CHECK(count(number) == n, "signal %d: handled %u times instead of %u", number, count(number), n);
}

/* --- threads ---------------------------------------------------------------------------------- */

enum { BEGIN, REST, SCAN, END };
static uint32_t order; /* [atomic] to the thread that scans, which makes it REST when that is done */
static uint32_t is_over;
static int sleeper_tid, actor_tid;
static pthread_t sleeper;
static bool holds;
static struct scan_seen seen;

static void *scan(void *arg) {
    holds = hold_call_begin(SYS_rt_tgsigqueueinfo);
    __atomic_store_n(&order, REST, __ATOMIC_RELEASE);
    for (uint32_t now; (now = __atomic_load_n(&order, __ATOMIC_ACQUIRE)) != END; sleep_ms(1))
        if (now == SCAN) {
            drive->ask(SCAN_BY_CALLER);
            BS_CHECK(drive->over(&seen), "the scan is not over");
            __atomic_store_n(&order, REST, __ATOMIC_RELEASE);
        }
    return arg;
}
static void *sleep_all_the_time(void *arg) {
    __atomic_store_n(&sleeper_tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE))
        sleep_ms(5);
    return arg;
}
static void wait_for_rest(void) {
    for (unsigned i = 0; i < 100000 && __atomic_load_n(&order, __ATOMIC_ACQUIRE) != REST; i++)
        sleep_ms(1);
    BS_CHECK(__atomic_load_n(&order, __ATOMIC_ACQUIRE) == REST, "the scan does not end");
}
/* A busy machine is a reason to give a stop up (500 ms), and a scan that was is made again. */
static void must_scan(void) {
    for (unsigned tries = 0; tries < 20; tries++) {
        __atomic_store_n(&order, SCAN, __ATOMIC_RELEASE);
        wait_for_rest();
        if (seen.end == 0)
            return;
    }
    BS_CHECK(false, "no scan: end %d, world %d, thread %d", seen.end, seen.world, seen.culprit);
}

/* --- what is done meanwhile -------------------------------------------------------------------- */

enum what { IGNORE, DEFAULT, HANDLE };
static void act(enum what what) {
    if (what == HANDLE) {
        signal(TAKEN, SIG_DFL);
        install(TAKEN);
        return;
    }
    __sighandler_t wanted = what == IGNORE ? SIG_IGN : SIG_DFL;
    struct sigaction action = {.sa_handler = wanted}, old;
    BS_CHECK(sigaction(TAKEN, &action, &old) == 0 && old.sa_sigaction == handle, "another handler");
    BS_CHECK(has(wanted), "it is not as it was set");
}

/* True: the stop came about. */
static bool act_in_stop(enum what what, bool first) {
    unsigned before[LAST + 1];
    install(TAKEN);
    must_scan();
    for (int i = FIRST; i <= LAST; i++)
        before[i] = count(i);
    hold_call_next(first ? HOLD_CALL_ANY : (uint64_t)actor_tid);
    __atomic_store_n(&order, SCAN, __ATOMIC_RELEASE);
    BS_CHECK(hold_call_wait(), "no signal is sent");
    if (!first)
        promise_wait_until_in_call(sleeper_tid, SYS_futex); /* it stands */
    act(what);
    for (int i = FIRST; i <= LAST; i++)
        for (unsigned k = 0; k < EACH && (i != TAKEN || what == HANDLE); k++)
            send_to(sleeper, i);
    BS_CHECK(hold_call_release(), "it was not held");
    wait_for_rest();
    for (int i = FIRST; i <= LAST; i++)
        wait_until_handled(i, before[i] + (i != TAKEN || what == HANDLE ? EACH : 0));
    return seen.end == 0;
}

static int raise_in_child(void) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        raise(TAKEN);
        _exit(0);
    }
    BS_CHECK(waitpid(child, &status, 0) == child, "waitpid");
    return status;
}

static void check_act(enum what what, bool first) {
    bool stopped = false;
    for (unsigned tries = 0; tries < 20 && !stopped; tries++) { /* as in must_scan */
        stopped = act_in_stop(what, first);
        if (what == HANDLE) /* who was not asked by then cannot be stopped */
            break;
    }
    BS_CHECK(stopped || what == HANDLE, "no stop: end %d, world %d, thread %d", seen.end, seen.world, seen.culprit);
    int status = raise_in_child();
    BS_CHECK(what == DEFAULT ? WIFSIGNALED(status) && WTERMSIG(status) == TAKEN : status == 0, "status %#x",
             (unsigned)status);
}

/* On the memory of its parent. */
__attribute__((noinline)) static void check_child(__sighandler_t handler) {
    int status;
    install(TAKEN);
    must_scan();
    unsigned before = count(TAKEN);
    pid_t child = vfork();
    if (child == 0) {
        signal(TAKEN, handler);
        kill(getpid(), TAKEN);
        _exit(0);
    }
    BS_CHECK(waitpid(child, &status, 0) == child, "waitpid");
    BS_CHECK(handler == SIG_IGN ? status == 0 : WIFSIGNALED(status) && WTERMSIG(status) == TAKEN, "status %#x",
             (unsigned)status);
    struct sigaction now;
    BS_CHECK(sigaction(TAKEN, NULL, &now) == 0 && now.sa_sigaction == handle, "a child has changed its parent");
    send_to(sleeper, TAKEN);
    wait_until_handled(TAKEN, before + 1);
}

static void *act_in_all_ways(void *arg) {
    actor_tid = (int)syscall(SYS_gettid);
    for (int i = FIRST; i <= LAST; i++)
        install(i);
    for (unsigned what = IGNORE; what <= HANDLE; what++) {
        check_act((enum what)what, true);
        check_act((enum what)what, false);
    }
    check_child(SIG_DFL);
    check_child(SIG_IGN);
    BS_CHECK(wrong == 0, "a handler was called with %d", wrong);
    return arg;
}

int main(void) {
    pthread_t scanner, actor;
    drive = (const struct scan_drive *)dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "no driver");
    BS_CHECK(pthread_create(&scanner, NULL, scan, NULL) == 0, "thread");
    BS_CHECK(pthread_create(&sleeper, NULL, sleep_all_the_time, NULL) == 0, "thread");
    wait_for_rest();
    if (!holds)
        promise_skip("no system call can be held here (seccomp's user notification)");
    while (__atomic_load_n(&sleeper_tid, __ATOMIC_ACQUIRE) == 0)
        sleep_ms(1);
    BS_CHECK(pthread_create(&actor, NULL, act_in_all_ways, NULL) == 0, "thread"); /* the last that is asked */
    pthread_join(actor, NULL);
    __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
    __atomic_store_n(&order, END, __ATOMIC_RELEASE);
    pthread_join(scanner, NULL);
    pthread_join(sleeper, NULL);
    hold_call_end();
    return 0;
}
