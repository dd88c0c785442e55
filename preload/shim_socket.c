/* SPDX-License-Identifier: MIT */
/*
 * shim_socket.c - calls on sockets, which the kernel does not do again where the socket has a timeout
 * (SO_RCVTIMEO, SO_SNDTIMEO). See shim.h.
 *
 * That timeout would begin anew with each call. So what remains of it is waited with ppoll first, and
 * the call is done when there is something to do, or fails as it would have when the time is over.
 *
 * And transfers that wait until all is done (to pipes, terminals and stream sockets; from these with MSG_WAITALL), which
 * a signal ends with what was done so far: the rest is done then. What goes wrong with the rest is not told; the
 * program meets it in its next call, as it would where the kernel had met it half way.
 */
#include "shim_real.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* A call that has begun. */
struct io {
    int fd;
    short event; /* POLLIN, POLLOUT */
    uint64_t start_ns; /* or later by 10 ms at most: the kernel counts a socket's timeout in such ticks */
};

static struct io begin(int fd, short event) {
    return (struct io){fd, event, bs_shim_soon()};
}

/* The end of the socket's own timeout; forever: it has none, or is no socket. */
static struct bs_shim_end end_of(const struct io *io) {
    struct timeval timeout = {0, 0};
    socklen_t bytes = sizeof timeout;
    int option = io->event == POLLIN ? SO_RCVTIMEO : SO_SNDTIMEO, error = errno;
    bool none = getsockopt(io->fd, SOL_SOCKET, option, &timeout, &bytes) != 0 ||
                (timeout.tv_sec == 0 && timeout.tv_usec == 0);
    errno = error;
    return (struct bs_shim_end){none, io->start_ns + (uint64_t)timeout.tv_sec * 1000000000u +
                                          (uint64_t)timeout.tv_usec * 1000u};
}

/* Waits until it can go on. False: the time of the socket is over (errno is EAGAIN, as if it were not
 * to block), or a signal of the program's came (EINTR). */
static bool wait_for(const struct io *io) {
    struct bs_shim_end end = end_of(io);
    if (end.forever)
        return true; /* the call itself will wait */
    int error = errno;
    struct pollfd p = {.fd = io->fd, .events = io->event};
    struct timespec left = bs_shim_left(end);
    int ready = REPEAT(REAL(ppoll)(&p, 1, &left, NULL), left = bs_shim_left(end));
    if (ready >= 0)
        errno = ready > 0 ? error : EAGAIN;
    return ready > 0;
}

/* What goes through in two calls arrives as if it had been one. Messages do not, nor what counts calls. */
static bool is_stream(int fd) {
    int type = 0;
    socklen_t bytes = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0)
        return type == SOCK_STREAM;
    return fcntl(fd, F_GETPIPE_SZ) > 0 || isatty(fd);
}

/* A transfer has come to `ret`, with `done` bytes before; all: how many it waits for, if it got any. True: the rest is
 * to be done as well. */
static bool goes_on(const struct io *io, struct bs_shim_call *call, ssize_t ret, size_t all, size_t *done) {
    if (ret < 0)
        return bs_shim_again(call, errno) && wait_for(io);
    *done += (size_t)ret;
    if (ret == 0 || *done >= all)
        return false;
    struct bs_shim_call seen = *call; /* asked twice: handlers that come while the file is looked at count */
    int error = errno;
    bool stays = bs_shim_was_cut(&seen) && is_stream(io->fd) && wait_for(io);
    errno = error;
    return stays && bs_shim_was_cut(call);
}

/* What the program is told. */
static ssize_t total(const struct bs_shim_call *call, ssize_t ret, size_t done) {
    if (done == 0)
        return ret;
    errno = call->error;
    return (ssize_t)done;
}

/* `call` does what is left behind `done` bytes; all_bytes is looked at when it has got some. */
#define TRANSFER(fd, event, all_bytes, call)                                                       \
    ({                                                                                             \
        struct io io_ = begin(fd, event);                                                          \
        struct bs_shim_call call_ = bs_shim_begin();                                               \
        size_t done = 0;                                                                           \
        ssize_t ret_;                                                                              \
        do                                                                                         \
            ret_ = (call);                                                                         \
        while (goes_on(&io_, &call_, ret_, ret_ > 0 ? (all_bytes) : 0, &done));                    \
        total(&call_, ret_, done);                                                                 \
    })

