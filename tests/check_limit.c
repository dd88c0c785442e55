/* SPDX-License-Identifier: MIT */
/*
 * check_limit.c - the memory limit: its arithmetic, what is counted, who pays and how much, the
 * hard limit, what is noted, and what the surroundings (made-up files, see check_cgroup) do to it.
 */
#define _GNU_SOURCE
#include "cgroup.h"
#include "limit.h"

#include "background.h"
#include "budget.h"
#include "central.h"
#include "counter.h"
#include "heap.h"
#include "home_unit.h"
#include "meta.h"
#include "relief.h"
#include "scavenge.h"
#include "tcache_kept.h"
#include "thread.h"
#include "unit.h"
#include "waiting.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#define MB ((size_t)1 << 20)
#define MS ((uint64_t)1000000)

static struct bs_opt_limit option(unsigned kind, uint64_t value) {
    return (struct bs_opt_limit){kind, value};
}
static void set_limit(size_t bytes) {
    bs_opt.limit = option(BS_LIMIT_BYTES, bytes);
    bs_limit_start();
}

/* --- arithmetic ------------------------------------------------------------------------------- */

START_TEST(the_limit_by_option_and_surroundings) {
    const struct bs_cgroup none = {.limit_bytes = BS_CGROUP_NONE, .memory_bytes = 1000 * MB};
    struct bs_cgroup c = {.limit_bytes = 400 * MB, .memory_bytes = 1000 * MB};
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_OFF, 0), &c, 0), BS_LIMIT_NONE);
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_BYTES, 70 * MB), &c, 0), 70 * MB);
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_PERCENT, 50), &none, 0), 500 * MB);
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_PERCENT, 50), &c, 0), 200 * MB);
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_AUTO, 0), &none, 0), BS_LIMIT_NONE);
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_AUTO, 0), &c, 0), 380 * MB);
    c.limit_bytes = 2000 * MB; /* more than the machine has */
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_AUTO, 0), &c, 0), BS_LIMIT_NONE);
    const struct bs_cgroup nothing = {.limit_bytes = BS_CGROUP_NONE,
                                      .memory_bytes = BS_CGROUP_NONE};
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_PERCENT, 50), &nothing, 0), BS_LIMIT_NONE);
}
END_TEST

START_TEST(auto_leaves_others_what_they_have) {
    struct bs_cgroup c = {
        .limit_bytes = 400 * MB, .memory_bytes = 1000 * MB, .anon_bytes = 200 * MB};
    /* 60 of the 200 are ours */
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_AUTO, 0), &c, 60 * MB), 240 * MB);
    /* 100 in blocks, of which 60 were touched */
    c.own_bytes = 60 * MB;
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_AUTO, 0), &c, 100 * MB), 240 * MB);
    /* stacks and the program's own mappings are others, too */
    c.own_bytes = 150 * MB;
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_AUTO, 0), &c, 60 * MB), 240 * MB);
    /* shared with a parent: more than the cgroup is charged */
    c.anon_bytes = 10 * MB;
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_AUTO, 0), &c, 60 * MB), 380 * MB);
    c.anon_bytes = 390 * MB; /* a quarter stays ours */
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_AUTO, 0), &c, 0), 100 * MB);
    c.anon_bytes = UINT64_MAX;
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_AUTO, 0), &c, 0), 100 * MB);
    c.limit_bytes = 0; /* absurd, but a file may say so */
    ck_assert_uint_eq(bs_limit_from(option(BS_LIMIT_AUTO, 0), &c, 0), BS_LIMIT_MIN_BYTES);
}
END_TEST

START_TEST(pressure_by_use_and_by_stall) {
    ck_assert_int_eq(bs_limit_judge(100 * MB, 89 * MB, 0), BS_PRESSURE_NONE);
    ck_assert_int_eq(bs_limit_judge(100 * MB, 90 * MB, 0), BS_PRESSURE_NEAR);
    ck_assert_int_eq(bs_limit_judge(100 * MB, 100 * MB, 0), BS_PRESSURE_NEAR);
    ck_assert_int_eq(bs_limit_judge(100 * MB, 100 * MB + 1, 0), BS_PRESSURE_OVER);
    ck_assert_int_eq(bs_limit_judge(100 * MB, 0, 999), BS_PRESSURE_NONE);
    ck_assert_int_eq(bs_limit_judge(100 * MB, 0, 1000), BS_PRESSURE_NEAR);
    ck_assert_int_eq(bs_limit_judge(BS_LIMIT_NONE, SIZE_MAX, 0), BS_PRESSURE_NONE);
    ck_assert_int_eq(bs_limit_judge(BS_LIMIT_NONE, SIZE_MAX, 5000), BS_PRESSURE_NEAR);
}
END_TEST

