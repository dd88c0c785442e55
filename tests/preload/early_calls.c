/* SPDX-License-Identifier: MIT */
/*
 * Promise: the malloc family works before any constructor has run, the library's own included:
 * free(NULL) as the very first call, then malloc, calloc, realloc, malloc_usable_size and free.
 * Functions in .preinit_array of the program run before every shared library is initialised.
 *
 * It is NOT about constructors: see ctor_dtor.c. One thread.
 */
#include "promise.h"

#include <malloc.h>

static void *early;
static void *early_freed_later;

static void first_calls(void) {
    free(hide(NULL));
    early = malloc(100);
    BS_CHECK(early != NULL, "malloc before the constructors gave NULL");
    pattern_fill(early, 100, 1);
    BS_CHECK(malloc_usable_size(early) >= 100, "malloc_usable_size before the constructors");
    early = realloc(early, 100000);
    BS_CHECK(early != NULL, "realloc before the constructors gave NULL");
    BS_CHECK_PATTERN(early, 100, 1);
    early_freed_later = calloc(1000, 10);
    BS_CHECK(early_freed_later != NULL, "calloc before the constructors gave NULL");
    BS_CHECK_ZERO(early_freed_later, 10000);
    free(malloc(2 * BS_MIB));
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = first_calls;

int main(void) {
    BS_CHECK(early != NULL, "the early function did not run");
    BS_CHECK_PATTERN(early, 100, 1);
    BS_CHECK_ZERO(early_freed_later, 10000);
    free(early);
    free(early_freed_later);
    return 0;
}
