/* SPDX-License-Identifier: MIT */
/*
 * shim_fault.c - see shim_fault.h. What the program asked for stands in a ring of places, since faults come
 * while other threads ask for something else; nothing here takes a lock.
 */
#include "shim_fault.h"

#include "os.h"
#include "park.h"
#include "shim_real.h"
#include "thread.h"

#include <string.h>

#define PLACES 16

static struct {
    bool on;         /* [init] */
    uint32_t last;   /* [atomic] */
    uint32_t next;   /* [atomic] */
    struct sigaction asked[PLACES];
    int guest; /* [atomic] a process that has our memory, and handlers of its own (vfork); 0: none yet */
    struct sigaction of_guest;
} faults;

bool bs_shim_faults_are_on(void) {
    return faults.on;
}

/* libc's. It is looked for once, before a handler needs it: that takes locks. */
static int real_sigaction(const struct sigaction *action, struct sigaction *old) {
    return REAL(sigaction)(SIGSEGV, action, old);
}

/* Between vfork and execve programs reset their handlers: those are the child's, not the parent's. */
static bool is_guest(void) {
    int guest = bs_load_acquire(&faults.guest);
    return guest != 0 && !bs_thread_are_ours() && guest == bs_os_pid();
}
static struct sigaction asked_for(void) {
    return is_guest() ? faults.of_guest : faults.asked[bs_load_acquire(&faults.last)];
}
static void remember(const struct sigaction *action) {
    if (!bs_thread_are_ours()) {
        faults.of_guest = *action;
        bs_store_release(&faults.guest, bs_os_pid());
        return;
    }
    uint32_t place = __atomic_add_fetch(&faults.next, 1, __ATOMIC_RELAXED) % PLACES;
    faults.asked[place] = *action;
    bs_store_release(&faults.last, place);
}

static bool is_handler(const struct sigaction *action) {
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

static void on_fault(int signal, siginfo_t *info, void *context);

static int install_for(const struct sigaction *action) {
    struct sigaction ours = {.sa_sigaction = on_fault};
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (is_handler(action)) {
        ours.sa_mask = action->sa_mask;
        ours.sa_flags |= action->sa_flags & (SA_ONSTACK | SA_RESTART);
        sigdelset(&ours.sa_mask, SIGSEGV);
    } else {
        sigemptyset(&ours.sa_mask);
        ours.sa_flags |= SA_ONSTACK | SA_RESTART;
    }
    if (bs_os_signal_stacks_are_shared())
        ours.sa_flags &= ~SA_ONSTACK;
    return real_sigaction(&ours, NULL);
}

/* As without us: the instruction faults again, or the signal comes again, and nobody is there. */
static void act_by_default(siginfo_t *info) {
    const struct sigaction dfl = {.sa_handler = SIG_DFL};
    (void)real_sigaction(&dfl, NULL);
    if (info->si_code <= 0)
        bs_os_signal_again(SIGSEGV, info);
}

typedef void fault_handler(int, siginfo_t *, void *);

/* NULL: there is nobody to be called. */
static BS_NOINLINE fault_handler *whose(siginfo_t *info) {
    const struct sigaction dfl = {.sa_handler = SIG_DFL};
    if (info->si_code == SEGV_ACCERR && bs_park_touch((uintptr_t)info->si_addr))
        return NULL;
    struct sigaction action = asked_for();
    if (action.sa_handler == SIG_IGN && info->si_code <= 0) /* one that a program has sent */
        return NULL;
    if (!is_handler(&action)) {
        act_by_default(info);
        return NULL;
    }
    if ((action.sa_flags & (int)SA_RESETHAND) != 0) {
        remember(&dfl);
        (void)install_for(&dfl);
    }
    bs_shim_note_handler(SIGSEGV, NULL); /* it interrupts no call */
    return action.sa_sigaction;
}

/* The program's is called in tail position: while it runs no frame of ours is on the stack, and a stop
 * does not take the thread for one that is inside besom. A handler with one argument does not look at the
 * others. */
static void on_fault(int signal, siginfo_t *info, void *context) {
    fault_handler *handler = whose(info);
    if (handler != NULL)
        handler(signal, info, context);
}

int bs_shim_fault_action(const struct sigaction *action, struct sigaction *old) {
    struct sigaction before = asked_for();
    if (action != NULL) {
        remember(action);
        int ret = install_for(action);
        if (ret != 0)
            return ret;
    }
    if (old != NULL)
        *old = before;
    return 0;
}

void bs_shim_fault_share_stacks(void) {
    const struct sigaction now = asked_for();
    if (faults.on)
        (void)install_for(&now);
}

/* --- for collect.c ------------------------------------------------------------------------------ */

void bs_shim_fault_unblock(void) {
    sigset_t fault;
    if (!faults.on)
        return;
    sigemptyset(&fault);
    sigaddset(&fault, SIGSEGV);
    (void)REAL(pthread_sigmask)(SIG_UNBLOCK, &fault, NULL);
}

static bool start(void) {
    struct sigaction now;
    if (real_sigaction(NULL, &now) != 0)
        return false;
    remember(&now); /* what the process was started with: SIG_DFL or SIG_IGN */
    faults.on = install_for(&now) == 0;
    bs_shim_fault_unblock();
    return faults.on;
}

static bool are_ours(void) {
    union {
        void (*handler)(int, siginfo_t *, void *);
        uintptr_t address;
    } u = {.handler = on_fault};
    return bs_os_signal_handler_of(SIGSEGV) == u.address;
}

const struct bs_collect_faults besom_shim_faults = {start, are_ours};
