/* SPDX-License-Identifier: MIT */
/*
 * shim_wait.c - poll, select and epoll_wait with their kin. See shim.h.
 *
 * A mask that is given along is in force only during the call; what comes then and is blocked
 * otherwise is still waiting after our handler, so the call that is done again returns at once.
 */
#include "shim_real.h"
#include "shim_signal.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

BS_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout_ms) {
    struct bs_shim_end end = bs_shim_after_ms(timeout_ms);
    return REPEAT(REAL(poll)(fds, n, timeout_ms), timeout_ms = bs_shim_left_ms(end));
}

/* What programs call that were compiled with _FORTIFY_SOURCE; libc's checks the size. */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t bytes);
BS_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t bytes) {
    struct bs_shim_end end = bs_shim_after_ms(timeout_ms);
    return REPEAT(REAL(__poll_chk)(fds, n, timeout_ms, bytes), timeout_ms = bs_shim_left_ms(end));
}

/* The first time the caller's own timeout, so that what is wrong with it is found. */
#define TIMED(call)                                                                       \
    ({                                                                                    \
        struct bs_shim_end end = bs_shim_after(timeout);                                  \
        struct timespec left;                                                             \
        REPEAT(call, timeout = end.forever ? timeout : (left = bs_shim_left(end), &left)); \
    })

BS_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                    const sigset_t *mask) {
    sigset_t copy;
    mask = bs_shim_mask(mask, &copy);
    return TIMED(REAL(ppoll)(fds, n, timeout, mask));
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                size_t bytes);
BS_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                          const sigset_t *mask, size_t bytes) {
    sigset_t copy;
    mask = bs_shim_mask(mask, &copy);
    return TIMED(REAL(__ppoll_chk)(fds, n, timeout, mask, bytes));
}

/* The kernel leaves the sets alone when it returns EINTR, and writes the time that was left; but the
 * thread stood for a while after that. */
BS_EXPORT int select(int n, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout) {
    struct bs_shim_end end = {true, 0};
    if (timeout != NULL && timeout->tv_sec >= 0 && timeout->tv_usec >= 0) {
        struct timespec t = {timeout->tv_sec + timeout->tv_usec / 1000000,
                             timeout->tv_usec % 1000000 * 1000};
        end = bs_shim_after(&t);
    }
    return REPEAT(REAL(select)(n, in, out, except, timeout), ({
                      if (timeout != NULL && !end.forever) {
                          struct timespec left = bs_shim_left(end);
                          *timeout = (struct timeval){left.tv_sec, (left.tv_nsec + 999) / 1000};
                      }
                  }));
}

BS_EXPORT int pselect(int n, fd_set *in, fd_set *out, fd_set *except,
                      const struct timespec *timeout, const sigset_t *mask) {
    sigset_t copy;
    mask = bs_shim_mask(mask, &copy);
    return TIMED(REAL(pselect)(n, in, out, except, timeout, mask));
}

BS_EXPORT int epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms) {
    struct bs_shim_end end = bs_shim_after_ms(timeout_ms);
    return REPEAT(REAL(epoll_wait)(fd, events, max, timeout_ms),
                  timeout_ms = bs_shim_left_ms(end));
}

BS_EXPORT int epoll_pwait(int fd, struct epoll_event *events, int max, int timeout_ms,
                          const sigset_t *mask) {
    struct bs_shim_end end = bs_shim_after_ms(timeout_ms);
    sigset_t copy;
    mask = bs_shim_mask(mask, &copy);
    return REPEAT(REAL(epoll_pwait)(fd, events, max, timeout_ms, mask),
                  timeout_ms = bs_shim_left_ms(end));
}

int epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout,
                 const sigset_t *mask);
BS_EXPORT int epoll_pwait2(int fd, struct epoll_event *events, int max,
                           const struct timespec *timeout, const sigset_t *mask) {
    sigset_t copy;
    mask = bs_shim_mask(mask, &copy);
    return TIMED(REAL(epoll_pwait2)(fd, events, max, timeout, mask));
}
