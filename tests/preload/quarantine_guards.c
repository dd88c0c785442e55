/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine a program may take the right to read from whole pages of its blocks, a guard
 * of a coroutine's stack say, at any moment: searches pass them over, and see pointers beside them.
 * quarantine_guards.conf sets the option.
 */
#include "promise.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

#define PAGE 4096
static const size_t sizes[] = {4 * PAGE, 7 * PAGE, 100 * PAGE, 3 * BS_MIB};
#define BLOCKS (sizeof sizes / sizeof *sizes)
static char *block[BLOCKS];
static uint32_t end;
static uint64_t turns;

static void protect(char *page, int rights) {
    BS_CHECK(mprotect(page, PAGE, rights) == 0, "mprotect");
}

static void *close_and_open(void *arg) {
    while (!__atomic_load_n(&end, __ATOMIC_RELAXED)) {
        for (size_t k = 0; k < BLOCKS; k++)
            protect(block[k] + 2 * PAGE, PROT_NONE);
        for (size_t k = 0; k < BLOCKS; k++)
            protect(block[k] + 2 * PAGE, PROT_READ | PROT_WRITE);
        __atomic_store_n(&turns, turns + 1, __ATOMIC_RELAXED);
    }
    return arg;
}

/* A pointer behind the closed page. */
static uintptr_t __attribute__((noinline)) hide_one(size_t k) {
    void *p = malloc(5000);
    *(void **)(void *)(block[k] + 3 * PAGE + 80) = p;
    free(p);
    return ~(uintptr_t)p;
}
static bool is_given(uintptr_t hidden) {
    static uintptr_t got[2000];
    bool given = false;
    for (size_t i = 0; i < 2000; i++)
        got[i] = ~(uintptr_t)malloc(5000);
    for (size_t i = 0; i < 2000; i++) {
        given |= got[i] == hidden;
        free((void *)~got[i]);
    }
    return given;
}

static void search_all(unsigned times) {
    uintptr_t hidden[BLOCKS];
    for (size_t k = 0; k < BLOCKS; k++)
        hidden[k] = hide_one(k);
    for (unsigned i = 0; i < times; i++) {
        malloc_trim(0);
        for (size_t k = 0; k < BLOCKS; k++)
            BS_CHECK(!is_given(hidden[k]), "a pointer beside a closed page is not seen");
    }
    for (size_t k = 0; k < BLOCKS; k++)
        *(void **)(void *)(block[k] + 3 * PAGE + 80) = NULL;
}

int main(void) {
    pthread_t thread;
    for (size_t k = 0; k < BLOCKS; k++) {
        block[k] = aligned_alloc(PAGE, sizes[k]);
        BS_CHECK(block[k] != NULL, "no memory");
        memset(block[k], 1, sizes[k]);
        protect(block[k] + 2 * PAGE, PROT_NONE);
    }
    search_all(3);
    BS_CHECK(pthread_create(&thread, NULL, close_and_open, NULL) == 0, "no thread");
    /* and as often as it takes until the other thread had its CPU */
    for (unsigned i = 0; i < 10 || (i < 10000 && __atomic_load_n(&turns, __ATOMIC_RELAXED) <= 10); i++)
        search_all(3);
    __atomic_store_n(&end, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    BS_CHECK(turns > 10, "%ju turns", (uintmax_t)turns);
    return 0;
}
