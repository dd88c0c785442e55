/* SPDX-License-Identifier: MIT */
/*
 * Promise: scans stop threads that began with all signals blocked, and where besom does not stand before the function
 * that blocked them, or did not know yet which signal it would take:
 *
 *   early        pthread_sigmask before besom's constructor has run, as in that of a library that comes before it
 *   attributes   pthread_attr_setsigmask_np
 *   timer        the thread that libc makes for timers with SIGEV_THREAD, once it has been at work
 *   started      a program that was executed with all signals blocked
 *
 * Without that no scan came to a verdict, and a quarantine gave nothing back.
 */
#include "promise.h"
#include "scan_drive.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static const struct scan_drive *drive;

static void scan(const char *what) {
    struct scan_seen seen;
    unsigned tries = 0;
    do {
        drive->ask(0);
        while (!drive->over(&seen))
            usleep(500);
    } while (seen.end != 0 && tries++ < 40);
    BS_CHECK(seen.end == 0, "%s: no verdict: end %d, world %d, thread %d", what, seen.end, seen.world, seen.culprit);
}

static void *sleep_on(void *arg) {
    for (;;)
        pause();
    return arg;
}
static volatile int is_asleep;
static void *sleep_early(void *arg) {
    free(malloc(1)); /* what is done for a thread with its first block is done before besom's constructor, too */
    is_asleep = 1;
    return sleep_on(arg);
}
static void begin_early(void) {
    pthread_t thread;
    sigset_t all, old;
    sigfillset(&all);
    BS_CHECK(pthread_sigmask(SIG_SETMASK, &all, &old) == 0 && pthread_create(&thread, NULL, sleep_early, NULL) == 0 &&
             pthread_sigmask(SIG_SETMASK, &old, NULL) == 0, "no early thread");
    while (!is_asleep)
        sched_yield();
}
/* What the loader calls before all constructors of libraries. */
__attribute__((section(".preinit_array"), used)) static void (*const early)(void) = begin_early;

static void by_attributes(void) {
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all;
    sigfillset(&all);
    BS_CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setsigmask_np(&attr, &all) == 0, "attributes");
    BS_CHECK(pthread_create(&thread, &attr, sleep_on, NULL) == 0, "pthread_create");
    pthread_attr_destroy(&attr);
    scan("attributes");
}

static volatile int rung;
static void ring(union sigval value) {
    (void)value;
    rung = 1;
}
static void by_timer(void) {
    timer_t timer;
    struct sigevent how = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = ring};
    const struct itimerspec soon = {.it_value = {0, 1000000}};
    BS_CHECK(timer_create(CLOCK_MONOTONIC, &how, &timer) == 0 && timer_settime(timer, 0, &soon, NULL) == 0,
             "timer_create");
    while (!rung)
        usleep(1000);
    scan("timer");
}

int main(int argc, char **argv) {
    sigset_t all;
    (void)argc;
    drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    if (getenv("SCAN_BLOCKED_STARTED") != NULL) {
        scan("started");
        return 0;
    }
    scan("early");
    by_attributes();
    by_timer();
    setenv("SCAN_BLOCKED_STARTED", "1", 1);
    sigfillset(&all);
    BS_CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8) == 0, "rt_sigprocmask");
    execv(argv[0], argv);
    BS_CHECK(0, "execv");
}
