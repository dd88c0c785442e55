/* SPDX-License-Identifier: MIT */
/*
 * atfork.c - __register_atfork, which pthread_atfork calls, so that besom's handlers of fork are the first.
 *
 * Handlers that run before a fork run in reverse order, those after it in order: the first to register has its locks
 * last and gives them up first, and all others' handlers may allocate. But a library that the program is
 * linked with begins before one that is preloaded, and its constructor may register as well: with its handlers
 * behind ours the first malloc in one of them waited for a lock that its own thread had.
 *
 * It ends in a jump to libc's. A program that keeps the handlers itself (firefox) has a function of this name in front
 * of ours; fork.c calls by the name, so that ours are among them.
 */
#define _GNU_SOURCE
#include "base.h"
#include "fork.h"

#include <dlfcn.h>
#include <errno.h>

typedef int registrar(void (*before)(void), void (*in_parent)(void), void (*in_child)(void), void *dso);

BS_EXPORT registrar __register_atfork;

int __register_atfork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void), void *dso) {
    static void *cell;
    registrar *real = (registrar *)bs_load_acquire(&cell);
    if (real == NULL) {
        real = (registrar *)dlsym(RTLD_NEXT, "__register_atfork");
        if (real == NULL)
            return ENOMEM;
        bs_store_release(&cell, (void *)real);
    }
    bs_fork_start();
    return real(before, in_parent, in_child, dso);
}
