/* SPDX-License-Identifier: MIT */
/*
 * Promise: with check:full the free of a pointer into the middle of a large block, on a page that
 * is not its first, stops the process with SIGABRT and a line that says `invalid free`.
 *
 * One thread. Returning from that free is the failure.
 */
#include "promise.h"

int main(void) {
    char *p = malloc(BS_MIB);

    BS_CHECK(p != NULL, "malloc(1 MiB) gave NULL");
    memset(p, 1, BS_MIB);
    dprintf(STDOUT_FILENO, "allocated\n");
    free(hide(p + BS_MIB / 2));
    dprintf(STDOUT_FILENO, "the invalid free returned\n");
    return 1;
}
