/* SPDX-License-Identifier: MIT */
/*
 * Promise: allocation works in constructors, in atexit and on_exit handlers and in destructors,
 * the last ones included, and blocks live across all of them: what a constructor allocated is
 * whole in the last destructor and can be freed there.
 *
 * The last destructor prints `all ran`, which ctor_dtor.conf expects. One thread.
 */
#include "promise.h"

enum { nblocks = 500 };

static void *blocks[nblocks];
static void *late[nblocks];
static int nran;

static size_t size_of(int i) {
    return i % 50 == 0 ? 300000 : (size_t)(i * 13 + 1);
}

static void make(void **to, uint64_t tag) {
    for (int i = 0; i < nblocks; i++) {
        to[i] = malloc(size_of(i));
        BS_CHECK(to[i] != NULL, "malloc(%zu) gave NULL", size_of(i));
        pattern_fill(to[i], size_of(i), tag + (uint64_t)i);
    }
}

static void check_and_free(void **from, uint64_t tag) {
    for (int i = 0; i < nblocks; i++) {
        BS_CHECK_PATTERN(from[i], size_of(i), tag + (uint64_t)i);
        free(from[i]);
        from[i] = NULL;
    }
}

__attribute__((constructor(101))) static void first_constructor(void) {
    make(blocks, 1000);
    nran++;
}

__attribute__((destructor(101))) static void last_destructor(void) {
    check_and_free(blocks, 1000);
    make(blocks, 5000);
    check_and_free(blocks, 5000);
    nran++;
    BS_CHECK(nran == 5, "%d of 5 hooks ran", nran);
    dprintf(STDOUT_FILENO, "all ran\n");
}

__attribute__((destructor)) static void first_destructor(void) {
    check_and_free(late, 3000);
    nran++;
}

static void at_exit(void) {
    make(late, 3000);
    nran++;
}

static void on_exit_too(int status, void *block) {
    BS_CHECK(status == 0, "on_exit got status %d", status);
    BS_CHECK_PATTERN(block, 100, 7);
    free(block);
    nran++;
}

int main(void) {
    void *p = malloc(100);

    BS_CHECK(p != NULL, "malloc(100) gave NULL");
    pattern_fill(p, 100, 7);
    BS_CHECK(atexit(at_exit) == 0 && on_exit(on_exit_too, p) == 0, "atexit");
    return 0;
}
