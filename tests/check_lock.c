/* SPDX-License-Identifier: MIT */
/*
 * check_lock.c - mutual exclusion with more threads than CPUs, sleeping waiters, try, and the
 * debug checker that makes a wrong order of locks fatal.
 *
 * The checker exists only where BS_DEBUG >= 1 (which the test copy of the core has by default);
 * its tests are left out elsewhere.
 */
#include "child.h"
#include "lock.h"
#include "os.h"
#include "round.h"

#include <check.h>
#include <pthread.h>

#define THREADS 8
#define TURNS 20000

static struct bs_lock shared = BS_LOCK_INIT(BS_RANK_CENTRAL);
static uint64_t guarded[2]; /* plain on purpose: both move together, or the lock does not lock */
static uint32_t inside;

static void *take_turns(void *arg) {
    uintptr_t wrong = 0;
    (void)arg;
    for (int i = 0; i < TURNS; i++) {
        bs_lock_acquire(&shared);
        wrong += bs_add(&inside, 1u) != 0 || guarded[0] != guarded[1];
        guarded[0]++;
        if (i % 64 == 0)
            sched_yield(); /* a holder that loses its CPU: the others sleep */
        guarded[1]++;
        bs_sub(&inside, 1u);
        bs_lock_release(&shared);
    }
    return (void *)wrong;
}

static void let_all_take_turns(void) {
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, take_turns, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        ck_assert_msg(wrong == NULL, "thread %d met others inside %zu times", i, (size_t)wrong);
    }
    ck_assert_uint_eq(guarded[0], (uint64_t)THREADS * TURNS);
    ck_assert_uint_eq(guarded[1], guarded[0]);
    ck_assert_uint_eq(shared.word, 0);
}

START_TEST(one_thread_at_a_time) {
    let_all_take_turns();
}
END_TEST

/* As where the process has one CPU. */
START_TEST(also_without_spinning) {
    bs_lock_set_spinning(false);
    let_all_take_turns();
}
END_TEST

static void *wait_for_lock(void *arg) {
    bs_lock_acquire(&shared);
    bs_store((uint32_t *)arg, 1u);
    bs_lock_release(&shared);
    return NULL;
}

START_TEST(sleepers_are_woken) {
    pthread_t thread[THREADS];
    uint32_t done[THREADS] = {0};
    bs_lock_acquire(&shared);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, wait_for_lock, &done[i]), 0);
    for (int i = 0; i < 60000 && bs_load(&shared.word) != 2; i++)
        usleep(1000); /* until one sleeps in the kernel */
    usleep(100000);   /* and those that can go through the lock have done so */
    for (int i = 0; i < THREADS; i++)
        ck_assert_msg(bs_load(&done[i]) == 0, "thread %d went through a held lock", i);
    ck_assert_uint_eq(bs_load(&shared.word), 2);
    bs_lock_release(&shared);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL); /* the test's own timeout bounds a sleeper nobody wakes */
    ck_assert_uint_eq(shared.word, 0);
}
END_TEST

static void *try_it(void *arg) {
    (void)arg;
    bool got = bs_lock_try(&shared);
    if (got)
        bs_lock_release(&shared);
    return (void *)(uintptr_t)got;
}

static bool other_thread_gets_it(void) {
    pthread_t thread;
    void *got;
    ck_assert_int_eq(pthread_create(&thread, NULL, try_it, NULL), 0);
    pthread_join(thread, &got);
    return got != NULL;
}

#define BREATHED 200

static void *take_between_breaths(void *arg) {
    for (int i = 0; i < BREATHED; i++) {
        bs_lock_acquire(&shared);
        bs_add((uint32_t *)arg, 1u);
        bs_lock_release(&shared);
    }
    return NULL;
}

/* Somebody who holds the lock for long and breathes lets others have it. */
START_TEST(a_breath_lets_others_in) {
    uint32_t got = 0;
    pthread_t other;
    bs_lock_acquire(&shared);
    ck_assert_int_eq(pthread_create(&other, NULL, take_between_breaths, &got), 0);
    while (bs_load(&got) < BREATHED) { /* the test's own timeout bounds a breath that lets nobody in */
        for (volatile int busy = 0; busy < 20000; busy++)
            continue; /* longer than a waiter spins: it sleeps */
        bs_lock_breathe(&shared);
    }
    bs_lock_release(&shared);
    pthread_join(other, NULL);
    ck_assert_uint_eq(got, BREATHED);
    ck_assert_uint_eq(shared.word, 0);
}
END_TEST

