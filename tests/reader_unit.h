/* SPDX-License-Identifier: MIT */
/*
 * reader_unit.h - what the tests of reader.h share: a small span that another thread retires, and whose pages it
 * closes, at the very moment at which who reads it has looked at it and not read yet.
 *
 * The moment is a hook of the test library. It waits until the other thread is done (then the read that follows
 * ends the test by SIGSEGV) or has come to wait for the reader.
 */
#ifndef BS_TESTS_READER_UNIT_H
#define BS_TESTS_READER_UNIT_H

#include "cycle_unit.h"
#include "reader.h"
#include "refuse_call.h"
#include "waiting.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    struct bs_span *span;
    uintptr_t base;
    size_t bytes;
    void *block;         /* its only one */
    unsigned class;
    unsigned looks_left; /* the last of which is the moment */
    bool without_barrier, began;
    bool over, waited;   /* [atomic] */
    bool refused;        /* [over] no filter could be set */
    pthread_t thread;
} window;

static inline bool has_barrier(void) {
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0)
        return true;
    printf("skipped: no membarrier here; small blocks are copied like others\n");
    return false;
}

/* This thread has no membarrier from now on. */
static inline bool lose_barrier(void) {
    bool lost = refuse_call(SYS_membarrier);
    if (!lost)
        printf("skipped: no filter for system calls can be set\n");
    return lost;
}

static void *retire_and_close(void *none) {
    window.refused = window.without_barrier && !lose_barrier();
    if (!window.refused) {
        release_one(window.class, window.block);
        bs_central_give_up_empty();
        (void)bs_waiting_return(SIZE_MAX);
        if (bs_load_acquire(&window.span->state) == BS_SPAN_DEAD)
            ck_assert_int_eq(mprotect((void *)window.base, window.bytes, PROT_NONE), 0);
    }
    bs_store_release(&window.over, true);
    return none;
}

static bool is_waited_for(void) {
    return window.without_barrier ? bs_load(&bs_reader.mode) == BS_READER_ASKED : bs_load(&bs_reader.waiting) != 0;
}
static void at_the_moment(const struct bs_span *s) {
    if (s != window.span || window.looks_left == 0 || --window.looks_left != 0)
        return;
    window.began = true;
    ck_assert_int_eq(pthread_create(&window.thread, NULL, retire_and_close, NULL), 0);
    while (!bs_load_acquire(&window.over) && !is_waited_for())
        sched_yield();
    bs_store(&window.waited, is_waited_for());
}

/* The only block of a span, of a class that nobody else uses. */
static inline void **window_block(size_t size) {
    window.class = bs_class_of(size);
    window.block = claim_one(window.class);
    window.span = bs_span_of((uintptr_t)window.block);
    require(window.span != NULL && window.span->nalloc == 1, "others use the class");
    window.base = window.span->base;
    window.bytes = window.span->npages * BS_PAGE_SIZE;
    memset(window.block, 0, size);
    return window.block;
}
static inline void window_begin(unsigned looks, bool without_barrier) {
    window.looks_left = looks;
    window.without_barrier = without_barrier;
    bs_reader.looked = at_the_moment;
}
/* When all was read. */
static inline void window_end(void) {
    bs_reader.looked = NULL;
    bs_reader_end();
    require(window.began, "nobody looked");
    ck_assert_int_eq(pthread_join(window.thread, NULL), 0);
    if (window.refused)
        return;
    ck_assert_int_eq(bs_load(&window.span->state), BS_SPAN_DEAD);
    ck_assert(bs_load(&window.waited));
    ck_assert_int_eq(mprotect((void *)window.base, window.bytes, PROT_READ | PROT_WRITE), 0);
}

#endif
