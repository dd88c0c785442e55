/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine a block is not handed out to which the only pointer lies in a block that
 * realloc moves all the time, by its page tables, while searches read; and threads that do nothing else,
 * and so are in realloc and free nearly always, do not keep searches from coming about. (The argument:
 * seconds.) quarantine_remaps.conf sets the option.
 */
#include "quarantine_hidden.h"

#include <malloc.h>
#include <pthread.h>

#define MOVERS 2
#define MOST_MS 200000 /* on a machine that does little in the time given */
#define CELL (3 * BS_MIB) /* where in the large block the pointer lies */

struct mover {
    uintptr_t hidden; /* [atomic] the pointer, turned over; 0: none */
    uint64_t moves;   /* [atomic] */
    uint32_t renew;   /* [atomic] */
};
static struct mover movers[MOVERS];
static uint32_t end; /* [atomic] */

static void __attribute__((noinline)) put_one(struct mover *m, char *large) {
    void *p = malloc(SIZE);
    *(void **)(void *)(large + CELL) = p;
    __atomic_store_n(&m->hidden, ~(uintptr_t)p, __ATOMIC_RELEASE);
    free(p);
}
static void *move(void *arg) {
    struct mover *m = arg;
    char *large = calloc(1, 4 * BS_MIB);
    put_one(m, large);
    wipe();
    while (!__atomic_load_n(&end, __ATOMIC_RELAXED)) {
        large = realloc(large, (m->moves % 2 == 0 ? 9 : 4) * BS_MIB);
        BS_CHECK(large != NULL, "no memory");
        __atomic_store_n(&m->moves, m->moves + 1, __ATOMIC_RELAXED);
        if (!__atomic_load_n(&m->renew, __ATOMIC_RELAXED))
            continue;
        __atomic_store_n(&m->hidden, 0, __ATOMIC_RELEASE);
        put_one(m, large);
        wipe();
        __atomic_store_n(&m->renew, 0, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t thread[MOVERS];
    uint64_t ms = argc > 1 ? strtoull(argv[1], NULL, 10) * 1000 : 3000, searches = 0;
    size_t most = 0;
    for (unsigned i = 0; i < MOVERS; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, move, &movers[i]) == 0, "no thread");
    for (uint64_t start = now_ms();
         now_ms() - start < ms || ((searches <= 2 || __atomic_load_n(&movers[0].moves, __ATOMIC_RELAXED) <= 20) &&
                                   now_ms() - start < MOST_MS);
         searches++) {
        malloc_trim(0);
        BS_CHECK(handed_out(&movers[0].hidden, sizeof movers[0], MOVERS) == 0, "an address was handed out while a pointer to it existed");
        if (searches % 4 == 3)
            for (unsigned i = 0; i < MOVERS; i++)
                __atomic_store_n(&movers[i].renew, 1, __ATOMIC_RELAXED);
        struct mallinfo2 info = mallinfo2();
        size_t now = info.uordblks + info.hblkhd;
        most = now > most ? now : most;
    }
    __atomic_store_n(&end, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < MOVERS; i++)
        pthread_join(thread[i], NULL);
    dprintf(STDOUT_FILENO, "%ju searches, %ju moves, at most %zu MiB\n", (uintmax_t)searches,
            (uintmax_t)movers[0].moves, most / BS_MIB);
    BS_CHECK(searches > 2 && movers[0].moves > 20, "too little was tried");
    BS_CHECK(most < 2048 * BS_MIB, "%zu MiB of addresses: searches do not come about", most / BS_MIB);
    return 0;
}
