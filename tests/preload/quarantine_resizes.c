/* SPDX-License-Identifier: MIT */
/*
 * Promise: what realloc moves stays whole while searches of the quarantine watch the heap, one after the other. Two
 * threads let blocks grow from 1 to 24 MiB, each page of which has a word, and free enough for a search each time.
 *
 * What a block that was moved grew by is watched still, and what was moved is not: Linux 6.17 and later move that part of
 * it and refuse the rest when it grows on in the same search.
 */
#include "promise.h"

#include <pthread.h>

#define TIME_MS 4000
#define STEP_BYTES (4 * BS_KIB)
#define MOST_BYTES (24 * BS_MIB)
enum { NBLOCKS = 3, NSMALL = 100 };

struct owned {
    char *p;
    size_t size;
    uint64_t tag;
};

static uint64_t *word_at(const struct owned *b, size_t at) {
    return (uint64_t *)(void *)(b->p + at);
}
/* Of a block that had `from` bytes, the words that it had not as a whole. */
static void fill(struct owned *b, size_t from) {
    size_t first = from < 8 ? 0 : from - 7;
    for (size_t at = (first + STEP_BYTES - 1) / STEP_BYTES * STEP_BYTES; at + 8 <= b->size; at += STEP_BYTES)
        *word_at(b, at) = b->tag + at;
}
static void check(const struct owned *b, size_t size, const char *when) {
    for (size_t at = 0; at + 8 <= size; at += STEP_BYTES)
        BS_CHECK(*word_at(b, at) == b->tag + at, "%s, %p of %zu bytes: byte %zu is lost", when, (void *)b->p, b->size, at);
}

static void free_some(void) {
    for (size_t i = 0; i < NSMALL; i++)
        free(hide(malloc(4000)));
}

static void *work(void *arg) {
    struct owned block[NBLOCKS] = {{0}};
    uint64_t seed = (uintptr_t)arg;

    for (uint64_t end = now_ms() + TIME_MS; now_ms() < end;) {
        struct owned *b = &block[rng_below(&seed, NBLOCKS)];
        size_t before = b->size, size = before == 0 ? BS_MIB : before + rng_below(&seed, before);

        free_some();
        check(b, before, "before");
        if (size > MOST_BYTES) {
            free(b->p);
            *b = (struct owned){NULL, 0, rng_next(&seed)};
            continue;
        }
        b->p = realloc(b->p, size);
        BS_CHECK(b->p != NULL, "no memory");
        b->size = size;
        check(b, before, "resized");
        fill(b, before);
    }
    for (size_t i = 0; i < NBLOCKS; i++)
        free(block[i].p);
    return NULL;
}

int main(void) {
    pthread_t thread[2];

    for (uintptr_t i = 0; i < 2; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, work, (void *)(i + 1)) == 0, "no thread");
    for (size_t i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    return 0;
}
