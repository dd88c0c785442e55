/* SPDX-License-Identifier: MIT */
/*
 * Promise: threads may have one alternate signal stack together, as those of varnishd, whose handler of SIGSEGV ends the
 * process: they are stopped all at once and go on as if nothing had been. A stack that is handed on from thread to thread
 * is not shared, and stops use it. So it is with the handlers that besom has of other signals: SHARED_SIGNAL is the
 * number of one.
 */
#include "promise.h"
#include "scan_drive.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

enum { nthreads = 12, nscans = 20, nwords = 64, stack_bytes = 64 * 1024, first_signal = 36, last_signal = 61 };

static char shared[stack_bytes] __attribute__((aligned(16)));
static const struct scan_drive *drive;
static unsigned ready; /* [atomic] */
static bool is_over;   /* [atomic] */

static void set_stack(int flags) {
    const stack_t stack = {.ss_sp = shared, .ss_size = sizeof shared, .ss_flags = flags};
    BS_CHECK(sigaltstack(&stack, NULL) == 0, "sigaltstack: errno %d", errno);
}

/* As the kernel has it, to whom besom's handlers are known: the program is shown what it has asked for. False: the
 * default action. */
static bool has_handler(int signal, unsigned long *flags) {
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action;
    bool has = syscall(SYS_rt_sigaction, signal, NULL, &action, sizeof action.mask) == 0 && action.handler != NULL;
    *flags = action.flags;
    return has;
}
static unsigned long flags_of_stop(void) {
    unsigned long flags;
    for (int i = last_signal; i >= first_signal; i--)
        if (has_handler(i, &flags))
            return flags;
    BS_CHECK(false, "no signal is taken");
    return 0;
}
static void other_uses_stack(bool does) {
    unsigned long flags;
    const char *number = getenv("SHARED_SIGNAL");
    if (number == NULL)
        return;
    BS_CHECK(has_handler(atoi(number), &flags), "besom has no handler of signal %s", number);
    BS_CHECK(((flags & SA_ONSTACK) != 0) == does, "the handler of signal %s has flags %lx", number, flags);
}

static void *hand_on(void *arg) {
    stack_t now;
    (void)arg;
    set_stack(0);
    BS_CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == shared && now.ss_flags == 0, "the stack is not set");
    set_stack(0); /* once more the same */
    set_stack(SS_DISABLE);
    return NULL;
}

/* Registers and stack have to be what they were. */
static void *work(void *arg) {
    volatile uint64_t own[nwords];
    uint64_t seed = (uintptr_t)arg, sum = 0;
    set_stack(0);
    for (unsigned i = 0; i < nwords; i++)
        sum += own[i] = seed * (i + 1);
    __atomic_fetch_add(&ready, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
        uint64_t now = 0;
        for (unsigned i = 0; i < nwords; i++)
            now += own[i];
        BS_CHECK(now == sum, "what a thread had is something else");
        if (seed % 2 == 0)
            usleep(500);
    }
    set_stack(SS_DISABLE);
    return NULL;
}

int main(void) {
    pthread_t thread[nthreads];
    struct scan_seen seen;
    drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    for (unsigned i = 0; i < 4; i++) {
        BS_CHECK(pthread_create(&thread[0], NULL, hand_on, NULL) == 0, "pthread_create");
        pthread_join(thread[0], NULL);
    }
    set_stack(0);
    scan_drive_must(drive, 0, &seen);
    BS_CHECK((flags_of_stop() & SA_ONSTACK) != 0, "a stack that was handed on is not used");
    other_uses_stack(true);

    for (uintptr_t i = 0; i < nthreads; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, work, (void *)(i + 1)) == 0, "pthread_create");
    while (__atomic_load_n(&ready, __ATOMIC_ACQUIRE) < nthreads)
        sleep_ms(1);
    for (unsigned i = 0; i < nscans; i++)
        scan_drive_must(drive, 0, &seen);
    BS_CHECK((flags_of_stop() & SA_ONSTACK) == 0, "a stack that is shared is used");
    other_uses_stack(false);
    __atomic_store_n(&is_over, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < nthreads; i++)
        pthread_join(thread[i], NULL);
    return 0;
}