START_TEST(try_takes_a_free_lock_only) {
    ck_assert(bs_lock_try(&shared));
    ck_assert(!bs_lock_try(&shared));
    ck_assert(!other_thread_gets_it());
    bs_lock_release(&shared);
    ck_assert(other_thread_gets_it());
    ck_assert_uint_eq(shared.word, 0);
}
END_TEST

START_TEST(reset_frees_it) {
    bs_lock_acquire(&shared);
    bs_lock_forget_held(); /* both, as a forked child does */
    bs_lock_reset(&shared);
    ck_assert(bs_lock_try(&shared));
    bs_lock_release(&shared);
}
END_TEST

#if BS_DEBUG >= 1

static struct bs_lock low = BS_LOCK_INIT(BS_RANK_REGISTRY), high = BS_LOCK_INIT(BS_RANK_META);
static struct bs_lock same[2] = {BS_LOCK_INIT(BS_RANK_CENTRAL), BS_LOCK_INIT(BS_RANK_CENTRAL)};

static void upward(void *arg) {
    (void)arg;
    bs_lock_acquire(&low);
    bs_lock_acquire(&same[0]); /* fork takes all of one rank, by rising address */
    bs_lock_acquire(&same[1]);
    bs_lock_acquire(&high);
    CHILD_CHECK(bs_lock_held(&low) && bs_lock_held(&high) && bs_lock_held(&same[1]));
    bs_lock_release(&same[0]); /* the order of releases is free */
    bs_lock_release(&low);
    CHILD_CHECK(!bs_lock_held(&low) && bs_lock_held(&high));
    bs_lock_release(&high);
    bs_lock_release(&same[1]);
    CHILD_CHECK(!bs_lock_held(&same[1]));
    bs_lock_acquire(&low);
    bs_lock_release(&low);
}
static void downward(void *arg) {
    (void)arg;
    bs_lock_acquire(&high);
    bs_lock_acquire(&low);
}
static void downward_by_try(void *arg) {
    (void)arg;
    bs_lock_acquire(&high);
    (void)bs_lock_try(&low);
}
static void same_rank_downward(void *arg) {
    (void)arg;
    bs_lock_acquire(&same[1]);
    bs_lock_acquire(&same[0]);
}
static void twice(void *arg) {
    (void)arg;
    bs_lock_acquire(&low);
    bs_lock_acquire(&low);
}
static void release_free(void *arg) {
    (void)arg;
    bs_lock_release(&low);
}
static void release_after_other(void *arg) {
    (void)arg;
    bs_lock_acquire(&low);
    bs_lock_release(&high);
}
static void assert_held(void *arg) {
    (void)arg;
    BS_ASSERT_HELD(&low);
}
static void *hold(void *arg) {
    bs_lock_acquire(arg);
    return NULL;
}
static void release_of_others(void *arg) {
    pthread_t thread;
    (void)arg;
    CHILD_CHECK(pthread_create(&thread, NULL, hold, &low) == 0);
    pthread_join(thread, NULL);
    bs_lock_release(&low);
}

START_TEST(the_checker_lets_right_orders_pass) {
    struct outcome o = child_run(upward, NULL, 60);
    ck_assert_msg(child_ended_well(&o), "status %x: %s", o.status, o.err);
}
END_TEST

START_TEST(the_checker_stops_crimes) {
    static const char order[] = "besom: lock order: rank %d taken while rank %d is held\n";
    static const char holder[] = "besom: lock of rank %d released by a thread that does not hold";
    static const struct {
        void (*crime)(void *);
        const char *name, *message;
        int rank, other;
    } crimes[] = {
        {downward, "downward", order, BS_RANK_REGISTRY, BS_RANK_META},
        {downward_by_try, "downward by try", order, BS_RANK_REGISTRY, BS_RANK_META},
        {same_rank_downward, "same rank downward", order, BS_RANK_CENTRAL, BS_RANK_CENTRAL},
        {twice, "twice", order, BS_RANK_REGISTRY, BS_RANK_REGISTRY},
        {release_free, "release of a free lock", holder, BS_RANK_REGISTRY, 0},
        {release_after_other, "release of another", holder, BS_RANK_META, 0},
        {release_of_others, "release of another thread's", holder, BS_RANK_REGISTRY, 0},
        {assert_held, "assertion of holding", "broken invariant: bs_lock_held(&low)", 0, 0},
    };
    for (size_t i = 0; i < BS_ARRAY_LEN(crimes); i++) {
        struct outcome o = child_run(crimes[i].crime, NULL, 60);
        char want[128];
        (void)snprintf(want, sizeof want, crimes[i].message, crimes[i].rank, crimes[i].other);
        ck_assert_msg(child_aborted(&o), "%s: status %x: %s", crimes[i].name, o.status, o.err);
        ck_assert_msg(strstr(o.err, want) != NULL, "%s: it said %s", crimes[i].name, o.err);
    }
}
END_TEST

