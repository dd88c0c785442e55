/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program that writes on while a copy of it is searched pays for scan_copied at most: then the copy
 * is ended, the program lives on, a later scan is made, and that one comes to its verdict once the program
 * rests. scan_budget.conf has the budget.
 */
#include "promise.h"

#include <pthread.h>

#define BLOCK 8000
#define BLOCKS 16000 /* 122 MiB */
#define WRITERS 3
#define BUDGET (16.0 * 1024 * 1024) /* scan_budget.conf */

static char *block[BLOCKS];
static int rest; /* [atomic] */

static void *write_on(void *arg) {
    for (unsigned turn = 1; !__atomic_load_n(&rest, __ATOMIC_RELAXED); turn++)
        for (size_t i = (size_t)arg; i < BLOCKS && !__atomic_load_n(&rest, __ATOMIC_RELAXED); i += WRITERS)
            memset(block[i], (int)(turn % 100), BLOCK);
    return NULL;
}

static char path[64];

/* The value of "copied" in the last line with `what`, behind `after` bytes of the log; negative: none yet. */
static double copied_in(const char *what, long after, long *end) {
    char line[4096];
    double copied = -1;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return -1;
    fseek(f, after, SEEK_SET);
    while (fgets(line, sizeof line, f) != NULL) {
        const char *at = strstr(line, what) != NULL ? strstr(line, " ns ") : NULL;
        if (at != NULL && (at = strstr(at, " copied ")) != NULL) {
            copied = strtod(at + 8, NULL);
            *end = ftell(f);
        }
    }
    fclose(f);
    return copied;
}
static double wait_for(const char *what, long after, long *end) {
    double copied = -1;
    for (unsigned i = 0; i < 3000 && (copied = copied_in(what, after, end)) < 0; i++)
        usleep(50000);
    BS_CHECK(copied >= 0, "no scan with '%s' in 150 s", what);
    return copied;
}

int main(void) {
    pthread_t writer[WRITERS];
    long end = 0, later;
    promise_begin_log(path, sizeof path, "scan_budget");
    for (size_t i = 0; i < BLOCKS; i++) {
        block[i] = malloc(BLOCK);
        BS_CHECK(block[i] != NULL, "malloc");
        memset(block[i], 1, BLOCK);
    }
    for (size_t i = 0; i < WRITERS; i++)
        BS_CHECK(pthread_create(&writer[i], NULL, write_on, (void *)i) == 0, "thread");
    double copied = wait_for(" why copied ", 0, &end);
    BS_CHECK(copied > BUDGET, "ended for %.0f bytes of %.0f", copied, BUDGET);
    __atomic_store_n(&rest, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(writer[i], NULL);
    (void)wait_for("verdict done ", end, &later); /* it may have been under way */
    copied = wait_for("verdict done ", later, &end);
    BS_CHECK(copied < BUDGET, "%.0f bytes were copied of a program that rests", copied);
    return 0;
}
