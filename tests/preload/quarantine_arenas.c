/* SPDX-License-Identifier: MIT */
/*
 * Promise: blocks whose span lies in two of the heap's arenas (64 MiB each) go into the quarantine and come out of it as
 * others do, whichever arena has had a freed block before.
 *
 * Spans of these sizes have pages of which an arena is no multiple, and a heap that grows has one across each border.
 */
#include "promise.h"

enum { most = 150u << 20 };

int main(void) {
    static const size_t sizes[] = {18000, 10000, 27000, 640};
    static void *block[most / 640];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (unsigned turn = 0; turn < 3; turn++) {
            size_t n = most / sizes[i];
            for (size_t k = 0; k < n; k++)
                BS_CHECK((block[k] = malloc(sizes[i])) != NULL, "malloc");
            for (size_t k = 0; k < n; k++)
                free(block[turn == 1 ? n - 1 - k : k]);
        }
    return 0;
}
