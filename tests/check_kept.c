/* SPDX-License-Identifier: MIT */
/*
 * check_kept.c - spans of large blocks that a thread keeps (tcache_kept.h): what comes back, and whose, within which
 * bounds; no page is lost or used twice; where they go when the thread ends, is unused, or may keep none.
 *
 * Everything goes through heap.h, as a program does. Lengths and addresses are those of the page heap of a new process.
 */
#include "heap.h"

#include "counter.h"
#include "fork.h"
#include "large.h"
#include "limit.h"
#include "opt.h"
#include "os.h"
#include "pageheap.h"
#include "tcache_kept.h"
#include "thread.h"
#include "unit.h"
#include "waiting.h"

#include <pthread.h>

#define PAGES(n) ((n)*BS_PAGE_SIZE)

static char *take(size_t npages) {
    char *p = bs_heap_alloc(PAGES(npages));
    require(p != NULL && bs_span_of((uintptr_t)p)->npages >= npages, "no block of %zu pages", npages);
    return p;
}
/* A block of so many pages each. */
static void take_all(const size_t *npages, size_t n, char **block) {
    for (size_t i = 0; i < n; i++)
        block[i] = take(npages[i]);
}
static void free_all(char **block, size_t n) {
    for (size_t i = 0; i < n; i++)
        bs_heap_free(block[i]);
}
/* Frees such, all of them live at once before. */
static void free_of(const size_t *npages, size_t n, char **block) {
    take_all(npages, n, block);
    free_all(block, n);
}

static size_t kept(void) {
    return bs_kept_bytes(bs_tcache_self()) / BS_PAGE_SIZE;
}
static size_t waiting(void) {
    return bs_waiting_large_bytes() / BS_PAGE_SIZE;
}
/* The page heap's pages in spans are live, kept, or waiting. */
static void check_pages(size_t live) {
    struct bs_pageheap_counts c = bs_pageheap_counts();
    require(bs_large_span_bytes() == PAGES(live), "%zu pages in blocks, not %zu", bs_large_span_bytes() / BS_PAGE_SIZE, live);
    require(c.span_pages == live + bs_large_kept_bytes() / BS_PAGE_SIZE, "%zu pages in spans: %zu live, %zu kept, %zu wait",
            c.span_pages, live, kept(), waiting());
    require(bs_pageheap_is_valid(), "the page heap is broken");
}

START_TEST(the_newest_of_the_length_comes_back) {
    char *block[5];
    free_of((const size_t[]){5, 6, 5, 7, 5}, 5, block);
    ck_assert_uint_eq(kept(), 28);
    ck_assert_uint_eq(waiting(), 0);
    check_pages(0);
    ck_assert_ptr_eq(take(5), block[4]);
    ck_assert_ptr_eq(take(5), block[2]);
    ck_assert_ptr_eq(take(6), block[1]);
    ck_assert_ptr_eq(take(5), block[0]);
    ck_assert_ptr_eq(take(7), block[3]);
    ck_assert_uint_eq(kept(), 0);
    check_pages(28);
}
END_TEST

/* One part in BS_KEPT_SLACK_PART longer will do, no more, and nothing shorter. */
START_TEST(a_little_longer_will_do) {
    char *block[2];
    free_of((const size_t[]){10, 17}, 2, block);
    ck_assert_ptr_ne(take(7), block[0]);
    ck_assert_ptr_eq(take(8), block[0]);
    ck_assert_uint_eq(bs_heap_usable(block[0]), PAGES(10));
    ck_assert_ptr_ne(take(13), block[1]);
    ck_assert_ptr_ne(take(18), block[1]);
    ck_assert_uint_eq(kept(), 17);
    ck_assert_ptr_eq(take(14), block[1]);
    bs_heap_free(block[0]);
    ck_assert_uint_eq(kept(), 10); /* all of it */
}
END_TEST

