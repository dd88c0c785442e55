/* SPDX-License-Identifier: MIT */
/*
 * Promise: with foreign:abort the free of a pointer that is not the library's stops the process
 * with SIGABRT and one line that says `foreign`.
 *
 * One thread. Returning from that free is the failure.
 */
#include "promise.h"

int main(void) {
    static char in_data[64];

    dprintf(STDOUT_FILENO, "started\n");
    free(hide(in_data + 16));
    dprintf(STDOUT_FILENO, "the foreign free returned\n");
    return 1;
}
