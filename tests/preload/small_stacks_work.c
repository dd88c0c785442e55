/* SPDX-License-Identifier: MIT */
/*
 * Promise: malloc and free need little of a thread's stack, also where they do what is to be done now and then: in a heap
 * that has no helper that is giving pages back, asking the control group, asking for huge pages. A thread with the
 * smallest stack that libc allows gets by, as with glibc, and malloc_trim is no different.
 */
#include "small_stack.h"

#include <malloc.h>

enum { nblocks = 3000, own_bytes = 256 * 1024, most_bytes = 12 * 1024 };

static void *block[nblocks];

static void *work(void *arg) {
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < nblocks; i++) {
            block[i] = malloc(100 + (size_t)i % 1500);
            BS_CHECK(block[i] != NULL, "no memory");
            memset(block[i], 1, 100);
        }
        for (int i = 0; i < nblocks; i++)
            free(block[i]);
        char *p = malloc(BS_MIB);
        BS_CHECK(p != NULL, "no memory");
        memset(p, 1, BS_MIB);
        p = realloc(p, 3 * BS_MIB);
        BS_CHECK(p != NULL, "no memory");
        free(p);
        free(calloc(1, 5 * BS_MIB));
        (void)malloc_trim(0);
        sleep_ms(120); /* until a piece of such work is due again */
    }
    return arg;
}

int main(void) {
    work_on_smallest_stack(work); /* the first: it meets what is done once */

    size_t used = stack_used_by(work, own_bytes);
    BS_CHECK(used < most_bytes, "%zu bytes of stack", used);
    return 0;
}
