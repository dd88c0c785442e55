/* SPDX-License-Identifier: MIT */
/*
 * Promise: the number of mappings stays far below vm.max_map_count (65530), whatever blocks are
 * moved by page tables: such a block may have two mappings of its own, and there are at most 4096;
 * when they are freed the mappings merge again.
 *
 * 6000 blocks of 1 MiB with neighbours that keep them from growing in place are made larger. They
 * are hardly touched, so this needs address space, not memory.
 */
#include "promise.h"

enum { nblocks = 6000, budget = 2 * 4096 + 300 };

static char *block[nblocks], *wall[nblocks];

static int mappings(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    int lines = 0, c;
    BS_CHECK(maps != NULL, "/proc/self/maps cannot be read");
    while ((c = getc(maps)) != EOF)
        lines += c == '\n';
    fclose(maps);
    return lines;
}

int main(void) {
    BS_CHECK(promise_owns("realloc"), "realloc comes from elsewhere");
    int before = mappings(), most = 0;
    for (int i = 0; i < nblocks; i++) {
        block[i] = malloc(1 * BS_MIB);
        wall[i] = malloc(40 * 1024);
        BS_CHECK(block[i] != NULL && wall[i] != NULL, "block %d: no memory", i);
        block[i][0] = (char)i;
    }
    for (int i = 0; i < nblocks; i++) {
        char *larger = realloc(block[i], 3 * BS_MIB / 2);
        BS_CHECK(larger != NULL, "realloc of block %d gave NULL", i);
        BS_CHECK(larger[0] == (char)i, "block %d lost its content", i);
        block[i] = larger;
    }
    most = mappings();
    for (int i = 0; i < nblocks; i++) {
        free(block[i]);
        free(wall[i]);
    }
    int after = mappings();
    BS_CHECK(most <= before + budget, "%d mappings, %d before the blocks moved", most, before);
    BS_CHECK(after <= before + 100, "%d mappings after all was freed, %d before", after, before);
    return 0;
}