START_TEST(help_is_bounded) {
    const size_t limit = 320 * MB, brim = 310 * MB;
    ck_assert_uint_eq(bs_limit_share(limit, brim, brim, 500 * MB), 0);
    ck_assert_uint_eq(bs_limit_share(BS_LIMIT_NONE, SIZE_MAX, 0, 500 * MB), 0);
    ck_assert_uint_eq(bs_limit_share(limit, 400 * MB, 200 * MB, 1), MB);
    ck_assert_uint_eq(bs_limit_share(limit, 400 * MB, 200 * MB, 5 * MB), 5 * MB);
    ck_assert_uint_eq(bs_limit_share(limit, 900 * MB, 900 * MB, 500 * MB), 64 * MB);
    ck_assert_uint_eq(bs_limit_share(limit, brim + 2 * MB, 50 * MB, 50 * MB), 3 * MB);
    ck_assert_uint_eq(bs_limit_share(limit, SIZE_MAX, SIZE_MAX, SIZE_MAX), 64 * MB);
}
END_TEST

START_TEST(what_is_in_use_beyond_the_limit_leaves_slack) {
    const size_t limit = 320 * MB, brim = 310 * MB;
    /* 400 in use: (400 - 310) / 4 may be free on top */
    ck_assert_uint_eq(bs_limit_share(limit, 422 * MB, 22 * MB, 9 * MB), 0);
    ck_assert_uint_eq(bs_limit_share(limit, 425 * MB, 25 * MB, 9 * MB), 5 * MB / 2 + MB);
    /* no step at the brim */
    ck_assert_uint_eq(bs_limit_share(limit, brim + 3 * MB, 3 * MB, 9 * MB), 4 * MB);
    ck_assert_uint_eq(bs_limit_over_goal(100 * MB, 95 * MB, 50 * MB), 0);
    ck_assert_uint_eq(bs_limit_over_goal(100 * MB, 98 * MB, 50 * MB), 3 * MB);
    ck_assert_uint_eq(bs_limit_over_goal(100 * MB, 150 * MB, 11 * MB), 0);
    ck_assert_uint_eq(bs_limit_over_goal(100 * MB, 150 * MB, 15 * MB), 5 * MB);
    ck_assert_uint_eq(bs_limit_share(MB, SIZE_MAX, 0, 9 * MB), 0);
}
END_TEST

/* --- what counts ------------------------------------------------------------------------------ */

START_TEST(used_is_what_is_mapped_less_what_is_given_back) {
    size_t before = bs_limit_used();
    char *p = bs_heap_alloc(10 * MB);
    ck_assert_uint_ge(bs_limit_used(), before + 10 * MB);
    ck_assert_uint_le(bs_limit_used(), before + 11 * MB);
    bs_heap_free(p);
    ck_assert_uint_ge(bs_limit_used(), before + 10 * MB); /* dirty */
    (void)bs_heap_trim(0);
    ck_assert_uint_le(bs_limit_used(), before + MB);
    size_t meta = bs_meta_used_bytes();
    ck_assert_uint_gt(meta, 0);
    void *map = bs_meta_map(MB);
    ck_assert_uint_eq(bs_meta_used_bytes(), meta + MB);
    bs_meta_unmap(map, MB);
    ck_assert_uint_eq(bs_meta_used_bytes(), meta);
}
END_TEST

static size_t holes_by_class(void) {
    size_t n = 0;
    for (unsigned class = 1; class < BS_NCLASSES; class ++)
        n += bs_central_counts(class).holes;
    return n;
}

