/* SPDX-License-Identifier: MIT */
/*
 * Promise: threads that sleep cost nothing. 200 threads allocate and free 5 MB of small blocks each
 * and then sleep, in four different system calls; within some seconds resident memory is at most 15 MB
 * above that of the same program whose threads have allocated nothing. Woken, they work again and
 * find the blocks they kept as they left them; then they sleep again.
 *
 * Each variant runs in a child of its own. Skipped with background:off or idle_threads:off.
 */
#include "promise.h"

#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>

enum { nthreads = 200, nblocks = 3000, nkept = 20, nrounds = 2, limit_ms = 60000 /* for a busy machine */ };
static const size_t work_bytes = 5 * BS_MIB, allowance_bytes = 15 * BS_MIB;

static void *blocks[nthreads][nblocks]; /* not on stacks, whose depth would be measured */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake_up = PTHREAD_COND_INITIALIZER;
static int round_no, asleep, pipe_fds[nrounds][2]; /* a pipe a round: no thread takes two bytes */
static bool allocates;

static void work(size_t id, uint64_t *seed) {
    void **b = blocks[id];
    size_t total = 0;
    int n = 0;

    for (; n < nblocks && total < work_bytes; n++) {
        size_t size = 16 + rng_below(seed, n % 50 == 0 ? 30000 : 3400);
        b[n] = malloc(size);
        BS_CHECK(b[n] != NULL, "malloc(%zu) gave NULL", size);
        memset(b[n], (int)id, size);
        total += size;
    }
    while (n > 0)
        free(b[--n]);
}

static void wait_by_condition(int round) {
    pthread_mutex_lock(&mutex);
    while (round_no == round)
        pthread_cond_wait(&wake_up, &mutex);
    pthread_mutex_unlock(&mutex);
}

static void wait_for_round(size_t id, int round) {
    char byte;
    struct pollfd never = {.fd = -1};

    __atomic_add_fetch(&asleep, 1, __ATOMIC_SEQ_CST);
    switch (id % 4) {
    case 0:
        wait_by_condition(round);
        break;
    case 1:
        BS_CHECK(read(pipe_fds[round][0], &byte, 1) == 1, "read from the pipe");
        break;
    case 2:
        while (__atomic_load_n(&round_no, __ATOMIC_SEQ_CST) == round)
            poll(&never, 1, 3000);
        break;
    default:
        while (__atomic_load_n(&round_no, __ATOMIC_SEQ_CST) == round)
            sleep_ms(3000);
    }
}

static void *body(void *arg) {
    size_t id = (size_t)arg;
    uint64_t seed = id + 1;
    void *kept[nkept];

    for (int round = 0; round < nrounds; round++) {
        for (int i = 0; allocates && i < nkept; i++) {
            kept[i] = malloc(100);
            BS_CHECK(kept[i] != NULL, "malloc(100) gave NULL");
            pattern_fill(kept[i], 100, id * 1000 + (size_t)i);
        }
        if (allocates)
            work(id, &seed);
        wait_for_round(id, round);
        for (int i = 0; allocates && i < nkept; i++) {
            BS_CHECK_PATTERN(kept[i], 100, id * 1000 + (size_t)i);
            free(kept[i]);
        }
    }
    return NULL;
}

static void wake_all(void) {
    static const char bytes[nthreads];

    pthread_mutex_lock(&mutex);
    __atomic_store_n(&asleep, 0, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&round_no, 1, __ATOMIC_SEQ_CST);
    pthread_cond_broadcast(&wake_up);
    pthread_mutex_unlock(&mutex);
    BS_CHECK(write(pipe_fds[round_no - 1][1], bytes, nthreads / 4) == nthreads / 4, "write to the pipe");
}

/* RSS with all threads asleep, once it is at most goal_bytes, else when the time is over. */
static size_t measure(size_t goal_bytes) {
    while (__atomic_load_n(&asleep, __ATOMIC_SEQ_CST) < nthreads)
        sleep_ms(20);
    uint64_t start_ms = now_ms();
    size_t full = rss_bytes(), now = full;

    while (now > goal_bytes && now_ms() - start_ms < limit_ms) {
        sleep_ms(200);
        now = rss_bytes();
    }
    dprintf(STDOUT_FILENO, "%s: RSS %zu KiB, %zu KiB after %llu ms\n",
            allocates ? "worked" : "nothing allocated", full / BS_KIB, now / BS_KIB,
            (unsigned long long)(now_ms() - start_ms));
    return now;
}

/* The RSS of the last round; every round's must be within the goal. */
static size_t run(size_t goal_bytes) {
    pthread_t thread[nthreads];
    size_t rss = 0;

    for (int round = 0; round < nrounds; round++)
        BS_CHECK(pipe(pipe_fds[round]) == 0, "pipe");
    for (size_t i = 0; i < nthreads; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, body, (void *)i) == 0, "no thread %zu", i);
    for (int round = 0; round < nrounds; round++) {
        rss = measure(goal_bytes);
        BS_CHECK(rss <= goal_bytes, "round %d: RSS is %zu, at most %zu was promised", round, rss,
                 goal_bytes);
        wake_all();
    }
    for (size_t i = 0; i < nthreads; i++)
        pthread_join(thread[i], NULL);
    return rss;
}

static size_t run_in_child(bool with_work, size_t goal_bytes) {
    int fds[2], status;
    size_t rss = 0;

    BS_CHECK(pipe(fds) == 0, "pipe");
    pid_t child = fork();
    BS_CHECK(child >= 0, "fork");
    if (child == 0) {
        allocates = with_work;
        rss = run(goal_bytes);
        BS_CHECK(write(fds[1], &rss, sizeof rss) == sizeof rss, "write to the parent");
        _exit(0);
    }
    close(fds[1]);
    BS_CHECK(waitpid(child, &status, 0) == child && status == 0, "the child failed (0x%x)", status);
    BS_CHECK(read(fds[0], &rss, sizeof rss) == sizeof rss, "read from the child");
    close(fds[0]);
    return rss;
}

int main(void) {
    const char *conf = getenv("BESOM_CONF");

    if (conf != NULL && (strstr(conf, "background:off") || strstr(conf, "scavenge:off") ||
                         strstr(conf, "idle_threads:off") || strstr(conf, "check:full")))
        promise_skip("BESOM_CONF=%s turns the background work off", conf);
    size_t bare = run_in_child(false, SIZE_MAX);
    run_in_child(true, bare + allowance_bytes);
    return 0;
}
