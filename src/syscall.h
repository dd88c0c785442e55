/* SPDX-License-Identifier: MIT */
/*
 * syscall.h - system calls without libc: no errno, no thread-local storage, no cancellation.
 *
 * Why not libc's wrappers: free() must keep errno, and the background thread has no libc thread
 * block (os_thread.c). Only the os_*.c files include this; everybody else uses os.h.
 *
 * Results are the kernel's: a value >= 0, or a negated errno in [-4095, -1].
 */
#ifndef BS_SYSCALL_H
#define BS_SYSCALL_H

#include "base.h"

#include <sys/syscall.h>

/* The kernel's number on every machine; headers may be older than it. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#if defined(__x86_64__)

static inline long bs_syscall(long n, long a, long b, long c, long d, long e, long f) {
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

#elif defined(__aarch64__)

static inline long bs_syscall(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}

#else
#error "besom runs on x86-64 and aarch64: add bs_syscall for this CPU"
#endif

struct bs_kernel_sigaction { /* the kernel's layout, not libc's */
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

/* The place of a signal in the kernel's sets of signals. */
BS_INLINE uint64_t bs_signal_bit(int number) {
    return (uint64_t)1 << (number - 1);
}

#if BS_FAULTS
/* Where a test makes it fail (bs_os_call_faults in os.h). */
#define BS_SYSCALL bs_os_syscall
long bs_os_syscall(long n, long a, long b, long c, long d, long e, long f);
#else
#define BS_SYSCALL bs_syscall
#endif
#define bs_sys0(n) BS_SYSCALL((n), 0, 0, 0, 0, 0, 0)
#define bs_sys1(n, a) BS_SYSCALL((n), (long)(a), 0, 0, 0, 0, 0)
#define bs_sys2(n, a, b) BS_SYSCALL((n), (long)(a), (long)(b), 0, 0, 0, 0)
#define bs_sys3(n, a, b, c) BS_SYSCALL((n), (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define bs_sys4(n, a, b, c, d) BS_SYSCALL((n), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define bs_sys5(n, a, b, c, d, e) \
    BS_SYSCALL((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define bs_sys6(n, a, b, c, d, e, f) \
    BS_SYSCALL((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#endif
