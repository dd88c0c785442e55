/* SPDX-License-Identifier: MIT */
/*
 * Promise: in a process whose /proc is another PID namespace's, with other numbers for its threads
 * (`unshare --pid --fork PROGRAM`), a scan ends at once, without a verdict. (It asked threads for ever that
 * no system call knew.)
 */
#include "promise.h"
#include "scan_drive.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

static void *sleep_on(void *arg) {
    for (;;)
        pause();
    return arg;
}

static void __attribute__((noreturn)) scan(const struct scan_drive *drive) {
    struct scan_seen seen;
    pthread_t thread;
    BS_CHECK(getpid() == 1 && pthread_create(&thread, NULL, sleep_on, NULL) == 0, "the first of a namespace");
    drive->ask(SCAN_BY_CALLER);
    BS_CHECK(drive->over(&seen), "a scan by the caller is over");
    BS_CHECK(seen.end != 0, "a verdict, with %zu threads", seen.threads);
    _exit(0);
}

int main(void) {
    const struct scan_drive *drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    int status;
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    if (unshare(CLONE_NEWPID) != 0)
        promise_skip("unshare(CLONE_NEWPID): %s", strerror(errno));
    pid_t child = fork();
    BS_CHECK(child >= 0, "fork");
    if (child == 0)
        scan(drive);
    /* (the first process of a namespace is not ended by SIGALRM) */
    uint64_t end = now_ms() + 1000 * PROMISE_CHILD_LIMIT_S;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (now_ms() > end)
            kill(child, SIGKILL);
        usleep(10000);
    }
    BS_CHECK(status == 0, "the child ended with %#x", (unsigned)status);
    return 0;
}
