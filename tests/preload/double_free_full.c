/* SPDX-License-Identifier: MIT */
/*
 * Promise: with check:full the second free of a block stops the process at once, with SIGABRT and
 * a line that says `double free`. double_free_full.conf sets the option.
 *
 * One thread. The line printed on stdout before the wrong free shows how far the program came;
 * returning from that free is the failure.
 */
#include "promise.h"

int main(void) {
    void *neighbour = malloc(100), *p = malloc(100);

    BS_CHECK(p != NULL && neighbour != NULL, "malloc(100) gave NULL");
    free(p);
    dprintf(STDOUT_FILENO, "freed once\n");
    free(hide(p));
    dprintf(STDOUT_FILENO, "the second free returned\n");
    return 1;
}
