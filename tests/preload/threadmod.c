/* SPDX-License-Identifier: MIT */
/*
 * A shared object for module_thread.c: its constructor waits for a thread that it has made, which calls what
 * libbesom-scan.so stands before, each for the first time in the process.
 *
 * It is NOT a test; it includes nothing of the tests and is built as threadmod.so.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int threadmod_calls; /* that did what they should */

static void *work(void *none) {
    const struct timespec soon = {0, 1000000};
    struct timeval tick = {0, 1000};
    struct timespec end;
    struct sigaction action;
    sigset_t set;
    sem_t sem;
    int pair[2];
    char c = 0;
    threadmod_calls += poll(NULL, 0, 1) == 0;
    threadmod_calls += nanosleep(&soon, NULL) == 0;
    threadmod_calls += select(0, NULL, NULL, NULL, &tick) == 0;
    threadmod_calls += pthread_sigmask(SIG_BLOCK, NULL, &set) == 0;
    threadmod_calls += sigaction(SIGUSR2, NULL, &action) == 0;
    threadmod_calls += sem_init(&sem, 0, 0) == 0 && clock_gettime(CLOCK_REALTIME, &end) == 0 &&
                       sem_timedwait(&sem, &end) != 0;
    threadmod_calls += socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0;
    threadmod_calls += write(pair[0], &c, 1) == 1 && read(pair[1], &c, 1) == 1;
    threadmod_calls += send(pair[0], &c, 1, 0) == 1 && recv(pair[1], &c, 1, 0) == 1;
    threadmod_calls += epoll_wait(-1, NULL, 0, 0) != 0;
    return none;
}

__attribute__((constructor)) static void load(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) == 0)
        (void)pthread_join(thread, NULL);
}
