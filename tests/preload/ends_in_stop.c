/* SPDX-License-Identifier: MIT */
/*
 * Promise: a signal that comes while threads are stopped ends a call that waits as it would have without the stop: with
 * EINTR where its handler was installed without SA_RESTART (so that alarm(2) ends what takes too long), and not at all
 * where it was installed with it. Stops are held for half of the time here.
 */
#include "promise.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { signals = 12 };

static int quiet[2], full[2], listener, lock_fd, child;
static sem_t never;
static int handled, waiting, ended, was_ended_else; /* [atomic] */

static void handler(int signo) {
    (void)signo;
    __atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST);
}

static long by_read(void) {
    char byte;
    return read(quiet[0], &byte, 1);
}
static long by_write(void) {
    return write(full[1], "x", 1);
}
static long by_accept(void) {
    return accept(listener, NULL, NULL);
}
static long by_wait(void) {
    return waitpid(child, NULL, 0);
}
static long by_flock(void) {
    return flock(lock_fd, LOCK_EX);
}
static long by_sem_wait(void) {
    return sem_wait(&never);
}

static const struct way {
    const char *name;
    long (*wait)(void);
    long call;
} ways[] = {
    {"read", by_read, SYS_read},   {"write", by_write, SYS_write}, {"accept", by_accept, SYS_accept},
    {"waitpid", by_wait, SYS_wait4}, {"flock", by_flock, SYS_flock}, {"sem_wait", by_sem_wait, SYS_futex},
};
enum { nways = sizeof ways / sizeof ways[0] };

static void *wait_for_signals(void *arg) {
    const struct way *way = arg;
    __atomic_store_n(&waiting, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    for (int i = 0; i < signals; i++) {
        if (way->wait() != -1 || errno != EINTR)
            __atomic_store_n(&was_ended_else, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void signals_end_it(const struct way *way) {
    pthread_t thread;
    waiting = ended = was_ended_else = 0;
    BS_CHECK(pthread_create(&thread, NULL, wait_for_signals, (void *)(uintptr_t)way) == 0, "no thread");
    while (__atomic_load_n(&waiting, __ATOMIC_SEQ_CST) == 0)
        sleep_ms(1);
    for (int i = 0; i < signals; i++) {
        promise_wait_until_in_call(waiting, way->call);
        sleep_ms((unsigned)i * 3 + 1);
        BS_CHECK(pthread_kill(thread, SIGUSR1) == 0, "pthread_kill");
        for (unsigned ms = 0; __atomic_load_n(&ended, __ATOMIC_SEQ_CST) == i; ms++) {
            BS_CHECK(ms < 20000, "%s: signal %d, whose handler has run %d times, did not end it", way->name, i,
                     handled);
            sleep_ms(1);
        }
    }
    pthread_join(thread, NULL);
    BS_CHECK(!was_ended_else, "%s ended, and not with EINTR", way->name);
}

/* SA_RESTART: all are handled, and the thread reads on until there is something. */
static void *read_a_byte(void *arg) {
    char byte;
    __atomic_store_n(&waiting, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    BS_CHECK(read(quiet[0], &byte, 1) == 1 && byte == 'x', "read");
    return arg;
}
static void signals_do_not(void) {
    pthread_t thread;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    BS_CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    waiting = handled = 0;
    BS_CHECK(pthread_create(&thread, NULL, read_a_byte, NULL) == 0, "no thread");
    while (__atomic_load_n(&waiting, __ATOMIC_SEQ_CST) == 0)
        sleep_ms(1);
    for (int i = 0; i < signals; i++) {
        promise_wait_until_in_call(waiting, SYS_read);
        sleep_ms((unsigned)i * 3 + 1);
        BS_CHECK(pthread_kill(thread, SIGUSR1) == 0, "pthread_kill");
        while (__atomic_load_n(&handled, __ATOMIC_SEQ_CST) == i)
            sleep_ms(1);
    }
    BS_CHECK(write(quiet[1], "x", 1) == 1, "write");
    pthread_join(thread, NULL);
}

static void make_things(void) {
    char name[] = "/tmp/besom-ends-XXXXXX", rest[4096] = "";
    struct sockaddr any = {.sa_family = AF_UNIX};
    BS_CHECK(pipe(quiet) == 0 && pipe(full) == 0, "pipe");
    fcntl(full[1], F_SETFL, O_NONBLOCK);
    while (write(full[1], rest, sizeof rest) > 0)
        ;
    fcntl(full[1], F_SETFL, 0);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BS_CHECK(bind(listener, &any, sizeof any.sa_family) == 0 && listen(listener, 1) == 0, "listen");
    int held = mkstemp(name);
    lock_fd = open(name, O_RDWR | O_CLOEXEC);
    unlink(name);
    BS_CHECK(held >= 0 && lock_fd >= 0 && flock(held, LOCK_EX) == 0, "flock");
    sem_init(&never, 0, 0);
    child = fork();
    if (child == 0) {
        close(quiet[1]);
        pause();
        _exit(0);
    }
}

int main(void) {
    struct sigaction action = {.sa_handler = handler};
    BS_CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    make_things();
    for (unsigned i = 0; i < nways; i++)
        signals_end_it(&ways[i]);
    signals_do_not();
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
