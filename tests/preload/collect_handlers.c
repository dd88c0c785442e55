/* SPDX-License-Identifier: MIT */
/*
 * Promise: while scan:collect may close memory, the program's handlers of SIGSEGV are its own: a child that
 * resets its handlers between vfork and execve, as many do, leaves the parent's alone; one that is
 * installed with sysv_signal is called once, and is no reason not to see faults; one that is sent ends the process, or
 * does not if it is ignored; and no thread has SIGSEGV blocked, whatever its attributes, its mask or its handlers' masks
 * say, or closed memory would end it.
 */
#include "promise.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

__sighandler_t sysv_signal(int number, __sighandler_t handler);

static sigjmp_buf back;
static volatile sig_atomic_t nfaults;
static void *volatile nowhere = (void *)8;

static void recover(int signo) {
    (void)signo;
    nfaults++;
    siglongjmp(back, 1);
}
static void fall(void) {
    if (sigsetjmp(back, 1) == 0)
        *(volatile char *)nowhere = 1;
}

static void check_vfork(void) {
    struct sigaction action = {.sa_handler = recover};
    int status;
    BS_CHECK(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
    pid_t pid = vfork();
    if (pid == 0) {
        for (int signo = 1; signo < 32; signo++)
            signal(signo, SIG_DFL);
        _exit(signal(SIGSEGV, SIG_DFL) == SIG_DFL ? 0 : 1);
    }
    BS_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "vfork: %x", (unsigned)status);
    BS_CHECK(sigaction(SIGSEGV, NULL, &action) == 0 && action.sa_handler == recover,
             "the child's handler is the parent's");
    fall();
    BS_CHECK(nfaults == 1, "%d faults", (int)nfaults);
}

static void fall_in_vfork(void) {
    int status;
    pid_t pid = vfork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        *(volatile char *)nowhere = 1;
        _exit(0);
    }
    BS_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "vfork");
    BS_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a reset child ended with %x",
             (unsigned)status);
}

static void check_sysv(void) {
    struct sigaction now;
    BS_CHECK(sysv_signal(SIGSEGV, recover) == recover, "sysv_signal");
    nfaults = 0;
    fall();
    BS_CHECK(nfaults == 1 && sigaction(SIGSEGV, NULL, &now) == 0 && now.sa_handler == SIG_DFL,
             "%d faults, and it is there still", (int)nfaults);
    BS_CHECK(sysv_signal(SIGUSR1, recover) == SIG_DFL && sysv_signal(SIGUSR1, SIG_DFL) == recover,
             "another signal");
    BS_CHECK(sysv_signal(SIGSEGV, SIG_ERR) == SIG_ERR && errno == EINVAL, "SIG_ERR");
}

static void *look_at_mask(void *arg) {
    pthread_sigmask(SIG_SETMASK, NULL, arg);
    return arg;
}
static void check_thread(void) {
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, found;
    sigfillset(&all);
    pthread_attr_init(&attr);
    BS_CHECK(pthread_attr_setsigmask_np(&attr, &all) == 0, "pthread_attr_setsigmask_np");
    BS_CHECK(pthread_create(&thread, &attr, look_at_mask, &found) == 0, "thread");
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    BS_CHECK(sigismember(&found, SIGUSR1) == 1, "the mask is not the attribute's");
    BS_CHECK(sigismember(&found, SIGSEGV) == 0, "SIGSEGV is blocked");
}

/* Sent by a program, to a child that has no handler or ignores it. */
static void check_sent(__sighandler_t action, int times, int expected) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, action);
        for (int i = 0; i < times; i++)
            kill(getpid(), SIGSEGV);
        _exit(0);
    }
    BS_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
    BS_CHECK((WIFSIGNALED(status) ? WTERMSIG(status) : 0) == expected, "one that was sent: the child ended with %x",
             (unsigned)status);
}

static volatile sig_atomic_t nblocked, ncalls;
static void note_mask(int signo) {
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    nblocked += sigismember(&now, SIGSEGV);
    ncalls += sigismember(&now, SIGUSR2);
    (void)signo;
}
static void check_masks(void) {
    struct sigaction action = {.sa_handler = note_mask};
    sigset_t fault, now;
    sigfillset(&action.sa_mask);
    BS_CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
    raise(SIGUSR1);
    raise(SIGSEGV);
    BS_CHECK(ncalls == 2 && nblocked == 0, "%d calls, with SIGSEGV blocked %d", (int)ncalls, (int)nblocked);
    sigemptyset(&fault);
    sigaddset(&fault, SIGSEGV);
    sigaddset(&fault, SIGUSR2);
    BS_CHECK(pthread_sigmask(SIG_BLOCK, &fault, NULL) == 0 && pthread_sigmask(SIG_BLOCK, NULL, &now) == 0, "mask");
    BS_CHECK(sigismember(&now, SIGUSR2) == 1 && sigismember(&now, SIGSEGV) == 0, "pthread_sigmask blocks SIGSEGV");
    BS_CHECK(sigprocmask(SIG_SETMASK, &fault, NULL) == 0 && pthread_sigmask(SIG_BLOCK, NULL, &now) == 0, "mask");
    BS_CHECK(sigismember(&now, SIGUSR2) == 1 && sigismember(&now, SIGSEGV) == 0, "sigprocmask blocks SIGSEGV");
}

int main(void) {
    check_vfork();
    fall_in_vfork();
    check_sysv();
    check_thread();
    check_sent(SIG_DFL, 1, SIGSEGV);
    check_sent(SIG_IGN, 3, 0);
    check_masks();
    return 0;
}
