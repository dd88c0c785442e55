/* SPDX-License-Identifier: MIT */
/*
 * shim_handler.c - the program's signal handlers, counted: which of its threads has run one since when.
 * See shim.h.
 *
 * The signal that asks for a scan (option scan_signal) does so beside a handler of the program's.
 *
 * sigaction, signal and sysv_signal install one function in place of each handler, which counts and
 * calls it; asked for the handler, they name the program's. The table is written while other threads
 * install handlers and signals come, so its entries are atomics; nothing here takes a lock.
 *
 * A child of vfork has its own actions, and its parent's memory: what it does is the kernel's business, and nothing is
 * noted. (No stop is made by it, and none stops it.)
 */
#include "os.h"
#include "shim_fault.h"
#include "shim_real.h"
#include "thread.h"

#include <signal.h>

typedef void handler_of_all(int, siginfo_t *, void *);

/* A handler with one argument does not look at the others. */
union handler {
    __sighandler_t plain;
    handler_of_all *all;
};

static handler_of_all *program[_NSIG]; /* [atomic] */
static bool with_info[_NSIG]; /* [atomic] installed with SA_SIGINFO: for others the kernel writes no siginfo, and what
                                 is there is what an earlier signal left on the stack */

#if defined(__x86_64__)
#define HAS_CONTEXT true /* whatever its flags are */
#else
#define HAS_CONTEXT false
#endif

void bs_shim_run_handler(int signal, siginfo_t *info, void *context) {
    if (bs_load(&with_info[signal]) && bs_os_signal_is_from_besom(info)) /* sent before the program installed this */
        return;
    bs_shim_note_handler(signal, HAS_CONTEXT || bs_load(&with_info[signal]) ? context : NULL);
    if (signal == besom_shim.scan_signal)
        besom_shim.ask_scan();
    bs_load(&program[signal])(signal, info, context);
}

/* Kept for a signal that is shared and that the program ignores. */
static void nothing(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
}

static bool is_an_action(__sighandler_t handler) {
    return handler != SIG_DFL && handler != SIG_IGN && handler != SIG_ERR;
}

/* What to install for the program's handler, which is kept for bs_shim_run_handler. A vfork child has handlers of its
 * own, but our table is its parent's: it gets what it asks for. */
static __sighandler_t hide(int signal, __sighandler_t handler, bool info) {
    union handler h = {.plain = handler};
    if (signal <= 0 || signal >= _NSIG || !is_an_action(handler) || !bs_thread_are_ours())
        return handler;
    bs_store(&with_info[signal], info);
    bs_store(&program[signal], h.all);
    h.all = bs_shim_run_handler;
    return h.plain;
}

/* Of the signal that besom has taken: besom's handler, and not one that the program has installed since. */
static bool is_ours(int signal, __sighandler_t installed) {
    union handler h = {.plain = installed};
    return signal != 0 && signal == bs_load(&besom_shim.signal) && is_an_action(installed) &&
           h.all != bs_shim_run_handler;
}

/* Besom's handler calls the program's for all that is not besom's; its action is the program's besides. */
static bool is_shared(int signal) {
    return signal == bs_load(&besom_shim.signal) && bs_load(&besom_shim.is_shared);
}

/* What the program is told for what the kernel has. */
static __sighandler_t show(int signal, __sighandler_t installed, handler_of_all *kept) {
    union handler h = {.plain = installed};
    if (is_ours(signal, installed) && !is_shared(signal))
        return SIG_DFL;
    if (h.all == bs_shim_run_handler || is_ours(signal, installed))
        h.all = kept;
    return h.all == nothing ? SIG_IGN : h.plain;
}
static void show_action(int signal, struct sigaction *action, handler_of_all *kept) {
    if (is_ours(signal, action->sa_handler) && !is_shared(signal))
        *action = (struct sigaction){.sa_handler = SIG_DFL};
    else
        action->sa_handler = show(signal, action->sa_handler, kept);
}

