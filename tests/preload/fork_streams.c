/* SPDX-License-Identifier: MIT */
/*
 * Promise: fork works beside threads that use streams. One that flushes all of them has the lock of their list and
 * waits for a stream; who reads a line has that stream and wants memory for it; and fork, which takes the list's lock
 * behind all handlers, may not wait for it with besom's locks in its hands.
 *
 * Without that the first hundred forks of the 400 hang; the alarm ends the program then.
 */
#include "promise.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { nforks = 400, nlines = 100, nreaders = 2 };

static char text[nlines * 60000];
static atomic_bool stop;

static void make_text(void) {
    uint64_t seed = 1;
    size_t at = 0;

    for (int i = 0; i < nlines; i++) {
        size_t length = 1 + rng_below(&seed, 59000);

        memset(text + at, 'a' + i % 26, length);
        text[at + length] = '\n';
        at += length + 1;
    }
}

static void *read_lines(void *arg) {
    while (!atomic_load(&stop)) {
        FILE *stream = fmemopen(text, strlen(text), "r");
        char *line = NULL;
        size_t bytes = 0;

        BS_CHECK(stream != NULL, "fmemopen");
        for (int i = 0; getline(&line, &bytes, stream) > 0; i++)
            if (i % 4 == 0) {
                free(line);
                line = NULL;
                bytes = 0;
            }
        free(line);
        fclose(stream);
    }
    return arg;
}

static void *flush_all(void *arg) {
    while (!atomic_load(&stop))
        fflush(NULL);
    return arg;
}

__attribute__((noreturn)) static void child(void) {
    char *line = NULL;
    size_t bytes = 0;
    FILE *stream = fmemopen(text, strlen(text), "r");

    alarm(PROMISE_CHILD_LIMIT_S);
    _exit(stream != NULL && getline(&line, &bytes, stream) > 0 && fflush(NULL) == 0 ? 7 : 1);
}

int main(void) {
    pthread_t thread[nreaders + 1];

    make_text();
    alarm(PROMISE_CHILD_LIMIT_S);
    for (int i = 0; i < nreaders; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, read_lines, NULL) == 0, "thread");
    BS_CHECK(pthread_create(&thread[nreaders], NULL, flush_all, NULL) == 0, "thread");
    for (int i = 0; i < nforks; i++) {
        int status;
        pid_t pid = fork();

        if (pid == 0)
            child();
        BS_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
        BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "child %d: status %#x", i, (unsigned)status);
    }
    atomic_store(&stop, true);
    for (int i = 0; i <= nreaders; i++)
        BS_CHECK(pthread_join(thread[i], NULL) == 0, "join");
    return 0;
}
