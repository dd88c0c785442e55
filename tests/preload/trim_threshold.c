/* SPDX-License-Identifier: MIT */
/*
 * Promise: mallopt(M_TRIM_THRESHOLD, n) lets n bytes lie free, also of a block that would go back to the OS when it is
 * freed; -1 any number. Other negative numbers are refused, and mallinfo2 tells what lies there.
 *
 * limit:off, since the limit comes before what is kept. One thread.
 */
#include "promise.h"

#include <malloc.h>

#define BLOCK (64 * BS_MIB)

static void use_and_free(void) {
    void *p = malloc(BLOCK);
    BS_CHECK(p != NULL, "malloc(64 MiB) gave NULL");
    memset(p, 1, BLOCK);
    free(p);
}

static void expect_kept(int threshold, bool kept) {
    size_t before = rss_bytes();
    BS_CHECK(mallopt(M_TRIM_THRESHOLD, threshold) == 1, "the threshold %d is refused", threshold);
    use_and_free();
    size_t rss = rss_bytes(), free_bytes = mallinfo2().keepcost;
    BS_CHECK((rss >= before + BLOCK / 16 * 15) == kept, "%d: RSS %zu before, %zu after", threshold, before, rss);
    BS_CHECK((free_bytes >= BLOCK) == kept, "%d: keepcost is %zu", threshold, free_bytes);
    (void)malloc_trim(0);
    BS_CHECK(rss_bytes() < before + BLOCK / 16, "%d: RSS %zu before, %zu after malloc_trim", threshold, before, rss_bytes());
}

int main(void) {
    BS_CHECK(promise_owns("mallopt"), "mallopt comes from elsewhere");
    void *small = malloc(100);
    BS_CHECK(mallinfo2().ordblks != 0, "a block is in no span");
    free(small);
    (void)malloc_trim(0);
    expect_kept(0, false);
    expect_kept(-1, true);
    BS_CHECK(mallopt(M_TRIM_THRESHOLD, -2) == 0, "-2 is no threshold");
    expect_kept((int)(BLOCK / 2), false);
    expect_kept((int)(BLOCK * 2), true);
    return 0;
}
