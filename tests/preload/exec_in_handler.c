/* SPDX-License-Identifier: MIT */
/*
 * Promise: a handler that executes a program waits for no other one that its thread was about to execute, and goes on
 * where it was if that is not there. Libc looks for a slash in a name that cannot be read, in the middle of execvp.
 */
#include "promise.h"

#include <signal.h>
#include <sys/mman.h>

static char *name;
static volatile uint64_t took_ms;
static volatile int error;

static void on_fault(int number) {
    char *args[] = {name, NULL};
    uint64_t start = now_ms();
    (void)number;
    execve("/nowhere/to/be/found", args, environ);
    error = errno;
    took_ms = now_ms() - start;
    mprotect(name, 4096, PROT_READ | PROT_WRITE);
}

int main(void) {
    struct sigaction action = {.sa_handler = on_fault};
    name = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    BS_CHECK(name != MAP_FAILED, "mmap");
    char *args[] = {name, NULL};
    strcpy(name, "not-to-be-found");
    BS_CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && mprotect(name, 4096, PROT_NONE) == 0, "a name that faults");
    BS_CHECK(execvp(name, args) == -1 && errno == ENOENT, "execvp");
    BS_CHECK(error == ENOENT, "execve in the handler: %s", strerror(error));
    BS_CHECK(took_ms < 900, "it waited for %u ms", (unsigned)took_ms);
    return 0;
}
