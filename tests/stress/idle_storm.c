/* SPDX-License-Identifier: MIT */
/*
 * Stress: threads that sleep for 0 to 300 us between bursts of malloc and free with a check of
 * contents, while another thread asks for sleeping threads' caches as fast as it can (malloc_trim),
 * signals interrupt them at any instruction, in malloc too, with handlers that block for a moment,
 * threads end and are made, and processes are forked and vforked.
 *
 * It must find a cache that is used by two at once: a block handed out twice, or lost and damaged.
 * The handlers call nothing of malloc. Arguments: see stress.h.
 */
#include "stress.h"

#include <malloc.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { nblocks = 60 };

static int never_fds[2]; /* a pair of sockets; nothing is ever written to it */

/* Blocks for a moment in the middle of whatever was interrupted. */
static void handler(int signo) {
    int err = errno;
    char byte;
    (void)signo;
    (void)!read(never_fds[0], &byte, 1); /* until SO_RCVTIMEO, or the next signal */
    errno = err;
}

struct sleeper {
    struct stress *stress;
    uint64_t seed;
    pthread_t thread;
    pthread_mutex_t mutex; /* of the next */
    bool running;          /* the thread may be sent signals */
};

static void burst(struct block *blocks, uint64_t *seed) {
    for (size_t i = rng_below(seed, 80); i > 0; i--) {
        struct block *block = &blocks[rng_below(seed, nblocks)];
        block_free(block);
        *block = (struct block){NULL, 16 + rng_below(seed, 900), rng_next(seed)};
        block->p = malloc(block->size);
        BS_CHECK(block->p != NULL, "malloc(%zu) gave NULL", block->size);
        pattern_fill(block->p, block->size, block->tag);
    }
}

/* Little but malloc and free, so that signals find the thread inside them. */
static void dense_burst(void) {
    uint64_t *word[32] = {NULL};

    for (int i = 0; i < 3000; i++) {
        uint64_t **w = &word[i * 7 % 32];
        if (*w != NULL)
            BS_CHECK(**w == (uint64_t)(uintptr_t)w, "block %p changed", (void *)*w);
        free(*w);
        *w = malloc(48);
        BS_CHECK(*w != NULL, "malloc(48) gave NULL");
        **w = (uint64_t)(uintptr_t)w;
    }
    for (int i = 0; i < 32; i++)
        free(word[i]);
}

static void *life(void *arg) {
    struct sleeper *me = arg;
    struct block blocks[nblocks] = {{NULL, 0, 0}};

    for (int i = 0; i < 300 && !atomic_load(&me->stress->stop); i++) {
        struct timespec nap = {0, (long)rng_below(&me->seed, 300) * 1000};
        burst(blocks, &me->seed);
        dense_burst();
        atomic_fetch_add(&me->stress->nops, 1);
        nanosleep(&nap, NULL);
    }
    for (int i = 0; i < nblocks; i++)
        block_free(&blocks[i]);
    return NULL;
}

/* One generation of threads after the other; each dies before the next begins. */
static void *generations(void *arg) {
    struct sleeper *s = arg;

    while (!atomic_load(&s->stress->stop)) {
        pthread_t thread;
        BS_CHECK(pthread_create(&thread, NULL, life, s) == 0, "no thread");
        pthread_mutex_lock(&s->mutex);
        s->thread = thread;
        s->running = true;
        pthread_mutex_unlock(&s->mutex);
        for (int i = 0; i < 5 && !atomic_load(&s->stress->stop); i++)
            sleep_ms(20);
        pthread_mutex_lock(&s->mutex);
        s->running = false; /* a signal to a thread that was joined is undefined */
        pthread_mutex_unlock(&s->mutex);
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void *trimmer(void *arg) {
    struct stress *stress = arg;

    while (!atomic_load(&stress->stop))
        malloc_trim(0);
    return NULL;
}

static void child_works(void) {
    struct block blocks[nblocks] = {{NULL, 0, 0}};
    uint64_t seed = 7;

    burst(blocks, &seed);
    malloc_trim(0);
    for (int i = 0; i < nblocks; i++)
        block_free(&blocks[i]);
}

static pid_t make_fork_child(void) {
    pid_t child = fork();
    if (child == 0) {
        child_works();
        _exit(0);
    }
    return child;
}

static pid_t make_vfork_child(void) {
    pid_t child = vfork();
    if (child == 0) {
        free(hide(malloc(300)));
        _exit(0);
    }
    return child;
}

static void *forker(void *arg) {
    struct stress *stress = arg;
    int status;

    for (int i = 0; !atomic_load(&stress->stop); i++, sleep_ms(10)) {
        pid_t child = i % 2 == 0 ? make_fork_child() : make_vfork_child();
        BS_CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0,
                 "child %d failed (0x%x)", i, status);
    }
    return NULL;
}

static void send_signals(struct stress *stress, struct sleeper *sleepers) {
    uint64_t seed = stress->seed, end_ms = now_ms() + stress->seconds * 1000;

    while (now_ms() < end_ms || !promise_is_stopped_enough() ||
           (atomic_load(&stress->nops) == 0 && now_ms() < end_ms + 60000)) {
        struct sleeper *s = &sleepers[rng_below(&seed, stress->nthreads)];
        pthread_mutex_lock(&s->mutex);
        if (s->running)
            pthread_kill(s->thread, SIGUSR1);
        pthread_mutex_unlock(&s->mutex);
        struct timespec nap = {0, (long)rng_below(&seed, 200) * 1000};
        nanosleep(&nap, NULL);
    }
}

static void storm(struct stress *stress) {
    struct sleeper *sleepers = calloc(stress->nthreads, sizeof *sleepers);
    pthread_t *makers = calloc(stress->nthreads, sizeof *makers), trim, fork_thread;

    for (unsigned i = 0; i < stress->nthreads; i++) {
        sleepers[i] = (struct sleeper){.stress = stress, .seed = stress->seed + i,
                                       .mutex = PTHREAD_MUTEX_INITIALIZER};
        BS_CHECK(pthread_create(&makers[i], NULL, generations, &sleepers[i]) == 0, "no thread");
    }
    BS_CHECK(pthread_create(&trim, NULL, trimmer, stress) == 0, "no thread");
    BS_CHECK(pthread_create(&fork_thread, NULL, forker, stress) == 0, "no thread");
    send_signals(stress, sleepers);
    atomic_store(&stress->stop, true);
    for (unsigned i = 0; i < stress->nthreads; i++)
        pthread_join(makers[i], NULL);
    pthread_join(trim, NULL);
    pthread_join(fork_thread, NULL);
    free(makers);
    free(sleepers);
}

int main(int argc, char **argv) {
    struct timeval moment = {0, 1000};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

    BS_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, never_fds) == 0, "socketpair");
    BS_CHECK(setsockopt(never_fds[0], SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof moment) == 0,
             "setsockopt");
    BS_CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    return stress_main(argc, argv, "idle_storm", storm);
}
