/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program whose threads are stopped 100 times a second does not notice. Threads that wait in
 * every way that the kernel ends with EINTR for a handler, SA_RESTART or not (signal(7)), see none, and
 * their timeouts are neither shorter nor much longer than they asked for: of each way one at least by less
 * than 100 ms, so that the stops themselves do not add up. (A wait that began anew after each stop would
 * not end.) A signal of the program's own ends the same calls with EINTR, and its handler has run.
 */
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
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

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
static int sem_id, msg_id, epoll_fd, quiet[2], full[2], listener, full_unix, full_inet;
static struct sockaddr_in inet_address;
static struct sockaddr_un unix_address;
static socklen_t unix_bytes;

static int by_poll(void) {
    return poll(NULL, 0, wait_ms);
}
static int by_ppoll(void) {
    return ppoll(NULL, 0, &span, NULL);
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
static int by_sem_timedwait(void) {
    struct timespec end = point(CLOCK_REALTIME);
    return sem_timedwait(&never, &end);
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
static int by_send(void) {
    return (int)send(full[0], "x", 1, 0);
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
    {"select", by_select, 0, 0},
    {"pselect", by_pselect, 0, 0},
    {"epoll_wait", by_epoll_wait, 0, 0},
    {"epoll_pwait", by_epoll_pwait, 0, 0},
    {"nanosleep", by_nanosleep, 0, 0},
    {"usleep", by_usleep, 0, 0},
    {"clock_nanosleep", by_clock_nanosleep, 0, 0},
    {"clock_nanosleep until", by_clock_nanosleep_until, 0, 0},
    {"sem_timedwait", by_sem_timedwait, -1, ETIMEDOUT},
    {"sigtimedwait", by_sigtimedwait, -1, EAGAIN},
    {"semtimedop", by_semtimedop, -1, EAGAIN},
    {"accept", by_accept, -1, EAGAIN},
    {"recv", by_recv, -1, EAGAIN},
    {"recvmsg", by_recvmsg, -1, EAGAIN},
    {"read", by_read, -1, EAGAIN},
    {"send", by_send, -1, EAGAIN},
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

static void make_listeners(void) {
    socklen_t bytes = sizeof inet_address;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BS_CHECK(bind(listener, (struct sockaddr *)&any, sizeof any) == 0 && listen(listener, 5) == 0, "listen");
    set_timeouts(listener);
    full_inet = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BS_CHECK(bind(full_inet, (struct sockaddr *)&any, sizeof any) == 0 && listen(full_inet, 0) == 0 &&
                 getsockname(full_inet, (struct sockaddr *)&inet_address, &bytes) == 0,
             "listen");
    fill_backlog(AF_INET, &inet_address, bytes);
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
    sem_id = semget(IPC_PRIVATE, 1, 0600);
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

/* --- no EINTR --------------------------------------------------------------------------------- */

static uint64_t end_us, latest_us;

static void *wait_again_and_again(void *arg) {
    const struct way *way = arg;
    uint64_t least = UINT64_MAX;
    while (now_us() < end_us ||
           ((least >= (wait_ms + near_ms) * 1000 || !promise_is_stopped_enough()) && now_us() < latest_us)) {
        uint64_t start = now_us();
        errno = 0;
        int ret = way->wait(), error = errno;
        uint64_t took = now_us() - start;
        BS_CHECK(ret == way->ret && error == way->error, "%s gave %d, errno %d, after %llu us", way->name,
                 ret, error, (unsigned long long)took);
        /* a timer's tick early: sockets round to the kernel's */
        BS_CHECK(took + 10000 >= wait_ms * 1000, "%s: %llu us", way->name, (unsigned long long)took);
        BS_CHECK(took <= (wait_ms + late_ms) * 1000, "%s: %llu us", way->name, (unsigned long long)took);
        least = took < least ? took : least;
    }
    BS_CHECK(least < (wait_ms + near_ms) * 1000, "%s: at the best %llu us", way->name, (unsigned long long)least);
    return NULL;
}

/* Waits without a timeout, ended by what it waits for. */
static sem_t posted;
static void *wait_for_post(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++)
        BS_CHECK(sem_wait(&posted) == 0, "sem_wait");
    return NULL;
}
struct letter {
    long type;
    char text[8];
};
static void *wait_for_letter(void *arg) {
    struct letter letter;
    (void)arg;
    for (int i = 0; i < 3; i++)
        BS_CHECK(msgrcv(msg_id, &letter, sizeof letter.text, 0, 0) == 8, "msgrcv");
    return NULL;
}
static void *sleep_long(void *arg) {
    uint64_t start = now_us();
    BS_CHECK(sleep(2) == 0, "sleep");
    BS_CHECK(now_us() - start >= 2000000 && now_us() - start < 2000000 + late_ms * 1000, "sleep(2): %llu us",
             (unsigned long long)(now_us() - start));
    return arg;
}

static void nobody_is_interrupted(void) {
    pthread_t thread[nways], other[3];
    struct letter letter = {1, "letter"};
    end_us = now_us() + seconds * 1000000;
    latest_us = now_us() + most_seconds * 1000000;
    for (unsigned i = 0; i < nways; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, wait_again_and_again, (void *)(uintptr_t)&ways[i]) == 0,
                 "no thread");
    sem_init(&posted, 0, 0);
    pthread_create(&other[0], NULL, wait_for_post, NULL);
    pthread_create(&other[1], NULL, wait_for_letter, NULL);
    pthread_create(&other[2], NULL, sleep_long, NULL);
    for (int i = 0; i < 3; i++) {
        sleep_ms(500);
        sem_post(&posted);
        BS_CHECK(msgsnd(msg_id, &letter, sizeof letter.text, 0) == 0, "msgsnd");
    }
    for (unsigned i = 0; i < 3; i++)
        pthread_join(other[i], NULL);
    for (unsigned i = 0; i < nways; i++)
        pthread_join(thread[i], NULL);
}

/* --- but by signals of the program ------------------------------------------------------------ */

static volatile sig_atomic_t handled;
static int waiting, ended, interrupted; /* [atomic] the first: the thread that waits */

static void handler(int signo) {
    (void)signo;
    handled++;
}

static void *wait_to_be_interrupted(void *arg) {
    const struct way *way = arg;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (int i = 0; i < 12; i++) {
        int before = handled;
        __atomic_store_n(&waiting, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
        int ret = way->wait(), error = errno;
        __atomic_store_n(&waiting, 0, __ATOMIC_SEQ_CST);
        if (handled != before && ret < 0 && error == EINTR)
            interrupted++;
        while (handled == before)
            sched_yield();
        __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

/* A signal that comes just before the call is lost, as ever: so it is sent when the call is seen. The call
 * waits for seconds, so that it is still there then. One that comes between a stop and the call that is made
 * again is lost as well (preload/shim.h), and a stop lets the sender run on at the same moment as the thread: some
 * may be. */
static void signals_still_interrupt(const struct way *way) {
    pthread_t thread;
    interrupted = ended = 0;
    BS_CHECK(pthread_create(&thread, NULL, wait_to_be_interrupted, (void *)(uintptr_t)way) == 0, "no thread");
    for (int i = 0; i < 12; i++) {
        while (!__atomic_load_n(&waiting, __ATOMIC_SEQ_CST))
            sched_yield();
        promise_wait_until_in_call(waiting, -1);
        sleep_ms(1 + (unsigned)i);
        pthread_kill(thread, SIGUSR1);
        while (__atomic_load_n(&ended, __ATOMIC_SEQ_CST) == i)
            sleep_ms(1);
    }
    pthread_join(thread, NULL);
    BS_CHECK(interrupted >= 9, "%s returned EINTR for %d signals of 12", way->name, interrupted);
}

static int pausing_tid, paused; /* [atomic] */

/* pause and sigsuspend end by nothing else. */
static void *pause_once(void *arg) {
    sigset_t none;
    sigemptyset(&none);
    int before = handled;
    __atomic_store_n(&pausing_tid, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    int ret = arg == NULL ? pause() : sigsuspend(&none);
    BS_CHECK(ret == -1 && errno == EINTR && handled > before, "after %d signals", handled - before);
    __atomic_store_n(&paused, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Signals until it has ended, since one may be lost, as above. */
static void end_pause(pthread_t thread, long call) {
    for (int sent = 0; !__atomic_load_n(&paused, __ATOMIC_SEQ_CST); sent++) {
        BS_CHECK(sent < 4, "%d signals were lost", sent);
        promise_wait_until_in_call(pausing_tid, call);
        pthread_kill(thread, SIGUSR1);
        for (int i = 0; i < 10000 && !__atomic_load_n(&paused, __ATOMIC_SEQ_CST); i++)
            sleep_ms(1);
    }
}

int main(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    static const char *const by_handler[] = {"poll", "select", "epoll_wait", "nanosleep", "recv", "accept",
                                             "semtimedop", "connect (local)"};
#ifdef SYS_pause
    static const long pauses[] = {SYS_pause, SYS_rt_sigsuspend};
#else
    static const long pauses[] = {SYS_ppoll, SYS_rt_sigsuspend};
#endif
    pthread_t thread;

    BS_CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    make_things();
    atexit(remove_ipc);
    nobody_is_interrupted();
    set_wait(5000);
    set_timeouts(quiet[0]);
    set_timeouts(listener);
    for (unsigned i = 0; i < sizeof by_handler / sizeof by_handler[0]; i++)
        for (unsigned k = 0; k < nways; k++)
            if (strcmp(ways[k].name, by_handler[i]) == 0)
                signals_still_interrupt(&ways[k]);
    for (uintptr_t i = 0; i < 2; i++) {
        pausing_tid = paused = 0;
        pthread_create(&thread, NULL, pause_once, (void *)i);
        while (__atomic_load_n(&pausing_tid, __ATOMIC_SEQ_CST) == 0)
            sleep_ms(1);
        end_pause(thread, pauses[i]);
        pthread_join(thread, NULL);
    }
    return 0;
}
