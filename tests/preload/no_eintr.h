/* SPDX-License-Identifier: MIT */
/*
 * no_eintr.h - the ways to wait that no_eintr.c tries, each for wait_ms, and what they need. It is for that file alone.
 */
#ifndef BS_TESTS_NO_EINTR_H
#define BS_TESTS_NO_EINTR_H

#include "promise.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <threads.h>

/* What _FORTIFY_SOURCE makes of calls. */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t bytes);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t bytes);
ssize_t __recv_chk(int fd, void *buf, size_t bytes, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t bytes, size_t room, int flags, struct sockaddr *from,
                       socklen_t *from_bytes);
ssize_t __read_chk(int fd, void *buf, size_t bytes, size_t room);

/* A thread may get no CPU for seconds where others want it; limits are for what never ends. */
enum { late_ms = 20000, near_ms = 100, seconds = 4, most_seconds = 100 };
static unsigned wait_ms = 300;
static struct timespec span;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}
static struct timeval wait_timeval(void) {
    return (struct timeval){wait_ms / 1000, wait_ms % 1000 * 1000L};
}

static struct timespec point(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += wait_ms * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

/* --- the ways to wait: each for wait_ms; the value is what libc's function gave --------------- */

static sem_t never;
static int sem_id, msg_id, epoll_fd, quiet[2], full[2], listener, full_unix, full_inet, closed_inet;
static struct sockaddr_in inet_address, closed_address;
static struct sockaddr_un unix_address;
static socklen_t unix_bytes;

static int by_poll(void) {
    return poll(NULL, 0, wait_ms);
}
static int by_ppoll(void) {
    return ppoll(NULL, 0, &span, NULL);
}
static int by_poll_chk(void) {
    return __poll_chk(NULL, 0, (int)wait_ms, 0);
}
static int by_ppoll_chk(void) {
    return __ppoll_chk(NULL, 0, &span, NULL, 0);
}
static int by_select(void) {
    struct timeval t = wait_timeval();
    return select(0, NULL, NULL, NULL, &t);
}
static int by_pselect(void) {
    sigset_t none;
    sigemptyset(&none);
    return pselect(0, NULL, NULL, NULL, &span, &none);
}
static int by_epoll_wait(void) {
    struct epoll_event e;
    return epoll_wait(epoll_fd, &e, 1, wait_ms);
}
static int by_epoll_pwait(void) {
    struct epoll_event e;
    sigset_t none;
    sigemptyset(&none);
    return epoll_pwait(epoll_fd, &e, 1, wait_ms, &none);
}
static int by_epoll_pwait2(void) {
    struct epoll_event e;
    sigset_t none;
    sigemptyset(&none);
    return epoll_pwait2(epoll_fd, &e, 1, &span, &none);
}
static int by_nanosleep(void) {
    struct timespec left;
    return nanosleep(&span, &left);
}
static int by_usleep(void) {
    return usleep(wait_ms * 1000);
}
static int error_to_errno(int error) {
    errno = error != 0 ? error : errno;
    return error != 0 ? -1 : 0;
}
static int by_clock_nanosleep(void) {
    return error_to_errno(clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL));
}
static int by_clock_nanosleep_until(void) {
    struct timespec end = point(CLOCK_REALTIME);
    return error_to_errno(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &end, NULL));
}
static int by_thrd_sleep(void) {
    return thrd_sleep(&span, NULL);
}
static int by_sem_timedwait(void) {
    struct timespec end = point(CLOCK_REALTIME);
    return sem_timedwait(&never, &end);
}
static int by_sem_clockwait(void) {
    struct timespec end = point(CLOCK_MONOTONIC);
    return sem_clockwait(&never, CLOCK_MONOTONIC, &end);
}
static int by_sigtimedwait(void) {
    sigset_t set;
    sigfillset(&set); /* besom's among them */
    sigdelset(&set, SIGUSR1);
    return sigtimedwait(&set, NULL, &span);
}
static int by_semtimedop(void) {
    struct sembuf down = {0, -1, 0};
    return semtimedop(sem_id, &down, 1, &span);
}
static int by_accept(void) {
    return accept(listener, NULL, NULL);
}
static int by_accept4(void) {
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}
static int by_recv(void) {
    char byte;
    return (int)recv(quiet[0], &byte, 1, 0);
}
static int by_recvmsg(void) {
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return (int)recvmsg(quiet[0], &message, 0);
}
static int by_read(void) {
    char byte;
    return (int)read(quiet[0], &byte, 1);
}
static int by_recvfrom(void) {
    char byte;
    return (int)recvfrom(quiet[0], &byte, 1, 0, NULL, NULL);
}
static int by_recvmmsg(void) {
    char byte;
    struct iovec part = {&byte, 1};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    return recvmmsg(quiet[0], &message, 1, 0, NULL);
}
static int by_readv(void) {
    char byte;
    struct iovec part = {&byte, 1};
    return (int)readv(quiet[0], &part, 1);
}
static int by_recv_chk(void) {
    char byte;
    return (int)__recv_chk(quiet[0], &byte, 1, 1, 0);
}
static int by_recvfrom_chk(void) {
    char byte;
    return (int)__recvfrom_chk(quiet[0], &byte, 1, 1, 0, NULL, NULL);
}
static int by_read_chk(void) {
    char byte;
    return (int)__read_chk(quiet[0], &byte, 1, 1);
}
static struct iovec a_byte = {(void *)(uintptr_t)"x", 1};
static int by_send(void) {
    return (int)send(full[0], "x", 1, 0);
}
static int by_sendto(void) {
    return (int)sendto(full[0], "x", 1, 0, NULL, 0);
}
static int by_sendmsg(void) {
    struct msghdr message = {.msg_iov = &a_byte, .msg_iovlen = 1};
    return (int)sendmsg(full[0], &message, 0);
}
static int by_sendmmsg(void) {
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &a_byte, .msg_iovlen = 1}};
    return sendmmsg(full[0], &message, 1, 0);
}
static int by_write(void) {
    return (int)write(full[0], "x", 1);
}
static int by_writev(void) {
    return (int)writev(full[0], &a_byte, 1);
}
static int by_connect(void) {
    struct timeval timeout = wait_timeval();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BS_CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0, "setsockopt");
    int ret = connect(fd, (struct sockaddr *)&inet_address, sizeof inet_address), error = errno;
    close(fd);
    errno = error;
    return ret;
}
static int by_connect_unix(void) {
    struct timeval timeout = wait_timeval();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BS_CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0, "setsockopt");
    int ret = connect(fd, (struct sockaddr *)&unix_address, unix_bytes), error = errno;
    close(fd);
    errno = error;
    return ret;
}

