/* SPDX-License-Identifier: MIT */
/*
 * Promise: the library holds no file descriptor between uses. A program that closes every
 * descriptor above 2 and opens its own finds them untouched after heavy use of the heap, threads
 * and the background work; nothing of the library's appears among them.
 *
 * One thread besides main.
 */
#include "promise.h"

#include <malloc.h>
#include <pthread.h>

enum { nfiles = 8, nblocks = 50000 };

static void *blocks[nblocks];

static void *churn(void *arg) {
    (void)arg;
    for (int i = 0; i < nblocks; i++) {
        blocks[i] = malloc((size_t)i % 3000 + 1);
        BS_CHECK(blocks[i] != NULL, "malloc gave NULL");
        memset(blocks[i], 1, (size_t)i % 3000 + 1);
    }
    for (int i = 0; i < nblocks; i++)
        free(blocks[i]);
    return NULL;
}

int main(void) {
    struct stat null_stat, now;
    pthread_t thread;

    churn(NULL);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    for (int i = 0; i < nfiles; i++)
        BS_CHECK(open("/dev/null", O_RDWR) == 3 + i, "descriptor %d is not the next one", 3 + i);
    BS_CHECK(fstat(3, &null_stat) == 0, "fstat");
    for (int round = 0; round < 3; round++) {
        churn(NULL);
        BS_CHECK(pthread_create(&thread, NULL, churn, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
        sleep_ms(round == 0 ? 1500 : 10);
        malloc_trim(0);
        for (int i = 0; i < nfiles; i++) {
            BS_CHECK(fstat(3 + i, &now) == 0, "descriptor %d was closed", 3 + i);
            BS_CHECK(now.st_rdev == null_stat.st_rdev && now.st_ino == null_stat.st_ino,
                     "descriptor %d is another file", 3 + i);
        }
        for (int fd = 3 + nfiles; fd < 1024; fd++)
            BS_CHECK(fcntl(fd, F_GETFD) == -1, "descriptor %d was opened and kept", fd);
    }
    return 0;
}