START_TEST(holes_are_counted_through_all_their_lives) {
    enum { n = 20000 };
    static void *p[n];
    for (int i = 0; i < n; i++)
        p[i] = memset(bs_heap_alloc(1024), 1, 1024);
    for (int i = 0; i < n; i++)
        if (i % 16 != 0)
            bs_heap_free(p[i]);
    size_t used = bs_limit_used();
    (void)bs_heap_trim(0);
    ck_assert_uint_eq(bs_span_holes(), holes_by_class());
    ck_assert_uint_ge(bs_span_holes(), n / 16);
    ck_assert_uint_lt(bs_limit_used(), used / 2);
    for (int i = 0; i < n / 8; i++) /* some are filled again */
        if (i % 16 != 0)
            p[i] = memset(bs_heap_alloc(1024), 1, 1024);
    ck_assert_uint_eq(bs_span_holes(), holes_by_class());
    ck_assert_uint_gt(bs_span_holes(), 100); /* these go with their spans */
    for (int i = 0; i < n; i++)
        if (i < n / 8 || i % 16 == 0)
            bs_heap_free(p[i]);
    (void)bs_heap_trim(0);
    ck_assert_uint_eq(bs_span_holes(), 0);
}
END_TEST

/* --- paying ----------------------------------------------------------------------------------- */

/* Leaves n MiB of free dirty memory that no block of 2 MiB fits in. */
static void leave_holes(size_t n) {
    char **p = bs_heap_alloc(n * 2 * sizeof *p);
    for (size_t i = 0; i < n * 2; i++)
        p[i] = memset(bs_heap_alloc(i % 2 ? MB : 40000), 1, i % 2 ? MB : 40000);
    for (size_t i = 1; i < n * 2; i += 2)
        bs_heap_free(p[i]);
}

START_TEST(growth_beyond_the_limit_is_paid_at_once) {
    set_limit(100 * MB);
    leave_holes(60);
    uint64_t helps = bs_counted(limit_helps);
    for (int i = 0; i < 40; i++) {
        ck_assert_ptr_nonnull(bs_heap_alloc(2 * MB - 8192));
        ck_assert_msg(bs_limit_used() <= 100 * MB || bs_pageheap_dirty_bytes() < MB,
                      "step %d: %zu used, %zu dirty", i, bs_limit_used(),
                      bs_pageheap_dirty_bytes());
    }
    ck_assert_uint_gt(bs_counted(limit_helps), helps);
    ck_assert_uint_ge(bs_counted(limit_help_bytes), 40 * MB);
}
END_TEST

START_TEST(one_call_gives_back_so_much_and_no_more) {
    set_limit(MB);
    leave_holes(200);
    uint64_t bytes = bs_counted(limit_help_bytes);
    ck_assert_ptr_nonnull(bs_heap_alloc(500 * MB));
    bytes = bs_counted(limit_help_bytes) - bytes;
    ck_assert_uint_ge(bytes, 60 * MB);
    ck_assert_uint_le(bytes, 64 * MB);
}
END_TEST

START_TEST(nothing_dirty_no_work) {
    set_limit(MB);
    char *p = bs_heap_alloc(50 * MB); /* live is beyond the limit by itself */
    uint64_t helps = bs_counted(limit_helps), calls = bs_counted(scavenge_calls);
    for (int i = 0; i < 1000; i++)
        ck_assert_ptr_nonnull(bs_heap_alloc(40000));
    ck_assert_uint_eq(bs_counted(limit_helps), helps);
    ck_assert_uint_eq(bs_counted(scavenge_calls), calls);
    bs_heap_free(p);
}
END_TEST

/* Of what pays it is called for: other threads may have done enough, or there may be too little to be worth a call. */
static void pay(void) {
    bs_limit_took(1);
    bs_relief_pay();
}
static void leave_waiting(size_t n) {
    char *p[4];
    for (size_t i = 0; i < n; i++)
        p[i] = memset(bs_heap_alloc(50000), 1, 50000);
    for (size_t i = 0; i < n; i++)
        bs_heap_free(p[i]);
    bs_kept_drain(bs_tcache_self());
    ck_assert_uint_ne(bs_waiting_count(), 0);
}

/* Live is beyond the limit by itself, and a span on top is not worth a system call; but no span waits any longer. */
START_TEST(spans_that_wait_go_to_the_page_heap) {
    char *p = bs_heap_alloc(50 * MB);
    leave_waiting(4);
    set_limit(MB);
    uint64_t helps = bs_counted(limit_helps);
    pay();
    ck_assert_uint_eq(bs_waiting_count(), 0);
    ck_assert_uint_ge(bs_pageheap_dirty_bytes(), BS_LIMIT_DREGS_BYTES);
    ck_assert_uint_eq(bs_counted(limit_helps), helps);
    bs_heap_free(p);
}
END_TEST

