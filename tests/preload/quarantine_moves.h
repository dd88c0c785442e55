/* SPDX-License-Identifier: MIT */
/*
 * quarantine_moves.h - threads that do nothing but move one dangling pointer each between two cells of
 * memory, through a register, while searches are forced by malloc_trim: is the address ever handed out?
 * For quarantine_moves*.c, one program a mode.
 *
 * The cells lie at both ends of a large block, in data, in another mapping and on the stack, so that a
 * search that does not see one moment finds each of them empty sooner or later.
 */
#include "quarantine_hidden.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

#define MOVERS 3
#define WIDTH (8 * BS_MIB)

struct mover {
    uintptr_t hidden; /* [atomic] the pointer, turned over; 0: none yet */
    uint64_t moves;   /* [atomic] */
    uint32_t renew;   /* [atomic] the next pointer is wanted */
    uint32_t end;     /* [atomic] */
    void **cell[4];
};
static struct mover movers[MOVERS];
static void *in_data[MOVERS];

/* From cell to cell, never in two of them. */
static void __attribute__((noinline)) move_one(struct mover *m, void *volatile *on_stack) {
    void *volatile *from = on_stack;
    void *p = malloc(SIZE);
    uint64_t moves = 0;
    __atomic_store_n(&m->hidden, ~(uintptr_t)p, __ATOMIC_RELEASE);
    *from = p;
    free(p);
    p = NULL;
    wipe();
    while (!__atomic_load_n(&m->renew, __ATOMIC_RELAXED)) {
        unsigned k = (unsigned)(moves++ % 5);
        void *volatile *to = k < 4 ? m->cell[k] : on_stack;
        void *x = *from;
        *from = NULL;
        __asm__ volatile("" : "+r"(x)::"memory");
        for (unsigned i = moves % 64; i > 0; i--) /* only in a register for a while */
            __asm__ volatile("" : "+r"(x));
        *to = x;
        from = to;
        __atomic_store_n(&m->moves, m->moves + 1, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&m->hidden, 0, __ATOMIC_RELEASE);
    *from = NULL;
}
static void *move(void *arg) {
    struct mover *m = arg;
    void *volatile on_stack = NULL;
    while (!__atomic_load_n(&m->end, __ATOMIC_RELAXED)) {
        move_one(m, &on_stack);
        __atomic_store_n(&m->renew, 0, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void start_movers(pthread_t *thread) {
    void **wide = calloc(1, WIDTH), **mapped = mmap(NULL, WIDTH, PROT_READ | PROT_WRITE,
                                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    BS_CHECK(wide != NULL && mapped != MAP_FAILED, "no memory");
    memset(wide, 1, WIDTH);
    memset(mapped, 1, WIDTH);
    for (unsigned i = 0; i < MOVERS; i++) {
        struct mover *m = &movers[i];
        m->cell[0] = wide + 1000 * i;
        m->cell[1] = mapped + WIDTH / sizeof *mapped - 1 - 1000 * i;
        m->cell[2] = wide + WIDTH / sizeof *wide - 1 - 1000 * i;
        m->cell[3] = &in_data[i];
        for (unsigned k = 0; k < 4; k++)
            *m->cell[k] = NULL;
        BS_CHECK(pthread_create(&thread[i], NULL, move, m) == 0, "no thread");
    }
}

#define LEAST_SEARCHES 11
#define LEAST_MOVES 100000
#define MOST_MS 200000

static uint64_t all_moves(void) {
    uint64_t moves = 0;
    for (unsigned i = 0; i < MOVERS; i++)
        moves += __atomic_load_n(&movers[i].moves, __ATOMIC_RELAXED);
    return moves;
}

/* Searches for so long, at most until so many were caught; longer on a machine that does little in that time. */
static unsigned catch_pointers(uint64_t ms, unsigned enough, uint64_t *searches, uint64_t *moves) {
    pthread_t thread[MOVERS];
    unsigned caught = 0;
    start_movers(thread);
    *searches = 0;
    for (uint64_t start = now_ms(), end = start + ms;
         caught < enough &&
         (now_ms() < end || ((*searches < LEAST_SEARCHES || all_moves() < LEAST_MOVES) && now_ms() - start < MOST_MS));) {
        malloc_trim(0);
        ++*searches;
        caught += handed_out(&movers[0].hidden, sizeof movers[0], MOVERS);
        if (*searches % 4 == 0) /* no pointer may be handed out because of this */
            for (unsigned i = 0; i < MOVERS; i++)
                if (__atomic_load_n(&movers[i].hidden, __ATOMIC_RELAXED) != 0)
                    __atomic_store_n(&movers[i].renew, 1, __ATOMIC_RELAXED);
    }
    for (unsigned i = 0; i < MOVERS; i++) {
        __atomic_store_n(&movers[i].end, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&movers[i].renew, 1, __ATOMIC_RELAXED);
        pthread_join(thread[i], NULL);
    }
    *moves = all_moves();
    return caught;
}

/* The programs whose mode may hand nothing out. argv[1]: seconds. */
static inline int must_catch_nothing(int argc, char **argv) {
    uint64_t searches, moves;
    unsigned caught =
        catch_pointers(argc > 1 ? strtoull(argv[1], NULL, 10) * 1000 : 5000, 1, &searches, &moves);

    dprintf(STDOUT_FILENO, "%ju searches, %ju moves\n", (uintmax_t)searches, (uintmax_t)moves);
    BS_CHECK(caught == 0, "an address was handed out while a pointer to it existed");
    BS_CHECK(searches >= LEAST_SEARCHES && moves >= LEAST_MOVES, "too little was tried");
    return 0;
}
