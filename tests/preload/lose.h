/* SPDX-License-Identifier: MIT */
/*
 * lose.h - for programs whose end is to report a leak: a block to which nothing points when both have been called, not
 * even what is left of it below the end of the stack. main calls them one after the other; how much is to be wiped in
 * other programs depends on what they do in between, so they have functions of their own.
 */
#ifndef BS_TESTS_LOSE_H
#define BS_TESTS_LOSE_H

#include "promise.h"

static void __attribute__((noinline)) lose(void) {
    void *volatile p = calloc(1, 3000);
    BS_CHECK(p != NULL, "no memory");
    p = NULL;
}
static void __attribute__((noinline)) wipe(void) {
    volatile char junk[8192];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}

#endif
