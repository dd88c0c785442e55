/* SPDX-License-Identifier: MIT */
/*
 * Promise: every aligned entry point keeps its alignment, for all powers of two from 8 to 64 MiB
 * and sizes from 0 to 1 MiB; the blocks' contents survive other aligned blocks; plain malloc
 * aligns to 16 from 16 bytes on and to 8 below; pvalloc rounds the size up to OS pages; wrong
 * alignments are refused as POSIX says, and posix_memalign reports by its result, not by errno.
 *
 * It is NOT about C++'s aligned new: see operator_new.cc. One thread.
 */
#include "promise.h"

#include <malloc.h>

enum { nkept = 4 };

struct kept {
    void *p;
    size_t size;
};

static struct kept kept[nkept];
static size_t nth;

/* Keeps the last few blocks alive, so that neighbours with other alignments can overlap if the
 * allocator is wrong. */
static void keep(void *p, size_t size, size_t alignment, const char *by) {
    struct kept *place = &kept[nth++ % nkept];

    BS_CHECK(p != NULL, "%s: alignment %zu, size %zu gave NULL", by, alignment, size);
    BS_CHECK(is_aligned(p, alignment), "%s: %p is not aligned to %zu (size %zu)", by, p, alignment,
             size);
    BS_CHECK(malloc_usable_size(p) >= size, "%s: %zu usable bytes of %zu", by,
             malloc_usable_size(p), size);
    pattern_fill(p, size, (uint64_t)(uintptr_t)p);
    if (place->p != NULL) {
        BS_CHECK_PATTERN(place->p, place->size, (uint64_t)(uintptr_t)place->p);
        free(place->p);
    }
    place->p = p;
    place->size = size;
}

static void check_pair(size_t alignment, size_t size) {
    void *p = NULL;
    size_t multiple = (size + alignment - 1) & ~(alignment - 1);
    int err;

    errno = EXDEV;
    err = posix_memalign(&p, alignment, size);
    BS_CHECK(err == 0, "posix_memalign(%zu, %zu) says %d", alignment, size, err);
    BS_CHECK(errno == EXDEV, "posix_memalign set errno to %d", errno);
    keep(p, size, alignment, "posix_memalign");
    keep(memalign(alignment, size), size, alignment, "memalign");
    keep(aligned_alloc(alignment, size), size, alignment, "aligned_alloc");
    if (multiple <= 2 * BS_MIB)
        keep(aligned_alloc(alignment, multiple), multiple, alignment, "aligned_alloc");
}

static void check_page_forms(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t rounded = size == 0 ? page : (size + page - 1) & ~(page - 1);
    void *p = pvalloc(size);

    keep(valloc(size), size, page, "valloc");
    BS_CHECK(p != NULL && malloc_usable_size(p) >= (size == 0 ? 0 : rounded),
             "pvalloc(%zu) gave %p with %zu bytes", size, p, p ? malloc_usable_size(p) : 0);
    keep(p, size, page, "pvalloc");
}

static void check_refusals(void) {
    static const size_t bad[] = {0, 1, 2, 3, 4, 7, 12, 24, 4095, 4097, SIZE_MAX};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        void *mark = &nth, *p = mark;

        errno = EXDEV;
        int err = posix_memalign(&p, hide_size(bad[i]), 64);

        BS_CHECK(err == EINVAL, "posix_memalign with alignment %zu says %d", bad[i], err);
        BS_CHECK(errno == EXDEV, "posix_memalign set errno to %d", errno);
        BS_CHECK(p == mark, "posix_memalign wrote %p though it failed", p);
        if (bad[i] == 0 || bad[i] == SIZE_MAX)
            continue;
        /* Whether these refuse or round up differs between libcs; neither may do harm. */
        free(memalign(bad[i], 64));
        free(aligned_alloc(bad[i], 64));
    }
    void *p = NULL;
    int err = posix_memalign(&p, 64, hide_size((size_t)PTRDIFF_MAX + 1));

    BS_CHECK(err == ENOMEM, "posix_memalign of too much says %d", err);
    err = posix_memalign(&p, 4096, hide_size(SIZE_MAX - 100));
    BS_CHECK(err == ENOMEM, "posix_memalign of too much says %d", err);
    err = posix_memalign(&p, hide_size((size_t)1 << 62), 64);
    BS_CHECK(err == ENOMEM, "posix_memalign with alignment 2^62 says %d", err);
    errno = 0;
    p = memalign(64, hide_size(SIZE_MAX - 8));
    BS_CHECK(p == NULL && errno == ENOMEM, "memalign of too much gave %p, errno %d", p, errno);
    errno = 0;
    p = memalign(SIZE_MAX / 2 + 1, 8); /* a power of two, so no fault of the alignment */
    BS_CHECK(p == NULL && errno == ENOMEM, "memalign to 2^63 gave %p, errno %d", p, errno);
    errno = 0;
    p = memalign(SIZE_MAX / 2 + 2, 8);
    BS_CHECK(p == NULL && errno == EINVAL, "memalign beyond 2^63 gave %p, errno %d", p, errno);
    errno = 0;
    p = pvalloc(hide_size(SIZE_MAX - 8));
    BS_CHECK(p == NULL && errno == ENOMEM, "pvalloc of too much gave %p, errno %d", p, errno);
}

static void check_natural(void) {
    for (size_t size = 1; size <= 70000; size += size < 2048 ? 1 : 97) {
        void *two[2] = {malloc(size), calloc(1, size)};
        size_t want = size >= 16 ? 16 : 8;

        for (int i = 0; i < 2; i++) {
            BS_CHECK(two[i] != NULL && is_aligned(two[i], want),
                     "a block of %zu bytes at %p is not aligned to %zu", size, two[i], want);
            two[i] = realloc(two[i], size + 16);
            BS_CHECK(two[i] != NULL && is_aligned(two[i], 16),
                     "realloc to %zu bytes gave %p, not aligned to 16", size + 16, two[i]);
        }
        keep(two[0], size, 16, "realloc");
        keep(two[1], size, 16, "realloc");
    }
}

int main(void) {
    static const size_t sizes[] = {0,    1,    7,    8,     9,     16,     33,        100,
                                   1000, 4095, 4096, 10000, 32768, 100001, 512 << 10, 1 << 20};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t alignment = 8; alignment <= 64 * BS_MIB; alignment *= 2)
            check_pair(alignment, sizes[i]);
        check_page_forms(sizes[i]);
    }
    check_refusals();
    check_natural();
    return 0;
}