static handler_of_all *kept_for(int signal) {
    return signal > 0 && signal < _NSIG ? bs_load(&program[signal]) : NULL;
}

/* The signal that besom has taken stays as it is. A handler of the program's goes through, and what it does with
 * that afterwards: the next stop finds another one to take. */
static bool is_hidden(int signal, bool is_action) {
    struct sigaction now;
    return !is_action && signal != 0 && signal == bs_load(&besom_shim.signal) &&
           REAL(sigaction)(signal, NULL, &now) == 0 && is_ours(signal, now.sa_handler) && bs_thread_are_ours();
}

/* Of a signal that is shared the program wants the default action, or none. The kernel's stays what it is: threads may be
 * about to be stopped by it, and the default would be the end of the process. */
static void leave(int signal, __sighandler_t handler) {
    if (handler == SIG_IGN) {
        bs_store(&program[signal], nothing);
        return;
    }
    bs_os_signal_unshare(signal);
    bs_store(&besom_shim.is_shared, false);
}

/* What asks for a scan: where the program has no handler for it, besom's is there, and the program sees none. */
static bool asks_for_scans(int signal) {
    return signal != 0 && signal == besom_shim.scan_signal;
}

BS_EXPORT int sigaction(int signal, const struct sigaction *action, struct sigaction *old) {
    handler_of_all *kept = kept_for(signal);
    bool asks = asks_for_scans(signal), watched = asks && besom_shim.is_watched();
    bool takes = action != NULL && is_an_action(action->sa_handler);
    struct sigaction copy;
    int ret;
    if (is_hidden(signal, takes)) {
        ret = old != NULL ? REAL(sigaction)(signal, NULL, old) : 0;
        if (old != NULL)
            show_action(signal, old, kept);
        if (action != NULL && is_shared(signal))
            leave(signal, action->sa_handler);
        return ret;
    }
    if (signal == SIGSEGV && bs_shim_faults_are_on())
        return bs_shim_fault_action(action, old);
    if (action != NULL && asks && !takes && bs_thread_are_ours()) {
        ret = REAL(sigaction)(signal, NULL, old);
        besom_shim.watch();
    } else if (action != NULL) {
        copy = *action;
        if (bs_shim_faults_are_on()) /* closed memory may be touched in any handler */
            sigdelset(&copy.sa_mask, SIGSEGV);
        copy.sa_handler = hide(signal, copy.sa_handler, (copy.sa_flags & SA_SIGINFO) != 0);
        ret = REAL(sigaction)(signal, &copy, old);
    } else {
        ret = REAL(sigaction)(signal, NULL, old);
    }
    if (ret == 0 && old != NULL && watched)
        *old = (struct sigaction){.sa_handler = SIG_DFL};
    else if (ret == 0 && old != NULL)
        show_action(signal, old, kept);
    return ret;
}

BS_EXPORT __sighandler_t signal(int number, __sighandler_t handler) {
    handler_of_all *kept = kept_for(number);
    if (is_hidden(number, is_an_action(handler))) {
        struct sigaction action = {.sa_handler = handler}, old;
        return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
    }
    if (asks_for_scans(number) && (!is_an_action(handler) || besom_shim.is_watched())) {
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
        return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
    }
    if (number == SIGSEGV && bs_shim_faults_are_on()) {
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
        sigemptyset(&action.sa_mask);
        return bs_shim_fault_action(&action, &old) == 0 ? old.sa_handler : SIG_ERR;
    }
    return show(number, REAL(signal)(number, hide(number, handler, false)), kept);
}

/* What `signal` is where a program asks for no more than C and POSIX. */
__sighandler_t __sysv_signal(int number, __sighandler_t handler);
BS_EXPORT __sighandler_t __sysv_signal(int number, __sighandler_t handler) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)}, old;
    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}
BS_EXPORT __sighandler_t sysv_signal(int number, __sighandler_t handler) {
    return __sysv_signal(number, handler);
}
