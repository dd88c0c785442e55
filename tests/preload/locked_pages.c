/* SPDX-License-Identifier: MIT */
/*
 * Promise: pages that the program locks (mlock) and frees without unlocking keep no others in memory. What is free goes
 * back, the locked page with it; a hole beside a locked block stays, other holes go. Where all memory is to be locked
 * (mlockall) nothing goes, and what is allocated is in memory at once, as the program wants it.
 */
#include "promise.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { nlong = 1200, nshort = 20000 };

static char *block[nshort], *locked;

static void fill(int n, size_t size) {
    for (int i = 0; i < n; i++) {
        block[i] = malloc(size);
        BS_CHECK(block[i] != NULL, "no memory");
        memset(block[i], 1, size);
    }
}

/* The highest free run has a locked page. */
static void check_runs(void) {
    size_t before = rss_bytes();

    fill(nlong, 50000);
    locked = malloc(200000);
    memset(locked, 1, 200000);
    if (mlock(locked + 100000, 100) != 0)
        promise_skip("mlock: %s", strerror(errno));
    free(locked);
    for (int i = 0; i < nlong; i++)
        free(block[i]);
    BS_CHECK(malloc_trim(0) == 1, "malloc_trim gave nothing back");
    BS_CHECK(rss_bytes() < before + 8 * BS_MIB, "%zu KiB are in memory, %zu before", rss_bytes() / 1024, before / 1024);
    locked = malloc(200000); /* its pages are as good as others */
    BS_CHECK(locked != NULL, "no memory");
    memset(locked, 2, 200000);
    free(locked);
}

/* The first hole has one. */
static void check_holes(void) {
    size_t before;

    fill(nshort, 1000);
    before = rss_bytes();
    BS_CHECK(mlock(block[40], 16000) == 0, "mlock");
    for (int i = 0; i < nshort; i++)
        if (i % 8 != 0)
            free(block[i]);
    BS_CHECK(malloc_trim(0) == 1, "malloc_trim gave nothing back");
    BS_CHECK(rss_bytes() + 6 * BS_MIB < before, "%zu KiB are in memory, %zu before", rss_bytes() / 1024, before / 1024);
    for (int i = 0; i < nshort; i += 8)
        free(block[i]);
}

static void check_all_locked(void) {
    unsigned char there[256];

    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        _exit(7);
    fill(nlong / 4, 50000);
    for (int i = 0; i < nlong / 4; i++)
        free(block[i]);
    for (int i = 0; i < 3; i++)
        (void)malloc_trim(0);
    fill(nlong / 4, 50000);
    for (int i = 0; i < nlong / 4; i++) {
        uintptr_t first = ((uintptr_t)block[i] + 4095) & ~(uintptr_t)4095;
        BS_CHECK(mincore((void *)first, 40000, there) == 0, "mincore");
        for (int k = 0; k < 40000 / 4096; k++)
            BS_CHECK(there[k] & 1, "page %d of block %d is not in memory", k, i);
    }
    locked = malloc(3 * BS_MIB);
    BS_CHECK(locked != NULL && mincore((void *)((uintptr_t)locked & ~(uintptr_t)4095), BS_MIB, there) == 0 && there[100] & 1,
             "what is new is not in memory");
    _exit(7);
}

int main(void) {
    int status;

    check_runs();
    check_holes();
    pid_t child = fork();
    if (child == 0)
        check_all_locked();
    BS_CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7,
             "the child ended with status %#x", (unsigned)status);
    return 0;
}
