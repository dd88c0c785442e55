/* SPDX-License-Identifier: MIT */
/*
 * Promise: mallinfo2 and mallinfo tell the truth, in glibc's words. uordblks and hblkhd together follow what the program
 * holds, for small and for large blocks and after frees, and no block is in both; arena is uordblks and fordblks;
 * mallinfo is the same in ints. mallopt takes glibc's parameters without harm and answers 0 or 1.
 *
 * Size classes round up, so the tolerance is an eighth and a fixed slack for caches. One thread.
 */
#include "promise.h"

#include <limits.h>
#include <malloc.h>

enum { nblocks = 100000 };

static void *blocks[nblocks];

static size_t in_use(void) {
    struct mallinfo2 info = mallinfo2();

    BS_CHECK(info.arena == info.uordblks + info.fordblks, "arena %zu is not uordblks %zu and fordblks %zu",
             info.arena, info.uordblks, info.fordblks);
    return info.uordblks + info.hblkhd;
}

static void expect_near(size_t have, size_t want, const char *when) {
    size_t slack = 2 * BS_MIB;

    BS_CHECK(have + slack >= want && have <= want + want / 7 + slack,
             "%s: uordblks and hblkhd grew by %zu, the program holds %zu more", when, have, want);
}

static void follow(size_t size, size_t n) {
    size_t before = in_use();

    for (size_t i = 0; i < n; i++) {
        blocks[i] = malloc(size);
        BS_CHECK(blocks[i] != NULL, "malloc(%zu) gave NULL", size);
        memset(blocks[i], 1, size);
    }
    expect_near(in_use() - before, n * size, "after allocating");
    for (size_t i = 0; i < n; i += 2)
        free(blocks[i]);
    expect_near(in_use() - before, n / 2 * size, "after freeing every other block");
    for (size_t i = 1; i < n; i += 2)
        free(blocks[i]);
    size_t after = in_use();

    expect_near(after > before ? after - before : 0, 0, "after freeing all");
}

static void check_ints(void) {
    void *p = malloc(10 * BS_MIB);

    BS_CHECK(p != NULL, "malloc(10 MiB) gave NULL");
    struct mallinfo2 wide = mallinfo2();
    _Pragma("GCC diagnostic push");
    _Pragma("GCC diagnostic ignored \"-Wdeprecated-declarations\"");
    struct mallinfo narrow = mallinfo();
    _Pragma("GCC diagnostic pop");

    BS_CHECK((size_t)narrow.uordblks == wide.uordblks, "mallinfo says %d, mallinfo2 %zu",
             narrow.uordblks, wide.uordblks);
    BS_CHECK((size_t)narrow.arena == wide.arena, "mallinfo says %d, mallinfo2 %zu", narrow.arena,
             wide.arena);
    free(p);
    p = malloc(3072 * BS_MIB); /* the kernel may not have it */
    _Pragma("GCC diagnostic push");
    _Pragma("GCC diagnostic ignored \"-Wdeprecated-declarations\"");
    narrow = mallinfo();
    _Pragma("GCC diagnostic pop");
    BS_CHECK(p == NULL || narrow.hblkhd == INT_MAX, "3 GiB are %d bytes in mallinfo", narrow.hblkhd);
    free(p);
}

static void check_mallopt(void) {
    static const int known[] = {M_MXFAST,   M_TRIM_THRESHOLD, M_TOP_PAD,   M_MMAP_THRESHOLD,
                                M_MMAP_MAX, M_ARENA_MAX,      M_ARENA_TEST};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        int answer = mallopt(known[i], 64);

        BS_CHECK(answer == 1, "mallopt(%d, 64) says %d", known[i], answer);
    }
    int answer = mallopt(12345, 1);

    BS_CHECK(answer == 0 || answer == 1, "mallopt of an unknown parameter says %d", answer);
    void *p = malloc(100), *q = malloc(BS_MIB);

    BS_CHECK(p != NULL && q != NULL, "no memory after mallopt");
    free(p);
    free(q);
}

int main(void) {
    BS_CHECK(promise_owns("mallinfo2") && promise_owns("mallinfo") && promise_owns("mallopt"),
             "mallinfo2, mallinfo or mallopt comes from elsewhere");
    follow(100, nblocks);
    follow(3000, 20000);
    follow(200000, 200);
    follow(30 * BS_MIB, 3);
    check_ints();
    check_mallopt();
    return 0;
}
