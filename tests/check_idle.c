/* SPDX-License-Identifier: MIT */
/*
 * check_idle.c - whose cache is emptied and whose is not: threads that sleep, that run, whose stack
 * shows besom's code, that nobody watches; and when the helper may end.
 *
 * Test and core are one file of code, so each test names a range of its own as besom's. Threads that
 * wake and sleep as they like are in tests/stress/idle_storm.c: what a thread did before the kernel
 * calls it asleep is ordered for the helper, but ThreadSanitizer cannot know; here they meet at
 * semaphores.
 */
#include "heap.h"
#include "counter.h"
#include "idle.h"
#include "large.h"
#include "opt.h"
#include "os.h"
#include "tcache_kept.h"
#include "text.h"
#include "thread.h"
#include "unit.h"
#include "waiting.h"

#include <pthread.h>
#include <semaphore.h>

#define NTHREADS 8
#define LARGE ((size_t)80 * BS_KIB) /* of a length that is kept */

static sem_t working, go_on;
static int tids[NTHREADS]; /* [atomic] of those that will sleep at go_on */
static unsigned ntids;     /* [atomic] */
static int stop; /* [atomic] */

/* Not even a small number is in this range: stacks are never found to show besom. */
static void no_text(void) {
    bs_text_set(0x10000000000, 0x10000000010);
}

static void use_cache(void) {
    void *p[300];
    for (unsigned i = 0; i < 300; i++)
        p[i] = bs_heap_alloc(16 + i * 5);
    for (unsigned i = 0; i < 300; i++)
        bs_heap_free(p[i]);
    bs_heap_free(bs_heap_alloc(LARGE));
}

static void *sleeper(void *arg) {
    use_cache();
    bs_store(&tids[bs_add(&ntids, 1u)], bs_os_tid());
    sem_post(&working);
    while (sem_wait(&go_on) != 0)
        ;
    use_cache();
    require(bs_tcache_bytes(bs_tcache_self()) != 0, "the cache is gone");
    require(bs_kept_bytes(bs_tcache_self()) == LARGE, "the large block is not kept");
    return arg;
}

static pthread_t thread[NTHREADS];

static void start(void *(*fn)(void *), void *arg, unsigned n) {
    sem_init(&working, 0, 0);
    sem_init(&go_on, 0, 0);
    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, fn, arg), 0);
    for (unsigned i = 0; i < n; i++)
        sem_wait(&working);
    for (unsigned i = 0; i < bs_load(&ntids); i++)
        wait_until_asleep(bs_load(&tids[i]), &go_on, sizeof go_on);
}

