/* SPDX-License-Identifier: MIT */
/*
 * Promise: malloc and free keep their contract at the edges. malloc(0) gives blocks that are
 * distinct and can be freed; a size above PTRDIFF_MAX gives NULL with ENOMEM; free(NULL) does
 * nothing; free keeps errno whatever it has to do inside (a magazine push, a flush of many blocks,
 * a large block that goes back to the kernel).
 *
 * It is NOT about contents or alignment: see realloc_ladder.c and alignment.c. One thread.
 */
#include "promise.h"

enum { nblocks = 20000 };

static void *blocks[nblocks];

static int compare_pointers(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

    return (x > y) - (x < y);
}

static void check_size_zero(void) {
    enum { nzero = 1000 };

    for (int i = 0; i < nzero; i++) {
        blocks[i] = malloc(hide_size(0));
        BS_CHECK(blocks[i] != NULL, "malloc(0) number %d gave NULL", i);
    }
    qsort(blocks, nzero, sizeof blocks[0], compare_pointers);
    for (int i = 1; i < nzero; i++)
        BS_CHECK(blocks[i] != blocks[i - 1], "malloc(0) gave %p twice", blocks[i]);
    for (int i = 0; i < nzero; i++)
        free(blocks[i]);
}

static void check_too_large(void) {
    static const size_t sizes[] = {(size_t)PTRDIFF_MAX + 1,
                                   (size_t)PTRDIFF_MAX + 4096,
                                   SIZE_MAX - 8192,
                                   SIZE_MAX - 4095,
                                   SIZE_MAX - 15,
                                   SIZE_MAX - 1,
                                   SIZE_MAX,
                                   (size_t)PTRDIFF_MAX};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        errno = 0;
        void *p = malloc(hide_size(sizes[i]));

        BS_CHECK(p == NULL, "malloc(%#zx) gave %p", sizes[i], p);
        BS_CHECK(errno == ENOMEM, "malloc(%#zx) set errno to %d", sizes[i], errno);
    }
    void *after = malloc(100);

    BS_CHECK(after != NULL, "malloc(100) fails after requests that are too large");
    free(after);
}

static void check_errno_kept(void) {
    static const size_t sizes[] = {1, 64, 1000, 32 * 1024, 33 * 1024, 300 * 1024, 8 << 20};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int n = sizes[i] <= 1000 ? nblocks : sizes[i] <= 33 * 1024 ? 500 : 20;

        for (int k = 0; k < n; k++) {
            blocks[k] = malloc(sizes[i]);
            BS_CHECK(blocks[k] != NULL, "malloc(%zu) number %d gave NULL", sizes[i], k);
            memset(blocks[k], 1, sizes[i]);
        }
        for (int k = 0; k < n; k++) {
            errno = EXDEV;
            free(blocks[k]);
            BS_CHECK(errno == EXDEV, "free of %zu bytes, number %d, set errno to %d", sizes[i], k,
                     errno);
        }
    }
    errno = EXDEV;
    free(hide(NULL));
    BS_CHECK(errno == EXDEV, "free(NULL) set errno to %d", errno);
}

int main(void) {
    check_size_zero();
    check_too_large();
    check_errno_kept();
    return 0;
}
