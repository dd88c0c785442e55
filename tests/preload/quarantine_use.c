/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine realloc of a block that was freed stops the process at once and says so.
 * quarantine_use.conf sets the option.
 */
#include "promise.h"

int main(void) {
    char *p = malloc(100);

    p[50] = 1;
    free(p);
    dprintf(STDOUT_FILENO, "%d\n", ((volatile char *)hide(p))[50]);
    BS_CHECK(realloc(hide(p), 5000) == NULL, "realloc returned");
    return 1;
}