/* The length itself first, however old; of longer ones the newest. */
START_TEST(the_length_itself_is_better) {
    char *block[3];
    free_of((const size_t[]){8, 9, 10}, 3, block);
    ck_assert_ptr_eq(take(8), block[0]);
    ck_assert_ptr_eq(take(8), block[2]);
    ck_assert_ptr_eq(take(8), block[1]);
    ck_assert_uint_eq(kept(), 0);
}
END_TEST

/* The same of those that wait. */
START_TEST(one_that_waits_will_do_as_well) {
    char *block[3];
    free_of((const size_t[]){9, 10, 10}, 3, block);
    bs_kept_drain(bs_tcache_self());
    ck_assert_uint_eq(waiting(), 29);
    ck_assert_ptr_eq(bs_heap_alloc_aligned(PAGES(1), PAGES(9)), block[0]);
    char *p = take(8);
    ck_assert(p == block[1] || p == block[2]);
    struct bs_span *other;
    ck_assert_ptr_null(bs_waiting_trade_large(NULL, 0, 7, PAGES(1), &other));
    ck_assert_ptr_null(other); /* too few wait */
    ck_assert_ptr_null(bs_waiting_trade_large(NULL, 0, 11, PAGES(1), &other));
    ck_assert_ptr_null(other);
    ck_assert_uint_eq(waiting(), 10);
    check_pages(19);
}
END_TEST

/* Blocks of so many pages each, which then wait. What is free is behind them, and was used: before new pages are taken
 * all would go. */
static void make_wait(const size_t *npages, size_t n, char **block) {
    bs_heap_free(take(200));
    take_all(npages, n, block);
    (void)take(5);
    for (size_t i = 0; i < n; i++)
        bs_large_free(bs_span_of((uintptr_t)block[i]));
}

/* Where none will do and half of what may wait does, one goes for it: the oldest of the length that has the most pages. */
START_TEST(a_miss_swaps_one_that_waits) {
    char *block[10];
    make_wait((const size_t[]){5, 14, 5, 5, 5, 5, 5, 6}, 8, block);
    _Static_assert(50 > BS_KEPT_PAGES / 2 && 50 - 5 <= BS_KEPT_PAGES / 2,
                   "one is swapped, and no second one");
    ck_assert_uint_eq(waiting(), 50);
    struct bs_span *first = bs_pagemap_span((uintptr_t)block[0]);
    uint64_t made = bs_counted(spans_made), returned = bs_counted(spans_returned);
    char *p = bs_heap_alloc_aligned(PAGES(4), PAGES(8));
    ck_assert_ptr_eq(bs_span_of((uintptr_t)p), first);
    ck_assert_uint_eq((uintptr_t)p % PAGES(4), 0);
    ck_assert_uint_eq(bs_heap_usable(p), PAGES(8));
    ck_assert_ptr_null(bs_span_of((uintptr_t)block[0]));
    ck_assert_uint_eq(waiting(), 45);
    check_pages(5 + 8);
    char *q = take(8);
    ck_assert_uint_eq(waiting(), 45);
    check_pages(5 + 8 + 8);
    bs_tcache_drain_own();
    ck_assert_uint_eq(bs_counted(spans_made), made + 2);
    ck_assert_uint_eq(bs_counted(spans_returned), returned + 1);
    bs_heap_free(p);
    bs_heap_free(q);
    check_pages(5);
}
END_TEST

/* Its pages may be the new block's, in part. */
START_TEST(what_was_swapped_is_used_again) {
    char *block[3];
    make_wait((const size_t[]){32, 8, 10}, 3, block);
    memset(block[0], 0xa5, PAGES(32)); /* as whoever had it */
    char *p = bs_heap_alloc_zero(PAGES(20));
    ck_assert_ptr_eq(p, block[0]);
    for (size_t i = 0; i < PAGES(20); i++)
        require(p[i] == 0, "byte %zu is not zero", i);
    ck_assert_uint_eq(waiting(), 18);
    check_pages(5 + 20);
    char *wall = take(12), *gone = take(31);
    ck_assert_ptr_eq(wall, p + PAGES(20));
    bs_large_free(bs_span_of((uintptr_t)gone));
    ck_assert_uint_eq(waiting(), 18 + 31);
    char *q = bs_heap_realloc(p, PAGES(24)); /* one that grows does so, too */
    ck_assert_ptr_ne(q, p);
    ck_assert_uint_eq(waiting(), 18 + 20);
    check_pages(5 + 12 + 24);
}
END_TEST