START_TEST(dregs_are_no_work) {
    char *p = bs_heap_alloc(50 * MB);
    leave_waiting(1);
    (void)bs_waiting_return(SIZE_MAX);
    (void)bs_scavenge_to(0);
    leave_waiting(1);
    (void)bs_waiting_return(SIZE_MAX);
    size_t dirty = bs_pageheap_dirty_bytes(), used = bs_limit_used();
    ck_assert(dirty != 0 && dirty < BS_LIMIT_DREGS_BYTES);
    set_limit((used - dirty / 2) / (BS_LIMIT_BRIM_PART - 1) * BS_LIMIT_BRIM_PART);
    ck_assert_uint_ne(bs_limit_share(bs_limit_bytes(), used, dirty, 1), 0);
    uint64_t helps = bs_counted(limit_helps), calls = bs_counted(scavenge_calls);
    pay();
    ck_assert_uint_eq(bs_counted(limit_helps), helps);
    ck_assert_uint_eq(bs_counted(scavenge_calls), calls);
    bs_heap_free(p);
}
END_TEST

START_TEST(reuse_of_dirty_pages_costs_nothing) {
    set_limit(20 * MB);
    char *keep = bs_heap_alloc(25 * MB);
    for (int i = 0; i < 1000; i++)
        bs_heap_free(memset(bs_heap_alloc(MB), 1, MB));
    ck_assert_uint_le(bs_counted(limit_helps), 2); /* the first time may pay */
    bs_heap_free(keep);
}
END_TEST

START_TEST(scavenge_off_gives_nothing_back) {
    set_limit(20 * MB);
    bs_opt.scavenge = false;
    leave_holes(30);
    ck_assert_ptr_nonnull(bs_heap_alloc(2 * MB));
    ck_assert_uint_eq(bs_counted(limit_helps), 0);
}
END_TEST

/* --- the helper's side ------------------------------------------------------------------------ */

/* A round stops after 10 ms on the wall, which may be one call of many where CPUs are few. */
static void rounds_until_used(size_t bytes) {
    for (int i = 0; i < 100 && bs_limit_used() > bytes; i++)
        (void)bs_background_round();
    ck_assert_uint_le(bs_limit_used(), bytes);
}

START_TEST(near_the_limit_the_goal_is_95_percent) {
    char *live = bs_heap_alloc(80 * MB), *free_soon = bs_heap_alloc(17 * MB);
    bs_opt.scavenge_delay = 3600000; /* the recent peak would keep it */
    bs_heap_free(memset(free_soon, 1, 17 * MB));
    (void)bs_background_round();
    ck_assert_uint_ge(bs_pageheap_dirty_bytes(), 17 * MB);
    set_limit(100 * MB);
    ck_assert_int_eq(bs_limit_pressure(), BS_PRESSURE_NEAR);
    rounds_until_used(95 * MB);
    (void)bs_background_round();
    ck_assert_uint_ge(bs_limit_used(), 93 * MB); /* and no lower */
    bs_heap_free(live);
}
END_TEST

START_TEST(the_limit_comes_before_what_is_kept) {
    char *live = bs_heap_alloc(80 * MB);
    bs_scavenge_set_keep(SIZE_MAX);
    bs_heap_free(memset(bs_heap_alloc(17 * MB), 1, 17 * MB));
    ck_assert(!bs_scavenge_has_work());
    set_limit(90 * MB);
    ck_assert(bs_scavenge_has_work());
    rounds_until_used(86 * MB);
    bs_heap_free(live);
}
END_TEST

START_TEST(magazines_do_not_grow_under_pressure) {
    ck_assert(bs_thread_grant(4096));
    bs_thread_refund(4096);
    char *p = bs_heap_alloc(10 * MB);
    set_limit(10 * MB);
    ck_assert(!bs_thread_grant(4096));
    set_limit(100 * MB);
    ck_assert(bs_thread_grant(4096));
    bs_heap_free(p);
}
END_TEST

static void take_and_free(size_t size, int n) {
    void *p[400];
    for (int i = 0; i < n; i++)
        p[i] = bs_heap_alloc(size);
    for (int i = 0; i < n; i++)
        bs_heap_free(p[i]);
}

