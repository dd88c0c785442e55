/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program that keeps the handlers of fork itself, and calls them around a clone() of its own, as firefox
 * does, does not wait for itself for ever, and the child can allocate.
 */
#include "promise.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

typedef int registrar(void (*)(void), void (*)(void), void (*)(void), void *);

enum { nhandlers = 16, nblocks = 300 };
static struct {
    void (*before)(void), (*parent)(void), (*child)(void);
} handler[nhandlers];
static unsigned n;
static char stack[1 << 16] __attribute__((aligned(16)));

/* In front of libc's, for libraries as well. */
registrar __register_atfork;
int __register_atfork(void (*before)(void), void (*parent)(void), void (*child)(void), void *handle) {
    registrar *real = (registrar *)dlsym(RTLD_NEXT, "__register_atfork");
    if (n < nhandlers) {
        handler[n].before = before;
        handler[n].parent = parent;
        handler[n++].child = child;
    }
    return real != NULL ? real(before, parent, child, handle) : ENOMEM;
}

static int work(void *arg) {
    static void *blocks[nblocks];
    if (arg != NULL)
        for (unsigned i = 0; i < n; i++)
            if (handler[i].child != NULL)
                handler[i].child();
    for (size_t i = 0; i < nblocks; i++)
        blocks[i] = malloc(i * 100 + 1);
    for (size_t i = 0; i < nblocks; i++)
        free(blocks[i]);
    return 7;
}

static void *run(void *arg) {
    for (unsigned round = 0; round < 50; round++) {
        int status;
        for (unsigned i = n; i-- > 0;)
            if (handler[i].before != NULL)
                handler[i].before();
        pid_t child = clone(work, stack + sizeof stack, SIGCHLD, stack);
        for (unsigned i = 0; i < n; i++)
            if (handler[i].parent != NULL)
                handler[i].parent();
        BS_CHECK(child > 0 && waitpid(child, &status, 0) == child, "clone");
        BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the child's status is %#x", (unsigned)status);
        child = fork(); /* by the handlers that libc has */
        if (child == 0)
            _exit(work(NULL));
        BS_CHECK(child > 0 && waitpid(child, &status, 0) == child, "fork");
        BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the child's status is %#x", (unsigned)status);
        (void)work(NULL);
    }
    return arg;
}

int main(void) {
    pthread_t thread;
    BS_CHECK(n != 0, "nobody has registered with the program");
    BS_CHECK(pthread_create(&thread, NULL, run, NULL) == 0 && pthread_join(thread, NULL) == 0, "thread");
    return 0;
}
