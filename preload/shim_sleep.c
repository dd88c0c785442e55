/* SPDX-License-Identifier: MIT */
/*
 * shim_sleep.c - sleeping. See shim.h.
 *
 * The kernel says how much of a sleep was left when it was interrupted; but the thread stood for a while
 * after that, which counts as slept. On clocks of CPU time it does not.
 */
#include "shim_real.h"

#include <threads.h>
#include <unistd.h>

/* *left is only written where the kernel would, when the program is interrupted. */
static int sleep_for(const struct timespec *wanted, struct timespec *left) {
    struct bs_shim_end end = bs_shim_after(wanted);
    struct timespec rest;
    int ret = REPEAT(REAL(nanosleep)(wanted, &rest),
                     (rest = end.forever ? rest : bs_shim_left(end), wanted = &rest));
    if (ret < 0 && errno == EINTR && left != NULL)
        *left = rest;
    return ret;
}

BS_EXPORT int nanosleep(const struct timespec *wanted, struct timespec *left) {
    return sleep_for(wanted, left);
}

/* Returns the error; errno stays. */
BS_EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted,
                              struct timespec *left) {
    bool wall = clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
                clock == CLOCK_TAI;
    struct bs_shim_end end = bs_shim_after(wall && (flags & TIMER_ABSTIME) == 0 ? wanted : NULL);
    struct bs_shim_call call = bs_shim_begin();
    struct timespec rest;
    int error;
    while ((error = REAL(clock_nanosleep)(clock, flags, wanted, &rest)) != 0 &&
           bs_shim_again(&call, error))
        if ((flags & TIMER_ABSTIME) == 0) {
            rest = end.forever ? rest : bs_shim_left(end);
            wanted = &rest;
        }
    if (error == EINTR && (flags & TIMER_ABSTIME) == 0 && left != NULL)
        *left = rest;
    return error;
}

BS_EXPORT int usleep(useconds_t us) {
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    return sleep_for(&t, NULL);
}

BS_EXPORT unsigned sleep(unsigned seconds) {
    struct timespec t = {(time_t)seconds, 0};
    int error = errno;
    if (sleep_for(&t, &t) == 0)
        return 0;
    errno = error;
    return (unsigned)t.tv_sec;
}

BS_EXPORT int thrd_sleep(const struct timespec *wanted, struct timespec *left) {
    int error = clock_nanosleep(CLOCK_REALTIME, 0, wanted, left);
    return error == 0 ? 0 : error == EINTR ? -1 : -2;
}
