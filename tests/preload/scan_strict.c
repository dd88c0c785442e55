/* SPDX-License-Identifier: MIT */
/*
 * Promise: a thread in the strict mode of seccomp lives through scans, which do not stop it and so come to no verdict;
 * when it has ended, they do again. (The kernel ends such a thread for any system call but read, write, exit and
 * sigreturn.)
 */
#include "promise.h"
#include "scan_drive.h"

#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { nscans = 5 };
static const struct scan_drive *drive;
static int tube[2];
static volatile int state; /* 1: strict, 2: it cannot be, here */
static volatile int tid;

static void *work(void *arg) {
    char byte = 0;
    tid = (int)syscall(SYS_gettid);
    if (prctl(PR_SET_SECCOMP, 1 /* SECCOMP_MODE_STRICT */) != 0) {
        state = 2;
        return arg;
    }
    state = 1;
    while (syscall(SYS_read, tube[0], &byte, 1L) < 0)
        ;
    syscall(SYS_exit, 0L);
    return arg;
}

static bool is_there(void) {
    return syscall(SYS_tgkill, getpid(), tid, 0) == 0;
}

int main(void) {
    struct scan_seen seen;
    struct pollfd end;
    pthread_t thread;
    drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    BS_CHECK(pipe(tube) == 0 && pthread_create(&thread, NULL, work, NULL) == 0, "pipe, pthread_create");
    while (state == 0)
        sleep_ms(1);
    if (state == 2)
        promise_skip("no strict mode here");
    for (unsigned i = 0; i < nscans; i++) {
        drive->ask(0);
        while (!drive->over(&seen))
            sleep_ms(1);
        BS_CHECK(is_there(), "scan %u has ended the thread", i);
        BS_CHECK(seen.end != 0 && seen.culprit == tid, "scan %u: end %d, world %d, thread %d, not %d", i, seen.end,
                 seen.world, seen.culprit, tid);
    }
    BS_CHECK(write(tube[1], "x", 1) == 1, "write");
    for (unsigned i = 0; i < 10000 && is_there(); i++)
        sleep_ms(1);
    end = (struct pollfd){tube[0], POLLIN, 0};
    BS_CHECK(!is_there() && poll(&end, 1, 0) == 0, "it has read what it waited for, and ended");
    scan_drive_must(drive, 0, &seen);
    _exit(0); /* libc knows nothing of that end */
}
