/* SPDX-License-Identifier: MIT */
/* raw_copy.h - a copy of the process by the instruction itself, as fork makes one, but nobody sees it. */
#ifndef BS_TESTS_RAW_COPY_H
#define BS_TESTS_RAW_COPY_H

#include "promise.h"

#include <signal.h>
#include <sys/syscall.h>

static long copy_process(void) {
    long ret;
#if defined(__x86_64__)
    register long tid __asm__("r10") = 0, tls __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "0"((long)SYS_clone), "D"((long)SIGCHLD), "S"(0L), "d"(0L), "r"(tid), "r"(tls)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone, flags __asm__("x0") = SIGCHLD, stack __asm__("x1") = 0,
                  parent __asm__("x2") = 0, tls __asm__("x3") = 0, child __asm__("x4") = 0;
    __asm__ volatile("svc 0"
                     : "+r"(flags)
                     : "r"(number), "r"(stack), "r"(parent), "r"(tls), "r"(child)
                     : "memory");
    ret = flags;
#else
    promise_skip("no way to make a system call here");
#endif
    return ret;
}

#endif
