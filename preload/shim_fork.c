/* SPDX-License-Identifier: MIT */
/*
 * shim_fork.c - a process that is copied by syscall(SYS_clone) or clone(), as sandboxes make theirs: libc runs no
 * fork handlers for it. A program of one thread may do so at any time, but for our helper, which may have locks
 * and be in the middle of a change: while there is a helper, besom's part of fork is done around the call.
 *
 * Only where memory is copied and the child goes on in this stack frame, or in a function on a stack of its own.
 * Without a helper nothing is done: then all threads are the program's, and so is the care for them. Nor is it where
 * the program has called the handlers of fork by itself. All other
 * calls end in a jump to libc's, so that no frame of ours stays (text.h).
 */
#define _GNU_SOURCE
#include "shim_real.h"

#include "fork.h"
#include "os.h"

#include <linux/sched.h>
#include <sys/syscall.h>

typedef long any_call(long n, long a, long b, long c, long d, long e, long f);
typedef int any_clone(int (*fn)(void *), void *stack, int flags, void *arg, void *ptid, void *tls, void *ctid);

/* As libc's, with every argument that may come; what was not given is not looked at. */
BS_EXPORT any_call besom_syscall __asm__("syscall");
BS_EXPORT any_clone besom_clone __asm__("clone");

/* (firefox has a __register_atfork of its own, and calls what was registered, ours too, around its clone.) */
static bool copies_memory(uint64_t flags) {
    return (flags & CLONE_VM) == 0 && bs_os_helper_tid() != 0 && !bs_fork_is_under_way();
}

static BS_COLD bool is_fork(long n, long a, long b) {
    if (n == SYS_clone) /* (flags, stack, ...) on x86-64 and aarch64 */
        return b == 0 && copies_memory((uint64_t)a);
#ifdef SYS_fork
    if (n == SYS_fork)
        return copies_memory(0);
#endif
    struct clone_args args = {.flags = CLONE_VM};
    uintptr_t from = (uintptr_t)a;
    size_t known = bs_min((size_t)b, sizeof args);
    if (bs_os_read_memory(from, &args, known) != (long)known || args.stack != 0)
        return false; /* the kernel says what is wrong with it */
    return copies_memory(args.flags);
}

static BS_COLD long fork_by(any_call *real, long n, long a, long b, long c, long d, long e, long f) {
    bs_fork_before();
    long child = real(n, a, b, c, d, e, f);
    if (child == 0)
        bs_fork_in_child();
    else
        bs_fork_in_parent();
    return child;
}

long besom_syscall(long n, long a, long b, long c, long d, long e, long f) {
    any_call *real = (any_call *)FIND("syscall");
    bool may_fork = n == SYS_clone || n == SYS_clone3;
#ifdef SYS_fork
    may_fork = may_fork || n == SYS_fork;
#endif
    if (BS_UNLIKELY(may_fork) && is_fork(n, a, b))
        return fork_by(real, n, a, b, c, d, e, f);
    return real(n, a, b, c, d, e, f);
}

/* Lies on the parent's stack, of which the child has a copy. */
struct begin {
    int (*fn)(void *);
    void *arg;
};

static int begin(void *copied) {
    struct begin b = *(struct begin *)copied;
    bs_fork_in_child();
    return b.fn(b.arg);
}

static BS_COLD int clone_by(any_clone *real, struct begin b, void *stack, int flags, void *ptid, void *tls,
                            void *ctid) {
    bs_fork_before();
    int child = real(begin, stack, flags, &b, ptid, tls, ctid);
    bs_fork_in_parent();
    return child;
}

/* A process that nobody can stop, and that has our memory. (Of a thread's the kernel tells, and in vfork its maker stands.) */
static BS_COLD int clone_beside(any_clone *real, int (*fn)(void *), void *stack, int flags, void *arg, void *ptid,
                                void *tls, void *ctid) {
    bs_world_sharer_comes();
    int child = real(fn, stack, flags, arg, ptid, tls, ctid);
    bs_world_sharer_came(child);
    return child;
}

int besom_clone(int (*fn)(void *), void *stack, int flags, void *arg, void *ptid, void *tls, void *ctid) {
    any_clone *real = (any_clone *)FIND("clone");
    if (BS_UNLIKELY(copies_memory((unsigned)flags)) && fn != NULL && stack != NULL)
        return clone_by(real, (struct begin){fn, arg}, stack, flags, ptid, tls, ctid);
    if (BS_UNLIKELY((flags & (CLONE_VM | CLONE_THREAD | CLONE_VFORK)) == CLONE_VM))
        return clone_beside(real, fn, stack, flags, arg, ptid, tls, ctid);
    return real(fn, stack, flags, arg, ptid, tls, ctid);
}
