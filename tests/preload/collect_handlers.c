/* SPDX-License-Identifier: MIT */
/*
 * Promise: while scan:collect may close memory, the program's handlers of SIGSEGV are its own: a child that
 * resets its handlers between vfork and execve, as many do, leaves the parent's alone; one that is
 * installed with sysv_signal is called once, and is no reason not to see faults; and no thread begins with
 * SIGSEGV blocked, whatever its attributes say, or closed memory would end it.
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

int main(void) {
    check_vfork();
    fall_in_vfork();
    check_sysv();
    check_thread();
    return 0;
}
