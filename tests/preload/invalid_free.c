/* SPDX-License-Identifier: MIT */
/*
 * Promise: freeing a pointer into the middle of a block stops the process with SIGABRT and a line
 * that says `invalid free`, without any option, at the latest when the thread cache is flushed.
 *
 * It is NOT about pointers outside the heap: see foreign_stack.c. One thread. Reaching the end of
 * main is the failure.
 */
#include "promise.h"

enum { nblocks = 20000 };

static char *blocks[nblocks];

int main(void) {
    for (int i = 0; i < nblocks; i++) {
        blocks[i] = malloc(200);
        BS_CHECK(blocks[i] != NULL, "malloc(200) gave NULL");
    }
    free(hide(blocks[nblocks / 2] + 16));
    for (int i = 0; i < nblocks; i++) {
        if (i != nblocks / 2)
            free(blocks[i]);
    }
    dprintf(STDOUT_FILENO, "an invalid free went unnoticed through %d frees\n", nblocks);
    return 1;
}