static const struct way {
    const char *name;
    int (*wait)(void);
    int ret, error; /* what it gives when the time is over */
} ways[] = {
    {"poll", by_poll, 0, 0},
    {"ppoll", by_ppoll, 0, 0},
    {"__poll_chk", by_poll_chk, 0, 0},
    {"__ppoll_chk", by_ppoll_chk, 0, 0},
    {"select", by_select, 0, 0},
    {"pselect", by_pselect, 0, 0},
    {"epoll_wait", by_epoll_wait, 0, 0},
    {"epoll_pwait", by_epoll_pwait, 0, 0},
    {"epoll_pwait2", by_epoll_pwait2, 0, 0},
    {"nanosleep", by_nanosleep, 0, 0},
    {"thrd_sleep", by_thrd_sleep, 0, 0},
    {"usleep", by_usleep, 0, 0},
    {"clock_nanosleep", by_clock_nanosleep, 0, 0},
    {"clock_nanosleep until", by_clock_nanosleep_until, 0, 0},
    {"sem_timedwait", by_sem_timedwait, -1, ETIMEDOUT},
    {"sem_clockwait", by_sem_clockwait, -1, ETIMEDOUT},
    {"sigtimedwait", by_sigtimedwait, -1, EAGAIN},
    {"semtimedop", by_semtimedop, -1, EAGAIN},
    {"accept", by_accept, -1, EAGAIN},
    {"accept4", by_accept4, -1, EAGAIN},
    {"recv", by_recv, -1, EAGAIN},
    {"recvfrom", by_recvfrom, -1, EAGAIN},
    {"recvmmsg", by_recvmmsg, -1, EAGAIN},
    {"readv", by_readv, -1, EAGAIN},
    {"__recv_chk", by_recv_chk, -1, EAGAIN},
    {"__recvfrom_chk", by_recvfrom_chk, -1, EAGAIN},
    {"__read_chk", by_read_chk, -1, EAGAIN},
    {"recvmsg", by_recvmsg, -1, EAGAIN},
    {"read", by_read, -1, EAGAIN},
    {"send", by_send, -1, EAGAIN},
    {"sendto", by_sendto, -1, EAGAIN},
    {"sendmsg", by_sendmsg, -1, EAGAIN},
    {"sendmmsg", by_sendmmsg, -1, EAGAIN},
    {"write", by_write, -1, EAGAIN},
    {"writev", by_writev, -1, EAGAIN},
    {"connect", by_connect, -1, EINPROGRESS},
    {"connect (local)", by_connect_unix, -1, EAGAIN},
};
enum { nways = sizeof ways / sizeof ways[0] };

