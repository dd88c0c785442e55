/* SPDX-License-Identifier: MIT */
/*
 * Promise: the signal that besom has taken for its stops is the program's from the moment when the program installs
 * a handler for it, not only from the next stop on: the program sees its handler, the handler runs, and it can
 * be taken away again. Of what besom had sent by then it learns nothing, if it asks for the value. scan_taken_signal.conf has no scan but the one that the program asks for.
 */
#include "promise.h"

#include <signal.h>

#define ASK SIGUSR2 /* scan_taken_signal.conf */
#define TAKEN 61    /* besom.7 */
#define MAGIC UINT64_C(0xbe50000000000000)

static volatile sig_atomic_t handled;

static void handle(int number) {
    handled += number == TAKEN;
}
static void handle_value(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    handled += number == TAKEN;
}
/* As besom marks its own (src/os_signal.c); for one that comes late. */
static void send(uint64_t value) {
    BS_CHECK(sigqueue(getpid(), TAKEN, (union sigval){.sival_ptr = (void *)(uintptr_t)value}) == 0, "sigqueue");
}
static bool has(__sighandler_t handler) {
    struct sigaction now;
    return sigaction(TAKEN, NULL, &now) == 0 && now.sa_handler == handler;
}

int main(void) {
    char path[64], line[4096];
    bool scanned = false;
    promise_begin_log(path, sizeof path, "scan_taken_signal");
    raise(ASK);
    for (unsigned i = 0; i < 6000 && !scanned; i++) {
        FILE *f = fopen(path, "r");
        usleep(10000);
        while (f != NULL && fgets(line, sizeof line, f) != NULL)
            scanned |= strstr(line, " scan: reason signal ") != NULL;
        if (f != NULL)
            fclose(f);
    }
    BS_CHECK(scanned, "no scan");
    BS_CHECK(has(SIG_DFL), "besom's handler is seen");

    BS_CHECK(signal(TAKEN, handle) == SIG_DFL, "there was a handler");
    BS_CHECK(has(handle), "the program does not see its handler");
    raise(TAKEN);
    BS_CHECK(handled == 1, "handled %d times", (int)handled);

    struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
    BS_CHECK(sigaction(TAKEN, &ignore, &old) == 0 && old.sa_handler == handle, "another handler");
    BS_CHECK(has(SIG_IGN), "it is not ignored");
    raise(TAKEN);
    BS_CHECK(handled == 1, "a handler that was taken away has run");
    BS_CHECK(signal(TAKEN, handle) == SIG_IGN && signal(TAKEN, SIG_DFL) == handle && has(SIG_DFL), "signal");

    struct sigaction with_value = {.sa_sigaction = handle_value, .sa_flags = SA_SIGINFO};
    BS_CHECK(sigaction(TAKEN, &with_value, NULL) == 0, "sigaction");
    handled = 0;
    send(MAGIC + 5);
    BS_CHECK(handled == 0, "the program got a signal of besom's");
    send(5);
    BS_CHECK(handled == 1, "handled %d times", (int)handled);
    unlink(path);
    _exit(0); /* no report at exit */
}
