/* SPDX-License-Identifier: MIT */
/*
 * Promise: calloc checks the product for overflow and hands out zeros only. Every pair whose
 * product does not fit gives NULL with ENOMEM; a factor of zero gives a block that can be freed;
 * whatever the block's memory was before (never used, dirty, given back and taken again, dirtied
 * by another thread) it reads as zero, for sizes from 1 byte to 64 MiB.
 *
 * It is NOT a benchmark of clearing; it must fail when a zeroed watermark is believed that a dirty
 * reuse has crossed. Two threads, one after the other.
 */
#include "promise.h"

#include <malloc.h>
#include <pthread.h>

static void check_overflow(void) {
    static const size_t pairs[][2] = {
        {SIZE_MAX, 2},
        {2, SIZE_MAX},
        {SIZE_MAX, SIZE_MAX},
        {SIZE_MAX / 2 + 1, 2},
        {(size_t)1 << 32, (size_t)1 << 32},
        {((size_t)1 << 32) + 1, ((size_t)1 << 32) - 1},
        {3, SIZE_MAX / 3 + 1},
        {(size_t)PTRDIFF_MAX, 2},
        {1, (size_t)PTRDIFF_MAX + 1},
        {SIZE_MAX, 1},
    };

    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        errno = 0;
        void *p = calloc(hide_size(pairs[i][0]), hide_size(pairs[i][1]));

        BS_CHECK(p == NULL, "calloc(%#zx, %#zx) gave %p", pairs[i][0], pairs[i][1], p);
        BS_CHECK(errno == ENOMEM, "calloc(%#zx, %#zx) set errno to %d", pairs[i][0], pairs[i][1],
                 errno);
    }
}

static void check_zero_factor(void) {
    void *a = calloc(hide_size(0), 8), *b = calloc(8, hide_size(0));
    void *c = calloc(hide_size(0), hide_size(SIZE_MAX));

    BS_CHECK(a != NULL && b != NULL && c != NULL && a != b && b != c && a != c,
             "calloc with a factor 0 gave %p, %p, %p", a, b, c);
    free(a);
    free(b);
    free(c);
}

static size_t count_for(size_t size) {
    size_t n = 2 * BS_MIB / size;

    return n > 300 ? 300 : n < 1 ? 1 : n;
}

/* Leaves the memory of several blocks of this size dirty and free. */
static void dirty(size_t size) {
    void *blocks[300];
    size_t n = count_for(size);

    for (size_t i = 0; i < n; i++) {
        blocks[i] = malloc(size);
        BS_CHECK(blocks[i] != NULL, "malloc(%zu) gave NULL", size);
        memset(blocks[i], 0xa5, malloc_usable_size(blocks[i]));
    }
    for (size_t i = 0; i < n; i++)
        free(blocks[i]);
}

static void expect_zero(size_t size) {
    void *blocks[300];
    size_t n = count_for(size);

    for (size_t i = 0; i < n; i++) {
        blocks[i] = calloc(1, size);
        BS_CHECK(blocks[i] != NULL, "calloc(1, %zu) gave NULL", size);
        BS_CHECK_ZERO(blocks[i], size);
        memset(blocks[i], 0x5a, size);
    }
    for (size_t i = 0; i < n; i++)
        free(blocks[i]);
}

static void *dirty_in_thread(void *size) {
    dirty(*(size_t *)size);
    return NULL;
}

static void check_size(size_t size) {
    pthread_t thread;

    expect_zero(size);
    dirty(size);
    expect_zero(size);
    dirty(size / 3 + 1);
    dirty(size < 4 * BS_MIB ? size * 2 : size);
    expect_zero(size);
    BS_CHECK(pthread_create(&thread, NULL, dirty_in_thread, &size) == 0, "no thread");
    pthread_join(thread, NULL);
    expect_zero(size);
    malloc_trim(0);
    expect_zero(size);
}

int main(void) {
    check_overflow();
    check_zero_factor();
    for (size_t size = 1; size <= 64 * BS_MIB; size *= 2) {
        check_size(size);
        if (size > 2 && size <= 4 * BS_MIB) {
            check_size(size - 1);
            check_size(size + size / 2 + 1);
        }
    }
    return 0;
}
