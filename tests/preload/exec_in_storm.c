/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program of one thread whose handler of a timer executes a program that is not there, each time, gets on,
 * also where that handler interrupts a search which the thread itself makes: it does not wait for its own thread, but for the case
 * that it has interrupted it in the two instructions before that can be seen, and then once. Nor does it wait for the
 * helper that is in a round and waits for a lock of what was interrupted (3 of 25 runs did, a second each).
 */
#include "promise.h"

#include <signal.h>
#include <sys/time.h>

enum { nblocks = 20000, seconds = 4, least_execs = 20, most_slow = 1 };

static volatile unsigned execs;
static volatile unsigned slow;

static void on_tick(int number) {
    char *args[] = {(char *)(uintptr_t)"nobody", NULL};
    int before = errno;
    uint64_t start = now_ms();

    (void)number;
    if (execve("/nowhere/to/be/found", args, environ) != -1 || errno != ENOENT)
        _exit(9);
    slow += now_ms() - start >= 900;
    execs++;
    errno = before;
}

int main(void) {
    static void *blocks[nblocks];
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    const struct itimerval often = {{0, 3000}, {0, 3000}};
    uint64_t seed = 1, end_ms = now_ms() + seconds * 1000;

    BS_CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0, "timer");
    while (now_ms() < end_ms || execs < least_execs)
        for (unsigned i = 0; i < 100; i++) {
            size_t k = rng_below(&seed, nblocks);
            free(blocks[k]);
            blocks[k] = malloc(1 + rng_below(&seed, 3000));
            BS_CHECK(blocks[k] != NULL, "malloc");
        }
    BS_CHECK(slow <= most_slow, "%u of %u calls of execve waited", slow, execs);
    _exit(0);
}
