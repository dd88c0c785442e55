/* SPDX-License-Identifier: MIT */
/*
 * Promise: C23's free_sized and free_aligned_sized and the old cfree exist, free their block, take
 * NULL, and keep errno. They are looked up by dlsym because this libc's headers lack them.
 *
 * It is NOT a check of wrong sizes. One thread; resident memory shows that blocks are freed.
 */
#include "promise.h"

typedef void (*free_one)(void *p);
typedef void (*free_two)(void *p, size_t size);
typedef void (*free_three)(void *p, size_t alignment, size_t size);

static void *find(const char *name) {
    void *address = dlsym(RTLD_DEFAULT, name);

    BS_CHECK(address != NULL, "%s is not there", name);
    BS_CHECK(promise_owns(name), "%s comes from elsewhere", name);
    return address;
}

int main(void) {
    free_two sized = (free_two)find("free_sized");
    free_three aligned = (free_three)find("free_aligned_sized");
    free_one old = (free_one)find("cfree");
    size_t before = rss_bytes();

    for (size_t i = 0; i < 100000; i++) {
        size_t size = i % 100 == 0 ? 200000 : 1 + i % 5000;
        size_t aligned_size = (size + 63) & ~(size_t)63;
        void *a = malloc(size), *b = aligned_alloc(64, aligned_size), *c = calloc(1, size);

        BS_CHECK(a != NULL && b != NULL && c != NULL, "no block of %zu bytes", size);
        memset(a, 1, size);
        memset(b, 2, aligned_size);
        memset(c, 3, size);
        errno = EXDEV;
        sized(a, size);
        aligned(b, 64, aligned_size);
        old(c);
        BS_CHECK(errno == EXDEV, "a free set errno to %d", errno);
    }
    sized(NULL, 0);
    sized(NULL, 10);
    aligned(NULL, 16, 0);
    old(NULL);
    BS_CHECK(rss_bytes() < before + 64 * BS_MIB, "blocks were not freed: RSS %zu to %zu", before,
             rss_bytes());
    return 0;
}