START_TEST(alignment_is_kept) {
    enum { N = 4 };
    char *p[N];
    for (unsigned i = 0; i < N; i++) {
        p[i] = bs_heap_alloc_aligned(PAGES(8), PAGES(8));
        ck_assert_uint_eq((uintptr_t)p[i] % PAGES(8), 0);
    }
    char *q = take(7); /* the next may be anywhere */
    for (unsigned i = 0; i < N; i++)
        bs_heap_free(p[i]);
    bs_heap_free(q);
    ck_assert_ptr_eq(bs_heap_alloc_aligned(PAGES(8), PAGES(8)), p[N - 1]);
    bs_heap_free(p[N - 1]);
    for (size_t align = PAGES(1); align <= PAGES(64); align *= 2) {
        char *a = bs_heap_alloc_aligned(align, PAGES(7));
        ck_assert_uint_eq((uintptr_t)a % align, 0);
        bs_heap_free(a);
    }
}
END_TEST

/* calloc's zeros, whatever was there; and realloc takes from it and leaves it whole. */
START_TEST(content_is_as_promised) {
    char *p = take(5);
    memset(p, 0xa5, PAGES(5));
    bs_heap_free(p);
    char *q = bs_heap_alloc_zero(PAGES(5));
    ck_assert_ptr_eq(q, p);
    for (size_t i = 0; i < PAGES(5); i++)
        require(q[i] == 0, "byte %zu is not zero", i);
    memset(q, 1, PAGES(5));
    char *wall = take(6), *other = take(6);
    bs_heap_free(other);
    char *r = bs_heap_realloc(q, PAGES(6));
    ck_assert_ptr_eq(r, other);
    for (size_t i = 0; i < PAGES(5); i++)
        require(r[i] == 1, "byte %zu is lost", i);
    bs_heap_free(wall);
    bs_heap_free(r);
    ck_assert_uint_eq(bs_counted(large_copied), 1);
    check_pages(0);
}
END_TEST

START_TEST(all_is_within_bounds) {
    enum { N = 60 };
    char *block[N];
    size_t npages[N], all = 0;
    uint64_t seed = 1;
    for (unsigned i = 0; i < N; i++)
        all += npages[i] = 5 + random_below(&seed, 2 * BS_KEPT_SPAN_PAGES);
    for (unsigned i = 0; i < N; i++)
        block[i] = take(npages[i]);
    check_pages(all);
    for (unsigned i = 0; i < N; i++) {
        bs_heap_free(block[i]);
        all -= npages[i];
        ck_assert_uint_le(kept(), BS_KEPT_THREAD_PAGES + BS_KEPT_THREAD_PAGES / 2);
        check_pages(all);
    }
    ck_assert_uint_ne(kept(), 0);
    bs_tcache_drain_own();
    ck_assert_uint_eq(kept(), 0);
    check_pages(0);
    ck_assert_uint_eq(bs_counted(large_allocs), N);
}
END_TEST

/* No more than half of the places and of the pages stay taken, by the newest. */
START_TEST(the_oldest_leave_in_batches) {
    char *block[20];
    size_t npages[] = {5, 5, 5, 5, 5, 5, 5, 5};
    free_of(npages, 8, block); /* 32 pages have room for 6, and one is too many */
    ck_assert_uint_eq(waiting(), 5 * 4); /* half of the pages */
    ck_assert_uint_eq(kept(), 5 * 4);
    for (int i = 7; i >= 4; i--)
        ck_assert_ptr_eq(take(5), block[i]);
    check_pages(20);
    ck_assert_ptr_eq(take(5), block[3]); /* the one of those that wait that came last */
    check_pages(25);
}
END_TEST

