/* SPDX-License-Identifier: MIT */
/*
 * Promise: besom's heap does not lie where programs are known to map memory at fixed addresses, over whatever is there or
 * failing if something is.
 */
#include "promise.h"

#include <inttypes.h>

static const struct {
    const char *whose;
    uint64_t start, end;
} taken[] = {
    {"SBCL", 0x1000000000, 0x4000000000},
    {"GHC", 0x4200000000, 0x14200000000},
    {"Go", 0xc000000000, 0x10000000000},
    {"Java's ZGC", 0x040000000000, 0x140000000000},
    {"clisp", 0x100000000000, 0x200000000000},
    {"Clozure CL", 0x300000000000, 0x310000000000},
};

int main(void) {
    enum { nblocks = 100, block_bytes = 1 << 20 }; /* more than one arena */
    char line[512];
    uint64_t first = UINT64_MAX, last = 0;
    for (size_t i = 0; i < nblocks; i++) {
        uint64_t at = (uintptr_t)malloc(block_bytes);
        BS_CHECK(at != 0, "malloc");
        first = at < first ? at : first;
        last = at > last ? at : last;
    }
    FILE *maps = fopen("/proc/self/maps", "r");
    BS_CHECK(maps != NULL, "no /proc/self/maps");
    while (fgets(line, sizeof line, maps) != NULL) {
        uint64_t start, end;
        BS_CHECK(sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2, "a line of maps: %s", line);
        for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
            BS_CHECK(end <= taken[i].start || start >= taken[i].end, "%s is there where %s maps its memory, the heap from %#"
                     PRIx64 " to %#" PRIx64, line, taken[i].whose, first, last);
    }
    fclose(maps);
    return 0;
}
