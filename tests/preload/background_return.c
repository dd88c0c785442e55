/* SPDX-License-Identifier: MIT */
/*
 * Promise: memory goes back to the OS by itself. After 200 MB of small blocks of mixed sizes were
 * freed, resident memory falls by more than half while the program only sleeps: no call enters the
 * allocator. That takes two seconds or three; a busy machine has a minute.
 *
 * Skipped with background:off, where the work is done at calls. One thread of its own.
 */
#include "promise.h"

enum { nblocks = 260000, limit_ms = 60000 };

static void *blocks[nblocks];

int main(void) {
    const char *conf = getenv("BESOM_CONF");
    uint64_t seed = 5, start_ms;
    size_t total = 0, before = rss_bytes(), full, now;

    if (conf != NULL && (strstr(conf, "background:off") || strstr(conf, "scavenge:off")))
        promise_skip("BESOM_CONF=%s turns the background work off", conf);
    for (int i = 0; i < nblocks; i++) {
        size_t size = 16 + rng_below(&seed, i % 100 == 0 ? 20000 : 1400);

        blocks[i] = malloc(size);
        BS_CHECK(blocks[i] != NULL, "malloc(%zu) gave NULL", size);
        memset(blocks[i], 1, size);
        total += size;
    }
    full = rss_bytes();
    BS_CHECK(full > before + total / 10 * 9, "%zu bytes were written, RSS is %zu", total, full);
    for (int i = 0; i < nblocks; i++)
        free(blocks[i]);
    start_ms = now_ms();
    do {
        sleep_ms(100);
        now = rss_bytes();
    } while (now > before + (full - before) / 2 && now_ms() - start_ms < limit_ms);
    dprintf(STDOUT_FILENO, "RSS %zu MiB before, %zu full, %zu after %llu ms of sleep\n",
            before / BS_MIB, full / BS_MIB, now / BS_MIB,
            (unsigned long long)(now_ms() - start_ms));
    BS_CHECK(now <= before + (full - before) / 2, "RSS fell from %zu to %zu only", full, now);
    return 0;
}