static void finish(unsigned n) {
    for (unsigned i = 0; i < n; i++)
        sem_post(&go_on);
    bs_store(&stop, 1);
    for (unsigned i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    ck_assert_uint_eq(bs_thread_count(), 0);
    ck_assert(bs_thread_grant(BS_CACHE_TOTAL_BYTES)); /* all room was refunded */
    size_t out = 0;
    for (unsigned class = 1; class < BS_NCLASSES; class++)
        out += bs_central_counts(class).slots_out;
    ck_assert_uint_eq(out, 0);
}

START_TEST(sleeping_threads_are_drained) {
    no_text();
    start(sleeper, NULL, NTHREADS);
    struct bs_idle_work first = bs_idle_round();
    ck_assert_uint_eq(first.drained, 0); /* it was only seen */
    ck_assert(first.more);
    struct bs_idle_work next = first, all = {0, 0, false};
    for (unsigned i = 0; i < 200 && next.more; i++) { /* a round stops when its time is over */
        next = bs_idle_round();
        all.drained += next.drained;
        all.bytes += next.bytes;
    }
    ck_assert_uint_eq(all.drained, NTHREADS);
    ck_assert_uint_gt(all.bytes, NTHREADS * (100000 + LARGE));
    ck_assert_uint_eq(bs_large_kept_bytes(), bs_waiting_large_bytes());
    ck_assert_uint_eq(bs_counted(caches_drained), NTHREADS);
    ck_assert_uint_eq(bs_counted(cache_bytes_drained), all.bytes);
    ck_assert_uint_eq(bs_idle_round().drained, 0);
    bool more = true;
    for (unsigned i = 0; i < 200 && more; i++) /* one whose time was over does not know */
        more = bs_idle_round().more;
    ck_assert(!more); /* the helper may end */
    finish(NTHREADS);
}
END_TEST

/* Asleep but for a moment now and then. */
static sem_t once;
static size_t bytes_used; /* [atomic] */
static void *timer(void *arg) {
    use_cache();
    bs_store(&tids[bs_add(&ntids, 1u)], bs_os_tid());
    sem_post(&working);
    while (sem_wait(&once) == 0 && bs_load(&stop) == 0) {
        bs_heap_free(bs_heap_alloc(bs_load(&bytes_used)));
        sem_post(&working);
    }
    return arg;
}
static size_t drained_after_use(size_t bytes) {
    size_t drained = 0;
    bool more = true;
    bs_store(&bytes_used, bytes);
    sem_post(&once);
    sem_wait(&working);
    wait_until_asleep(bs_load(&tids[0]), &once, sizeof once);
    for (unsigned i = 0; i < 200 && more; i++) {
        struct bs_idle_work work = bs_idle_round();
        drained += work.drained;
        more = work.more;
    }
    ck_assert(!more);
    return drained;
}

/* Else the helper would never end: it empties a cache with a few blocks, and its owner comes to the slow door. */
START_TEST(who_comes_back_for_little_is_left_alone) {
    no_text();
    sem_init(&once, 0, 0);
    sem_init(&working, 0, 0);
    ck_assert_int_eq(pthread_create(&thread[0], NULL, timer, NULL), 0);
    sem_wait(&working);
    size_t drained = 0;
    for (unsigned i = 0; i < 10 * BS_IDLE_LITTLE_DRAINS; i++)
        drained += drained_after_use(100);
    ck_assert_uint_ge(drained, BS_IDLE_LITTLE_DRAINS);
    ck_assert_uint_le(drained, BS_IDLE_LITTLE_DRAINS + 1); /* first there was much */
    ck_assert_uint_eq(drained_after_use(LARGE), 1);
    ck_assert_uint_eq(drained_after_use(100), 1); /* and it begins anew */
    ck_assert_uint_eq(bs_idle_drain_all().drained, 0);
    bs_store(&stop, 1);
    sem_post(&once);
    pthread_join(thread[0], NULL);
}
END_TEST

START_TEST(trim_does_not_wait_for_quiet) {
    no_text();
    start(sleeper, NULL, NTHREADS);
    ck_assert_uint_eq(bs_idle_drain_all().drained, NTHREADS);
    finish(NTHREADS);
}
END_TEST

START_TEST(off_is_off) {
    no_text();
    bs_opt.idle_threads = false;
    start(sleeper, NULL, 1);
    ck_assert_uint_eq(bs_idle_drain_all().drained, 0);
    ck_assert(!bs_idle_round().more);
    finish(1);
}
END_TEST

START_TEST(unwatched_caches_are_left_alone) {
    no_text();
    start(sleeper, NULL, 1);
    struct bs_tcache *tc = bs_thread_next();
    bs_store(&tc->watched, false);
    ck_assert_uint_eq(bs_idle_drain_all().drained, 0);
    bs_store(&tc->watched, true);
    ck_assert_uint_eq(bs_idle_drain_all().drained, 1);
    finish(1);
}
END_TEST

/* Its word stands for a return address into besom. */
static void *marked_sleeper(void *arg) {
    uintptr_t volatile word = (uintptr_t)arg;
    void *result = sleeper(NULL);
    return word == 0 ? result : NULL;
}

START_TEST(code_on_the_stack_is_respected) {
    uintptr_t mark = 0x123456789a0;
    bs_text_set(mark, mark + 16);
    start(marked_sleeper, (void *)(mark + 8), 1);
    ck_assert_uint_eq(bs_idle_drain_all().drained, 0);
    unsigned rounds = 0;
    while (bs_idle_round().more && rounds < 1000)
        rounds++;
    ck_assert_uint_eq(bs_counted(caches_drained), 0);
    ck_assert_uint_ge(rounds, BS_IDLE_LOOKS_MAX - 1); /* it was tried, and given up */
    ck_assert_uint_lt(rounds, 1000);
    bs_text_set(mark + 16, mark + 32);
    ck_assert_uint_eq(bs_idle_drain_all().drained, 1);
    finish(1);
}
END_TEST

static void *runner(void *arg) {
    use_cache();
    sem_post(&working);
    while (!bs_load(&stop))
        ;
    return arg;
}

START_TEST(running_threads_are_left_alone) {
    no_text();
    start(runner, NULL, 1);
    for (unsigned i = 0; i < 100; i++)
        ck_assert_uint_eq(bs_idle_drain_all().drained, 0);
    finish(1);
}
END_TEST

extern const char __ehdr_start[] __attribute__((visibility("hidden"))); /* the linker's */
extern const char _DYNAMIC[] __attribute__((visibility("hidden")));

/* The dynamic linker leaves addresses of headers and tables on the first thread's stack: as besom's code they
 * would make it look as if it never was outside. Linkers differ in where they put them. */
START_TEST(headers_are_no_code) {
    struct bs_text text = bs_text(), data = bs_text_data();
    ck_assert_uint_lt((uintptr_t)__ehdr_start, text.base);
    ck_assert_uint_le(text.base, (uintptr_t)use_cache);
    ck_assert_uint_gt(text.end, (uintptr_t)use_cache);
    ck_assert_uint_le(data.base, (uintptr_t)_DYNAMIC);
    ck_assert_uint_gt(data.end, (uintptr_t)_DYNAMIC);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("idle");
    TCase *tc = add_case(suite, "whose");
    tcase_add_test(tc, sleeping_threads_are_drained);
    tcase_add_test(tc, who_comes_back_for_little_is_left_alone);
    tcase_add_test(tc, trim_does_not_wait_for_quiet);
    tcase_add_test(tc, off_is_off);
    tcase_add_test(tc, unwatched_caches_are_left_alone);
    tcase_add_test(tc, code_on_the_stack_is_respected);
    tcase_add_test(tc, running_threads_are_left_alone);
    tcase_add_test(tc, headers_are_no_code);
    return run_suite(suite);
}
