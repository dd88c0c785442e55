/* SPDX-License-Identifier: MIT */
/*
 * Promise: fork leaves a working child whatever the other threads were doing: refilling caches,
 * taking large blocks, growing by realloc, trimming, summing statistics, starting and ending
 * threads. In the child every one of these works, with threads of its own, and blocks that the
 * vanished threads left can be freed.
 *
 * 200 forks from the main thread; a child that deadlocks is ended by its alarm.
 */
#include "promise.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { nforks = 200, nshared = 64 };

static _Atomic(void *) shared[nshared];
static atomic_bool stop;

static void small(uint64_t *seed) {
    void *blocks[500];

    for (int i = 0; i < 500; i++)
        blocks[i] = malloc(1 + rng_below(seed, 4000));
    for (int i = 0; i < 500; i++)
        free(blocks[i]);
    free(atomic_exchange(&shared[rng_below(seed, nshared)], malloc(1 + rng_below(seed, 9000))));
}

static void large(uint64_t *seed) {
    char *p = malloc(40000 + rng_below(seed, BS_MIB));

    BS_CHECK(p != NULL, "malloc of a large block gave NULL");
    p[0] = 1;
    p = realloc(p, 40000 + rng_below(seed, 3 * BS_MIB));
    BS_CHECK(p != NULL && p[0] == 1, "realloc of a large block");
    free(p);
    free(calloc(1, 40000 + rng_below(seed, BS_MIB)));
}

static void ask(uint64_t *seed) {
    struct mallinfo2 info = mallinfo2();

    malloc_trim(rng_below(seed, 2));
    BS_CHECK(info.uordblks <= info.arena + info.hblkhd, "mallinfo2");
}

static void *use_once(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;

    small(&seed);
    large(&seed);
    return NULL;
}

static void threads(uint64_t *seed) {
    pthread_t thread;
    int err = pthread_create(&thread, NULL, use_once, (void *)(uintptr_t)(rng_next(seed) >> 1));

    BS_CHECK(err == 0, "a thread cannot be made: %s", strerror(err));
    pthread_join(thread, NULL);
}

static void (*const kinds[])(uint64_t *seed) = {small, large, ask, threads};

static void *repeat(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;

    while (!atomic_load(&stop))
        kinds[(uintptr_t)arg](&seed);
    return NULL;
}

__attribute__((noreturn)) static void child(uint64_t seed) {
    alarm(PROMISE_CHILD_LIMIT_S);
    for (int i = 0; i < nshared; i++)
        free(atomic_exchange(&shared[i], NULL));
    for (int i = 0; i < 4; i++)
        kinds[i](&seed);
    _exit(0);
}

int main(void) {
    pthread_t workers[4];

    for (uintptr_t i = 0; i < 4; i++)
        BS_CHECK(pthread_create(&workers[i], NULL, repeat, (void *)i) == 0, "no thread");
    for (unsigned n = 0; n < nforks; n++) {
        int status;
        pid_t pid = fork();

        BS_CHECK(pid >= 0, "no child");
        if (pid == 0)
            child(n);
        BS_CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
        BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                 "child %u ended with status %#x (signal %d: %s)", n, (unsigned)status,
                 WTERMSIG(status), WTERMSIG(status) == SIGALRM ? "deadlock" : "crash");
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 4; i++)
        pthread_join(workers[i], NULL);
    return 0;
}
