/* SPDX-License-Identifier: MIT */
/*
 * shim_signal.c - calls that wait for signals; and the signal that besom has taken is kept out of the
 * program's sets. See shim.h.
 */
#include "shim_signal.h"

#include "shim_fault.h"
#include "shim_real.h"

#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* (One that is shared is the program's as well: where that blocks it for long, no stop is made.) */
static int taken(void) {
    return bs_load(&besom_shim.is_shared) ? 0 : bs_load(&besom_shim.signal);
}

const sigset_t *bs_shim_without_ours(const sigset_t *set, sigset_t *copy) {
    int signal = taken();
    if (set == NULL || signal == 0 || sigismember(set, signal) != 1)
        return set;
    *copy = *set;
    sigdelset(copy, signal);
    return copy;
}

static bool has_all_realtime(const sigset_t *set) {
    for (int signal = SIGRTMIN + 1; signal <= SIGRTMAX; signal++)
        if (sigismember(set, signal) != 1)
            return false;
    return true;
}

/* A thread that a library's constructor makes before ours has run, with all blocked (jemalloc, log4cplus), could
 * never be stopped. Who blocks all of them has no use for this one. */
static const sigset_t *without_awaited(const sigset_t *set, sigset_t *copy) {
    int signal = bs_load(&besom_shim.awaited);
    if (BS_LIKELY(signal == 0) || set == NULL || !has_all_realtime(set))
        return set;
    *copy = *set;
    sigdelset(copy, signal);
    return copy;
}

const sigset_t *bs_shim_mask(const sigset_t *set, sigset_t *copy) {
    set = without_awaited(bs_shim_without_ours(set, copy), copy);
    if (set == NULL || !bs_shim_faults_are_on() || sigismember(set, SIGSEGV) != 1)
        return set;
    *copy = *set;
    sigdelset(copy, SIGSEGV);
    return copy;
}

BS_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    sigset_t copy;
    return REAL(pthread_sigmask)(how, how == SIG_UNBLOCK ? set : bs_shim_mask(set, &copy), old);
}

BS_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    sigset_t copy;
    return REAL(sigprocmask)(how, how == SIG_UNBLOCK ? set : bs_shim_mask(set, &copy), old);
}

BS_EXPORT int sigsuspend(const sigset_t *mask) {
    sigset_t copy;
    mask = bs_shim_mask(mask, &copy);
    return REPEAT(REAL(sigsuspend)(mask), (void)0);
}

BS_EXPORT int pause(void) {
    return REPEAT(REAL(pause)(), (void)0);
}

BS_EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout) {
    struct bs_shim_end end = bs_shim_after(timeout);
    struct timespec left;
    sigset_t copy;
    set = bs_shim_without_ours(set, &copy);
    return REPEAT(REAL(sigtimedwait)(set, info, timeout),
                  timeout = end.forever ? timeout : (left = bs_shim_left(end), &left));
}

BS_EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info) {
    sigset_t copy;
    set = bs_shim_without_ours(set, &copy);
    return REPEAT(REAL(sigwaitinfo)(set, info), (void)0);
}

/* libc does it again by itself. */
BS_EXPORT int sigwait(const sigset_t *set, int *signal) {
    sigset_t copy;
    return REAL(sigwait)(bs_shim_without_ours(set, &copy), signal);
}

BS_EXPORT int signalfd(int fd, const sigset_t *mask, int flags) {
    sigset_t copy;
    return REAL(signalfd)(fd, bs_shim_without_ours(mask, &copy), flags);
}