#define SOCKET_CALL(fd, event, call)                                       \
    ({                                                                     \
        struct io io_ = begin(fd, event);                                  \
        struct bs_shim_call call_ = bs_shim_begin();                       \
        __typeof__(call) ret_;                                             \
        while ((ret_ = (call)) < 0 && bs_shim_again(&call_, errno))        \
            if (!wait_for(&io_))                                           \
                break;                                                     \
        ret_;                                                              \
    })

/* How many bytes are waited for. */
static size_t awaited(size_t bytes, int flags) {
    return (flags & (MSG_WAITALL | MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)) == MSG_WAITALL ? bytes : 0;
}

BS_EXPORT ssize_t recv(int fd, void *buf, size_t bytes, int flags) {
    char *at = buf;
    return TRANSFER(fd, POLLIN, awaited(bytes, flags), REAL(recv)(fd, at + done, bytes - done, flags));
}
BS_EXPORT ssize_t recvfrom(int fd, void *buf, size_t bytes, int flags, struct sockaddr *from,
                           socklen_t *from_bytes) {
    char *at = buf;
    return TRANSFER(fd, POLLIN, awaited(bytes, flags),
                    REAL(recvfrom)(fd, at + done, bytes - done, flags, from, from_bytes));
}
BS_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    return SOCKET_CALL(fd, POLLIN, REAL(recvmsg)(fd, message, flags));
}
BS_EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags,
                       struct timespec *timeout) {
    return SOCKET_CALL(fd, POLLIN, REAL(recvmmsg)(fd, messages, n, flags, timeout));
}
BS_EXPORT ssize_t read(int fd, void *buf, size_t bytes) {
    return SOCKET_CALL(fd, POLLIN, REAL(read)(fd, buf, bytes));
}
BS_EXPORT ssize_t readv(int fd, const struct iovec *parts, int n) {
    return SOCKET_CALL(fd, POLLIN, REAL(readv)(fd, parts, n));
}

/* What programs call that were compiled with _FORTIFY_SOURCE; libc's check the size. */
ssize_t __recv_chk(int fd, void *buf, size_t bytes, size_t room, int flags);
BS_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t bytes, size_t room, int flags) {
    char *at = buf;
    return TRANSFER(fd, POLLIN, awaited(bytes, flags),
                    REAL(__recv_chk)(fd, at + done, bytes - done, room - done, flags));
}
ssize_t __recvfrom_chk(int fd, void *buf, size_t bytes, size_t room, int flags,
                       struct sockaddr *from, socklen_t *from_bytes);
BS_EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t bytes, size_t room, int flags,
                                 struct sockaddr *from, socklen_t *from_bytes) {
    char *at = buf;
    return TRANSFER(fd, POLLIN, awaited(bytes, flags),
                    REAL(__recvfrom_chk)(fd, at + done, bytes - done, room - done, flags, from, from_bytes));
}
ssize_t __read_chk(int fd, void *buf, size_t bytes, size_t room);
BS_EXPORT ssize_t __read_chk(int fd, void *buf, size_t bytes, size_t room) {
    return SOCKET_CALL(fd, POLLIN, REAL(__read_chk)(fd, buf, bytes, room));
}

/* The kernel sends no SIGPIPE for what breaks behind the first byte. */
static int rest_flags(int flags, size_t done) {
    return done > 0 ? flags | MSG_NOSIGNAL : flags;
}

static size_t sum_of(const struct iovec *parts, size_t n) {
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += parts[i].iov_len;
    return sum;
}

/* The first of the parts that is not done. Its bytes behind those that are go first, the other parts follow. */
static struct iovec skip(const struct iovec **parts, size_t *n, size_t done) {
    for (; *n > 1 && done >= (*parts)->iov_len; ++*parts, --*n)
        done -= (*parts)->iov_len;
    struct iovec first = {(char *)(*parts)->iov_base + done, (*parts)->iov_len - done};
    ++*parts;
    --*n;
    return first;
}

static ssize_t write_rest(int fd, const struct iovec *parts, size_t n, size_t done) {
    struct iovec first = skip(&parts, &n, done);
    ssize_t ret = REAL(write)(fd, first.iov_base, first.iov_len);
    if (ret < 0 || (size_t)ret < first.iov_len || n == 0)
        return ret;
    ssize_t more = REAL(writev)(fd, parts, (int)n);
    return more > 0 ? ret + more : ret;
}