/* Blocks in this thread's magazine of a class that is not used any more, after 200 visits of
 * another. (The heap has grown before: while it does, they go in any case.) */
static size_t left_in_magazine(void) {
    unsigned class = bs_class_of(5000);
    take_and_free(8000, 400);
    take_and_free(5000, 64);
    for (int round = 0; round < 4; round++)
        take_and_free(8000, 400);
    return bs_tcache_count(bs_tcache_self(), class);
}

START_TEST(trim_passes_come_often_under_pressure) {
    size_t without = left_in_magazine();
    (void)bs_heap_trim(0);
    char *p = bs_heap_alloc(10 * MB);
    set_limit(10 * MB);
    size_t with = left_in_magazine();
    ck_assert_msg(with < without / 2, "%zu blocks stay, %zu without pressure", with, without);
    bs_heap_free(p);
}
END_TEST

/* --- the hard limit --------------------------------------------------------------------------- */

START_TEST(a_hard_limit_refuses_and_nothing_breaks) {
    enum { n = 400 };
    static char *p[n];
    int got = 0;
    set_limit(50 * MB);
    bs_opt.limit_hard = true;
    ck_assert_ptr_null(bs_heap_alloc(51 * MB));
    ck_assert_ptr_null(bs_heap_alloc_zero(51 * MB));
    ck_assert_ptr_null(bs_heap_alloc_aligned(65536, 51 * MB));
    ck_assert_uint_eq(bs_counted(limit_refusals), 3);
    ck_assert_int_eq(bs_limit_take_note().what, BS_LIMIT_NOTE_REFUSED);
    while (got < n && (p[got] = bs_heap_alloc(MB)) != NULL)
        memset(p[got++], 1, MB);
    ck_assert_int_ge(got, 47);
    ck_assert_int_le(got, 50);
    ck_assert_ptr_null(bs_heap_realloc(p[0], 20 * MB));
    ck_assert_int_eq(p[0][MB - 1], 1);
    /* small blocks end as well */
    size_t small = 0;
    void *last = NULL;
    for (void **q; small < 100000 && (q = bs_heap_alloc(1000)) != NULL; small++)
        *q = last, last = q;
    ck_assert_uint_lt(small, 5000);
    ck_assert_uint_le(bs_limit_used(), 50 * MB);
    while (last != NULL) {
        void *q = last;
        last = *(void **)last;
        bs_heap_free(q);
    }
    /* what is given back can be had again */
    bs_heap_free(p[--got]);
    bs_heap_free(p[--got]);
    ck_assert_ptr_nonnull(p[got++] = bs_heap_alloc(MB));
    while (got > 0)
        bs_heap_free(p[--got]);
    ck_assert_ptr_nonnull(bs_heap_alloc(40 * MB));
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* 15 MiB in small blocks of which one in 16 stays: half of the spans are partly used. Only all that
 * can be given back makes room for what is asked then. */
START_TEST(all_is_given_back_before_a_refusal) {
    enum { n = 15000 };
    static void *p[n];
    set_limit(16 * MB);
    bs_opt.limit_hard = true;
    for (int i = 0; i < n; i++)
        ck_assert_ptr_nonnull(p[i] = bs_heap_alloc(1024));
    for (int i = 0; i < n; i++)
        if (i % 16 != 0)
            bs_heap_free(p[i]);
    ck_assert_ptr_nonnull(bs_heap_alloc(10 * MB));
    ck_assert_uint_gt(bs_span_holes(), 0);
    ck_assert_uint_eq(bs_counted(limit_refusals), 0);
    ck_assert_int_eq(bs_limit_take_note().what, 0);
}
END_TEST

static size_t take_all(size_t size) {
    size_t n = 0;
    while (bs_heap_alloc(size) != NULL)
        n++;
    return n;
}

/* realloc gives room for more than was asked where there is some; its lack refuses nothing: here there are
 * free blocks of the size alone. Nor is there anything to give back, which a refusal may try once a second:
 * free blocks lie apart, so that no OS page becomes free with them. */
START_TEST(no_room_for_more_is_no_refusal) {
    enum { n = 8 };
    const size_t have = bs_class_info[bs_class_of(1000)].size, asked = have + 1, room = have + have / 4;
    void *p[n], *spare[n];
    ck_assert_uint_ne(bs_class_of(asked), bs_class_of(room));
    set_limit(16 * MB);
    bs_opt.limit_hard = true;
    for (int i = 0; i < n; i++) {
        ck_assert_ptr_nonnull(p[i] = bs_heap_alloc(have));
        ck_assert_ptr_nonnull(spare[i] = bs_heap_alloc(asked));
        for (int k = 0; k < 8; k++)
            ck_assert_ptr_nonnull(bs_heap_alloc(asked));
    }
    do
        (void)bs_heap_trim(0);
    while (take_all(asked) + take_all(room) != 0);
    for (int i = 0; i < n; i++)
        bs_heap_free(spare[i]);
    for (int i = 0; i < n; i++) {
        ck_assert_ptr_nonnull(p[i] = bs_heap_realloc(p[i], asked));
        ck_assert_uint_eq(bs_heap_usable(p[i]), bs_class_info[bs_class_of(asked)].size);
    }
}
END_TEST

static size_t room_left(void) {
    return bs_sub_clamped(bs_limit_bytes(), bs_limit_used() - bs_pageheap_dirty_bytes());
}

/* Freed blocks that wait for the next of their length are no reason, however often it happens: the large
 * block grows into the pages behind it, where there is no room for another one. */
START_TEST(kept_spans_do_not_refuse_growth) {
    enum { n = 4 };
    char *p[n], *large = NULL;
    size_t size = 48 * MB;
    set_limit(50 * MB);
    bs_opt.limit_hard = true;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < n; i++)
            ck_assert_ptr_nonnull(p[i] = bs_heap_alloc(100000));
        if (large == NULL)
            ck_assert_ptr_nonnull(large = bs_heap_alloc(size));
        for (int i = 0; i < n; i++)
            bs_heap_free(p[i]);
        ck_assert_uint_ge(bs_waiting_large_bytes(), n * 100000);
        size_t more = room_left() + n * 100000 / 2;
        ck_assert_ptr_eq(bs_heap_realloc(large, size + more), large);
        ck_assert_ptr_eq(bs_heap_realloc(large, size), large);
    }
    ck_assert_uint_eq(bs_counted(limit_refusals), 0);
}
END_TEST