/* One more than there is room for stays, if it is not longer than half of that, until a block finds none here: then those
 * that are too many leave, by the visit that looks for one among those that wait. */
START_TEST(what_is_too_many_leaves_with_a_miss) {
    char *block[20];
    size_t npages[] = {9, 5, 5, 5, 5, 5, 5, 5};
    take_all(npages, 8, block);
    bs_large_free(bs_span_of((uintptr_t)block[0]));
    free_all(block + 1, 7);
    ck_assert_uint_eq(kept(), 5 * 7);
    ck_assert_uint_eq(waiting(), 9);
    ck_assert_ptr_eq(take(9), block[0]);
    ck_assert_uint_eq(kept(), 5 * 3);
    ck_assert_uint_eq(waiting(), 5 * 4);
    check_pages(9);
    for (int i = 7; i >= 1; i--) /* the newest have stayed, of the others the last one is first */
        ck_assert_ptr_eq(take(5), block[i]);
    check_pages(9 + 5 * 7);
}
END_TEST

/* One too many that no block of such a length is asked for after: it leaves with the next that comes. And one that is longer than
 * half of the room at once, for others. */
START_TEST(no_more_are_too_many_than_one) {
    char *block[20];
    free_of((const size_t[]){16, 15, 16, 17}, 4, block);
    ck_assert_uint_eq(kept(), 16 + 17); /* 47 of them were there before */
    ck_assert_uint_eq(waiting(), 16 + 15);
    bs_tcache_drain_own();
    free_of((const size_t[]){16, 15, 18}, 3, block);
    ck_assert_uint_eq(kept(), 18 + 15);
    bs_heap_free(take(BS_KEPT_SPAN_PAGES + 1)); /* asks for none of these */
    ck_assert_uint_eq(kept(), 18 + 15);
    check_pages(0);
}
END_TEST

START_TEST(the_last_page_of_the_room_is_used) {
    char *block[4];
    free_of((const size_t[]){8, 8, 8, 8}, 4, block);
    ck_assert_uint_eq(kept(), BS_KEPT_THREAD_PAGES);
    check_pages(0);
}
END_TEST

/* Aligned blocks may be so short that places run out before pages do. */
START_TEST(there_may_be_no_place_for_more) {
    enum { N = 20 };
    char *block[N];
    for (unsigned i = 0; i < N; i++)
        block[i] = bs_heap_alloc_aligned(PAGES(8), 1);
    ck_assert_uint_eq(bs_span_of((uintptr_t)block[0])->npages, 1); /* else the test shows nothing */
    for (unsigned i = 0; i < N; i++) {
        bs_heap_free(block[i]);
        check_pages(N - 1 - i);
        ck_assert_uint_le(kept(), 8);
    }
    ck_assert_ptr_eq(bs_heap_alloc_aligned(PAGES(8), 1), block[N - 1]);
    bs_tcache_drain_own();
    check_pages(1);
}
END_TEST

/* A process without a helper finds its work so. Whatever the places of other lengths hold. */
START_TEST(one_in_eight_looks_for_work) {
    char *other = take(5);
    (void)bs_tcache_note_busy();
    for (unsigned round = 0, quiet = 0; round < 100; round++) {
        if (round == 7) { /* its place is the first, and stays taken from now on */
            bs_heap_free(other);
            quiet = 0;
        }
        struct bs_span *s = bs_span_of((uintptr_t)take(9));
        bs_span_rest(s);
        quiet = bs_kept_put(s) == BS_KEPT_QUIETLY ? quiet + 1 : 0;
        require(quiet < 8, "%u in a row went quietly", quiet);
    }
    check_pages(0);
}
END_TEST

