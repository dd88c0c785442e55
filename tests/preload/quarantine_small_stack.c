/* SPDX-License-Identifier: MIT */
/*
 * Promise: a thread whose free() searches the quarantine, and tells of it, needs little of its stack: one with the
 * smallest that libc allows gets by. (A search took 17 KiB, more than such a stack has.)
 *
 * Others sleep meanwhile, so that there is somebody to be listed, asked and stopped. Half of what is used is libc's and
 * the shim's.
 */
#include "small_stack.h"

enum { nothers = 50, nblocks = 20000, nrounds = 12, own_bytes = 32 * 1024, most_bytes = 11 * 1024 };

static void *block[nblocks];
static void *dangling[nblocks / 100];

static void *work(void *arg) {
    for (int round = 0; round < nrounds; round++) {
        for (int i = 0; i < nblocks; i++) {
            block[i] = malloc(100 + (size_t)i % 800);
            BS_CHECK(block[i] != NULL, "no memory");
            if (i % 100 == 0)
                dangling[i / 100] = block[i];
        }
        for (int i = 0; i < nblocks; i++)
            free(block[i]);
        char *p = malloc(BS_MIB);
        BS_CHECK(p != NULL, "no memory");
        memset(p, 1, BS_MIB);
        p = realloc(p, 3 * BS_MIB);
        BS_CHECK(p != NULL, "no memory");
        free(p);
    }
    return arg;
}

static void *sleep_on(void *arg) {
    for (;;)
        pause();
    return arg;
}

int main(void) {
    pthread_t thread;

    /* memory that a search does not read in its place */
    char *shared = mmap(NULL, BS_MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    BS_CHECK(shared != MAP_FAILED, "mmap");
    memset(shared, 1, BS_MIB);
    for (int i = 0; i < nothers; i++)
        BS_CHECK(pthread_create(&thread, NULL, sleep_on, NULL) == 0, "pthread_create");
    work_on_smallest_stack(work); /* the first: it meets what is done once */

    size_t used = stack_used_by(work, own_bytes);
    printf("%zu bytes of stack, with libc's part\n", used);
    BS_CHECK(used < most_bytes, "%zu bytes of stack", used);
    return 0;
}
