/* SPDX-License-Identifier: MIT */
/*
 * tsan_unit.h - what unit tests need so that the world can be stopped under ThreadSanitizer: its own thread is
 * ended, for it blocks all signals; and each thread says when the sanitizer's library knows it, since before that,
 * and while the library takes leave of it, the thread may not answer (os_tsan.c). A thread that comes or goes would
 * not get on either while another stands that holds libc's locks for that, so nobody answers who creates one or
 * joins one.
 *
 * It is included by unit.h, and stands in the place of pthread_create and pthread_join.
 */
#ifndef BS_TESTS_TSAN_UNIT_H
#define BS_TESTS_TSAN_UNIT_H

#include "os.h"

#include <errno.h>
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

struct tsan_thread {
    void *(*fn)(void *);
    void *arg;
};

/* libc calls destructors in four rounds, in each by their keys' numbers. ThreadSanitizer takes leave of a thread in the
 * last, and besom in the third (tcache_life.c), where it may wait for a lock that is held by a thread which stands: so it
 * answers until that is done, and the key has a higher number than besom's will have. */
#define TSAN_ROUNDS 3
static pthread_key_t tsan_key;
static inline void tsan_thread_ends(void *left) {
    if ((uintptr_t)left > 1)
        pthread_setspecific(tsan_key, (void *)((uintptr_t)left - 1));
    else
        (void)bs_os_signal_may_come(false);
}
static inline void *tsan_thread_entry(void *arg) {
    struct tsan_thread thread = *(struct tsan_thread *)arg;
    free(arg);
    pthread_setspecific(tsan_key, (void *)(uintptr_t)TSAN_ROUNDS);
    (void)bs_os_signal_may_come(true);
    return thread.fn(thread.arg);
}
static inline int tsan_pthread_create(pthread_t *id, const pthread_attr_t *attr, void *(*fn)(void *), void *arg) {
    struct tsan_thread *thread = malloc(sizeof *thread);
    *thread = (struct tsan_thread){fn, arg};
    (void)bs_os_signal_may_come(false);
    int err = pthread_create(id, attr, tsan_thread_entry, thread);
    (void)bs_os_signal_may_come(true);
    if (err != 0)
        free(thread);
    return err;
}
static inline int tsan_pthread_join(pthread_t id, void **result) {
    for (;;) {
        (void)bs_os_signal_may_come(false);
        int err = pthread_tryjoin_np(id, result);
        (void)bs_os_signal_may_come(true);
        if (err != EBUSY)
            return err;
        usleep(200);
    }
}
#define pthread_create tsan_pthread_create
#define pthread_join tsan_pthread_join

/* The sanitizer has blocked all signals. */
static inline void tsan_handler_begins(int signo) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signo);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static inline void *tsan_nothing(void *arg) {
    return arg;
}
/* Its thread begins with the first of ours, and again in a child of one thread. What makes a sandbox is to tell it. */
static inline void tsan_be_alone(void) {
    __sanitizer_sandbox_on_notify(&(__sanitizer_sandbox_arguments){0});
    (void)bs_os_signal_may_come(true);
}
/* Before that it does not listen. */
__attribute__((constructor)) static void tsan_begin(void) {
    pthread_t thread;
    pthread_key_t besoms;
    pthread_key_create(&besoms, NULL);
    pthread_key_create(&tsan_key, tsan_thread_ends);
    pthread_key_delete(besoms); /* the lowest that is free is the next to be given */
    if (pthread_create(&thread, NULL, tsan_nothing, NULL) == 0)
        (void)pthread_join(thread, NULL);
    tsan_be_alone();
}

#endif
