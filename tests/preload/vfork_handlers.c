/* SPDX-License-Identifier: MIT */
/*
 * Promise: a handler that a vfork child installs is the child's. It has the memory of its parent, and so the table in
 * which libbesom-scan.so keeps handlers, but the kernel keeps its actions apart. And a signal that it ignores is ignored by
 * the program that it executes, the signal that asks for scans as well.
 */
#include "promise.h"

#include <signal.h>
#include <sys/wait.h>

static volatile sig_atomic_t parents, childs;

static void of_parent(int number) {
    (void)number;
    parents++;
}
static void of_child(int number) {
    (void)number;
    childs++;
}

static void set(void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler};
    BS_CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
}

/* As the kernel has it. */
static bool is_ignored(int number) {
    struct {
        void (*handler)(int);
        unsigned long rest[7];
    } action;
    return syscall(SYS_rt_sigaction, number, NULL, &action, sizeof(uint64_t)) == 0 && action.handler == SIG_IGN;
}

int main(void) {
    int status;
    set(of_parent);
    pid_t child = vfork();
    if (child == 0) {
        BS_CHECK(signal(SIGUSR2, SIG_IGN) == SIG_DFL && is_ignored(SIGUSR2), "SIGUSR2 is not ignored");
        set(of_child);
        raise(SIGUSR1);
        _exit(childs == 1 && parents == 0 ? 0 : 1);
    }
    BS_CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "the child ended with %#x",
             (unsigned)status);
    raise(SIGUSR1);
    BS_CHECK(childs == 1 && parents == 1, "%d signals to the child's handler, %d to the parent's", (int)childs,
             (int)parents);
    return 0;
}
