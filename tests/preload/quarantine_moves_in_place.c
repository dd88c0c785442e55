/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine,quarantine_mode:sound a block to which a pointer exists is never handed
 * out where no copy of the process can be made either: the search is done while all stand. (The argument:
 * seconds.)
 */
#include "quarantine_moves.h"

#include "../refuse_call.h"

#include <errno.h>
#include <sys/syscall.h>

int main(int argc, char **argv) {
    if (!refuse_call(SYS_wait4)) { /* who cannot wait for a copy makes none */
        dprintf(STDOUT_FILENO, "SKIP: no system call can be refused here (errno %d)\n", errno);
        return 77;
    }
    return must_catch_nothing(argc, argv);
}
