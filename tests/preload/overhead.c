/* SPDX-License-Identifier: MIT */
/*
 * Promise: with overhead:20% what is free stays under a fifth of what is live, while the program
 * goes on working, and although scavenge_delay keeps the recent peak for an hour.
 *
 * 100 MiB stay live in small blocks, 200 MiB are freed, then the program takes and gives a little
 * every 5 ms, so that its heap is never idle. The helper has its share of a CPU only, and on a busy machine
 * little of that: the bound has to be met within a minute and a half.
 */
#include "promise.h"

#include <unistd.h>

enum { live_blocks = 25600, other_blocks = 51200, size = 4096 };

static void *live[live_blocks], *other[other_blocks];

static void fill(void **block, int n) {
    for (int i = 0; i < n; i++) {
        block[i] = malloc(size);
        BS_CHECK(block[i] != NULL, "malloc gave NULL");
        memset(block[i], 1, size);
    }
}

static void work_a_little(void) {
    void *p = malloc(100000);
    BS_CHECK(p != NULL, "malloc gave NULL");
    memset(p, 1, 100000);
    free(p);
    usleep(5000);
}

int main(void) {
    size_t before = rss_bytes(), after = 0, held = (size_t)live_blocks * size;
    fill(live, live_blocks);
    fill(other, other_blocks);
    size_t full = rss_bytes() - before;
    BS_CHECK(full >= held * 3, "300 MiB were written, RSS rose by %zu", full);
    for (int i = 0; i < other_blocks; i++)
        free(other[i]);
    uint64_t start_ms = now_ms();
    for (int i = 0; i < 4000 || now_ms() - start_ms < 90000; i++) {
        work_a_little();
        after = rss_bytes() - before;
        if (i % 100 == 99 && after < held + held / 5 + 4 * BS_MIB)
            return 0;
    }
    BS_CHECK(false, "RSS is %zu MiB over the start with 100 MiB live", after / BS_MIB);
}