/* Descriptors and the like went with the first byte. */
static ssize_t send_rest(int fd, const struct msghdr *message, int flags, size_t done) {
    const struct iovec *parts = message->msg_iov;
    size_t n = message->msg_iovlen;
    struct iovec first = skip(&parts, &n, done);
    ssize_t ret = REAL(send)(fd, first.iov_base, first.iov_len, flags);
    if (ret < 0 || (size_t)ret < first.iov_len || n == 0)
        return ret;
    struct msghdr rest = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = n};
    ssize_t more = REAL(sendmsg)(fd, &rest, flags);
    return more > 0 ? ret + more : ret;
}

BS_EXPORT ssize_t send(int fd, const void *buf, size_t bytes, int flags) {
    const char *at = buf;
    return TRANSFER(fd, POLLOUT, bytes, REAL(send)(fd, at + done, bytes - done, rest_flags(flags, done)));
}
BS_EXPORT ssize_t sendto(int fd, const void *buf, size_t bytes, int flags,
                         const struct sockaddr *to, socklen_t to_bytes) {
    const char *at = buf;
    return TRANSFER(fd, POLLOUT, bytes,
                    REAL(sendto)(fd, at + done, bytes - done, rest_flags(flags, done), to, to_bytes));
}
BS_EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    return TRANSFER(fd, POLLOUT, sum_of(message->msg_iov, message->msg_iovlen),
                    done == 0 ? REAL(sendmsg)(fd, message, flags)
                              : send_rest(fd, message, rest_flags(flags, done), done));
}
BS_EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags) {
    return SOCKET_CALL(fd, POLLOUT, REAL(sendmmsg)(fd, messages, n, flags));
}
BS_EXPORT ssize_t write(int fd, const void *buf, size_t bytes) {
    const char *at = buf;
    return TRANSFER(fd, POLLOUT, bytes, REAL(write)(fd, at + done, bytes - done));
}
BS_EXPORT ssize_t writev(int fd, const struct iovec *parts, int n) {
    return TRANSFER(fd, POLLOUT, sum_of(parts, (size_t)n),
                    done == 0 ? REAL(writev)(fd, parts, n) : write_rest(fd, parts, (size_t)n, done));
}

BS_EXPORT int accept(int fd, struct sockaddr *from, socklen_t *bytes) {
    return SOCKET_CALL(fd, POLLIN, REAL(accept)(fd, from, bytes));
}
BS_EXPORT int accept4(int fd, struct sockaddr *from, socklen_t *bytes, int flags) {
    return SOCKET_CALL(fd, POLLIN, REAL(accept4)(fd, from, bytes, flags));
}

/* A connection that was begun goes on without us: its end is waited for and asked about. */
static int finish_connect(const struct io *io) {
    int error = 0;
    socklen_t bytes = sizeof error;
    if (!wait_for(io)) {
        if (errno == EAGAIN)
            errno = EINPROGRESS;
        return -1;
    }
    if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0)
        return -1;
    if (error != 0)
        errno = error;
    return error == 0 ? 0 : -1;
}

static bool is_local(int fd) {
    int domain = AF_UNIX, error = errno;
    socklen_t bytes = sizeof domain;
    (void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes);
    errno = error;
    return domain == AF_UNIX;
}

/* On a local socket nothing was begun, and poll cannot wait for room at the other end: it is done again
 * with a shorter timeout, which nobody else has a use for yet. */
static int connect_again(const struct io *io, struct bs_shim_call *call, const struct sockaddr *to,
                         socklen_t bytes) {
    struct timeval whole = {0, 0};
    socklen_t whole_bytes = sizeof whole;
    struct bs_shim_end end = end_of(io);
    (void)getsockopt(io->fd, SOL_SOCKET, SO_SNDTIMEO, &whole, &whole_bytes);
    int ret, error;
    do {
        uint64_t us = bs_max(bs_shim_left_ns(end) / 1000, 1);
        struct timeval left = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};
        if (!end.forever)
            (void)setsockopt(io->fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof left);
        ret = REAL(connect)(io->fd, to, bytes);
    } while (ret < 0 && bs_shim_again(call, errno));
    error = errno;
    if (!end.forever)
        (void)setsockopt(io->fd, SOL_SOCKET, SO_SNDTIMEO, &whole, sizeof whole);
    errno = error;
    return ret;
}

BS_EXPORT int connect(int fd, const struct sockaddr *to, socklen_t bytes) {
    struct io io = begin(fd, POLLOUT);
    struct bs_shim_call call = bs_shim_begin();
    int ret = REAL(connect)(fd, to, bytes);
    if (ret == 0 || !bs_shim_again(&call, errno))
        return ret;
    return is_local(fd) ? connect_again(&io, &call, to, bytes) : finish_connect(&io);
}