START_TEST(a_soft_limit_refuses_nothing) {
    set_limit(10 * MB);
    for (int i = 0; i < 50; i++)
        ck_assert_ptr_nonnull(bs_heap_alloc(MB));
    ck_assert_uint_eq(bs_counted(limit_refusals), 0);
}
END_TEST

/* --- notes ------------------------------------------------------------------------------------ */

START_TEST(an_excess_is_noted_once) {
    set_limit(20 * MB);
    char *p = bs_heap_alloc(30 * MB), *q;
    struct bs_limit_note note = bs_limit_take_note();
    ck_assert_uint_eq(note.what, BS_LIMIT_NOTE_OVER);
    ck_assert_uint_ge(note.request, 30 * MB);
    q = bs_heap_alloc(30 * MB);
    ck_assert_uint_eq(bs_limit_take_note().what, 0);
    bs_heap_free(p);
    bs_heap_free(q);
    (void)bs_heap_trim(0);
    bs_limit_note_excess(0); /* as every round does */
    p = bs_heap_alloc(30 * MB);
    ck_assert_uint_eq(bs_limit_take_note().what, BS_LIMIT_NOTE_OVER);
    bs_heap_free(p);
}
END_TEST

/* --- surroundings ----------------------------------------------------------------------------- */

static char root[64];

static void put(const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(full, 0755);
        *p = '/';
    }
    int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}
static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

