/* SPDX-License-Identifier: MIT */
/*
 * Promise: after mallopt(M_PERTURB, x) new blocks are filled with the byte ~x, as glibc fills them, also what realloc
 * adds; calloc's are zero; and after mallopt(M_PERTURB, 0) all is as before.
 *
 * One thread.
 */
#include "promise.h"

#include <malloc.h>

static const size_t sizes[] = {1, 24, 100, 4096, 30000, 70000, 3000000};

static void all_are(const unsigned char *p, size_t from, size_t to, unsigned char byte) {
    for (size_t i = from; i < to; i++)
        BS_CHECK(p[i] == byte, "byte %zu of %zu is %#x, not %#x", i, to, p[i], byte);
}

int main(void) {
    BS_CHECK(mallopt(M_PERTURB, 0x5a) == 1, "mallopt");
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            size_t size = sizes[i];
            unsigned char *p = hide(malloc(size)), *zero = hide(calloc(1, size));

            BS_CHECK(p != NULL && zero != NULL, "no memory");
            all_are(p, 0, size, 0xa5);
            all_are(zero, 0, size, 0);
            memset(p, 1, malloc_usable_size(p));
            memset(zero, 1, size);
            free(p);
            free(zero);
            p = hide(aligned_alloc(64, 64 * size));
            BS_CHECK(p != NULL, "no memory");
            all_are(p, 0, size, 0xa5);
            free(p);
        }
    BS_CHECK(mallopt(M_PERTURB, 0) == 1, "mallopt");
    unsigned char *p = hide(calloc(1, 100));
    all_are(p, 0, 100, 0);
    free(p);
    return 0;
}
