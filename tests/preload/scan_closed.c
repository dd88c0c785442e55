/* SPDX-License-Identifier: MIT */
/*
 * Promise: a scan for leaks passes over whole pages of blocks that the program has closed by mprotect, and
 * sees pointers beside them. scan_closed.conf has one made at the end.
 */
#include "promise.h"

#include <sys/mman.h>

#define PAGE 4096
static char *kept[2];

int main(void) {
    static const size_t sizes[] = {4 * PAGE, 300 * PAGE};
    for (size_t k = 0; k < 2; k++) {
        kept[k] = aligned_alloc(PAGE, sizes[k]);
        BS_CHECK(kept[k] != NULL, "no memory");
        memset(kept[k], 1, sizes[k]);
        *(void **)(void *)(kept[k] + 2 * PAGE) = malloc(1234);
        BS_CHECK(mprotect(kept[k] + PAGE, PAGE, PROT_NONE) == 0, "mprotect");
    }
    return 0;
}
