/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine under a hard limit nothing is refused because of blocks that are held back
 * and that nobody points to: 2 GB pass through 64 MiB in large blocks, and in small ones, as fast as they
 * can. quarantine_limit_hard.conf sets the options.
 *
 * Nor where several threads come to the limit at once, and one has searched while another one waited to do so (3 of 100
 * requests were refused for that). A search comes to nothing where a thread that gets no CPU does not stand in time: a
 * few may be.
 */
#include "promise.h"

#include <pthread.h>

static unsigned __attribute__((noinline)) refused_of(unsigned n, size_t size, unsigned alive) {
    static void *block[2000];
    unsigned refused = 0;
    for (unsigned i = 0; i < n; i++) {
        void **place = &block[i % alive];
        free(*place);
        *place = NULL;
        *place = malloc(size);
        refused += *place == NULL;
        if (*place != NULL)
            memset(*place, 1, size);
    }
    for (unsigned i = 0; i < alive; i++) {
        free(block[i]);
        block[i] = NULL;
    }
    return refused;
}

enum { nthreads = 2, nrequests = 1000, most_refused = 10 };

static void *come_and_go(void *arg) {
    unsigned *refused = arg;
    for (unsigned i = 0; i < nrequests; i++) {
        char *p = malloc(5 * BS_MIB);
        *refused += p == NULL;
        if (p != NULL)
            memset(p, 1, 200000);
        free(p);
    }
    return NULL;
}
static unsigned refused_of_threads(void) {
    pthread_t thread[nthreads];
    unsigned refused[nthreads] = {0}, all = 0;
    for (unsigned i = 0; i < nthreads; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, come_and_go, &refused[i]) == 0, "no thread");
    for (unsigned i = 0; i < nthreads; i++) {
        pthread_join(thread[i], NULL);
        all += refused[i];
    }
    return all;
}

int main(void) {
    unsigned large = refused_of(200, 10 * BS_MIB, 1), some = refused_of(400, 5 * BS_MIB, 5),
             small = refused_of(500000, 4000, 2000), odd = refused_of(20000, 100000, 100);

    BS_CHECK(large + some + small + odd == 0, "refused: %u of 10 MiB, %u of 5 MiB, %u of 4000, %u of 100000 bytes",
             large, some, small, odd);
    unsigned refused = refused_of_threads();
    printf("of %d requests by %d threads %u were refused\n", nthreads * nrequests, nthreads, refused);
    BS_CHECK(refused <= most_refused, "of %d requests by threads %u were refused", nthreads * nrequests, refused);
    return 0;
}
