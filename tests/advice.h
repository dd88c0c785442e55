/* SPDX-License-Identifier: MIT */
/*
 * advice.h - what a mapping was advised about huge pages, by the kernel's own word: VmFlags in /proc/self/smaps.
 */
#ifndef BS_TESTS_ADVICE_H
#define BS_TESTS_ADVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The advice of the mapping that holds p: 'n'o, 'h'uge, or '-'. */
static inline char advice_at(uintptr_t p) {
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512], advice = '?';
    uintptr_t start, end;
    bool inside = false;
    while (fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = p >= start && p < end;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            advice = strstr(line, " nh") != NULL ? 'n' : strstr(line, " hg") != NULL ? 'h' : '-';
    }
    fclose(f);
    return advice;
}

#endif
