/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program whose threads are stopped 100 times a second does not notice. Threads that wait in
 * every way that the kernel ends with EINTR for a handler, SA_RESTART or not (signal(7)), see none, and
 * their timeouts are neither shorter nor much longer than they asked for: of each way one at least by less
 * than 100 ms, so that the stops themselves do not add up. (A wait that began anew after each stop would
 * not end.) A signal of the program's own ends the same calls with EINTR, and its handler has run.
 */
#include "no_eintr.h"

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
static void *wait_for_semop(void *arg) {
    struct sembuf down = {1, -1, 0};
    for (int i = 0; i < 3; i++)
        BS_CHECK(semop(sem_id, &down, 1) == 0, "semop");
    return arg;
}
/* SIGUSR2 is blocked in all threads; besom's own signal is in the set, and is no signal of the program's. */
static void *wait_for_signal(void *arg) {
    sigset_t set;
    siginfo_t info;
    int signal = 0;
    sigfillset(&set);
    BS_CHECK(sigwaitinfo(&set, &info) == SIGUSR2 && info.si_signo == SIGUSR2, "sigwaitinfo");
    BS_CHECK(sigwait(&set, &signal) == 0 && signal == SIGUSR2, "sigwait");
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    struct signalfd_siginfo read_info;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    BS_CHECK(fd >= 0 && poll(&p, 1, -1) == 1 && read(fd, &read_info, sizeof read_info) == sizeof read_info &&
                 read_info.ssi_signo == SIGUSR2,
             "signalfd");
    close(fd);
    return arg;
}
/* One that is made in the C11 way. (Without a timeout of the socket's the kernel does the call again by itself.) */
static int wait_for_refusal(void *arg) {
    struct timeval timeout = {most_seconds, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BS_CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0, "setsockopt");
    BS_CHECK(*(int *)arg == 4711, "the argument");
    BS_CHECK(connect(fd, (struct sockaddr *)&closed_address, sizeof closed_address) == -1 && errno == ECONNREFUSED,
             "connect to what is closed meanwhile");
    close(fd);
    return 12;
}
static void *sleep_long(void *arg) {
    uint64_t start = now_us();
    BS_CHECK(sleep(2) == 0, "sleep");
    BS_CHECK(now_us() - start >= 2000000 && now_us() - start < 2000000 + late_ms * 1000, "sleep(2): %llu us",
             (unsigned long long)(now_us() - start));
    return arg;
}

static void nobody_is_interrupted(void) {
    pthread_t thread[nways], other[5];
    thrd_t refused;
    int argument = 4711, result = 0;
    struct letter letter = {1, "letter"};
    struct sembuf up = {1, 1, 0};
    end_us = now_us() + seconds * 1000000;
    latest_us = now_us() + most_seconds * 1000000;
    for (unsigned i = 0; i < nways; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, wait_again_and_again, (void *)(uintptr_t)&ways[i]) == 0,
                 "no thread");
    sem_init(&posted, 0, 0);
    pthread_create(&other[0], NULL, wait_for_post, NULL);
    pthread_create(&other[1], NULL, wait_for_letter, NULL);
    pthread_create(&other[2], NULL, sleep_long, NULL);
    pthread_create(&other[3], NULL, wait_for_semop, NULL);
    pthread_create(&other[4], NULL, wait_for_signal, NULL);
    BS_CHECK(thrd_create(&refused, wait_for_refusal, &argument) == thrd_success, "no thread");
    for (int i = 0; i < 3; i++) {
        sleep_ms(500);
        sem_post(&posted);
        BS_CHECK(msgsnd(msg_id, &letter, sizeof letter.text, 0) == 0, "msgsnd");
        BS_CHECK(semop(sem_id, &up, 1) == 0, "semop");
        BS_CHECK(pthread_kill(other[4], SIGUSR2) == 0, "pthread_kill");
    }
    close(closed_inet);
    for (unsigned i = 0; i < 5; i++)
        pthread_join(other[i], NULL);
    BS_CHECK(thrd_join(refused, &result) == thrd_success && result == 12, "the thread's result is %d", result);
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

/* Calls that say how much was left. */
static int is_left(long s, long ns) {
    BS_CHECK(s >= 0 && ns >= 0 && s * 1000 + ns / 1000000 <= wait_ms, "%ld s and %ld ns are left", s, ns);
    errno = EINTR;
    return -1;
}
static int by_sleep(void) {
    errno = 4711;
    unsigned left = sleep(wait_ms / 1000);
    BS_CHECK(errno == 4711, "sleep changes errno to %d", errno);
    return left != 0 ? is_left((long)left, 0) : 0;
}
static int by_clock_nanosleep_left(void) {
    struct timespec left = {-1, 0};
    int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &span, &left);
    return error == EINTR ? is_left(left.tv_sec, left.tv_nsec) : error;
}
static int by_nanosleep_left(void) {
    struct timespec left = span;
    return nanosleep(&left, &left) != 0 ? is_left(left.tv_sec, left.tv_nsec) : 0;
}
static int by_sigwaitinfo(void) {
    sigset_t set;
    siginfo_t info;
    sigfillset(&set);
    sigdelset(&set, SIGUSR1);
    return sigwaitinfo(&set, &info);
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
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    BS_CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0, "pthread_sigmask");
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
    static const struct way others[] = {{"sleep", by_sleep, 0, 0},
                                        {"clock_nanosleep", by_clock_nanosleep_left, 0, 0},
                                        {"nanosleep", by_nanosleep_left, 0, 0},
                                        {"sigwaitinfo", by_sigwaitinfo, 0, 0}};
    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++)
        signals_still_interrupt(&others[i]);
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
