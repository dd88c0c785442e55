/* SPDX-License-Identifier: MIT */
/*
 * Promise: with check:full the free of a pointer into the middle of a small block stops the
 * process at once, with SIGABRT and a line that says `invalid free`.
 *
 * One thread. Returning from that free is the failure.
 */
#include "promise.h"

int main(void) {
    char *p = malloc(256);

    BS_CHECK(p != NULL, "malloc(256) gave NULL");
    dprintf(STDOUT_FILENO, "allocated\n");
    free(hide(p + 16));
    dprintf(STDOUT_FILENO, "the invalid free returned\n");
    return 1;
}