/* --- what they need --------------------------------------------------------------------------- */

static void set_timeouts(int fd) {
    struct timeval timeout = wait_timeval();
    BS_CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0 &&
                 setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0,
             "setsockopt");
}

/* Connections that nobody accepts, until one more would have to wait. */
static void fill_backlog(int domain, const void *address, socklen_t bytes) {
    for (int i = 0; i < 20; i++) {
        int fd = socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(fd, address, bytes) != 0 && errno == EAGAIN)
            return;
    }
}

/* One that has no room. */
static int make_full(struct sockaddr_in *address) {
    socklen_t bytes = sizeof *address;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BS_CHECK(bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 0) == 0 &&
                 getsockname(fd, (struct sockaddr *)address, &bytes) == 0,
             "listen");
    fill_backlog(AF_INET, address, bytes);
    return fd;
}

static void make_listeners(void) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BS_CHECK(bind(listener, (struct sockaddr *)&any, sizeof any) == 0 && listen(listener, 5) == 0, "listen");
    set_timeouts(listener);
    full_inet = make_full(&inet_address);
    closed_inet = make_full(&closed_address);
    full_unix = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unix_address.sun_family = AF_UNIX;
    snprintf(unix_address.sun_path + 1, 100, "besom-no-eintr-%d", (int)getpid());
    unix_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(unix_address.sun_path + 1));
    BS_CHECK(bind(full_unix, (struct sockaddr *)&unix_address, unix_bytes) == 0 && listen(full_unix, 0) == 0,
             "listen");
    fill_backlog(AF_UNIX, &unix_address, unix_bytes);
}

static void remove_ipc(void) {
    semctl(sem_id, 0, IPC_RMID);
    msgctl(msg_id, IPC_RMID, NULL);
}

static void set_wait(unsigned ms) {
    wait_ms = ms;
    span = (struct timespec){ms / 1000, ms % 1000 * 1000000L};
}

static void make_things(void) {
    set_wait(wait_ms);
    sem_init(&never, 0, 0);
    sem_id = semget(IPC_PRIVATE, 2, 0600);
    msg_id = msgget(IPC_PRIVATE, 0600);
    BS_CHECK(sem_id >= 0 && msg_id >= 0, "semget, msgget");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    BS_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, quiet) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, full) == 0,
             "socketpair");
    set_timeouts(quiet[0]);
    while (send(full[0], "x", 1, MSG_DONTWAIT) == 1)
        ;
    set_timeouts(full[0]);
    make_listeners();
}

#endif