#endif

/* --- the round -------------------------------------------------------------------------------- */

#if !BS_SANITIZED /* there the helper is a thread like others */
static uint32_t is_in; /* [atomic] */

static void enter_and_want(void *arg) {
    (void)arg;
    bs_round_enter();
    bs_store_release(&is_in, 1u);
    bs_lock_acquire(&shared);
    bs_lock_release(&shared);
    bs_round_leave();
}

static void get_it(void *arg) {
    (void)arg;
    bs_lock_acquire(&shared);
    bs_lock_release(&shared);
    bs_store_release(&is_in, 1u);
    while (bs_load_acquire(&is_in) == 1)
        bs_os_pause(1000000);
}

/* Nor when somebody else has the lock that it once slept for. */
START_TEST(a_helper_that_got_the_lock_is_not_stuck) {
    bs_lock_acquire(&shared);
    ck_assert(!bs_lock_helper_is_stuck());
    ck_assert_int_eq(bs_os_helper_start(get_it, NULL), 0);
    while (!bs_lock_helper_is_stuck())
        bs_os_pause(100000);
    bs_lock_release(&shared);
    ck_assert(!bs_lock_helper_is_stuck()); /* it may not have woken up, but nothing keeps it */
    while (bs_load_acquire(&is_in) == 0)
        bs_os_pause(100000);
    bs_lock_acquire(&shared);
    ck_assert(!bs_lock_helper_is_stuck());
    bs_lock_release(&shared);
    bs_store_release(&is_in, 2u);
}
END_TEST

/* Whoever has a lock is interrupted, and waits for a round, which waits for the lock: in vain, and that is seen. */
START_TEST(a_round_that_waits_for_us_is_not_waited_for) {
    const uint64_t second = 1000000000;
    bs_lock_acquire(&shared);
    ck_assert_int_eq(bs_os_helper_start(enter_and_want, NULL), 0);
    while (bs_load_acquire(&is_in) == 0)
        bs_os_pause(second / 1000);
    uint64_t start = bs_os_now_ns();
    ck_assert(!bs_round_enter_until(start + 50 * second, true));
    uint64_t took = bs_os_now_ns() - start;
    ck_assert_msg(took < 25 * second, "%ju ns", (uintmax_t)took);
    ck_assert(!bs_round_enter_until(bs_os_now_ns() + 50 * second, false)); /* it is the same round */
    ck_assert_msg(bs_os_now_ns() - start < 25 * second, "%ju ns", (uintmax_t)(bs_os_now_ns() - start));
    bs_lock_release(&shared);
    while (!bs_round_try())
        bs_os_pause(second / 1000);
    bs_round_leave();
}
END_TEST
#endif

int main(void) {
    Suite *suite = suite_create("lock");
    TCase *tc = tcase_create("lock");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, one_thread_at_a_time);
    tcase_add_test(tc, also_without_spinning);
    tcase_add_test(tc, sleepers_are_woken);
    tcase_add_test(tc, a_breath_lets_others_in);
    tcase_add_test(tc, try_takes_a_free_lock_only);
    tcase_add_test(tc, reset_frees_it);
#if !BS_SANITIZED
    tcase_add_test(tc, a_helper_that_got_the_lock_is_not_stuck);
    tcase_add_test(tc, a_round_that_waits_for_us_is_not_waited_for);
#endif
#if BS_DEBUG >= 1
    tcase_add_test(tc, the_checker_lets_right_orders_pass);
    tcase_add_test(tc, the_checker_stops_crimes);
#endif
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
