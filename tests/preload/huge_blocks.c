/* SPDX-License-Identifier: MIT */
/*
 * Promise: blocks of many arenas work: they are made, grown, cut inside an arena and freed, their
 * addresses are used again for small blocks, and a block that is hardly touched costs hardly any
 * memory, besom's tables included.
 */
#include "promise.h"

#include <malloc.h>

enum { nsmall = 20000 };

static void use_small_blocks(void) {
    static char *small[nsmall];
    for (int i = 0; i < nsmall; i++) {
        size_t size = 16 + (size_t)i % 3000;
        small[i] = malloc(size);
        BS_CHECK(small[i] != NULL, "malloc(%zu) gave NULL", size);
        memset(small[i], i, size);
    }
    for (int i = 0; i < nsmall; i++) {
        BS_CHECK(malloc_usable_size(small[i]) >= 16 + (size_t)i % 3000, "block %d is unknown", i);
        BS_CHECK(small[i][0] == (char)i, "block %d was overwritten", i);
        free(small[i]);
    }
}

int main(void) {
    const size_t gib = 1024 * BS_MIB;
    BS_CHECK(promise_owns("realloc"), "realloc comes from elsewhere");
    size_t before = rss_bytes();
    char *p = malloc(8 * gib);
    BS_CHECK(p != NULL, "8 GiB of address space refused");
    p[0] = 1;
    p[8 * gib - 1] = 2;
    size_t cost = rss_bytes() - before;
    BS_CHECK(cost < 4 * BS_MIB, "8 GiB of which two bytes are used cost %zu bytes", cost);
    BS_CHECK(malloc_usable_size(p) >= 8 * gib, "its usable size is %zu", malloc_usable_size(p));

    /* cut in the middle of an arena, at an arena's edge, and down to a part of one */
    const size_t cuts[] = {5 * gib + 17 * BS_MIB, 3 * gib, 1 * gib + 40 * 1024, 40 * BS_MIB};
    for (unsigned i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        p = realloc(p, cuts[i]);
        BS_CHECK(p != NULL && p[0] == 1, "cut to %zu bytes: content lost", cuts[i]);
        BS_CHECK(malloc_usable_size(p) >= cuts[i], "cut to %zu: size unknown", cuts[i]);
        use_small_blocks();
        char *q = malloc(300 * BS_MIB);
        BS_CHECK(q != NULL && q != p, "no second block");
        q[299 * BS_MIB] = 3;
        free(q);
    }
    p = realloc(p, 2 * gib);
    BS_CHECK(p != NULL && p[0] == 1, "grown to 2 GiB: content lost");
    free(p);
    use_small_blocks();
    return 0;
}
