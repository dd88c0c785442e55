/* SPDX-License-Identifier: MIT */
/*
 * micro_share.c - Threads whose small blocks may share a cache line or a lifetime: false sharing,
 * and blocks that outlive by far what was allocated beside them.
 *
 *   false-active    each thread takes a block of 16 B, counts in it, frees it, again and again. An
 *                   allocator that gives blocks of one line to several threads makes them slow.
 *   false-passive   the main thread allocates neighbours, gives one to each thread, which frees it
 *                   and goes on as above. An allocator that gives a thread what it freed hands the
 *                   shared line out again. That is the thread's doing, but it is the allocator that
 *                   can mend it.
 *   asym            requests: 20 blocks that are freed with the request, and one that stays for the
 *                   next 65536 requests and is freed by whichever thread then comes.
 *
 * Called by micro.c. All threads are joined before a function returns. Blocks of asym pass through
 * a table of atomic words: release by who puts one, acquire by who takes it.
 */
#include "bench.h"

#define NTHREADS 4u
#define COUNTED_BYTES 16u
#define COUNTS 1000u
#define FALSE_OPS 60000u

struct counter_thread {
    pthread_t thread;
    uint64_t nops;
    void *given; /* freed first; NULL: nothing */
};

static pthread_barrier_t all_there;

static void *count_in_blocks(void *arg) {
    const struct counter_thread *self = arg;

    pthread_barrier_wait(&all_there);
    free(self->given);
    for (uint64_t i = 0; i < self->nops; i++) {
        volatile uint64_t *word = bs_bench_block(COUNTED_BYTES);
        *word = 0;
        for (size_t j = 0; j < COUNTS; j++)
            ++*word;
        if (*word != COUNTS)
            bs_bench_die("a block of 16 B was written by somebody else");
        free((void *)word);
    }
    return NULL;
}

static void count_with(struct bs_bench_run *run, int give_neighbours) {
    struct counter_thread threads[NTHREADS] = {{.nops = bs_bench_scaled(run, FALSE_OPS)}};

    pthread_barrier_init(&all_there, NULL, NTHREADS);
    bs_bench_start(run);
    for (size_t i = 0; i < NTHREADS; i++) {
        threads[i].nops = threads[0].nops;
        threads[i].given = give_neighbours ? bs_bench_block(COUNTED_BYTES) : NULL;
    }
    for (size_t i = 0; i < NTHREADS; i++)
        bs_bench_start_thread(&threads[i].thread, count_in_blocks, &threads[i]);
    for (size_t i = 0; i < NTHREADS; i++)
        bs_bench_join_thread(threads[i].thread);
    bs_bench_stop(run, NTHREADS * threads[0].nops);
    pthread_barrier_destroy(&all_there);
}

static void false_active(struct bs_bench_run *run) {
    count_with(run, 0);
}

static void false_passive(struct bs_bench_run *run) {
    count_with(run, 1);
}

/* --- asym ------------------------------------------------------------------------------------- */

#define REQUESTS 150000u /* of each thread */
#define SHORT_BLOCKS 20u
#define LONG_BLOCKS 65536u

struct session { /* what stays, 32 to 512 B */
    struct session *self;
    size_t size_bytes;
};

static struct {
    struct session **places; /* [atomic] */
    uint64_t nrequests;      /* of each thread */
} office;

static void end_session(struct session *session) {
    if (session && session->self != session)
        bs_bench_die("asym: a long-lived block was overwritten");
    free(session);
}

static void *serve_requests(void *arg) {
    struct bs_bench_rng rng = {(uintptr_t)arg};
    void *blocks[SHORT_BLOCKS];

    for (uint64_t i = 0; i < office.nrequests; i++) {
        for (size_t j = 0; j < SHORT_BLOCKS / 2; j++)
            blocks[j] = bs_bench_block(bs_bench_size((uint32_t)bs_bench_next(&rng), 16, 6));
        uint64_t random = bs_bench_next(&rng);
        size_t size_bytes = bs_bench_size((uint32_t)random, 32, 4);
        struct session *session = bs_bench_block(size_bytes);
        *session = (struct session){session, size_bytes};
        for (size_t j = SHORT_BLOCKS / 2; j < SHORT_BLOCKS; j++)
            blocks[j] = bs_bench_block(bs_bench_size((uint32_t)bs_bench_next(&rng), 16, 6));
        end_session(__atomic_exchange_n(&office.places[(random >> 32) % LONG_BLOCKS], session,
                                        __ATOMIC_ACQ_REL));
        for (size_t j = SHORT_BLOCKS; j-- > 0;)
            free(blocks[j]);
    }
    return NULL;
}

static void asym(struct bs_bench_run *run) {
    pthread_t threads[NTHREADS];

    office.nrequests = bs_bench_scaled(run, REQUESTS);
    office.places = bs_bench_table(LONG_BLOCKS * sizeof(struct session *));
    bs_bench_start(run);
    for (uintptr_t i = 0; i < NTHREADS; i++)
        bs_bench_start_thread(&threads[i], serve_requests, (void *)(i + 1));
    for (size_t i = 0; i < NTHREADS; i++)
        bs_bench_join_thread(threads[i]);
    bs_bench_stop(run, NTHREADS * office.nrequests * (SHORT_BLOCKS + 1));
    for (size_t i = 0; i < LONG_BLOCKS; i++)
        end_session(office.places[i]);
}

const struct bs_bench bs_bench_share[] = {
    {"false-active", "4 threads count to 1000 in blocks of 16 B of their own", false_active},
    {"false-passive", "the same after each freed a neighbour of the others' blocks", false_passive},
    {"asym", "4 threads, 20 short-lived blocks a request and 1 of 65536 that stay", asym},
    {NULL, NULL, NULL},
};
