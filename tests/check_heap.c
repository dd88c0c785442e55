/* SPDX-License-Identifier: MIT */
/*
 * check_heap.c - the facade: which block a request gets, when realloc stays, what is usable, that
 * calloc is zero whatever the heap did before, crimes and foreign pointers, trim, and totals that
 * add up.
 */
#include "heap.h"

#include "central.h"
#include "counter.h"
#include "holes.h"
#include "home_unit.h"
#include "large.h"
#include "opt.h"
#include "os.h"
#include "unit.h"
#include "usage.h"
#include "waiting.h"

static uint64_t seed = 1;

/* --- contents --------------------------------------------------------------------------------- */

static void fill(unsigned char *p, size_t size, unsigned block) {
    for (size_t i = 0; i<size; i += size> 4096 ? 61 : 1)
        p[i] = (unsigned char)(block * 31 + i);
}
static void check_filled(const unsigned char *p, size_t size, size_t whole, unsigned block) {
    for (size_t i = 0; i<size; i += whole> 4096 ? 61 : 1)
        require(p[i] == (unsigned char)(block * 31 + i), "block %u of %zu bytes: byte %zu is %x",
                block, whole, i, p[i]);
}
static void check_zero(const unsigned char *p, size_t size) {
    for (size_t i = 0; i < size; i++)
        require(p[i] == 0, "byte %zu of %zu is %x, not zero", i, size, p[i]);
}

/* A size of any magnitude up to 2^bits. */
static size_t some_size(unsigned bits) {
    return random_skewed(&seed, bits);
}

