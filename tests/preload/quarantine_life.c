/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine a program with threads that come and go, that forks from any of them, uses
 * vfork, calls malloc_trim and lives under a memory limit, works as ever, and its memory stays in bounds:
 * 200 MB that are freed pass through a heap of a few MB. quarantine_life.conf sets the options.
 */
#include "promise.h"

#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static size_t most;

static void note_rss(void) {
    size_t now = rss_bytes(), old = __atomic_load_n(&most, __ATOMIC_RELAXED);
    while (now > old && !__atomic_compare_exchange_n(&most, &old, now, false, __ATOMIC_RELAXED,
                                                     __ATOMIC_RELAXED))
        ;
}

/* Frees `bytes` in blocks of all sizes, of which 100 are alive. */
static void churn(uint64_t seed, size_t bytes) {
    void *live[100] = {NULL};
    size_t size[100] = {0};
    for (size_t done = 0, i = 0; done < bytes; i++) {
        size_t k = rng_below(&seed, 100);
        if (live[k] != NULL)
            BS_CHECK_PATTERN(live[k], size[k], k);
        free(live[k]);
        done += size[k];
        size[k] = rng_below(&seed, i % 50 == 0 ? 200000 : 2000) + 1;
        live[k] = rng_below(&seed, 2) == 0 ? calloc(1, size[k]) : malloc(size[k]);
        BS_CHECK(live[k] != NULL, "no memory for %zu bytes", size[k]);
        pattern_fill(live[k], size[k], k);
        if (i % 1000 == 0)
            note_rss();
    }
    for (size_t k = 0; k < 100; k++)
        free(live[k]);
}

static void *worker(void *arg) {
    churn((uint64_t)(uintptr_t)arg, 5 * BS_MIB);
    return NULL;
}

static void in_child(uint64_t seed) {
    pthread_t thread;
    churn(seed, 4 * BS_MIB);
    BS_CHECK(pthread_create(&thread, NULL, worker, NULL) == 0, "no thread in a child");
    pthread_join(thread, NULL);
    malloc_trim(0);
    _exit(23);
}

static void *forker(void *arg) {
    for (uint64_t i = 0; i < 5; i++) {
        int status;
        pid_t pid = fork();
        BS_CHECK(pid >= 0, "fork");
        if (pid == 0)
            in_child(i + (uint64_t)(uintptr_t)arg);
        churn(i, BS_MIB);
        BS_CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 23,
                 "a child ended with status %x", (unsigned)status);
        char *argv[] = {(char *)"true", NULL};
        BS_CHECK(posix_spawnp(&pid, "true", NULL, NULL, argv, environ) == 0, "spawn");
        BS_CHECK(waitpid(pid, &status, 0) == pid && status == 0, "true: status %x", (unsigned)status);
    }
    return NULL;
}

static void *trimmer(void *arg) {
    for (unsigned i = 0; i < 20; i++) {
        malloc_trim(0);
        sleep_ms(10);
    }
    return arg;
}

int main(void) {
    pthread_t other[3], short_lived[2];
    for (uintptr_t i = 0; i < 2; i++)
        BS_CHECK(pthread_create(&other[i], NULL, forker, (void *)(i * 100)) == 0, "no thread");
    BS_CHECK(pthread_create(&other[2], NULL, trimmer, NULL) == 0, "no thread");
    for (uintptr_t i = 0; i < 20; i++) {
        for (unsigned k = 0; k < 2; k++)
            BS_CHECK(pthread_create(&short_lived[k], NULL, worker, (void *)i) == 0, "no thread");
        for (unsigned k = 0; k < 2; k++)
            pthread_join(short_lived[k], NULL);
    }
    for (unsigned i = 0; i < 3; i++)
        pthread_join(other[i], NULL);
    churn(1, 20 * BS_MIB);
    dprintf(STDOUT_FILENO, "at most %zu MiB\n", most / BS_MIB);
    BS_CHECK(most < 80 * BS_MIB, "memory grew to %zu MiB", most / BS_MIB);
    return 0;
}
