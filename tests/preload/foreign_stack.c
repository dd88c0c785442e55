/* SPDX-License-Identifier: MIT */
/*
 * Promise: free of an address on the stack is ignored: one line on stderr that says `foreign`, and
 * the program goes on with a whole heap and its errno.
 *
 * It is NOT about pointers into the heap: see invalid_free.c. One thread.
 */
#include "promise.h"

int main(void) {
    char on_stack[64];
    void *p = malloc(100);

    BS_CHECK(p != NULL, "malloc(100) gave NULL");
    pattern_fill(p, 100, 1);
    errno = EXDEV;
    free(hide(on_stack + 16));
    BS_CHECK(errno == EXDEV, "free of a foreign pointer set errno to %d", errno);
    BS_CHECK_PATTERN(p, 100, 1);
    free(p);
    p = malloc(100);
    BS_CHECK(p != NULL, "malloc(100) after a foreign free gave NULL");
    free(p);
    return 0;
}
