/* SPDX-License-Identifier: MIT */
/*
 * Promise: the numbers of descriptors are the program's own, also while besom's thread works and scans: what is
 * opened gets the lowest free number each time (daemons count on that: close(0), open), what was closed is
 * not there, and a pipe that the program puts where somebody else's descriptor may have been is read by nobody
 * and closed by nobody. own_descriptors.conf asks for 50 scans a second.
 *
 * On kernels before Linux 5.9 a thread's table of descriptors cannot be made its own in one step: skipped.
 */
#include "promise.h"
#include "scan_drive.h"

#include <pthread.h>
#include <sys/syscall.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { least_scans = 60, first = 3, many = 40, nthreads = 16 };

/* Whose state the helper reads in /proc, before they are stopped and while they sleep. */
static void *sleep_on(void *arg) {
    for (;;) {
        free(hide(malloc(1000)));
        sleep_ms(20);
    }
    return arg;
}

/* Each call of open meets a moment of the helper's work, sooner or later. */
static void open_one_after_the_other(void) {
    int fd[many];
    for (int i = 0; i < many; i++) {
        fd[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        BS_CHECK(fd[i] == first + i, "descriptor %d is free, and %d was given", first + i, fd[i]);
    }
    for (int i = many - 1; i >= 0; i--) {
        BS_CHECK(close(fd[i]) == 0, "descriptor %d is gone", fd[i]);
        BS_CHECK(fcntl(fd[i], F_GETFD) == -1, "descriptor %d is somebody's", fd[i]);
    }
}

/* As a program that closes what it does not know. */
static void put_a_pipe_there(void) {
    int ends[2];
    char byte = 0;
    for (int fd = first; fd < first + many; fd++)
        close(fd);
    BS_CHECK(pipe2(ends, O_CLOEXEC) == 0 && ends[0] == first && ends[1] == first + 1, "pipe: %d and %d", ends[0],
             ends[1]);
    BS_CHECK(write(ends[1], "x", 1) == 1, "write");
    usleep(1000);
    BS_CHECK(read(ends[0], &byte, 1) == 1 && byte == 'x', "somebody has read from it");
    BS_CHECK(close(ends[0]) == 0 && close(ends[1]) == 0, "somebody has closed it");
}

int main(void) {
    const struct scan_drive *drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    if (syscall(SYS_close_range, 100000, 100000, 0) != 0)
        promise_skip("there is no close_range here");
    if (sysconf(_SC_OPEN_MAX) < first + many + 16)
        promise_skip("so few descriptors may be open");
    for (int fd = first; fd < 1024; fd++)
        close(fd); /* of whoever started us */
    for (int i = 0; i < nthreads; i++) {
        pthread_t thread;
        BS_CHECK(pthread_create(&thread, NULL, sleep_on, NULL) == 0, "no thread");
    }
    for (int i = 0; i < 100 || !scan_drive_has_made(drive, least_scans); i++) {
        free(hide(malloc(100 * BS_KIB)));
        open_one_after_the_other();
        put_a_pipe_there();
    }
    return 0;
}