START_TEST(nothing_is_lost_or_doubled) {
    enum { N = 40, STEPS = 30000 / UNIT_SLOWNESS };
    static struct {
        uint64_t *p;
        size_t bytes;
    } live[N];
    uint64_t seed = (uint64_t)_i + 1;
    size_t allocs = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        size_t i = random_below(&seed, N);
        if (live[i].p != NULL) {
            require(live[i].p[0] == i && live[i].p[live[i].bytes / 8 - 1] == ~i, "block %zu was somebody else's", i);
            bs_heap_free(live[i].p);
        }
        live[i].p = NULL;
        if (random_below(&seed, 8) == 0)
            continue;
        live[i].bytes = BS_SMALL_MAX + 8 + random_below(&seed, _i == 0 ? 30000 : 300000) / 8 * 8;
        live[i].p = random_below(&seed, 2) != 0 ? bs_heap_alloc(live[i].bytes) : bs_heap_alloc_zero(live[i].bytes);
        allocs++;
        live[i].p[0] = i;
        live[i].p[live[i].bytes / 8 - 1] = ~i;
        if (step % 1000 == 0)
            bs_tcache_drain_own();
    }
    size_t pages = 0;
    for (size_t i = 0; i < N; i++)
        pages += live[i].p != NULL ? bs_heap_usable(live[i].p) / BS_PAGE_SIZE : 0;
    check_pages(pages);
    bs_tcache_drain_own();
    check_pages(pages);
    ck_assert_uint_eq(bs_counted(large_allocs), allocs);
}
END_TEST

/* --- crimes ----------------------------------------------------------------------------------- */

static void free_twice(void *arg) {
    (void)arg;
    char *p = take(5);
    bs_heap_free(p);
    bs_heap_free(p);
}
static void free_inside(void *arg) {
    (void)arg;
    char *p = take(5);
    bs_heap_free(p);
    bs_heap_free(p + BS_PAGE_SIZE);
}
static void grow_freed(void *arg) {
    (void)arg;
    char *p = take(5);
    bs_heap_free(p);
    (void)bs_heap_realloc(p, PAGES(9));
}
START_TEST(what_is_kept_is_nobodys_block) {
    expect_abort(free_twice, NULL, "double free");
    expect_abort(free_inside, NULL, "invalid free");
    expect_abort(grow_freed, NULL, "which was freed");
    char *p = take(5);
    bs_heap_free(p);
    ck_assert_uint_eq(bs_heap_usable(p), 0);
}
END_TEST

/* --- whose, and until when -------------------------------------------------------------------- */

static void *use_and_end(void *arg) {
    char *block[3];
    free_of((const size_t[]){5, 7, 20}, 3, block);
    require(kept() == 32, "%zu pages are kept", kept());
    return arg;
}
static void *use_and_wait(void *arg) {
    pthread_barrier_t *both = arg;
    use_and_end(NULL);
    pthread_barrier_wait(both);
    pthread_barrier_wait(both);
    return arg;
}

START_TEST(what_a_thread_keeps_is_its_own_until_it_ends) {
    pthread_t thread;
    pthread_barrier_t both;
    pthread_barrier_init(&both, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, use_and_wait, &both), 0);
    pthread_barrier_wait(&both);
    ck_assert_uint_eq(bs_large_kept_bytes(), PAGES(32));
    ck_assert_uint_eq(waiting(), 0);
    check_pages(0);
    char *p = take(5);
    check_pages(5);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 37); /* it was not that thread's */
    bs_heap_free(p);
    pthread_barrier_wait(&both);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(waiting(), 32);
    check_pages(0);
}
END_TEST

static void *keep_some(void *arg) {
    char *block[4];
    bs_heap_free(bs_heap_alloc(100)); /* all have caches before one keeps anything */
    take_all((const size_t[]){8, 7, 6, 5}, 4, block);
    pthread_barrier_wait(arg);
    free_all(block, 4); /* nobody takes any more: a longer one of another thread's would do */
    pthread_barrier_wait(arg);
    pthread_barrier_wait(arg);
    return arg;
}

