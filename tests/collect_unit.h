/* SPDX-License-Identifier: MIT */
/*
 * collect_unit.h - what tests that collect share: a handler of faults, and how it is set (the first of struct
 * bs_collect_faults). In a program that is the preload library's affair (preload/shim_fault.c).
 */
#ifndef BS_TESTS_COLLECT_UNIT_H
#define BS_TESTS_COLLECT_UNIT_H

#include "collect.h"
#include "park.h"

#include <signal.h>

static inline void on_fault(int signo, siginfo_t *info, void *context) {
    (void)context;
    if (!bs_park_touch((uintptr_t)info->si_addr))
        signal(signo, SIG_DFL);
}
static inline bool start_watching(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    return sigaction(SIGSEGV, &action, NULL) == 0;
}

#endif
