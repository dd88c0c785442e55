/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine under a hard limit nothing is refused because of blocks that are held back
 * and that nobody points to: 2 GB pass through 64 MiB in large blocks, and in small ones, as fast as they
 * can. quarantine_limit_hard.conf sets the options.
 */
#include "promise.h"

static unsigned __attribute__((noinline)) refused_of(unsigned n, size_t size, unsigned alive) {
    static void *block[2000];
    unsigned refused = 0;
    for (unsigned i = 0; i < n; i++) {
        void **place = &block[i % alive];
        free(*place);
        *place = NULL;
        *place = malloc(size);
        refused += *place == NULL;
        if (*place != NULL)
            memset(*place, 1, size);
    }
    for (unsigned i = 0; i < alive; i++) {
        free(block[i]);
        block[i] = NULL;
    }
    return refused;
}

int main(void) {
    unsigned large = refused_of(200, 10 * BS_MIB, 1), some = refused_of(400, 5 * BS_MIB, 5),
             small = refused_of(500000, 4000, 2000), odd = refused_of(20000, 100000, 100);

    BS_CHECK(large + some + small + odd == 0, "refused: %u of 10 MiB, %u of 5 MiB, %u of 4000, %u of 100000 bytes",
             large, some, small, odd);
    return 0;
}