START_TEST(the_surroundings_are_read_again) {
    strcpy(root, "/tmp/besom-limit-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    put("/proc/meminfo", "MemTotal: 1000000 kB\n");
    put("/proc/self/cgroup", "0::/a\n");
    put("/proc/self/mountinfo", "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw\n");
    put("/cg/a/memory.max", "100000000\n");
    put("/cg/a/cpu.max", "20000 100000\n");
    bs_cgroup_set_root(root);
    bs_limit_start();
    ck_assert_uint_eq(bs_limit_bytes(), BS_LIMIT_NONE); /* auto does not read in a constructor */
    bs_limit_look(1000);
    ck_assert_uint_eq(bs_limit_bytes(), 95000000);
    ck_assert_uint_eq(bs_limit_cpu_pct(), 20);
    put("/cg/a/memory.max", "200000000\n");
    bs_limit_look(1000 + 4999 * MS);
    ck_assert_uint_eq(bs_limit_bytes(), 95000000);
    bs_limit_look(1000 + 5000 * MS);
    ck_assert_uint_eq(bs_limit_bytes(), 190000000);
    ck_assert_int_eq(bs_limit_pressure(), BS_PRESSURE_NONE);
    struct bs_budget copy = {.most_bytes = SIZE_MAX};
    ck_assert(!bs_budget_is_over(&copy));
    put("/cg/a/memory.pressure", "some avg10=15.00 avg60=0.00\n");
    bs_limit_look(1000 + 10000 * MS);
    ck_assert_int_eq(bs_limit_pressure(), BS_PRESSURE_NEAR);
    ck_assert(bs_limit_stalls());
    ck_assert(bs_budget_is_over(&copy)); /* tasks wait for memory, and a copy makes pages */
    ck_assert_int_eq(copy.end, BS_BUDGET_MEMORY);
    put("/cg/a/memory.pressure", "some avg10=1.00 avg60=0.00\n"); /* and sooner now */
    bs_limit_look(1000 + 11000 * MS);
    ck_assert_int_eq(bs_limit_pressure(), BS_PRESSURE_NONE);
    put("/cg/a/memory.max", "max\n");
    bs_limit_look(1000 + 20000 * MS);
    ck_assert_uint_eq(bs_limit_bytes(), BS_LIMIT_NONE);
    bs_opt.limit = option(BS_LIMIT_PERCENT, 10);
    bs_limit_start();
    ck_assert_uint_eq(bs_limit_bytes(), 102400000);
    bs_opt.limit = option(BS_LIMIT_OFF, 0);
    put("/cg/a/memory.pressure", "some avg10=99.00 avg60=0.00\n");
    bs_limit_look(1000 + 40000 * MS);
    ck_assert_int_eq(bs_limit_pressure(), BS_PRESSURE_NONE);
    bs_cgroup_set_root("/nowhere");
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
END_TEST

int main(void) {
    all_sizes_at_home();
    bs_cgroup_set_root("/nowhere"); /* memory that the machine lacks is nobody's business here */
    Suite *suite = suite_create("limit");
    TCase *tc = add_case(suite, "arithmetic");
    tcase_add_test(tc, the_limit_by_option_and_surroundings);
    tcase_add_test(tc, auto_leaves_others_what_they_have);
    tcase_add_test(tc, pressure_by_use_and_by_stall);
    tcase_add_test(tc, help_is_bounded);
    tcase_add_test(tc, what_is_in_use_beyond_the_limit_leaves_slack);
    tc = add_case(suite, "used");
    tcase_add_test(tc, used_is_what_is_mapped_less_what_is_given_back);
    tcase_add_test(tc, holes_are_counted_through_all_their_lives);
    tc = add_case(suite, "paying");
    tcase_add_test(tc, growth_beyond_the_limit_is_paid_at_once);
    tcase_add_test(tc, one_call_gives_back_so_much_and_no_more);
    tcase_add_test(tc, nothing_dirty_no_work);
    tcase_add_test(tc, spans_that_wait_go_to_the_page_heap);
    tcase_add_test(tc, dregs_are_no_work);
    tcase_add_test(tc, reuse_of_dirty_pages_costs_nothing);
    tcase_add_test(tc, scavenge_off_gives_nothing_back);
    tc = add_case(suite, "helper");
    tcase_add_test(tc, near_the_limit_the_goal_is_95_percent);
    tcase_add_test(tc, the_limit_comes_before_what_is_kept);
    tcase_add_test(tc, magazines_do_not_grow_under_pressure);
    tcase_add_test(tc, trim_passes_come_often_under_pressure);
    tc = add_case(suite, "hard");
    tcase_add_test(tc, a_hard_limit_refuses_and_nothing_breaks);
    tcase_add_test(tc, all_is_given_back_before_a_refusal);
    tcase_add_test(tc, no_room_for_more_is_no_refusal);
    tcase_add_test(tc, kept_spans_do_not_refuse_growth);
    tcase_add_test(tc, a_soft_limit_refuses_nothing);
    tc = add_case(suite, "notes");
    tcase_add_test(tc, an_excess_is_noted_once);
    tc = add_case(suite, "surroundings");
    tcase_add_test(tc, the_surroundings_are_read_again);
    return run_suite(suite);
}
