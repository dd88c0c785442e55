/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine the second free of a block stops the process at once, however many
 * blocks were allocated and freed between the two. quarantine_double_free.conf sets the option.
 */
#include "promise.h"

int main(void) {
    void *p = malloc(100);

    free(p);
    for (int i = 0; i < 100000; i++)
        free(hide(malloc(100)));
    dprintf(STDOUT_FILENO, "freed once\n");
    free(hide(p));
    dprintf(STDOUT_FILENO, "the second free returned\n");
    return 1;
}