/* Of many threads each may keep less; one span, the one that came last, in any case. */
START_TEST(threads_share_what_may_be_kept) {
    enum { N = 64 };
    pthread_t thread[N];
    pthread_barrier_t all;
    char *p = bs_heap_alloc(100);
    pthread_barrier_init(&all, NULL, N + 1);
    for (unsigned i = 0; i < N; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, keep_some, &all), 0);
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    ck_assert_uint_eq(bs_large_kept_bytes() - bs_waiting_large_bytes(), N * PAGES(5));
    pthread_barrier_wait(&all);
    for (unsigned i = 0; i < N; i++)
        pthread_join(thread[i], NULL);
    ck_assert_uint_eq(bs_large_kept_bytes(), bs_waiting_large_bytes());
    ck_assert(bs_pageheap_is_valid());
    bs_heap_free(p);
}
END_TEST
START_TEST(a_forked_child_has_what_the_others_kept) {
    pthread_t thread;
    pthread_barrier_t both;
    int status;
    bs_fork_start();
    pthread_barrier_init(&both, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, use_and_wait, &both), 0);
    pthread_barrier_wait(&both);
    pid_t child = fork();
    if (child == 0) {
        for (struct bs_tcache *tc; (tc = bs_thread_take_orphan(100)) != NULL;)
            bs_tcache_bury(tc);
        _exit(waiting() == 32 && bs_pageheap_is_valid() ? 0 : 1);
    }
    waitpid(child, &status, 0);
    ck_assert_int_eq(status, 0);
    pthread_barrier_wait(&both);
    pthread_join(thread, NULL);
}
END_TEST

/* A fork may meet a thread that has told of a span's pages and not of its place, or the other way round. */
START_TEST(a_fork_in_the_middle_of_a_step_doubles_none) {
    struct bs_kept *own = NULL;
    char *block[2];
    for (int by = -5; by <= 9; by += 14) {
        free_of((const size_t[]){5, 7}, 2, block);
        own = &bs_tcache_self()->kept;
        own->pages += (uint32_t)by; /* and no length */
        bs_tcache_drain_own();
        ck_assert_uint_eq(kept(), 0);
        ck_assert_uint_eq(waiting(), 12);
        check_pages(0);
    }
    own->pages = 9; /* the only one, or the first */
    bs_tcache_drain_own();
    ck_assert_uint_eq(kept(), 0);
    check_pages(0);
}
END_TEST

/* Before much is taken from the kernel, as magazines. */
START_TEST(growth_takes_what_is_kept) {
    char *block[3];
    free_of((const size_t[]){5, 7, 20}, 3, block);
    ck_assert_uint_eq(kept(), 32);
    for (size_t bytes = 0; bytes < 2 * BS_SPARE_BYTES; bytes += BS_KIB)
        ck_assert_ptr_nonnull(bs_heap_alloc(BS_KIB));
    ck_assert_uint_eq(kept(), 0);
    ck_assert_uint_eq(waiting(), 0);
}
END_TEST

START_TEST(a_thread_without_a_cache_keeps_none) {
    char *p = take(5);
    bs_tcache_disable();
    bs_heap_free(p);
    ck_assert_uint_eq(kept(), 0);
    ck_assert_uint_eq(waiting(), 5);
    ck_assert_ptr_eq(take(5), p);
    check_pages(5);
}
END_TEST

START_TEST(under_pressure_a_thread_keeps_none) {
    char *p = take(1000), *q = take(5);
    bs_opt.limit.kind = BS_LIMIT_BYTES;
    bs_opt.limit.value = PAGES(1000);
    bs_limit_start();
    ck_assert_int_ne(bs_limit_pressure(), BS_PRESSURE_NONE);
    bs_heap_free(q);
    ck_assert_uint_eq(kept(), 0);
    bs_heap_free(p);
    check_pages(0);
}
END_TEST

