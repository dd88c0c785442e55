/* SPDX-License-Identifier: MIT */
/*
 * Promise: the scan at exit is made although a thread does not stand in time at first: here one waits for its
 * vfork child, for longer than a stop may take. There is no later scan that could report the leak.
 * scan_exit_late.conf asks for an exit status that says so.
 */
#include "lose.h"

#include <pthread.h>
#include <sys/wait.h>

static int tid; /* [atomic] */

static void *wait_for_child(void *arg) {
    __atomic_store_n(&tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    pid_t pid = vfork();
    if (pid == 0) {
        struct timespec span = {0, 800000000};
        nanosleep(&span, NULL);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    for (;;)
        pause();
    return arg;
}

int main(void) {
    pthread_t thread;
    lose();
    wipe();
    BS_CHECK(pthread_create(&thread, NULL, wait_for_child, NULL) == 0, "no thread");
    while (__atomic_load_n(&tid, __ATOMIC_ACQUIRE) == 0)
        sleep_ms(1);
    sleep_ms(50); /* later, or sooner: it is reported in any case */
    return 0;
}
