/* SPDX-License-Identifier: MIT */
/*
 * Promise: besom has its own time. A library that puts itself before clock_gettime, as libfaketime does, is not asked:
 * it may have to be started first, may need what a thread has that libc knows, and says what it was told.
 * (own_clock_scan: nor by libbesom-scan.so, which measures calls that a stop may interrupt.)
 */
#include "promise.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

enum { nblocks = 30000, block_bytes = 1000, rounds = 3 };

static unsigned asked; /* [atomic] */

/* In front of libc's, for libraries as well. */
int clock_gettime(clockid_t id, struct timespec *t) {
    __atomic_fetch_add(&asked, 1, __ATOMIC_RELAXED);
    return (int)syscall(SYS_clock_gettime, id, t);
}

int main(void) {
    static void *blocks[nblocks];
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < nblocks; i++)
            blocks[i] = malloc(block_bytes);
        for (size_t i = 0; i < nblocks; i++)
            free(blocks[i]);
        usleep(500 * 1000);
    }
    char byte = 1;
    int ends[2];
    BS_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && send(ends[0], &byte, 1, 0) == 1 &&
                 recv(ends[1], &byte, 1, 0) == 1, "a pair of sockets");
    BS_CHECK(__atomic_load_n(&asked, __ATOMIC_RELAXED) == 0, "besom has asked the program's clock %u times", asked);
    struct timespec t;
    BS_CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0 && asked == 1, "the program's clock");
    return 0;
}
