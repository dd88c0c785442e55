/* SPDX-License-Identifier: MIT */
/*
 * Promise: realloc and reallocarray behave as glibc's do at the edges. realloc(NULL, n) is
 * malloc(n); realloc(p, 0) frees and gives NULL; realloc(NULL, 0) gives a block; a request that
 * cannot be met gives NULL with ENOMEM and leaves the old block whole; reallocarray checks the
 * product. What malloc_usable_size says is the program's: realloc keeps all of it.
 *
 * It is NOT about growing well: see realloc_ladder.c. One thread.
 */
#include "promise.h"

#include <malloc.h>

static void check_null_and_zero(void) {
    void *p = realloc(hide(NULL), 100);

    BS_CHECK(p != NULL, "realloc(NULL, 100) gave NULL");
    pattern_fill(p, 100, 1);
    void *q = realloc(hide(NULL), hide_size(0));

    BS_CHECK(q != NULL && q != p, "realloc(NULL, 0) gave %p", q);
    free(q);
    BS_CHECK_PATTERN(p, 100, 1);
    errno = EXDEV;
    q = realloc(p, hide_size(0));
    BS_CHECK(q == NULL, "realloc(p, 0) gave %p", q);
    p = realloc(hide(NULL), 3 * BS_MIB);
    BS_CHECK(p != NULL, "realloc(NULL, 3 MiB) gave NULL");
    q = realloc(p, hide_size(0));
    BS_CHECK(q == NULL, "realloc(large, 0) gave %p", q);
}

/* If realloc(p, 0) leaked, this would grow by 800 MB. */
static void check_zero_frees(void) {
    size_t before = rss_bytes();

    for (int i = 0; i < 200000; i++) {
        char *p = malloc(4000);

        BS_CHECK(p != NULL, "malloc(4000) number %d gave NULL", i);
        memset(p, 1, 4000);
        BS_CHECK(realloc(p, hide_size(0)) == NULL, "realloc(p, 0) gave a block");
    }
    BS_CHECK(rss_bytes() < before + 100 * BS_MIB, "realloc(p, 0) does not free: RSS %zu to %zu",
             before, rss_bytes());
}

static void check_failure_keeps_block(size_t size) {
    void *p = malloc(size);

    BS_CHECK(p != NULL, "malloc(%zu) gave NULL", size);
    pattern_fill(p, size, size);
    static const size_t wanted[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX, SIZE_MAX - 4096,
                                    (size_t)PTRDIFF_MAX};

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        errno = 0;
        void *q = realloc(p, hide_size(wanted[i]));

        BS_CHECK(q == NULL && errno == ENOMEM, "realloc(p, %#zx) gave %p, errno %d", wanted[i], q,
                 errno);
        BS_CHECK(malloc_usable_size(p) >= size, "the old block shrank to %zu",
                 malloc_usable_size(p));
        BS_CHECK_PATTERN(p, size, size);
    }
    free(p);
}

static void check_reallocarray(void) {
    void *p = reallocarray(NULL, 100, 10);

    BS_CHECK(p != NULL, "reallocarray(NULL, 100, 10) gave NULL");
    pattern_fill(p, 1000, 7);
    errno = 0;
    void *q = reallocarray(p, hide_size(SIZE_MAX / 2), 3);

    BS_CHECK(q == NULL && errno == ENOMEM, "overflow gave %p, errno %d", q, errno);
    errno = 0;
    q = reallocarray(p, hide_size((size_t)1 << 32), (size_t)1 << 32);
    BS_CHECK(q == NULL && errno == ENOMEM, "a product of 0 by overflow gave %p, errno %d", q,
             errno);
    BS_CHECK_PATTERN(p, 1000, 7);
    p = reallocarray(p, 1000, 10);
    BS_CHECK(p != NULL && malloc_usable_size(p) >= 10000, "reallocarray(p, 1000, 10) gave %p", p);
    BS_CHECK_PATTERN(p, 1000, 7);
    free(p);
}

/* From a block of one kind to one of another, and on the way to it. */
static void check_usable_is_kept(size_t align, size_t from, size_t to) {
    void *p = align != 0 ? memalign(align, from) : malloc(from);
    size_t usable = malloc_usable_size(p);

    pattern_fill(p, usable, from);
    void *behind = malloc(usable); /* most likely: then it cannot grow where it is */
    void *q = realloc(p, to);

    BS_CHECK(q != NULL && behind != NULL, "no memory");
    BS_CHECK_PATTERN(q, usable < to ? usable : to, from);
    free(behind);
    free(q);
}

static void check_usable(void) {
    static const size_t sizes[] = {1, 100, 1025, 20000, 32768, 32769, 33000, 60000, 200001, 2 * BS_MIB + 1};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++) {
            check_usable_is_kept(0, sizes[i], sizes[j]);
            check_usable_is_kept(0, sizes[i], 3 * sizes[j]);
            check_usable_is_kept(16384, sizes[i], sizes[j]);
        }
}

int main(void) {
    check_usable();
    check_null_and_zero();
    check_zero_frees();
    check_failure_keeps_block(1);
    check_failure_keeps_block(100);
    check_failure_keeps_block(40000);
    check_failure_keeps_block(5 * BS_MIB);
    check_reallocarray();
    return 0;
}
