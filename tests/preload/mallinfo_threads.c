/* SPDX-License-Identifier: MIT */
/*
 * Promise: the numbers of mallinfo2 fit together whatever other threads do while they are counted:
 * the program never holds more than the heap has, and held and free bytes make up the heap (but for large blocks, which
 * are counted beside it).
 *
 * For a second one thread moves the same memory between small and large blocks, so that it can be
 * counted twice, and one takes ever more address space, so that the heap grows between two counts.
 */
#include "promise.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

enum { nsmall = 3000, small_bytes = 3000, large_bytes = nsmall * small_bytes, ngrown = 40000 };

static atomic_bool stop;

static void *move(void *arg) {
    static void *blocks[nsmall];

    while (!atomic_load(&stop)) {
        for (int i = 0; i < nsmall; i++)
            blocks[i] = malloc(small_bytes);
        for (int i = 0; i < nsmall; i++)
            free(blocks[i]);
        free(malloc(large_bytes));
        malloc_trim(0);
    }
    return arg;
}

static void *grow(void *arg) {
    static void *blocks[ngrown]; /* never touched: address space only */
    int n = 0;

    for (; n < ngrown && !atomic_load(&stop); n++)
        blocks[n] = malloc(BS_MIB);
    while (n > 0)
        free(blocks[--n]);
    return arg;
}

int main(void) {
    static void *(*const works[2])(void *) = {move, grow};
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        BS_CHECK(pthread_create(&threads[i], NULL, works[i], NULL) == 0, "no thread");
    uint64_t end_ms = now_ms() + 1000;
    while (now_ms() < end_ms) {
        struct mallinfo2 info = mallinfo2();

        BS_CHECK(info.uordblks <= info.arena, "holds %zu of %zu", info.uordblks, info.arena);
        BS_CHECK(info.uordblks + info.fordblks == info.arena, "%zu held and %zu free are not %zu",
                 info.uordblks, info.fordblks, info.arena);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
