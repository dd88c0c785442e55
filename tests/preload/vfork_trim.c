/* SPDX-License-Identifier: MIT */
/*
 * Promise: a vfork child that allocates and trims harms nobody. It shares the parent's memory under
 * another process id, in which none of the parent's threads exists; whoever took their caches for
 * orphans would hand their blocks out twice.
 *
 * Threads fill and check blocks all the time while the main thread makes such children; more threads
 * start meanwhile, since a cache that was given up wrongly does its harm when it is used again.
 */
#include "promise.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>

enum { nthreads = 10, children_each = 10, nblocks = 64 };

static volatile int stop;

static void *churn(void *arg) {
    unsigned char tag = (unsigned char)(size_t)arg;
    unsigned char *block[nblocks] = {NULL};
    for (unsigned i = 0; !stop; i = (i * 5 + 1) % nblocks) {
        size_t size = 16 + i * 24;
        if (block[i] != NULL) {
            for (size_t k = 0; k < size; k++)
                BS_CHECK(block[i][k] == tag, "byte %zu of a block of thread %d changed", k, tag);
            free(block[i]);
        }
        block[i] = malloc(size);
        BS_CHECK(block[i] != NULL, "malloc(%zu) gave NULL", size);
        memset(block[i], tag, size);
    }
    for (unsigned i = 0; i < nblocks; i++)
        free(block[i]);
    return NULL;
}

static void make_child(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        void *p = malloc(5000);
        malloc_trim(0);
        free(p);
        _exit(p == NULL);
    }
    int status;
    BS_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "vfork or waitpid failed");
    BS_CHECK(status == 0, "a child ended with status %d", status);
    usleep(2000);
}

int main(void) {
    pthread_t thread[nthreads];
    BS_CHECK(promise_owns("malloc_trim"), "malloc_trim comes from elsewhere");
    for (size_t i = 0; i < nthreads; i++) {
        BS_CHECK(pthread_create(&thread[i], NULL, churn, (void *)(i + 1)) == 0, "no thread");
        for (int child = 0; child < children_each; child++)
            make_child();
    }
    stop = 1;
    for (size_t i = 0; i < nthreads; i++)
        pthread_join(thread[i], NULL);
    return 0;
}
