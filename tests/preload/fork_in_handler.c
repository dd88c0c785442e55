/* SPDX-License-Identifier: MIT */
/*
 * Promise: in a program of one thread a handler of a signal may fork (POSIX), whatever it has interrupted, malloc in the
 * middle of its work included, and while there is a helper. The child ends at once or goes on where the parent was, and
 * both allocate as before.
 */
#include "promise.h"

#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { nblocks = 20000, seconds = 4, least_forks = 20 };

static void *blocks[nblocks];
static size_t sizes[nblocks];
static uint64_t seed = 1;
static volatile unsigned forks;
static volatile sig_atomic_t is_child;

static void on_tick(int number) {
    int error = errno;
    bool goes_on = ++forks % 16 == 0;
    pid_t child = is_child ? -1 : fork();

    (void)number;
    if (child == 0) {
        alarm(PROMISE_CHILD_LIMIT_S);
        is_child = 1;
        if (!goes_on)
            _exit(7);
    } else if (child > 0) {
        int status;

        BS_CHECK(waitpid(child, &status, 0) == child, "waitpid");
        BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the child's status is %#x", (unsigned)status);
    }
    errno = error;
}

static void replace(size_t i) {
    if (blocks[i] != NULL)
        BS_CHECK_PATTERN(blocks[i], sizes[i], i);
    free(blocks[i]);
    sizes[i] = 1 + rng_below(&seed, rng_below(&seed, 500) == 0 ? 300000 : 3000);
    blocks[i] = malloc(sizes[i]);
    BS_CHECK(blocks[i] != NULL, "malloc(%zu) gave NULL", sizes[i]);
    pattern_fill(blocks[i], sizes[i], i);
}

int main(void) {
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    const struct itimerval often = {{0, 2000}, {0, 2000}};

    alarm(PROMISE_CHILD_LIMIT_S); /* who waits for itself ends */
    BS_CHECK(sigaction(SIGPROF, &action, NULL) == 0 && setitimer(ITIMER_PROF, &often, NULL) == 0, "timer");
    /* on a busy machine for longer: the timer counts CPU time */
    for (time_t end = time(NULL) + seconds; (time(NULL) < end || forks < least_forks) && !is_child;)
        for (unsigned i = 0; i < 1000 && !is_child; i++)
            replace(rng_below(&seed, nblocks));
    for (unsigned i = 0; is_child && i < 1000; i++)
        replace(rng_below(&seed, nblocks));
    _exit(is_child ? 7 : 0);
}
