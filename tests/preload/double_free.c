/* SPDX-License-Identifier: MIT */
/*
 * Promise: a block freed twice stops the process with SIGABRT and a line that says so, without any
 * option, at the latest when enough other blocks of its size class were freed that the thread
 * cache is flushed. double_free.conf expects the signal and the line.
 *
 * It is NOT about finding it at once: see double_free_full.c. One thread. Reaching the end of main
 * is the failure.
 */
#include "promise.h"

enum { nblocks = 20000 };

static void *blocks[nblocks];

int main(void) {
    for (int i = 0; i < nblocks; i++) {
        blocks[i] = malloc(100);
        BS_CHECK(blocks[i] != NULL, "malloc(100) gave NULL");
    }
    void *again = hide(blocks[nblocks / 2]);

    free(blocks[nblocks / 2]);
    free(again);
    /* Nothing is allocated from here on, so that the block cannot be handed out twice. */
    for (int i = 0; i < nblocks; i++) {
        if (i != nblocks / 2)
            free(blocks[i]);
    }
    dprintf(STDOUT_FILENO, "a double free went unnoticed through %d frees\n", nblocks);
    return 1;
}
