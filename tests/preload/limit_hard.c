/* SPDX-License-Identifier: MIT */
/*
 * Promise: with limit_hard:on what would exceed the limit is refused with ENOMEM by every function
 * of the family, the blocks that are there stay whole, also in threads and in a forked child, what is
 * freed can be had again, and a line in the log says limit, use and request.
 */
#include "promise.h"

#include <pthread.h>
#include <sys/wait.h>

enum { limit_mib = 64, max_blocks = 4000, nthreads = 4 };

static size_t size_of(size_t i) {
    return 1000 + i * 7919 % 60000;
}

/* Takes blocks until there are no more; how many. */
static size_t fill(void **block) {
    size_t n = 0;
    for (; n < max_blocks; n++) {
        errno = 0;
        block[n] = malloc(size_of(n));
        if (block[n] == NULL)
            break;
        pattern_fill(block[n], size_of(n), n);
    }
    BS_CHECK(n < max_blocks, "nothing was refused");
    BS_CHECK(errno == ENOMEM, "refused without ENOMEM");
    return n;
}

static void release(void **block, size_t n) {
    for (size_t i = 0; i < n; i++) {
        BS_CHECK_PATTERN(block[i], size_of(i), i);
        free(block[i]);
    }
}

static void *in_thread(void *arg) {
    static void *block[nthreads][max_blocks];
    void **mine = block[*(int *)arg];
    release(mine, fill(mine));
    return NULL;
}

static void refused(void *p, const char *what) {
    BS_CHECK(p == NULL, "%s beyond the limit gave %p", what, p);
    BS_CHECK(errno == ENOMEM, "%s set no ENOMEM", what);
}

int main(void) {
    static void *block[max_blocks];
    size_t big = (limit_mib + 1) * BS_MIB, n = 0;
    void *p = NULL;
    for (int round = 0; round < 3; round++) {
        n = fill(block);
        BS_CHECK(rss_bytes() <= (limit_mib + 8) * BS_MIB, "RSS is %zu", rss_bytes());
        BS_CHECK(n > 1500, "only %zu blocks under the limit", n);
        errno = 0, refused(malloc(big), "malloc");
        errno = 0, refused(calloc(1, big), "calloc");
        errno = 0, refused(realloc(block[n - 1], big), "realloc");
        errno = 0, refused(aligned_alloc(65536, big), "aligned_alloc");
        BS_CHECK(posix_memalign(&p, 65536, big) == ENOMEM, "posix_memalign");
        release(block, n);
    }
    pthread_t thread[nthreads];
    int number[nthreads];
    for (int i = 0; i < nthreads; i++) {
        number[i] = i;
        BS_CHECK(pthread_create(&thread[i], NULL, in_thread, &number[i]) == 0, "no thread");
    }
    for (int i = 0; i < nthreads; i++)
        pthread_join(thread[i], NULL);
    n = fill(block);
    pid_t child = fork();
    BS_CHECK(child >= 0, "no fork");
    if (child == 0) {
        release(block, n);
        release(block, fill(block));
        _exit(0);
    }
    int status = 0;
    BS_CHECK(waitpid(child, &status, 0) == child && status == 0, "the child: 0x%x",
             (unsigned)status);
    release(block, n);
    p = malloc((limit_mib - 8) * BS_MIB); /* all is free again */
    BS_CHECK(p != NULL, "%d MiB do not fit after everything was freed", limit_mib - 8);
    free(p);
    return 0;
}
