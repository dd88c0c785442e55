/* SPDX-License-Identifier: MIT */
/*
 * Promise: a block that was freed, and whose slot went back to its span long ago, is recognised
 * when it is freed again: SIGABRT and a line that says `double free`, at the latest when the
 * thread cache is flushed the next time. No option is set.
 *
 * The span stays in use by its other blocks, so that the slot is free but the page is known. One
 * thread. Reaching the end of main is the failure.
 */
#include "promise.h"

enum { nblocks = 20000 };

static void *blocks[nblocks];

int main(void) {
    for (int i = 0; i < nblocks; i++) {
        blocks[i] = malloc(100);
        BS_CHECK(blocks[i] != NULL, "malloc(100) gave NULL");
    }
    void *again = hide(blocks[100]);

    for (int i = 0; i < nblocks / 2; i += 2)
        free(blocks[i]);
    free(again);
    for (int i = nblocks / 2; i < nblocks; i += 2)
        free(blocks[i]);
    dprintf(STDOUT_FILENO, "a late double free went unnoticed through %d frees\n", nblocks / 4);
    return 1;
}
