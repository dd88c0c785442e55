/* SPDX-License-Identifier: MIT */
/*
 * check_sample_begin.c - sampling, or a quarantine, begins while other threads are in the middle of something, as those
 * that a library's constructor has started before besom reads its options: of a thread cache, of a span that comes
 * or goes.
 *
 * One thread is stopped at the point in question, by a system call that is held (hold_call.h) or by memory that may
 * not be written; then the other goes on.
 */
#define _GNU_SOURCE
#include "heap.h"
#include "hold_call.h"
#include "meta.h"
#include "opt.h"
#include "os.h"
#include "pagemap.h"
#include "quarantine.h"
#include "sample.h"
#include "span.h"
#include "tcache_gate.h"
#include "thread.h"
#include "unit.h"

#include <pthread.h>
#include <sys/mman.h>

#define SIZE 1024 /* of blocks of a class that nobody has used yet */
#define PAUSE_US 1000

static void begin_sampling(void) {
    bs_opt.sample = 64; /* nearly every block */
    bs_heap_start_sampling();
}
static bool ignore_trim(bool all) {
    return all;
}
static void begin_quarantine(void) {
    static const struct bs_heap_keeper keeper = {bs_quarantine_small, bs_quarantine_large, bs_quarantine_resize,
                                                 bs_quarantine_check, ignore_trim, NULL};
    bs_heap_set_keeper(&keeper);
}

static bool wait_for(uint32_t *word, uint32_t value, unsigned most_ms) {
    for (unsigned i = 0; i < most_ms && bs_load_acquire(word) != value; i++)
        usleep(PAUSE_US);
    return bs_load_acquire(word) == value;
}

/* --- a point in the middle -------------------------------------------------------------------- */

enum { BEFORE, THERE, ON };
static struct {
    uint32_t state; /* [atomic] */
    int tid;        /* whose store is waited for */
    char *memory;
    size_t bytes;
    void (*there)(void); /* what it does before it goes on */
} point;

static void at_point(int number, siginfo_t *info, void *context) {
    (void)context;
    uintptr_t p = (uintptr_t)info->si_addr;
    if (p < (uintptr_t)point.memory || p >= (uintptr_t)point.memory + point.bytes) {
        signal(number, SIG_DFL);
        return;
    }
    if (bs_os_tid() == point.tid && bs_load(&point.state) == BEFORE) {
        bs_store_release(&point.state, (uint32_t)THERE);
        point.there();
    }
    mprotect(point.memory, point.bytes, PROT_READ | PROT_WRITE);
}
/* The thread's first store to [memory, memory+bytes) is the point. */
static void set_point(int tid, void *memory, size_t bytes, void (*there)(void)) {
    struct sigaction action = {.sa_flags = SA_SIGINFO};
    size_t os_page = bs_os_page_size();
    action.sa_sigaction = at_point;
    sigaction(SIGSEGV, &action, NULL);
    point.tid = tid;
    point.there = there;
    point.memory = (char *)bs_align_down((uintptr_t)memory, os_page);
    point.bytes = bs_align_up((uintptr_t)memory + bytes, os_page) - (uintptr_t)point.memory;
    ck_assert_int_eq(mprotect(point.memory, point.bytes, PROT_READ), 0);
}

/* --- a thread cache --------------------------------------------------------------------------- */

static uint32_t is_filtered, cannot, is_made; /* [atomic] */
static bool sees;

static void *make_cache(void *arg) {
    void *block[100];
    bs_store_release(&cannot, (uint32_t)!hold_call_begin(SYS_gettid));
    if (bs_load(&cannot)) {
        bs_store_release(&is_filtered, 1u);
        return arg;
    }
    hold_call_next(HOLD_CALL_ANY);
    bs_store_release(&is_filtered, 1u);
    block[0] = bs_heap_alloc(SIZE);
    bs_store_release(&is_made, 1u);
    sees = bs_tcache_self()->gates != NULL;
    for (unsigned i = 1; i < BS_ARRAY_LEN(block); i++)
        block[i] = bs_heap_alloc(SIZE);
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        bs_heap_free(block[i]);
    return arg;
}

