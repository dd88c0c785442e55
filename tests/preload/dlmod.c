/* SPDX-License-Identifier: MIT */
/*
 * A shared object for dlopen_loop.c: it allocates when it is loaded, when it is called, in thread
 * local storage (which the loader itself allocates on first use), and frees when it is unloaded.
 *
 * It is NOT a test; it includes nothing of the tests and is built as dlmod.so.
 */
#include <stdlib.h>
#include <string.h>

enum { nblocks = 50 };

static void *blocks[nblocks];
static __thread char local[5000];

void *dlmod_work(size_t size);

__attribute__((constructor)) static void load(void) {
    for (size_t i = 0; i < nblocks; i++) {
        blocks[i] = malloc(i * 100 + 1);
        if (blocks[i] != NULL)
            memset(blocks[i], (int)i, i * 100 + 1);
    }
}

__attribute__((destructor)) static void unload(void) {
    for (size_t i = 0; i < nblocks; i++) {
        unsigned char *bytes = blocks[i];

        if (bytes == NULL || bytes[0] != i || bytes[i * 100] != i)
            abort();
        free(bytes);
    }
}

/* A block of zeros that the caller frees. */
void *dlmod_work(size_t size) {
    local[size % sizeof local]++;
    return calloc(1, size);
}
