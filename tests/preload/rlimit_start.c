/* SPDX-License-Identifier: MIT */
/*
 * Promise: of a limit on address space that a program starts with the heap does not take what the program maps
 * itself. Under each limit from 48 to 256 MiB all but 48 MiB can be mapped beside a first block.
 *
 * The program runs itself anew for each limit, with the limit as its argument. One thread.
 */
#include "promise.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { first_mib = 48, last_mib = 256, step_mib = 4 };

/* MiB that can be mapped, in pieces of one. */
static int under_limit(void) {
    int pieces = 0;
    void *p = malloc(1000);

    BS_CHECK(p != NULL, "malloc(1000) gave NULL");
    memset(p, 1, 1000);
    while (mmap(NULL, BS_MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        pieces++;
    return pieces;
}

int main(int argc, char **argv) {
    if (argc > 1)
        return under_limit() < atoi(argv[1]) ? 1 : 0;
    for (int mib = first_mib; mib <= last_mib; mib += step_mib) {
        struct rlimit limit = {(size_t)mib * BS_MIB, (size_t)mib * BS_MIB};
        int wants = mib - first_mib; /* 48 MiB for tables, code and the first of the heap */
        char number[16];
        int status;
        pid_t pid = fork();

        BS_CHECK(pid >= 0, "fork");
        if (pid == 0) {
            snprintf(number, sizeof number, "%d", wants);
            BS_CHECK(setrlimit(RLIMIT_AS, &limit) == 0, "setrlimit");
            execl(argv[0], argv[0], number, NULL);
            _exit(127);
        }
        BS_CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
        BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                 "under a limit of %d MiB a program cannot map %d MiB: status %#x", mib, wants, (unsigned)status);
    }
    return 0;
}
