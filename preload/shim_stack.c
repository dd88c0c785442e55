/* SPDX-License-Identifier: MIT */
/*
 * shim_stack.c - alternate signal stacks that threads share. See shim.h.
 *
 * A handler of besom's runs on the thread's alternate stack, since code may be on a stack that has no room for one
 * (Go, OCaml's fibers). But several threads may have set the same memory: for a handler in which the process dies, as
 * varnishd does, one is enough. Two of them that are stopped there at once overwrite each other's frames. So
 * sigaltstack is looked at, and where two threads that live have one stack, besom's handlers use it no more.
 *
 * A table remembers who has set what; it forgets where places collide, so that it needs no memory and no lock. That costs
 * nothing where all threads set the same, one after the other. A stack that its thread has given up is forgotten before
 * the thread can free it.
 *
 * And a scan is told of alternate stacks within a thread's own that it would not see.
 */
#include "bounds.h"
#include "os.h"
#include "shim_fault.h"
#include "shim_real.h"
#include "thread.h"

#include <signal.h>
#include <sys/auxv.h>

#define PLACES 256
#define TID_BITS 22 /* the kernel's PID_MAX_LIMIT */

static uint64_t places[PLACES]; /* [atomic] a stack's address, but for its highest bits, and a thread's number */

static uint64_t *place_of(uintptr_t base) {
    return &places[(base >> 4 ^ base >> 12 ^ base >> 20) % PLACES];
}
static uint64_t owned(uintptr_t base, int tid) {
    return (uint64_t)base >> 4 << TID_BITS | (uint64_t)tid;
}

static void enter(uintptr_t base, int tid) {
    uint64_t mine = owned(base, tid), was = __atomic_exchange_n(place_of(base), mine, __ATOMIC_ACQ_REL);
    int other = (int)(was & ((1u << TID_BITS) - 1));
    if (was == mine || was != owned(base, other) || !bs_os_thread_alive(other))
        return;
    bs_os_signal_share_stacks(besom_shim.scan_signal);
    bs_shim_fault_share_stacks();
}

static void leave(uintptr_t base, int tid) {
    uint64_t mine = owned(base, tid);
    (void)__atomic_compare_exchange_n(place_of(base), &mine, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

/* Between here and the thread's block, or what the kernel has given to the program, is nothing but its stack. */
static bool is_on_own_stack(uintptr_t p) {
    uintptr_t top = bs_os_tid() == bs_os_pid() ? getauxval(AT_RANDOM) : bs_os_thread_pointer();
    return p > (uintptr_t)__builtin_frame_address(0) && p < top;
}

/* The kernel takes such a stack away while a handler is on it: then nobody sees that it is one. */
static bool is_hidden(const stack_t *stack) {
    return (stack->ss_flags & (int)SS_AUTODISARM) != 0 && is_on_own_stack((uintptr_t)stack->ss_sp);
}

static uintptr_t base_of(const stack_t *stack) {
    return stack == NULL || (stack->ss_flags & SS_DISABLE) != 0 ? 0 : (uintptr_t)stack->ss_sp;
}

BS_EXPORT int sigaltstack(const stack_t *stack, stack_t *old) {
    stack_t before;
    if (stack != NULL && is_hidden(stack))
        bs_bounds_doubt();
    if (stack == NULL || bs_os_signal_stacks_are_shared() || !bs_thread_are_ours())
        return REAL(sigaltstack)(stack, old);
    uintptr_t base = base_of(stack);
    int tid = bs_os_tid();
    if (base != 0)
        enter(base, tid); /* before the kernel knows it: no stop finds two threads there */
    int ret = REAL(sigaltstack)(stack, &before);
    if (ret != 0)
        return ret;
    if (base_of(&before) != 0 && base_of(&before) != base)
        leave(base_of(&before), tid);
    if (old != NULL)
        *old = before;
    return 0;
}
