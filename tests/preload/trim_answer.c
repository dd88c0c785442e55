/* SPDX-License-Identifier: MIT */
/*
 * Promise: malloc_trim answers 1 only when pages came back to the OS, and then resident memory
 * fell; a second call right after it has nothing to give and answers 0.
 *
 * It is NOT about the background scavenger, which waits before it returns pages: the frees and the
 * trim follow one another at once. One thread.
 */
#include "promise.h"

#include <malloc.h>

enum { nblocks = 64000 };

static void *blocks[nblocks];

/* M_PURGE and M_PURGE_ALL of Android. */
static void purge(int param) {
    void *p = malloc(64 * BS_MIB);
    BS_CHECK(p != NULL, "malloc(64 MiB) gave NULL");
    memset(p, 1, 64 * BS_MIB);
    size_t full = rss_bytes();
    free(p);
    BS_CHECK(mallopt(param, 0) == 1, "mallopt(%d) is not known", param);
    BS_CHECK(rss_bytes() + 60 * BS_MIB < full, "mallopt(%d): RSS fell from %zu to %zu only", param,
             full, rss_bytes());
}

int main(void) {
    BS_CHECK(promise_owns("malloc_trim"), "malloc_trim comes from elsewhere");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < nblocks; i++) {
            blocks[i] = malloc(1024);
            BS_CHECK(blocks[i] != NULL, "malloc(1024) gave NULL");
            memset(blocks[i], 1, 1024);
        }
        size_t full = rss_bytes();

        for (int i = 0; i < nblocks; i++)
            free(blocks[i]);
        int first = malloc_trim(0);
        size_t trimmed = rss_bytes();
        int second = malloc_trim(0);

        BS_CHECK(first == 1, "malloc_trim after freeing 62 MiB says %d", first);
        BS_CHECK(trimmed + 50 * BS_MIB < full, "RSS fell from %zu to %zu only", full, trimmed);
        BS_CHECK(second == 0, "a second malloc_trim says %d, RSS %zu to %zu", second, trimmed,
                 rss_bytes());
    }
    purge(-101);
    purge(-104);
    return 0;
}
