/* SPDX-License-Identifier: MIT */
/*
 * micro_cache.c - A cache with eviction: 64 MiB of values of 64 B to 16 KiB, least recently used
 * first out. Keys are looked up by a popularity that drifts; a value that is not there is
 * allocated, and as many old ones freed as it takes to be below 64 MiB. In steady state the blocks
 * freed have other sizes than those wanted, so memory beyond 64 MiB is fragmentation. About two of
 * five look-ups are hits.
 *
 * The table of keys is mapped memory; list and value are in the block, as in real caches.
 *
 * Called by micro.c, one thread. An operation is one look-up.
 */
#include "bench.h"

#define CACHE_BYTES (64 * BS_BENCH_MIB)
#define NKEYS 400000u
#define DRIFT_OPS 16u /* look-ups until the most popular key is the next one */
#define VALUE_LO_BYTES 64u
#define VALUE_OCTAVES 8u
#define CACHE_OPS 2000000u

struct entry { /* the last word of its block is size_bytes */
    struct entry *newer, *older;
    uint64_t size_bytes; /* of the block */
    uint64_t key;
};

struct cache {
    struct entry **entries; /* by key */
    struct entry *newest, *oldest;
    size_t used_bytes;
};

/* u * u * u for u in [0, 1): the first 5 % of the keys get 37 % of the look-ups. */
static uint32_t popular_key(uint32_t random, uint64_t now) {
    uint64_t square = (uint64_t)random * random >> 32;
    uint32_t cube = (uint32_t)(square * random >> 32);
    return (uint32_t)((bs_bench_below(cube, NKEYS) + now / DRIFT_OPS) % NKEYS);
}

static void check(const struct entry *entry, uint64_t key) {
    uint64_t last;
    memcpy(&last, (const char *)entry + entry->size_bytes - sizeof last, sizeof last);
    if (entry->key != key || last != entry->size_bytes)
        bs_bench_die("cache: the value of key %llu was overwritten", (unsigned long long)key);
}

static void unlink_entry(struct cache *cache, struct entry *entry) {
    *(entry->newer ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void put_first(struct cache *cache, struct entry *entry) {
    entry->newer = NULL;
    entry->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

static void evict(struct cache *cache) {
    struct entry *entry = cache->oldest;
    check(entry, entry->key);
    unlink_entry(cache, entry);
    cache->entries[entry->key] = NULL;
    cache->used_bytes -= entry->size_bytes;
    free(entry);
}

/* A key's value has always the same size. */
static void insert(struct cache *cache, uint32_t key) {
    struct bs_bench_rng rng = {key};
    size_t size_bytes = bs_bench_size((uint32_t)bs_bench_next(&rng), VALUE_LO_BYTES, VALUE_OCTAVES);
    struct entry *entry = bs_bench_need(malloc(size_bytes), size_bytes);

    bs_bench_touch_pages(entry, size_bytes);
    entry->size_bytes = size_bytes;
    entry->key = key;
    put_first(cache, entry);
    cache->entries[key] = entry;
    cache->used_bytes += size_bytes;
    while (cache->used_bytes > CACHE_BYTES)
        evict(cache);
}

static void run_cache(struct bs_bench_run *run) {
    uint64_t nops = bs_bench_scaled(run, CACHE_OPS);
    struct cache cache = {.entries = bs_bench_table(NKEYS * sizeof(struct entry *))};
    struct bs_bench_rng rng = {14};

    bs_bench_start(run);
    for (uint64_t now = 0; now < nops; now++) {
        uint32_t key = popular_key((uint32_t)bs_bench_next(&rng), now);
        struct entry *entry = cache.entries[key];
        if (entry) {
            check(entry, key);
            unlink_entry(&cache, entry);
            put_first(&cache, entry);
        } else {
            insert(&cache, key);
        }
    }
    bs_bench_stop(run, nops);
    while (cache.oldest)
        evict(&cache);
}

const struct bs_bench bs_bench_cache[] = {
    {"cache", "a cache of 64 MiB, values of 64 B to 16 KiB, least recently used out", run_cache},
    {NULL, NULL, NULL},
};
