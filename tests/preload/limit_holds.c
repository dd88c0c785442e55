/* SPDX-License-Identifier: MIT */
/*
 * Promise: under limit:300M a program with 200 MiB live that leaves 600 MiB of free memory behind,
 * in holes that nothing it asks for fits in, stays under the limit at every moment.
 *
 * Blocks of 1 MiB are written and, when the next one lies behind, cut to 40 KiB: each leaves a hole
 * too small for any other.
 * tests/scripts/cgroup.sh runs the same program in a memory cgroup, where a malloc that keeps the
 * holes is killed. The first block freed makes glibc take the others from its heap, too.
 */
#include "promise.h"

#include <malloc.h>

enum { ballast = 176, pieces = 600 };

int main(int argc, char **argv) {
    size_t limit = argc > 1 ? (size_t)atoi(argv[1]) * BS_MIB : 300 * BS_MIB, most = 0, at = 0;
    static char *live[ballast], *cut[pieces];
    free(malloc(2 * BS_MIB));
    for (int i = 0; i < ballast; i++) {
        live[i] = malloc(BS_MIB);
        BS_CHECK(live[i] != NULL, "malloc gave NULL");
        memset(live[i], i, BS_MIB);
    }
    for (int i = 0; i < pieces; i++) {
        char *p = malloc(BS_MIB);
        BS_CHECK(p != NULL, "malloc gave NULL");
        memset(p, i, BS_MIB);
        size_t rss = rss_bytes();
        if (rss > most)
            most = rss, at = (size_t)i;
        cut[i] = p;
        p = i > 0 ? realloc(cut[i - 1], 40 * BS_KIB) : NULL;
        BS_CHECK(i == 0 || p != NULL, "realloc gave NULL");
        if (i > 0)
            cut[i - 1] = p;
    }
    for (int i = 0; i < pieces; i++)
        BS_CHECK(cut[i][0] == (char)i && cut[i][40 * BS_KIB - 1] == (char)i, "block %d changed", i);
    for (int i = 0; i < ballast; i++)
        BS_CHECK(live[i][0] == (char)i && live[i][BS_MIB - 1] == (char)i, "block %d changed", i);
    printf("RSS was %zu MiB at most, in step %zu\n", most / BS_MIB, at);
    BS_CHECK(most <= limit, "RSS was %zu KiB in step %zu, the limit is %zu KiB", most / BS_KIB, at,
             limit / BS_KIB);
    return 0;
}
