/* SPDX-License-Identifier: MIT */
/*
 * Promise: what a thread writes to a pipe or a socket that waits for room is written whole, and what it reads with
 * MSG_WAITALL comes whole, though the kernel ends such a call with a part for every stop; the bytes are those, in their
 * order. A signal of the program's own still ends it.
 */
#include "promise.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum { bytes = 1 << 20, nparts = 37, rounds = 3 };
ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags);

static unsigned char data[bytes];
static struct iovec parts[nparts];

static ssize_t by_write(int fd) {
    return write(fd, data, bytes);
}
static ssize_t by_writev(int fd) {
    return writev(fd, parts, nparts);
}
static ssize_t by_send(int fd) {
    return send(fd, data, bytes, 0);
}
static ssize_t by_sendto(int fd) {
    return sendto(fd, data, bytes, 0, NULL, 0);
}
static ssize_t by_sendmsg(int fd) {
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = nparts};
    return sendmsg(fd, &message, 0);
}
static unsigned char got[bytes];
static ssize_t by_recv(int fd) {
    return recv(fd, got, bytes, MSG_WAITALL);
}
static ssize_t by_recvfrom(int fd) {
    return recvfrom(fd, got, bytes, MSG_WAITALL, NULL, NULL);
}
static ssize_t by_recv_chk(int fd) {
    return __recv_chk(fd, got, bytes, bytes, MSG_WAITALL);
}

static const struct way {
    const char *name;
    ssize_t (*transfer)(int fd);
    bool is_socket, reads;
} ways[] = {
    {"write to a pipe", by_write, false, false},  {"writev to a pipe", by_writev, false, false},
    {"write", by_write, true, false},             {"writev", by_writev, true, false},
    {"send", by_send, true, false},               {"sendto", by_sendto, true, false},
    {"sendmsg", by_sendmsg, true, false},         {"recv", by_recv, true, true},
    {"recvfrom", by_recvfrom, true, true},        {"__recv_chk", by_recv_chk, true, true},
};
enum { nways = sizeof ways / sizeof ways[0] };

static void make_pair(const struct way *way, int fd[2]) {
    BS_CHECK((way->is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, fd) : pipe(fd)) == 0, "no pair");
}

/* The other end, slowly. */
struct other {
    const struct way *way;
    int fd;
};
static void *other_end(void *arg) {
    const struct other *o = arg;
    static unsigned char buf[4096];
    for (size_t done = 0, n = 0; done < bytes; done += n) {
        n = done * 7 % 4093 + 1;
        n = n < bytes - done ? n : bytes - done;
        ssize_t ret = o->way->reads ? write(o->fd, data + done, n) : read(o->fd, buf, n);
        BS_CHECK(ret > 0, "%s: the other end after %zu bytes", o->way->name, done);
        n = (size_t)ret;
        BS_CHECK(o->way->reads || memcmp(buf, data + done, n) == 0, "%s: other bytes at %zu", o->way->name, done);
        usleep(300);
    }
    return NULL;
}

static void comes_whole(const struct way *way) {
    int fd[2];
    pthread_t thread;
    struct other other = {way, 0};
    make_pair(way, fd);
    other.fd = fd[0];
    BS_CHECK(pthread_create(&thread, NULL, other_end, &other) == 0, "no thread");
    errno = 4711;
    ssize_t ret = way->transfer(fd[1]);
    BS_CHECK(ret == bytes && errno == 4711, "%s: %zd bytes of %d, errno %d", way->name, ret, bytes, errno);
    BS_CHECK(!way->reads || memcmp(got, data, bytes) == 0, "%s: other bytes", way->name);
    pthread_join(thread, NULL);
    close(fd[0]);
    close(fd[1]);
}

/* --- but for signals of the program ----------------------------------------------------------- */

static int tid; /* [atomic] */

static void handler(int signo) {
    (void)signo;
}
static void *write_into_nothing(void *arg) {
    int *fd = arg;
    __atomic_store_n(&tid, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    ssize_t ret = write(fd[1], data, bytes);
    BS_CHECK(ret > 0 && ret < bytes, "write to a pipe that is not read: %zd", ret);
    return NULL;
}
static void ends_by_signal(void) {
    int fd[2];
    pthread_t thread;
    tid = 0;
    BS_CHECK(pipe(fd) == 0 && pthread_create(&thread, NULL, write_into_nothing, fd) == 0, "no thread");
    while (__atomic_load_n(&tid, __ATOMIC_SEQ_CST) == 0)
        sleep_ms(1);
    promise_wait_until_in_call(tid, SYS_write);
    sleep_ms(50);
    BS_CHECK(pthread_kill(thread, SIGUSR1) == 0, "pthread_kill");
    pthread_join(thread, NULL);
    close(fd[0]);
    close(fd[1]);
}

/* What cannot wait does not: the part is told. */
static void does_not_wait(void) {
    int fd[2];
    BS_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0, "socketpair");
    ssize_t ret = send(fd[1], data, bytes, 0);
    BS_CHECK(ret > 0 && ret < bytes, "send without waiting: %zd", ret);
    close(fd[0]);
    close(fd[1]);
}

int main(void) {
    struct sigaction action = {.sa_handler = handler};
    for (unsigned i = 0; i < bytes; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    for (unsigned i = 0, at = 0; i < nparts; i++) {
        unsigned n = i == nparts - 1 ? bytes - at : i * 1471;
        parts[i] = (struct iovec){data + at, n};
        at += n;
    }
    BS_CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    for (unsigned r = 0; r < rounds || !promise_is_stopped_enough(); r++)
        for (unsigned i = 0; i < nways; i++)
            comes_whole(&ways[i]);
    for (unsigned i = 0; i < 5; i++) {
        ends_by_signal();
        does_not_wait();
    }
    return 0;
}
