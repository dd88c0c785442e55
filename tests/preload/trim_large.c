/* SPDX-License-Identifier: MIT */
/*
 * Promise: large frees give memory back. After 1 GiB was used as one block, as 1 MiB blocks, and as
 * blocks that realloc moved, and was freed, resident memory is near the start after malloc_trim(0).
 *
 * It is NOT about small blocks: see trim_answer.c and background_return.c. One thread; skipped
 * where less than 1.5 GiB of memory are available.
 */
#include "promise.h"

#include <malloc.h>

enum { nblocks = 1024 };

static void *blocks[nblocks];

static void expect_back(size_t before, const char *what) {
    size_t full = rss_bytes();

    malloc_trim(0);
    size_t after = rss_bytes();

    BS_CHECK(after < before + 16 * BS_MIB, "%s: RSS %zu before, %zu after free, %zu after trim",
             what, before, full, after);
}

static size_t available_bytes(void) {
    return (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

int main(void) {
    if (available_bytes() < 1536 * BS_MIB)
        promise_skip("only %zu MiB of memory are free", available_bytes() / BS_MIB);
    size_t before = rss_bytes();
    void *p = malloc(1024 * BS_MIB);

    BS_CHECK(p != NULL, "malloc(1 GiB) gave NULL");
    memset(p, 1, 1024 * BS_MIB);
    BS_CHECK(rss_bytes() > before + 1000 * BS_MIB, "1 GiB was written, RSS is %zu", rss_bytes());
    free(p);
    expect_back(before, "one block of 1 GiB");

    for (int i = 0; i < nblocks; i++) {
        blocks[i] = malloc(BS_MIB);
        BS_CHECK(blocks[i] != NULL, "malloc(1 MiB) gave NULL");
        memset(blocks[i], 1, BS_MIB);
    }
    for (int i = 0; i < nblocks; i++)
        free(blocks[i]);
    expect_back(before, "1024 blocks of 1 MiB");

    for (size_t size = BS_MIB; size <= 512 * BS_MIB; size *= 2) {
        p = realloc(size == BS_MIB ? NULL : p, size);
        BS_CHECK(p != NULL, "realloc to %zu gave NULL", size);
        memset(p, 1, size);
    }
    free(p);
    expect_back(before, "a block that grew to 512 MiB");
    return 0;
}
