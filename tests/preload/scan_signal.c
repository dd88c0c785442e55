/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan_signal a scan is made when the signal comes, whoever gets it, and the program does not notice:
 * calls are not interrupted, it has no handler, its own handler for the signal runs as well once it
 * has one, and once it has none again the signal does not kill it. A forked child is asked in the same way, and its
 * parent still is, also where it was made without libc's fork; and so is a program that has tried to execute another,
 * or has a vfork child do so. What was lost is reported at the second signal. scan_signal.conf says which, and no
 * interval.
 */
#include "promise.h"

#include <errno.h>
#include <linux/sched.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define SIGNAL SIGUSR2 /* scan_signal.conf */

static volatile sig_atomic_t handled;

static void handle(int signo) {
    handled += signo == SIGNAL;
}

__attribute__((noinline)) static void lose(void) {
    void *volatile p = malloc(300);
    BS_CHECK(p != NULL, "malloc");
    p = NULL;
}
__attribute__((noinline)) static void wipe(void) {
    volatile char junk[8192];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}

static unsigned asked; /* scans of this process */
static char log_path[64];

/* How many were made, and what the last one said: its leaks, or -1 where it came to no verdict. */
static unsigned count_scans(int *leaks) {
    char line[4096];
    unsigned scans = 0;
    FILE *f = fopen(log_path, "r");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof line, f) != NULL) {
        const char *at = strstr(line, " leaks ");
        if (strstr(line, " scan: reason signal ") == NULL || strchr(line, '\n') == NULL)
            continue;
        scans++;
        *leaks = strstr(line, " verdict done ") != NULL && at != NULL ? (int)strtoul(at + 7, NULL, 10) : -1;
    }
    fclose(f);
    return scans;
}

/* For the scan that a signal has just asked for. */
static int wait_for_scan(void) {
    int leaks = -1;
    unsigned seen = 0;
    asked++;
    for (unsigned i = 0; i < 6000 && (seen = count_scans(&leaks)) < asked; i++)
        BS_CHECK(usleep(10000) == 0, "usleep: errno %d", errno);
    BS_CHECK(seen == asked, "%u scans, not %u", seen, asked);
    return leaks;
}
static void by_raise(void) {
    raise(SIGNAL);
}
static void by_kill(void) {
    BS_CHECK(kill(getpid(), SIGNAL) == 0, "kill");
}
/* The leaks in the next verdict. Where threads get no CPU, a scan is given up: then another is asked for. */
static int scan_by(void (*ask)(void)) {
    int leaks = -1;
    for (unsigned i = 0; i < 50 && leaks < 0; i++) {
        ask();
        leaks = wait_for_scan();
    }
    BS_CHECK(leaks >= 0, "no scan comes to a verdict");
    return leaks;
}

static void must_have(__sighandler_t handler) {
    struct sigaction now;
    BS_CHECK(sigaction(SIGNAL, NULL, &now) == 0 && now.sa_handler == handler, "another handler");
}

/* In a sleep that a signal ends with EINTR: the other thread sends it to this one, which is the first. */
static int is_sent; /* [atomic] */

static void *send_to(void *arg) {
    promise_wait_until_in_call((int)getpid(), SYS_clock_nanosleep); /* as libc's nanosleep */
    BS_CHECK(pthread_kill(*(pthread_t *)arg, SIGNAL) == 0, "pthread_kill");
    __atomic_store_n(&is_sent, 1, __ATOMIC_RELEASE);
    return NULL;
}
/* One sleep after the other, until it was sent: the other thread may have to wait for a CPU. */
static int sleep_and_get_it(time_t seconds) {
    struct timespec span = {seconds, 0};
    pthread_t self = pthread_self(), other;
    int ret = 0;
    __atomic_store_n(&is_sent, 0, __ATOMIC_RELAXED);
    BS_CHECK(pthread_create(&other, NULL, send_to, &self) == 0, "thread");
    while (ret == 0 && !__atomic_load_n(&is_sent, __ATOMIC_ACQUIRE))
        ret = nanosleep(&span, NULL) == 0 ? 0 : errno;
    pthread_join(other, NULL);
    return ret;
}

static int in_child(void *arg) {
    promise_begin_log(log_path, sizeof log_path, "scan_signal");
    asked = 0; /* in its own log */
    for (unsigned i = 1; i <= 2; i++)
        BS_CHECK(scan_by(by_kill) == (i == 1 ? 0 : 1), "leaks of the child");
    unlink(log_path);
    _exit(arg != NULL);
}

/* As its maker sees it. */
static pid_t copy_by(unsigned way) {
    static char stack[1 << 17] __attribute__((aligned(16)));
    struct clone_args args = {.exit_signal = SIGCHLD};
    switch (way) {
    case 0:
        return fork();
    case 1:
        return (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    case 2:
        return clone(in_child, stack + sizeof stack, SIGCHLD, NULL);
    case 3:
        return (pid_t)syscall(SYS_clone3, &args, sizeof args);
    default:
#ifdef SYS_fork
        return (pid_t)syscall(SYS_fork);
#else
        return fork();
#endif
    }
}

/* The child has our memory until it is another program. */
static void execute_beside(void) {
    char name[] = "true", *const args[] = {name, NULL}, *const none[] = {NULL};
    int status;
    pid_t child = vfork();
    if (child == 0) {
        execve("/bin/true", args, none);
        _exit(1);
    }
    BS_CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child %#x of vfork", (unsigned)status);
}

int main(void) {
    promise_begin_log(log_path, sizeof log_path, "scan_signal");
    must_have(SIG_DFL);
    lose();
    wipe();
    BS_CHECK(scan_by(by_raise) == 0, "a leak in the first scan");
    BS_CHECK(scan_by(by_kill) == 1, "no leak in the second scan");
    BS_CHECK(sleep_and_get_it(1) == 0, "a sleep was interrupted");
    wait_for_scan();

    BS_CHECK(signal(SIGNAL, handle) == SIG_DFL, "there was a handler");
    must_have(handle);
    BS_CHECK(sleep_and_get_it(100) == EINTR, "the program's handler did not interrupt");
    BS_CHECK(handled == 1, "handled %d times", (int)handled);
    wait_for_scan();

    BS_CHECK(signal(SIGNAL, SIG_IGN) == handle, "another handler");
    must_have(SIG_DFL);
    struct sigaction action = {.sa_handler = handle}, old;
    BS_CHECK(sigaction(SIGNAL, &action, &old) == 0 && old.sa_handler == SIG_DFL, "sigaction");
    BS_CHECK(signal(SIGNAL, SIG_DFL) == handle, "another handler");
    raise(SIGNAL);
    BS_CHECK(handled == 1, "handled %d times", (int)handled);
    wait_for_scan();

    char *const none[] = {NULL};
    for (unsigned i = 0; i < 2; i++)
        BS_CHECK(execve("/nowhere/program", none, none) == -1 && errno == ENOENT, "execve: errno %d", errno);
    malloc_trim(0); /* who tried that keeps nobody waiting */
    (void)scan_by(by_kill);
    execute_beside();
    (void)scan_by(by_kill);

    for (unsigned way = 0; way < 5; way++) {
        int status;
        pid_t child = copy_by(way);
        if (child == 0)
            in_child(NULL);
        if (child < 0 && way == 3 && errno == ENOSYS) /* in containers that refuse it */
            continue;
        BS_CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child %#x, way %u", (unsigned)status, way);
        (void)scan_by(by_kill);
    }
    unlink(log_path);
    _exit(0); /* no report at exit */
}
