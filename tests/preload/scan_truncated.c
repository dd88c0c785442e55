/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program whose shared memory another process makes shorter and longer all the time lives through
 * scans, in place and by a copy: a page that is gone between two looks is no reason to be killed by SIGBUS, as who
 * touches it would be. (So goes the ring of aio in a forked child whose parent is done with it.) Pointers in other
 * shared memory are seen as ever.
 *
 * Between two looks of a scan there are some microseconds: many scans are made.
 */
#include "promise.h"
#include "scan_drive.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { scans = 100, pages = 256, page = 4096 };

static void *volatile *in_shared;

static void __attribute__((noreturn)) change_size(int fd, pid_t parent) {
    static char bytes[pages * page];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    memset(bytes, 0x11, sizeof bytes);
    while (getppid() == parent) {
        if (pwrite(fd, bytes, sizeof bytes, 0) < 0 || ftruncate(fd, 0) != 0)
            _exit(1);
    }
    _exit(0);
}

int main(void) {
    const struct scan_drive *drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    struct scan_seen seen;
    unsigned done = 0, lost = 0;
    int fd = memfd_create("truncated", MFD_CLOEXEC), status;
    pid_t self = getpid();
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    in_shared = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    BS_CHECK(fd >= 0 && in_shared != MAP_FAILED &&
                 mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED,
             "memfd_create, mmap");
    in_shared[100] = malloc(3000);
    uintptr_t hidden = ~(uintptr_t)in_shared[100];
    pid_t other = fork();
    BS_CHECK(other >= 0, "fork");
    if (other == 0)
        change_size(fd, self);
    for (unsigned i = 0; i < scans; i++) {
        drive->ask(i % 8 == 7 ? SCAN_BY_COPY : 0);
        while (!drive->over(&seen))
            usleep(100);
        done += seen.end == 0;
        lost += seen.end == 0 && drive->is_lost((void *)~hidden) != 0;
    }
    BS_CHECK(waitpid(other, &status, WNOHANG) == 0, "the other process ended with %#x", (unsigned)status);
    kill(other, SIGKILL);
    waitpid(other, &status, 0);
    printf("%u scans, %u without a verdict\n", done, scans - done);
    BS_CHECK(done > 0 && lost == 0, "a block that shared memory leads to was lost in %u scans of %u", lost, done);
    return 0;
}