/* It is made, and nobody who looks for caches sees it yet: its blocks are sampled all the same. */
START_TEST(a_cache_has_gates) {
    pthread_t thread;
    bs_heap_free(bs_heap_alloc(10));
    ck_assert_int_eq(pthread_create(&thread, NULL, make_cache, NULL), 0);
    ck_assert(wait_for(&is_filtered, 1, 60000));
    if (bs_load(&cannot)) {
        printf("skipped: a_cache_has_gates: no system call can be held here\n");
        pthread_join(thread, NULL);
        return;
    }
    ck_assert(hold_call_wait());
    ck_assert_uint_eq(bs_load(&is_made), 0);
    begin_sampling();
    ck_assert_uint_eq(bs_thread_count(), 1); /* this thread's */
    ck_assert(hold_call_release());
    pthread_join(thread, NULL);
    ck_assert_uint_eq(bs_load(&is_made), 1);
    ck_assert(sees);
    ck_assert_uint_eq(bs_sample_count(), 0); /* nearly each was sampled, and is freed */
    hold_call_end();
}
END_TEST

/* --- a span ----------------------------------------------------------------------------------- */

static int maker_tid; /* [atomic] */
static uint32_t goes; /* [atomic] */
static void *made;

static void wait_to_go_on(void) {
    if (!wait_for(&point.state, ON, 60000))
        abort();
}
static void *make_span(void *arg) {
    bs_heap_free(bs_heap_alloc(10)); /* a cache that is older */
    bs_store_release(&maker_tid, bs_os_tid());
    while (!bs_load_acquire(&goes))
        usleep(PAUSE_US);
    made = bs_heap_alloc(SIZE);
    return arg;
}
static void (*const begin[])(void) = {begin_sampling, begin_quarantine};

/* Its pages are not hidden yet, whoever made it does not know that they have to be, and whoever hides pages does not
 * see them. Shown they would be for good, and frees would pass the quarantine. A block there that is sampled is seen when it
 * goes. */
START_TEST(a_span_that_comes_is_hidden) {
    pthread_t thread;
    void *block[200];
    void *old = bs_heap_alloc(10);
    struct bs_arena *arena = bs_pagemap_arena((uintptr_t)old);
    ck_assert_int_eq(pthread_create(&thread, NULL, make_span, NULL), 0);
    while (bs_load_acquire(&maker_tid) == 0)
        usleep(PAUSE_US);
    set_point(maker_tid, arena->span, sizeof arena->span, wait_to_go_on);
    bs_store_release(&goes, 1u);
    ck_assert(wait_for(&point.state, THERE, 60000));
    begin[_i]();
    bs_store_release(&point.state, (uint32_t)ON);
    pthread_join(thread, NULL);
    ck_assert(bs_pagemap_arena((uintptr_t)made) == arena);
    if (begin[_i] == begin_quarantine)
        ck_assert_uint_eq(bs_pagemap_class((uintptr_t)made), 0);
    ck_assert_uint_eq(bs_pagemap_hidden_class((uintptr_t)made), bs_class_of(SIZE));

    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        block[i] = bs_heap_alloc(SIZE); /* of its slots, too */
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        bs_heap_free(block[i]);
    bs_heap_free(made);
    if (begin[_i] == begin_quarantine)
        for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
            require(bs_heap_alloc(SIZE) != made, "it is used again");
    else
        ck_assert_uint_eq(bs_sample_count(), 0);
}
END_TEST

#define FAR ((uintptr_t)0x123 << BS_ARENA_SHIFT) /* only the page map knows it */
#define PAGE (FAR + 1000 * BS_PAGE_SIZE)
#define CLASS 5

static uint32_t clears, is_clear; /* [atomic] */
static void *clear_page(void *arg) {
    while (!bs_load_acquire(&clears))
        usleep(PAUSE_US);
    bs_pagemap_clear_class(PAGE, 1);
    bs_store_release(&is_clear, 1u);
    return arg;
}
static void let_it_be_cleared(void) {
    bs_store_release(&clears, 1u);
    (void)wait_for(&is_clear, 1, 200); /* or it waits for us */
}
static void enter_page(void) {
    ck_assert(bs_pagemap_add(FAR, BS_ARENA_SIZE));
    bs_pagemap_set_small(PAGE, 1, (struct bs_span *)(uintptr_t)64, CLASS);
}

