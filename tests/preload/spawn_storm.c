/* SPDX-License-Identifier: MIT */
/*
 * Promise: vfork with exec and posix_spawn work from several threads while others allocate. The
 * programs started (this one again, with an argument) have the library too, allocate, and end with
 * status 0; a spawn of a file that is not there fails cleanly; the parent's heap stays whole.
 *
 * Two threads allocate, one vforks, one spawns, 100 times each.
 */
#include "promise.h"

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { nstarts = 100, nblocks = 200 };

extern char **environ;

static atomic_bool stop;
static char self[] = "/proc/self/exe", mode[] = "child";
static char *const child_args[] = {self, mode, NULL};

static void expect_status(pid_t pid, int want, const char *who) {
    int status;

    BS_CHECK(waitpid(pid, &status, 0) == pid, "waitpid for a program by %s", who);
    BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == want, "a program by %s: status %#x", who,
             (unsigned)status);
}

static void *allocate(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    void *blocks[nblocks] = {NULL};
    size_t sizes[nblocks] = {0};

    while (!atomic_load(&stop)) {
        size_t i = rng_below(&seed, nblocks);

        if (blocks[i] != NULL)
            BS_CHECK_PATTERN(blocks[i], sizes[i], (uint64_t)i);
        free(blocks[i]);
        sizes[i] = 1 + rng_below(&seed, rng_below(&seed, 50) == 0 ? 500000 : 2000);
        blocks[i] = malloc(sizes[i]);
        BS_CHECK(blocks[i] != NULL, "malloc(%zu) gave NULL", sizes[i]);
        pattern_fill(blocks[i], sizes[i], (uint64_t)i);
    }
    for (size_t i = 0; i < nblocks; i++)
        free(blocks[i]);
    return NULL;
}

/* A function of its own: the child runs on its frame, so it holds nothing else. */
__attribute__((noinline)) static pid_t start_by_vfork(const char *path) {
    pid_t pid = vfork();

    if (pid == 0) {
        execv(path, child_args);
        _exit(127);
    }
    return pid;
}

static void *vfork_all(void *arg) {
    (void)arg;
    for (int i = 0; i < nstarts; i++) {
        void *p = malloc(500);
        pid_t pid = start_by_vfork(i % 10 == 9 ? "/nonexistent/program" : self);

        BS_CHECK(pid > 0 && p != NULL, "vfork");
        free(p);
        expect_status(pid, i % 10 == 9 ? 127 : 0, "vfork");
    }
    return NULL;
}

static void *spawn_all(void *arg) {
    (void)arg;
    for (int i = 0; i < nstarts; i++) {
        pid_t pid;
        int err = posix_spawn(&pid, self, NULL, NULL, child_args, environ);

        BS_CHECK(err == 0, "posix_spawn: %s", strerror(err));
        expect_status(pid, 0, "posix_spawn");
        if (i % 10 == 0) {
            err = posix_spawn(&pid, "/nonexistent/program", NULL, NULL, child_args, environ);
            BS_CHECK(err == ENOENT, "posix_spawn of nothing: %s", strerror(err));
        }
    }
    return NULL;
}

static int child(void) {
    alarm(PROMISE_CHILD_LIMIT_S);
    for (size_t i = 1; i < 3000; i++) {
        void *p = malloc(i * 3);

        BS_CHECK(p != NULL, "malloc(%zu) gave NULL", i * 3);
        memset(p, 1, i * 3);
        free(p);
    }
    return 0;
}

int main(int argc, char **argv) {
    static void *(*const bodies[])(void *) = {allocate, allocate, vfork_all, spawn_all};
    pthread_t threads[4];

    if (argc == 2 && strcmp(argv[1], mode) == 0)
        return child();
    for (uintptr_t i = 0; i < 4; i++)
        BS_CHECK(pthread_create(&threads[i], NULL, bodies[i], (void *)(i + 1)) == 0, "no thread");
    pthread_join(threads[2], NULL);
    pthread_join(threads[3], NULL);
    atomic_store(&stop, true);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    return 0;
}
