/* SPDX-License-Identifier: MIT */
/*
 * Promise: while a process that is none of its threads has a program's memory (clone with CLONE_VM), and may have a pointer
 * in a register, no scan comes to a verdict; afterwards they do again, also where that process executes another program.
 */
#include "promise.h"
#include "scan_drive.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

enum { nscans = 3 };
static char stack[1 << 16] __attribute__((aligned(16)));
static volatile int begun, over;

static int work(void *program) {
    begun = 1;
    while (!over)
        usleep(1000);
    if (program != NULL)
        execl(program, program, "10", (char *)NULL);
    _exit(0);
}

int main(void) {
    const struct scan_drive *drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    char sleeper[] = "/bin/sleep";
    struct scan_seen seen;
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    for (unsigned turn = 0; turn < 2; turn++) {
        begun = over = 0;
        pid_t pid = clone(work, stack + sizeof stack, CLONE_VM | SIGCHLD, turn == 0 ? NULL : sleeper);
        BS_CHECK(pid > 0, "clone");
        while (!begun)
            sleep_ms(1);
        for (unsigned i = 0; i < nscans; i++) {
            drive->ask(0);
            while (!drive->over(&seen))
                sleep_ms(1);
            BS_CHECK(seen.end != 0 && seen.culprit == pid, "scan %u: end %d, world %d, thread %d, not %d", i, seen.end,
                     seen.world, seen.culprit, (int)pid);
        }
        over = 1;
        scan_drive_must(drive, 0, &seen); /* it may take a moment, and is asked for again */
        if (turn != 0)
            kill(pid, SIGKILL);
        BS_CHECK(waitpid(pid, NULL, 0) == pid, "waitpid");
        scan_drive_must(drive, 0, &seen);
    }
    return 0;
}