/* Whoever hides pages has seen its byte, and would write to a page that is somebody else's by then: a large block there
 * would be taken for a small one. */
START_TEST(a_span_that_goes_is_gone) {
    pthread_t thread;
    enter_page();
    ck_assert_int_eq(pthread_create(&thread, NULL, clear_page, NULL), 0);
    set_point(bs_os_tid(), &bs_pagemap_arena(PAGE)->hidden[(PAGE >> BS_PAGE_SHIFT) % BS_ARENA_PAGES], 8,
              let_it_be_cleared);
    bs_pagemap_hide(PAGE, 1, BS_HIDE_ALL);
    ck_assert_uint_eq(bs_load(&point.state), THERE);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(bs_pagemap_near_class(PAGE), 0);
    ck_assert_uint_eq(bs_pagemap_hidden_word(PAGE), 0);
}
END_TEST

/* Blocks are sampled from the moment on when sampling is on, and pages hidden after that. */
START_TEST(who_counted_before_is_not_forgotten) {
    enter_page();
    bs_pagemap_count(PAGE, +1);
    bs_pagemap_hide(0, 0, BS_HIDE_SOME);
    bs_pagemap_count(PAGE + 64, +1);
    for (unsigned i = 0; i < 2; i++) {
        bs_pagemap_hide(PAGE, 1, i == 0 ? BS_HIDE_SOME : BS_HIDE_ALL);
        ck_assert_uint_eq(bs_pagemap_near_class(PAGE), 0);
        ck_assert_uint_eq(bs_pagemap_hidden_class(PAGE), CLASS);
        ck_assert_uint_eq(bs_pagemap_plain_class(PAGE), 0);
        ck_assert_uint_eq(bs_pagemap_plain_class(PAGE + 64), 0);
        ck_assert_uint_eq(bs_pagemap_plain_class(PAGE + 128), CLASS);
    }
    bs_pagemap_count(PAGE, -1);
    bs_pagemap_count(PAGE + 64, -1);
    ck_assert_uint_eq(bs_pagemap_near_class(PAGE), 0);
}
END_TEST

/* It was said that classes are hidden, and the page's turn has not come: its byte is the class still. Frees that come
 * to the slow door meanwhile found no class, and were taken for double ones. */
START_TEST(a_page_that_is_not_hidden_yet) {
    static const struct bs_heap_keeper keeper = {bs_quarantine_small, bs_quarantine_large, bs_quarantine_resize,
                                                 bs_quarantine_check, ignore_trim, NULL};
    void *block[4];
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        block[i] = bs_heap_alloc(SIZE);
    enter_page();
    bs_pagemap_count(PAGE, +1);
    bs_pagemap_hide(0, 0, _i != 0 ? BS_HIDE_SOME : BS_HIDE_ALL);
    ck_assert_uint_eq(bs_pagemap_hidden_class(PAGE), CLASS);
    ck_assert_uint_eq(bs_pagemap_hidden_class((uintptr_t)block[0]), bs_class_of(SIZE));
    ck_assert_uint_eq(bs_pagemap_hidden_class(PAGE + BS_PAGE_SIZE), 0);
    ck_assert_uint_eq(bs_pagemap_hidden_class(~(uintptr_t)0), 0);
    ck_assert_uint_eq(bs_heap_usable(block[0]), SIZE);
    bs_heap_free_slow(block[0]);
    ck_assert_ptr_nonnull(block[1] = bs_heap_realloc(block[1], 2 * SIZE));
    if (_i == 0)
        bs_heap_set_keeper(&keeper);
    for (unsigned i = 1; i < BS_ARRAY_LEN(block); i++)
        bs_heap_free_slow(block[i]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sample_begin");
    TCase *tc = add_case(suite, "cache");
    tcase_add_test(tc, a_cache_has_gates);
    tc = add_case(suite, "span");
    tcase_add_loop_test(tc, a_span_that_comes_is_hidden, 0, 2);
    tcase_add_test(tc, a_span_that_goes_is_gone);
    tcase_add_test(tc, who_counted_before_is_not_forgotten);
    tcase_add_loop_test(tc, a_page_that_is_not_hidden_yet, 0, 2);
    return run_suite(suite);
}
