/* SPDX-License-Identifier: MIT */
/*
 * Promise: free of an address that the program mapped itself is ignored with one line on stderr
 * that says `foreign`; the mapping and its contents stay, and the program goes on.
 *
 * The address lies inside a mapping as large as an arena, aligned like one. One thread.
 */
#include "promise.h"

#include <sys/mman.h>

int main(void) {
    size_t size = 192 * BS_MIB;
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *p = malloc(1000);

    BS_CHECK(map != MAP_FAILED && p != NULL, "no memory");
    char *inside = (char *)(((uintptr_t)map + 64 * BS_MIB) & ~(uintptr_t)(64 * BS_MIB - 1));

    pattern_fill(inside, 8192, 1);
    free(hide(inside));
    BS_CHECK_PATTERN(inside, 8192, 1);
    free(p);
    p = malloc(1000);
    BS_CHECK(p != NULL, "malloc(1000) after a foreign free gave NULL");
    free(p);
    return munmap(map, size);
}
