/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program that has handlers for all signals, as the runtime of Go, is scanned all the same: besom shares a
 * signal with it. The program does not notice: each handler is called for each signal that is sent, and with the
 * value that was sent along; asked for its handlers and their flags it finds its own; once it has none for that
 * signal, or another, that is what happens when the signal comes. Nor do calls fail. A handler that is
 * installed otherwise, with signals left open, is not shared. scan_shared_signal.conf has the scans.
 */
#include "promise.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define FIRST 34
#define LAST 64
#define FLAGS (SA_SIGINFO | SA_RESTART | SA_ONSTACK)

static int number_of_signal; /* [atomic] of the last one */
static int value_of_signal;
static unsigned handled, handled_otherwise; /* [atomic] */
static char log_path[64];

static void handle(int number, siginfo_t *info, void *context) {
    (void)context;
    value_of_signal = info->si_value.sival_int;
    __atomic_store_n(&number_of_signal, number, __ATOMIC_RELEASE);
    __atomic_fetch_add(&handled, 1, __ATOMIC_RELEASE);
}
static void handle_otherwise(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    __atomic_fetch_add(&handled_otherwise, 1, __ATOMIC_RELEASE);
}

static void install(void (*fn)(int, siginfo_t *, void *), int flags, bool fill) {
    struct sigaction action = {.sa_flags = flags};
    action.sa_sigaction = fn;
    (fill ? sigfillset : sigemptyset)(&action.sa_mask);
    for (int i = FIRST; i <= LAST; i++)
        BS_CHECK(sigaction(i, &action, NULL) == 0, "signal %d", i);
}
static void check_handlers(void (*fn)(int, siginfo_t *, void *), int flags) {
    struct sigaction now;
    for (int i = FIRST; i <= LAST; i++)
        BS_CHECK(sigaction(i, NULL, &now) == 0 && now.sa_sigaction == fn && (now.sa_flags & ~0x04000000) == flags &&
                     (flags != FLAGS || sigismember(&now.sa_mask, SIGUSR1) == 1),
                 "signal %d has another handler, or flags %#x", i, (unsigned)now.sa_flags);
}
static void send_all(void) {
    for (int i = FIRST; i <= LAST; i++) {
        unsigned before = __atomic_load_n(&handled, __ATOMIC_ACQUIRE);
        BS_CHECK(pthread_sigqueue(pthread_self(), i, (union sigval){.sival_int = 7 * i}) == 0, "sigqueue");
        BS_CHECK(__atomic_load_n(&handled, __ATOMIC_ACQUIRE) == before + 1, "signal %d", i);
        BS_CHECK(number_of_signal == i && value_of_signal == 7 * i, "signal %d as %d", i, number_of_signal);
    }
}

/* How many scans of this process had this verdict, so far. */
static unsigned count(const char *verdict) {
    char line[4096], text[64];
    unsigned n = 0;
    FILE *f = fopen(log_path, "r");
    snprintf(text, sizeof text, " verdict %s ", verdict);
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        n += strstr(line, " scan: ") != NULL && strstr(line, text) != NULL;
    if (f != NULL)
        fclose(f);
    return n;
}
static void wait_for(const char *verdict) {
    unsigned before = count(verdict);
    for (unsigned i = 0; i < 3000 && count(verdict) == before; i++)
        BS_CHECK(usleep(10000) == 0, "usleep: errno %d", errno);
    BS_CHECK(count(verdict) > before, "no scan with the verdict %s", verdict);
}

static int is_over; /* [atomic] */
static void *sleep_all_the_time(void *arg) {
    (void)arg;
    while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE))
        BS_CHECK(usleep(50000) == 0, "a sleep was interrupted");
    return NULL;
}

/* By which of the signals a child ends that has no handlers left: all of them. */
static void check_default_in_child(void) {
    for (int i = FIRST; i <= LAST; i += 3) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            for (int j = FIRST; j <= LAST; j++)
                signal(j, SIG_DFL);
            raise(i);
            _exit(1);
        }
        BS_CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == i,
                 "signal %d: status %#x", i, (unsigned)status);
    }
}

int main(void) {
    pthread_t sleeper;
    promise_begin_log(log_path, sizeof log_path, "scan_shared_signal");
    install(handle, FLAGS, true);
    BS_CHECK(pthread_create(&sleeper, NULL, sleep_all_the_time, NULL) == 0, "thread");

    check_handlers(handle, FLAGS);
    for (unsigned i = 0; i < 3; i++) {
        wait_for("done");
        check_handlers(handle, FLAGS);
        send_all();
    }
    check_default_in_child();

    install(handle_otherwise, SA_SIGINFO, false);
    wait_for("unavailable");
    check_handlers(handle_otherwise, SA_SIGINFO);
    BS_CHECK(handled_otherwise == 0, "%u stops seen", handled_otherwise);

    install(handle, FLAGS, true);
    wait_for("done");
    send_all();
    signal(LAST - 3, SIG_IGN); /* the one that is taken first */
    wait_for("done");
    struct sigaction now;
    BS_CHECK(sigaction(LAST - 3, NULL, &now) == 0 && now.sa_handler == SIG_IGN, "it is not ignored");
    unsigned before = handled;
    raise(LAST - 3);
    BS_CHECK(handled == before, "a signal that is ignored");
    signal(LAST - 3, SIG_DFL);
    wait_for("done");
    BS_CHECK(sigaction(LAST - 3, NULL, &now) == 0 && now.sa_handler == SIG_DFL, "it has an action");

    __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
    pthread_join(sleeper, NULL);
    unlink(log_path);
    _exit(0); /* no report at exit */
}