START_TEST(random_programs) {
    enum { N = 2000 };
    static unsigned char *block[N];
    static size_t size[N];
    for (unsigned step = 0; step < 60000 / UNIT_SLOWNESS; step++) {
        unsigned i = (unsigned)random_below(&seed, N), what = (unsigned)random_below(&seed, 8);
        size_t to = some_size(step % 50 == 0 ? 21 : 12);
        size_t align = (size_t)1 << random_below(&seed, 15);
        if (block[i] != NULL)
            check_filled(block[i], size[i], size[i], i);
        if (block[i] != NULL && what < 3) {
            bs_heap_free(block[i]);
            block[i] = NULL;
            continue;
        }
        if (block[i] != NULL) {
            size_t old = size[i], whole = old;
            to = bs_max(to, 1);
            block[i] = bs_heap_realloc(block[i], to);
            require(block[i] != NULL, "realloc to %zu", to);
            check_filled(block[i], bs_min(old, to), whole, i);
        } else if (what < 2) {
            block[i] = bs_heap_alloc_zero(to);
            check_zero(block[i], to);
        } else if (what == 2) {
            block[i] = bs_heap_alloc_aligned(align, to);
            require((uintptr_t)block[i] % align == 0, "%zu bytes at %zu: %p", to, align, block[i]);
        } else {
            block[i] = bs_heap_alloc(to);
        }
        require(block[i] != NULL, "no memory for %zu bytes", to);
        require(bs_heap_usable(block[i]) >= to, "%zu bytes: %zu usable", to,
                bs_heap_usable(block[i]));
        require((uintptr_t)block[i] % (to > 8 ? 16 : 8) == 0, "%zu bytes at %p", to, block[i]);
        size[i] = to;
        fill(block[i], to, i);
        if (step % 5000 == 0)
            bs_heap_trim(0);
    }
    for (unsigned i = 0; i < N; i++)
        if (block[i] != NULL) {
            check_filled(block[i], size[i], size[i], i);
            bs_heap_free(block[i]);
        }
    bs_heap_trim(0);
    ck_assert_uint_eq(bs_heap_totals().allocated, 0);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* Fill, free, calloc: no size may come back dirty. */
START_TEST(calloc_is_zero) {
    void *block[64];
    for (unsigned round = 0; round < 400 / UNIT_SLOWNESS; round++) {
        size_t size = some_size(19), usable = 0;
        for (unsigned i = 0; i < 64; i++) {
            block[i] = bs_heap_alloc_zero(size);
            require(block[i] != NULL, "no memory");
            check_zero(block[i], size);
            usable = bs_heap_usable(block[i]);
            memset(block[i], 0xee, usable); /* all of it is the program's */
        }
        for (unsigned i = 0; i < 64; i++)
            bs_heap_free(block[i]);
        if (round % 16 == 0)
            bs_heap_trim(round % 32 == 0 ? 0 : 100 * BS_PAGE_SIZE);
    }
}
END_TEST

/* --- which block ------------------------------------------------------------------------------ */

START_TEST(usable_is_class_or_pages) {
    for (size_t size = 0; size < 70000; size += 1 + size / 64) {
        void *p = bs_heap_alloc(size);
        size_t expected = size <= BS_SMALL_MAX ? bs_class_info[bs_class_of(size)].size
                                               : bs_align_up(size, BS_PAGE_SIZE);
        require(bs_heap_usable(p) == expected, "size %zu: %zu usable", size, bs_heap_usable(p));
        bs_heap_free(p);
    }
    int on_stack;
    ck_assert_uint_eq(bs_heap_usable(NULL), 0);
    ck_assert_uint_eq(bs_heap_usable(&on_stack), 0);
    ck_assert_uint_eq(bs_heap_usable((void *)UINTPTR_MAX), 0);
}
END_TEST

START_TEST(size_zero_is_a_block) {
    void *p = bs_heap_alloc(0), *q = bs_heap_alloc(0), *z = bs_heap_alloc_zero(0);
    ck_assert(p != NULL && q != NULL && p != q && z != NULL && z != p && z != q);
    bs_heap_free(p);
    bs_heap_free(q);
    bs_heap_free(z);
}
END_TEST

START_TEST(absurd_requests_fail) {
    void *p = bs_heap_alloc(100);
    memset(p, 1, 100);
    ck_assert_ptr_null(bs_heap_alloc(BS_REQUEST_MAX + 1));
    ck_assert_ptr_null(bs_heap_alloc(SIZE_MAX));
    ck_assert_ptr_null(bs_heap_alloc(BS_REQUEST_MAX));
    ck_assert_ptr_null(bs_heap_alloc_zero(SIZE_MAX));
    ck_assert_ptr_null(bs_heap_alloc_zero(BS_REQUEST_MAX));
    ck_assert_ptr_null(bs_heap_alloc_aligned(64, SIZE_MAX - 63));
    ck_assert_ptr_null(bs_heap_alloc_aligned((size_t)1 << 63, 1));
    ck_assert_ptr_null(bs_heap_alloc_aligned((size_t)1 << 62, 1));
    ck_assert_ptr_null(bs_heap_realloc(p, SIZE_MAX));
    ck_assert_ptr_null(bs_heap_realloc(p, BS_REQUEST_MAX));
    for (unsigned i = 0; i < 100; i++)
        ck_assert_uint_eq(((char *)p)[i], 1);
    void *large = bs_heap_alloc(100000);
    ck_assert_ptr_null(bs_heap_realloc(large, BS_REQUEST_MAX + 1));
    ck_assert_ptr_null(bs_heap_realloc(large, BS_REQUEST_MAX));
    ck_assert_uint_ge(bs_heap_usable(large), 100000);
    bs_heap_free(large);
    bs_heap_free(p);
}
END_TEST

/* --- realloc ---------------------------------------------------------------------------------- */

/* The next of 1, 5/4 and 13/8 of the powers of two. */
static size_t next_step(size_t have) {
    for (size_t low = 8;; low *= 2)
        for (size_t eighths = 8; eighths <= 13; eighths += eighths == 8 ? 2 : 3)
            if (low * eighths / 8 > have)
                return low * eighths / 8;
}

/* It stays while it fits and is at least half used; else it moves to a class of its size. If it grows by
 * less than the next step it gets room for that, so that what grows bit by bit is not copied each time. */
START_TEST(realloc_stays_or_moves) {
    for (unsigned k = 0; k < 20000 / UNIT_SLOWNESS; k++) {
        size_t from = 1 + some_size(15), to = 1 + some_size(15);
        from = bs_min(from, BS_SMALL_MAX);
        to = bs_min(to, BS_SMALL_MAX);
        unsigned char *p = bs_heap_alloc(from);
        size_t have = bs_heap_usable(p);
        bool stays = to <= have && (to > have / 2 || bs_class_info[bs_class_of(to)].size == have);
        fill(p, from, k);
        unsigned char *q = bs_heap_realloc(p, to);
        require((q == p) == stays, "%zu to %zu bytes: %s", from, to, q == p ? "stayed" : "moved");
        size_t room = to > have ? bs_max(to, bs_min(next_step(have), BS_SMALL_MAX)) : to;
        size_t least = stays ? have : bs_class_info[bs_class_smallest(room)].size;
        size_t most = stays ? have : bs_max(BS_ROUTE_FIRST_MIN, BS_ROUTE_TIMES * least); /* route.h */
        require(bs_heap_usable(q) >= least && bs_heap_usable(q) <= most, "%zu to %zu bytes: %zu usable", from, to,
                bs_heap_usable(q));
        check_filled(q, bs_min(from, to), from, k);
        bs_heap_free(q);
    }
}
END_TEST

START_TEST(realloc_between_small_and_large) {
    unsigned char *p = bs_heap_alloc(1000);
    fill(p, 1000, 3);
    p = bs_heap_realloc(p, 1000000);
    check_filled(p, 1000, 1000, 3);
    ck_assert_uint_eq(bs_pagemap_class((uintptr_t)p), 0);
    fill(p, 1000000, 4);
    unsigned char *q = bs_heap_realloc(p, 500000);
    ck_assert_ptr_eq(q, p);
    check_filled(q, 500000, 500000, 4);
    p = bs_heap_realloc(q, 5000);
    ck_assert_uint_eq(bs_heap_usable(p), bs_class_info[bs_class_of(5000)].size);
    check_filled(p, 5000, 500000, 4);
    bs_heap_free(p);
    ck_assert_uint_eq(bs_large_span_bytes(), 0);
}
END_TEST

#if BS_FAULTS
START_TEST(realloc_without_memory_keeps_the_block) {
    static void *held[100000];
    unsigned char *p = bs_heap_alloc(100), *large = bs_heap_alloc(100000);
    unsigned n = 0;
    fill(p, 100, 1);
    fill(large, 100000, 2);
    bs_os_fail(1, 12 /* ENOMEM */, true);
    while (n < BS_ARRAY_LEN(held) && (held[n] = bs_heap_alloc(200000)) != NULL)
        n++;
    ck_assert_uint_lt(n, BS_ARRAY_LEN(held));
    ck_assert_ptr_null(bs_heap_realloc(p, 1000000));
    ck_assert_ptr_null(bs_heap_realloc(large, 300000));
    check_filled(p, 100, 100, 1);
    check_filled(large, 100000, 100000, 2);
    ck_assert_ptr_null(bs_heap_alloc_zero(200000));
    ck_assert_ptr_null(bs_heap_alloc_aligned(1 << 20, 200000));
    while (n != 0)
        bs_heap_free(held[--n]);
    ck_assert_ptr_nonnull(bs_heap_alloc(200000)); /* there is memory again, without the OS */
    bs_os_fail(0, 0, false);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST
#endif

/* --- crimes ----------------------------------------------------------------------------------- */

static void free_it(void *p) {
    bs_heap_free(p);
}
static void free_it_twice(void *p) {
    bs_heap_free(p);
    bs_heap_free(p);
}
static void realloc_it(void *p) {
    bs_heap_realloc(p, 10);
}
static void free_and_realloc_it(void *p) {
    bs_heap_free(p);
    bs_heap_realloc(p, 10);
}
/* A double free of a small block is found when the magazine is flushed, at the latest. */
static void free_small_twice(void *p) {
    bs_heap_free(p);
    bs_heap_free(p);
    bs_tcache_drain(bs_tcache_self());
}

START_TEST(crimes_abort) {
    char text[160], *large = bs_heap_alloc(100000), *small = bs_heap_alloc(100);
    snprintf(text, sizeof text, "besom: double free or invalid free of %p\n", (void *)large);
    expect_abort(free_it_twice, large, text);
    snprintf(text, sizeof text,
             "besom: invalid free of %p, inside the block at %p of 100000 bytes\n",
             (void *)(large + 4096), (void *)large);
    expect_abort(free_it, large + 4096, text);
    snprintf(text, sizeof text,
             "besom: invalid realloc of %p, inside the block at %p of 100000 bytes\n",
             (void *)(large + 4096), (void *)large);
    expect_abort(realloc_it, large + 4096, text);
    snprintf(text, sizeof text, "besom: invalid realloc of %p, which was freed\n", (void *)large);
    expect_abort(free_and_realloc_it, large, text);
    char *arena = bs_heap_alloc_aligned(BS_ARENA_SIZE, 2 * BS_ARENA_SIZE);
    snprintf(text, sizeof text, "besom: double free or invalid free of %p\n", (void *)arena);
    expect_abort(free_it_twice, arena, text);
    snprintf(text, sizeof text, "besom: double free of %p (size class 128 bytes)\n", (void *)small);
    expect_abort(free_small_twice, small, text);
}
END_TEST

START_TEST(foreign_pointers_are_ignored) {
    int on_stack = 5;
    void *mine = bs_heap_alloc(1);
    close(STDERR_FILENO); /* one line is said; what it says is the preload tests' matter */
    bs_heap_free(&on_stack);
    bs_heap_free((void *)(uintptr_t)4096);
    ck_assert_int_eq(on_stack, 5);
    ck_assert_uint_eq(bs_counted(foreign_frees), 2);
    ck_assert_ptr_null(bs_heap_realloc(&on_stack, 10));
    bs_heap_free(mine);
}
END_TEST

START_TEST(foreign_pointers_abort_on_request) {
    int on_stack;
    char text[160];
    snprintf(text, sizeof text, "besom: free of foreign pointer %p, which besom did not allocate\n",
             (void *)&on_stack);
    bs_opt.foreign = BS_FOREIGN_ABORT;
    expect_abort(free_it, &on_stack, text);
}
END_TEST

/* --- fill, trim, totals ----------------------------------------------------------------------- */

START_TEST(fill_on_request) {
    bs_heap_set_fill(0x5a);
    const size_t size[] = {1, 100, 5000, 40000};
    for (size_t k = 0; k < BS_ARRAY_LEN(size); k++) {
        unsigned char *p = bs_heap_alloc(size[k]);
        require(p[0] == 0xa5 && p[size[k] - 1] == 0xa5, "%zu bytes: %x", size[k], p[0]);
        unsigned char *z = bs_heap_alloc_zero(size[k]);
        check_zero(z, size[k]);
        unsigned char *keep = bs_heap_alloc(size[k]); /* so that the span stays */
        bs_heap_free(p);
        if (size[k] <= BS_SMALL_MAX)
            require(p[0] == 0x5a && p[size[k] - 1] == 0x5a, "%zu bytes, freed: %x", size[k], p[0]);
        bs_heap_free(z);
        bs_heap_free(keep);
    }
    bs_heap_set_fill(0);
}
END_TEST

/* At a quiet point every page and every slot has its place. */
static void check_totals(void) {
    bs_waiting_return(SIZE_MAX); /* pages of waiting spans are counted nowhere else */
    struct bs_heap_totals t = bs_heap_totals();
    size_t small_spans = 0, slots = 0, spans = 0;
    for (unsigned class = 1; class < BS_NCLASSES; class ++) {
        size_t n = bs_central_counts(class).spans;
        spans += n;
        small_spans += n * bs_class_info[class].npages * BS_PAGE_SIZE;
        slots += n * bs_class_info[class].nslots * bs_class_info[class].size;
    }
    require(t.mapped == small_spans + t.large + t.dirty + t.released,
            "mapped %zu != spans %zu + large %zu + dirty %zu + released %zu", t.mapped, small_spans,
            t.large, t.dirty, t.released);
    require(slots + t.large == t.allocated + t.cached + t.free_span,
            "slots %zu + large %zu != allocated %zu + cached %zu + free %zu", slots, t.large,
            t.allocated, t.cached, t.free_span);
    require(t.spans == spans, "%zu spans, not %zu", t.spans, spans);
    require(t.metadata != 0, "no metadata");
}

START_TEST(totals_add_up) {
    enum { N = 3000 };
    static void *block[N];
    size_t live = 0;
    for (unsigned step = 0; step < 20000 / UNIT_SLOWNESS; step++) {
        unsigned i = (unsigned)random_below(&seed, N);
        if (block[i] != NULL) {
            live -= bs_heap_usable(block[i]);
            bs_heap_free(block[i]);
            block[i] = NULL;
        } else {
            block[i] = bs_heap_alloc(some_size(step % 50 == 0 ? 20 : 11));
            live += bs_heap_usable(block[i]);
        }
        if (step % 100 == 0) {
            check_totals();
            require(bs_heap_totals().allocated == live, "allocated %zu, live %zu",
                    bs_heap_totals().allocated, live);
        }
        if (step % 4000 == 0)
            bs_heap_trim(0);
    }
}
END_TEST

START_TEST(trim_gives_everything_back) {
    static void *block[20000];
    ck_assert(!bs_heap_trim(0)); /* nothing there yet */
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++) {
        size_t size = some_size(13);
        block[i] = bs_heap_alloc(size);
        memset(block[i], 1, size);
    }
    ck_assert(!bs_heap_trim(0) || bs_heap_totals().dirty == 0);
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        bs_heap_free(block[i]);
    ck_assert(bs_heap_trim(0));
    check_totals();
    struct bs_heap_totals t = bs_heap_totals();
    ck_assert_uint_eq(t.released, t.mapped);
    ck_assert_uint_eq(t.allocated + t.cached + t.free_span + t.dirty + t.spans, 0);
    ck_assert(!bs_heap_trim(0)); /* 1 only when pages came back */
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* scavenge:off is for what besom does of itself. */
START_TEST(trim_gives_holes_back_whoever_scavenges) {
    static void *block[4000];
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        block[i] = memset(bs_heap_alloc(1024), 1, 1024);
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        if (i % 8 != 0) /* one of the span's eight stays */
            bs_heap_free(block[i]);
    bs_opt.scavenge = false;
    (void)bs_heap_trim(0);
    if (bs_os_page_size() == 4096)
        ck_assert_uint_ge(bs_counted(hole_bytes), BS_ARRAY_LEN(block) / 16 * 4096);
    ck_assert_uint_eq(bs_usage_now().holes, bs_counted(hole_bytes)); /* no longer in use, for the goal of dirty pages */
    ck_assert_uint_eq(bs_heap_totals().dirty, 0);
}
END_TEST

static size_t holes_of_rounds(unsigned n) {
    struct bs_holes_work work;
    size_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        (void)bs_holes_round(0, SIZE_MAX, false, &work);
        bytes += work.bytes;
    }
    return bytes;
}

/* Pages of spans rest for an epoch before they go back: a pass in that time would be in vain, or too soon. */
START_TEST(passes_over_spans_are_an_epoch_apart) {
    static void *block[4000];
    (void)bs_heap_trim(0); /* a pass, with which the epoch begins */
    bs_opt.scavenge_delay = 86400000;
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        block[i] = memset(bs_heap_alloc(1024), 1, 1024);
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        if (i % 8 != 0)
            bs_heap_free(block[i]);
    bs_tcache_drain_own();
    ck_assert_uint_eq(holes_of_rounds(5), 0);
    bs_opt.scavenge_delay = 0;
    size_t bytes = holes_of_rounds(5);
    if (bs_os_page_size() == 4096)
        ck_assert_uint_ge(bytes, BS_ARRAY_LEN(block) / 16 * 4096);
}
END_TEST

START_TEST(trim_keeps_what_it_shall) {
    void *p = bs_heap_alloc(20 * BS_MIB);
    memset(p, 1, 20 * BS_MIB);
    bs_heap_free(p);
    ck_assert_uint_eq(bs_heap_totals().dirty, 20 * BS_MIB);
    ck_assert(bs_heap_trim(5 * BS_MIB));
    size_t dirty = bs_heap_totals().dirty;
    /* whole huge pages go first, so it may be one too many */
    ck_assert_msg(dirty <= 5 * BS_MIB && dirty >= 3 * BS_MIB, "%zu bytes kept", dirty);
    ck_assert(!bs_heap_trim(5 * BS_MIB));
}
END_TEST

static unsigned asked;
static void hook(void) {
    asked++;
}

START_TEST(hook_is_asked_when_there_is_work) {
    static uint32_t helper;
    bs_heap_set_work_hook(hook, &helper);
    void *p = bs_heap_alloc(100000);
    ck_assert_uint_eq(asked, 0);
    bs_heap_free(bs_heap_alloc(20 * BS_MIB)); /* free dirty pages above the threshold */
    ck_assert_uint_ge(asked, 1);
    asked = 0;
    helper = 1;
    bs_heap_free(bs_heap_alloc(20 * BS_MIB));
    ck_assert_uint_eq(asked, 0); /* it sees the pages itself */
    helper = 0;
    bs_heap_trim(0);
    bs_heap_free(p);
    ck_assert_uint_eq(asked, 0);
}
END_TEST

START_TEST(rounding_is_measured) {
    all_sizes_at_home();
    unsigned class = bs_class_of(100); /* 112 bytes */
    ck_assert_uint_eq(bs_heap_rounding_256ths(class), 0);
    for (unsigned i = 0; i < 5000; i++)
        (void)bs_heap_alloc_slow(100);
    ck_assert_uint_eq(bs_heap_rounding_256ths(class), 12 * 256);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("heap");
    TCase *tc = add_case(suite, "contents");
    tcase_add_test(tc, random_programs);
    tcase_add_test(tc, calloc_is_zero);
    tc = add_case(suite, "blocks");
    tcase_add_test(tc, usable_is_class_or_pages);
    tcase_add_test(tc, size_zero_is_a_block);
    tcase_add_test(tc, absurd_requests_fail);
    tc = add_case(suite, "realloc");
    tcase_add_test(tc, realloc_stays_or_moves);
    tcase_add_test(tc, realloc_between_small_and_large);
#if BS_FAULTS
    tcase_add_test(tc, realloc_without_memory_keeps_the_block);
#endif
    tc = add_case(suite, "crimes");
    tcase_add_test(tc, crimes_abort);
    tcase_add_test(tc, foreign_pointers_are_ignored);
    tcase_add_test(tc, foreign_pointers_abort_on_request);
    tc = add_case(suite, "whole");
    tcase_add_test(tc, fill_on_request);
    tcase_add_test(tc, totals_add_up);
    tcase_add_test(tc, trim_gives_everything_back);
    tcase_add_test(tc, trim_gives_holes_back_whoever_scavenges);
    tcase_add_test(tc, passes_over_spans_are_an_epoch_apart);
    tcase_add_test(tc, trim_keeps_what_it_shall);
    tcase_add_test(tc, hook_is_asked_when_there_is_work);
    tcase_add_test(tc, rounding_is_measured);
    return run_suite(suite);
}
