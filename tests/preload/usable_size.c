/* SPDX-License-Identifier: MIT */
/*
 * Promise: malloc_usable_size is at least the request, and every byte it counts belongs to the
 * block: programs write there. Neighbours are filled to their last usable byte and must stay
 * whole. malloc_usable_size(NULL) is 0.
 *
 * It is NOT a bound on waste. One thread.
 */
#include "promise.h"

#include <malloc.h>

enum { nblocks = 64 };

static void check_size(size_t size) {
    void *blocks[nblocks];
    size_t n = size <= 40000 ? nblocks : 4;

    for (size_t i = 0; i < n; i++) {
        blocks[i] = i % 3 == 0 ? calloc(1, size) : i % 3 == 1 ? malloc(size) : memalign(64, size);
        BS_CHECK(blocks[i] != NULL, "no block of %zu bytes", size);
        BS_CHECK(malloc_usable_size(blocks[i]) >= size, "%zu usable bytes of %zu",
                 malloc_usable_size(blocks[i]), size);
        pattern_fill(blocks[i], malloc_usable_size(blocks[i]), size * 1000 + i);
    }
    for (size_t i = 0; i < n; i++) {
        BS_CHECK_PATTERN(blocks[i], malloc_usable_size(blocks[i]), size * 1000 + i);
        free(blocks[i]);
    }
}

int main(void) {
    BS_CHECK(malloc_usable_size(hide(NULL)) == 0, "malloc_usable_size(NULL) is not 0");
    for (size_t size = 0; size <= 4200; size++)
        check_size(size);
    for (size_t size = 4200; size <= 80000; size += 509)
        check_size(size);
    for (size_t size = 80000; size <= 40 * BS_MIB; size += size / 2 + 1)
        check_size(size);
    return 0;
}