/* What was kept before the limit came near is not missing there. */
START_TEST(a_hard_limit_refuses_nothing_for_what_is_kept) {
    char *block[3];
    free_of((const size_t[]){5, 7, 20}, 3, block);
    ck_assert_uint_eq(kept(), 32);
    bs_opt.limit.kind = BS_LIMIT_BYTES;
    bs_opt.limit.value = bs_max(bs_limit_used() + PAGES(10), BS_LIMIT_MIN_BYTES);
    bs_opt.limit_hard = true;
    bs_limit_start();
    size_t room = (bs_limit_bytes() - bs_limit_used() + bs_pageheap_dirty_bytes()) / BS_PAGE_SIZE;
    char *p = bs_large_alloc(PAGES(room + 22), 1, false); /* not by heap.h, which has all given back once a second */
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq(kept(), 0);
    check_pages(room + 22);
    bs_heap_free(p);
}
END_TEST

/* Then nobody has the span that went for it. */
START_TEST(a_hard_limit_may_refuse_a_swap) {
    char *block[2], *live = take(200);
    make_wait((const size_t[]){30, 31}, 2, block);
    bs_opt.limit.kind = BS_LIMIT_BYTES;
    bs_opt.limit.value = PAGES(200);
    bs_opt.limit_hard = true;
    bs_limit_start();
    ck_assert_uint_eq(waiting(), 61);
    ck_assert_ptr_null(bs_large_alloc(PAGES(9), 1, false));
    ck_assert_uint_eq(waiting(), 0);
    check_pages(205);
    bs_heap_free(live);
    check_pages(5);
}
END_TEST

START_TEST(too_long_ones_are_not_kept) {
    char *p = take(BS_KEPT_SPAN_PAGES + 1);
    bs_heap_free(p);
    ck_assert_uint_eq(kept() + waiting(), 0);
    p = take(BS_KEPT_SPAN_PAGES);
    bs_heap_free(p);
    ck_assert_uint_eq(kept(), BS_KEPT_SPAN_PAGES);
    check_pages(0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("kept");
    TCase *tc = add_case(suite, "blocks");
    tcase_add_test(tc, the_newest_of_the_length_comes_back);
    tcase_add_test(tc, a_little_longer_will_do);
    tcase_add_test(tc, the_length_itself_is_better);
    tcase_add_test(tc, one_that_waits_will_do_as_well);
    tcase_add_test(tc, a_miss_swaps_one_that_waits);
    tcase_add_test(tc, what_was_swapped_is_used_again);
    tcase_add_test(tc, alignment_is_kept);
    tcase_add_test(tc, content_is_as_promised);
    tcase_add_test(tc, all_is_within_bounds);
    tcase_add_test(tc, the_oldest_leave_in_batches);
    tcase_add_test(tc, what_is_too_many_leaves_with_a_miss);
    tcase_add_test(tc, no_more_are_too_many_than_one);
    tcase_add_test(tc, too_long_ones_are_not_kept);
    tcase_add_test(tc, the_last_page_of_the_room_is_used);
    tcase_add_test(tc, there_may_be_no_place_for_more);
    tcase_add_test(tc, one_in_eight_looks_for_work);
    tcase_add_loop_test(tc, nothing_is_lost_or_doubled, 0, 2);
    tcase_add_test(tc, what_is_kept_is_nobodys_block);
    tc = add_case(suite, "owners");
    tcase_add_test(tc, what_a_thread_keeps_is_its_own_until_it_ends);
    tcase_add_test(tc, threads_share_what_may_be_kept);
    tcase_add_test(tc, a_forked_child_has_what_the_others_kept);
    tcase_add_test(tc, a_fork_in_the_middle_of_a_step_doubles_none);
    tcase_add_test(tc, growth_takes_what_is_kept);
    tcase_add_test(tc, a_thread_without_a_cache_keeps_none);
    tcase_add_test(tc, under_pressure_a_thread_keeps_none);
    tcase_add_test(tc, a_hard_limit_refuses_nothing_for_what_is_kept);
    tcase_add_test(tc, a_hard_limit_may_refuse_a_swap);
    return run_suite(suite);
}
