/* SPDX-License-Identifier: MIT */
/*
 * check_central.c - central lists on a real heap: what a refill claims and from which span, what a
 * release makes of spans, what waits for the sweeper, the end of a program that frees wrongly,
 * and that slots said to be zero are.
 *
 * One thread, no thread cache: claims and releases are all there is, so the state of every span
 * is known. Threads are check_threads.c's part.
 */
#include "central.h"

#include "counter.h"
#include "os.h"
#include "scavenge.h"
#include "home_unit.h"
#include "unit.h"
#include "waiting.h"

#define BLOCKS_MAX 20000

static uint64_t seed = 1;

/* The blocks that a test holds. */
static void *held[BLOCKS_MAX];
static unsigned nheld;

static void hold(void *p) {
    require(nheld < BLOCKS_MAX, "the test holds too many blocks");
    held[nheld++] = p;
}

/* One refill; all that came is held. The number of slots, 0 without memory. */
static unsigned refill(unsigned class, unsigned want, unsigned room, struct bs_refill *r) {
    static void *blocks[256];
    *r = (struct bs_refill){.blocks = blocks, .max_blocks = room};
    if (!bs_central_refill(class, want, r))
        return 0;
    for (uint64_t mask = r->run_mask; mask != 0; mask &= mask - 1)
        hold(r->run_base + (size_t)bs_ctz(mask) * bs_class_info[class].size);
    for (unsigned i = room - r->nblocks; i < room; i++)
        hold(blocks[i]);
    return bs_popcount(r->run_mask) + r->nblocks;
}

static void *claim_one(unsigned class) {
    struct bs_refill r;
    ck_assert_uint_eq(refill(class, 1, 0, &r), 1);
    return held[--nheld];
}

static void release_one(unsigned class, void *p) {
    bs_central_release(class, &p, 1);
}

static void release_all(unsigned class) {
    bs_central_release(class, held, nheld);
    nheld = 0;
}

/* Blocks of `n` whole new spans, in order; span i's first is block[i * nslots]. */
static void fill_spans(unsigned class, unsigned n, void **block) {
    unsigned nslots = bs_class_info[class].nslots;
    for (unsigned i = 0; i < n * nslots; i++) {
        block[i] = claim_one(class);
        if (i % nslots != 0)
            require(bs_span_of((uintptr_t)block[i]) == bs_span_of((uintptr_t)block[i - 1]),
                    "slot %u came from another span", i);
    }
}

/* --- refill ----------------------------------------------------------------------------------- */

static void check_blocks(unsigned class, unsigned from) {
    for (unsigned i = from; i < nheld; i++) {
        struct bs_span *s = bs_span_of((uintptr_t)held[i]);
        require(s != NULL && s->class == class, "block %u is in no span of class %u", i, class);
        require(bs_central_is_allocated(s, (uintptr_t)held[i]), "block %u is not allocated", i);
        require(bs_pagemap_class((uintptr_t)held[i]) == class, "class byte of block %u", i);
        memset(held[i], 0xee, bs_class_info[class].size);
    }
}

static int by_address(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

static void check_distinct(void) {
    static void *sorted[BLOCKS_MAX];
    memcpy(sorted, held, nheld * sizeof *held);
    qsort(sorted, nheld, sizeof *sorted, by_address);
    for (unsigned i = 1; i < nheld; i++)
        require(sorted[i] != sorted[i - 1], "%p was handed out twice", sorted[i]);
}

START_TEST(refills_bring_what_was_asked) {
    for (unsigned class = 1; class < BS_NCLASSES; class ++) {
        unsigned nslots = bs_class_info[class].nslots;
        nheld = 0;
        for (unsigned k = 0; k < 40; k++) {
            struct bs_refill r;
            unsigned want = 1 + (unsigned)random_below(&seed, 64), before = nheld;
            struct bs_central_counts c = bs_central_counts(class);
            size_t there = c.spans * nslots - c.slots_out; /* a new span only if there are none */
            size_t expected = bs_min(want, there != 0 ? there : nslots);
            unsigned got = refill(class, want, 256, &r);
            require(got == expected, "class %u: %u slots, expected %zu", class, got, expected);
            check_blocks(class, before);
            c = bs_central_counts(class);
            require(c.slots_out == nheld, "class %u: %zu slots out, not %u", class, c.slots_out,
                    nheld);
            require(c.spans >= (nheld + nslots - 1) / nslots, "class %u: %zu spans", class,
                    c.spans);
        }
        check_distinct();
        release_all(class);
        ck_assert_uint_eq(bs_central_counts(class).slots_out, 0);
    }
}
END_TEST

/* Blocks from the last one backwards, then the run. */
START_TEST(slots_of_a_new_span_are_used_in_their_order) {
    static void *blocks[512];
    unsigned class = bs_class_of(16);
    struct bs_refill r = {.blocks = blocks, .max_blocks = 500};
    ck_assert(bs_central_refill(class, 256, &r));
    ck_assert_uint_eq(r.nblocks, 192);
    char *base = blocks[499];
    for (unsigned i = 0; i < 192; i++)
        ck_assert_ptr_eq(blocks[499 - i], base + 16 * i);
    ck_assert_ptr_eq(r.run_base, base + 16 * 192);
    ck_assert_uint_eq(r.run_mask, UINT64_MAX);
}
END_TEST

START_TEST(scattered_slots_come_in_one_refill) {
    struct bs_refill r;
    unsigned class = bs_class_of(16), got = 0; /* 512 slots: 8 words */
    while (nheld < 512)
        ck_assert_uint_ne(refill(class, 64, 256, &r), 0);
    for (unsigned i = 0; i < 512; i += 16) { /* 4 free slots a word */
        release_one(class, held[i]);
        held[i] = NULL;
    }
    nheld = 0;
    got = refill(class, 20, 9, &r);
    ck_assert_uint_eq(bs_popcount(r.run_mask), 4);
    ck_assert_uint_eq(r.nblocks, 8); /* all that there was room for: whole words */
    ck_assert_uint_eq(got, 12);
    check_blocks(class, 0);
    got = refill(class, 17, 256, &r);
    ck_assert_uint_eq(got, 17);
    check_distinct();
}
END_TEST

/* --- fullest first ---------------------------------------------------------------------------- */

START_TEST(refill_takes_from_the_fullest) {
    enum { SPANS = 4, SLOTS = 8 };
    unsigned class = bs_class_of(1024), nfree[SPANS] = {6, 1, 7, 3};
    const unsigned order[] = {1, 3, 3, 3, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2};
    void *block[SPANS * SLOTS];
    struct bs_span *span[SPANS];
    ck_assert_uint_eq(bs_class_info[class].nslots, SLOTS);
    fill_spans(class, SPANS, block);
    for (unsigned i = 0; i < SPANS; i++) {
        span[i] = bs_span_of((uintptr_t)block[i * SLOTS]);
        bs_central_release(class, &block[i * SLOTS + 1], nfree[i]);
    }
    for (unsigned i = 0; i < BS_ARRAY_LEN(order); i++) {
        struct bs_span *s = bs_span_of((uintptr_t)claim_one(class));
        require(s == span[order[i]], "claim %u: not from span %u, the fullest", i, order[i]);
    }
}
END_TEST

/* The highest fullness group among spans with free slots, as the blocks held say. */
static unsigned fullest_group(unsigned class, struct bs_span *const *span, unsigned n) {
    unsigned best = 0;
    for (unsigned i = 0; i < n; i++) {
        require(span[i]->class == class, "span %u has become another's", i);
        if (!bs_span_full(span[i]) && bs_span_fullness(span[i]) > best)
            best = bs_span_fullness(span[i]);
    }
    return best;
}

START_TEST(random_claims_are_from_the_fullest_group) {
    enum { SPANS = 20 };
    unsigned class = bs_class_of(256), nslots = bs_class_info[class].nslots; /* 32 slots */
    static void *block[SPANS * 64];
    struct bs_span *span[SPANS];
    fill_spans(class, SPANS, block);
    for (unsigned i = 0; i < SPANS; i++)
        span[i] = bs_span_of((uintptr_t)block[i * nslots]);
    unsigned n = SPANS * nslots;
    for (unsigned step = 0; step < 20000 / UNIT_SLOWNESS; step++) {
        unsigned i = (unsigned)random_below(&seed, n);
        bool some_free = bs_central_counts(class).slots_out < SPANS * nslots;
        /* one block a span stays, so that none goes away */
        bool last = bs_span_of((uintptr_t)block[i])->nalloc == 1;
        if ((step / 200 % 2 == 0 || !some_free) && !last) {
            release_one(class, block[i]);
            block[i] = block[--n];
        } else if (some_free) {
            unsigned group = fullest_group(class, span, SPANS);
            block[n++] = claim_one(class);
            struct bs_span *s = bs_span_of((uintptr_t)block[n - 1]);
            s->nalloc--;
            unsigned from = bs_span_fullness(s);
            s->nalloc++;
            require(from == group, "step %u: from group %u, the fullest is %u", step, from, group);
        }
        require(bs_central_counts(class).slots_out == n, "step %u: slots out", step);
        require(bs_central_counts(class).spans == SPANS, "step %u: spans", step);
    }
    for (unsigned i = 0; i < SPANS; i++)
        ck_assert(bs_span_is_valid(span[i]));
}
END_TEST

START_TEST(ties_go_to_the_lower_address) {
    void *block[4 * 8];
    unsigned class = bs_class_of(1024);
    fill_spans(class, 4, block);
    for (unsigned i = 4; i-- > 0;) /* from the highest down: each new one goes in front */
        release_one(class, block[i * 8 + 3]);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_ptr_eq(claim_one(class), block[i * 8 + 3]);
}
END_TEST

/* --- empty spans ------------------------------------------------------------------------------ */

START_TEST(one_empty_span_is_kept) {
    void *block[6 * 8];
    unsigned class = bs_class_of(1024);
    fill_spans(class, 6, block);
    size_t in_spans = bs_pageheap_counts().span_pages;
    ck_assert_uint_eq(in_spans, 6);
    bs_central_release(class, block, 6 * 8);
    ck_assert_uint_eq(bs_central_counts(class).spans, 1);
    ck_assert_uint_eq(bs_waiting_count(), 5);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 6);
    ck_assert_uint_eq(bs_waiting_return(2), 2);
    ck_assert_uint_eq(bs_waiting_count(), 3);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 4);
    ck_assert_uint_eq(bs_waiting_return(100), 3);
    ck_assert_uint_eq(bs_waiting_return(100), 0);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 1);
    /* the kept one serves the next claim */
    uint64_t made = bs_counted(spans_made);
    void *p = claim_one(class);
    ck_assert_uint_eq(bs_counted(spans_made), made);
    release_one(class, p);
    bs_central_give_up_empty();
    ck_assert_uint_eq(bs_central_counts(class).spans, 0);
    ck_assert_uint_eq(bs_waiting_return(100), 1);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 0);
    ck_assert_uint_eq(bs_counted(spans_returned), bs_counted(spans_made));
    for (unsigned i = 0; i < 6 * 8; i++)
        require(bs_span_of((uintptr_t)block[i]) == NULL, "a span that is gone is found");
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

START_TEST(waiting_spans_are_bounded) { /* without a sweeper a release returns some itself */
    struct bs_refill r;
    unsigned class = bs_class_of(32768), most = 0;
    while (nheld < 500)
        ck_assert_uint_ne(refill(class, 1, 0, &r), 0);
    for (unsigned i = 0; i < 500; i++) {
        release_one(class, held[i]);
        if (bs_waiting_count() > most)
            most = (unsigned)bs_waiting_count();
    }
    ck_assert_uint_le(most, BS_EMPTY_WAITING_MAX);
    ck_assert_uint_ge(most, BS_EMPTY_BATCH);
    bs_waiting_return(SIZE_MAX);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 4);
}
END_TEST

START_TEST(waiting_spans_serve_others_before_growth) {
    struct bs_refill r;
    unsigned class = bs_class_of(1024), from = nheld;
    while (bs_pageheap_counts().mapped_pages == 0 ||
           bs_pageheap_counts().span_pages < bs_pageheap_counts().mapped_pages)
        ck_assert_uint_ne(refill(class, 8, 0, &r), 0);
    uint64_t grown = bs_pageheap_grown();
    bs_central_release(class, &held[from], 20 * 8); /* of the whole heap 20 pages are waiting */
    nheld = 0;
    ck_assert_uint_eq(bs_waiting_count(), 19);
    struct bs_pages pages;
    ck_assert(bs_central_take_pages(10, 1, &pages));
    ck_assert_uint_eq(bs_pageheap_grown(), grown);
    ck_assert_uint_eq(bs_waiting_count(), 0);
}
END_TEST

START_TEST(waiting_spans_go_before_memory_is_new) { /* their pages have memory */
    void *block[6 * 8];
    unsigned class = bs_class_of(1024);
    struct bs_pages pages;
    fill_spans(class, 6, block);
    bs_central_release(class, block, 6 * 8);
    ck_assert_uint_eq(bs_waiting_count(), 5);
    ck_assert(bs_central_take_pages(2, 1, &pages));
    ck_assert_uint_eq(pages.nreleased, 0);
    ck_assert_uint_eq(bs_waiting_count(), 0);
    ck_assert(bs_central_take_pages(4, 1, &pages)); /* three are left of them */
    ck_assert_uint_eq(pages.nreleased, 1);
}
END_TEST

/* --- zeros ------------------------------------------------------------------------------------ */

static void check_zero(unsigned class, const struct bs_refill *r) {
    size_t size = bs_class_info[class].size;
    for (uint64_t mask = r->run_mask; mask != 0; mask &= mask - 1) {
        const char *p = r->run_base + (size_t)bs_ctz(mask) * size;
        for (size_t i = 0; i < size; i++)
            require(p[i] == 0, "class %u: a slot said to be zero has byte %x", class, p[i]);
    }
}

START_TEST(fresh_until_the_first_release) {
    struct bs_refill r;
    unsigned class = bs_class_of(64);
    refill(class, 10, 0, &r);
    ck_assert(r.run_zero);
    refill(class, 10, 0, &r);
    ck_assert(r.run_zero);
    release_one(class, held[0]);
    refill(class, 10, 0, &r);
    ck_assert(!r.run_zero);
}
END_TEST

START_TEST(released_pages_are_fresh_again_dirty_ones_not) {
    struct bs_refill r;
    unsigned class = bs_class_of(4096);
    refill(class, 8, 0, &r);
    for (unsigned i = 0; i < nheld; i++)
        memset(held[i], 0xdd, 4096);
    release_all(class);
    bs_central_give_up_empty();
    bs_waiting_return(100);
    refill(class, 8, 0, &r);
    ck_assert_msg(!r.run_zero, "dirty pages count as zero");
    release_all(class);
    bs_central_give_up_empty();
    bs_waiting_return(100);
    ck_assert_uint_ne(bs_scavenge_to(0), 0);
    refill(class, 8, 0, &r);
    ck_assert_msg(r.run_zero, "pages given back do not count as zero");
    check_zero(class, &r);
}
END_TEST

START_TEST(zero_is_never_wrong) {
    for (unsigned step = 0; step < 6000 / UNIT_SLOWNESS; step++) {
        unsigned class = 1 + (unsigned)random_below(&seed, BS_NCLASSES - 1), first = nheld;
        struct bs_refill r;
        refill(class, 1 + (unsigned)random_below(&seed, 16), 64, &r);
        if (r.run_zero)
            check_zero(class, &r);
        for (unsigned i = first; i < nheld; i++)
            memset(held[i], 0xcc, bs_class_info[class].size);
        for (unsigned k = 0; nheld > 2000 || (k < 16 && nheld != 0); k++) {
            unsigned i = (unsigned)random_below(&seed, nheld);
            release_one(bs_pagemap_class((uintptr_t)held[i]), held[i]);
            held[i] = held[--nheld];
        }
        if (step % 32 == 0)
            bs_waiting_return(8);
        if (step % 64 == 0)
            bs_scavenge_pages(random_below(&seed, 64), 0, 0);
    }
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* --- crimes ----------------------------------------------------------------------------------- */

static void free_twice(void *p) {
    release_one(bs_pagemap_class((uintptr_t)p), p);
    release_one(bs_pagemap_class((uintptr_t)p), p);
}
static void free_twice_in_a_batch(void *p) {
    void *both[] = {p, p};
    bs_central_release(bs_pagemap_class((uintptr_t)p), both, 2);
}
static void free_inside(void *p) {
    release_one(bs_pagemap_class((uintptr_t)p), (char *)p + 8);
}
static void free_tail(void *p) { /* class 48: 8192 = 170 * 48 + 32 */
    release_one(bs_pagemap_class((uintptr_t)p), (char *)p + 170 * 48);
}
/* The magazine's pointer is stale: its span has gone, or serves another class. */
static void free_after_the_span(void *p) {
    unsigned class = bs_pagemap_class((uintptr_t)p);
    release_one(class, p);
    bs_central_give_up_empty();
    bs_waiting_return(10);
    release_one(class, p);
}
static void free_into_another_class(void *p) {
    unsigned class = bs_pagemap_class((uintptr_t)p);
    release_one(class, p);
    bs_central_give_up_empty();
    bs_waiting_return(10);
    ck_assert_ptr_eq(claim_one(bs_class_of(512)), p);
    release_one(class, p);
}

/* Its span's record is that of another span of the class by then. */
static void free_after_the_record_has_moved(void *p) {
    unsigned class = bs_pagemap_class((uintptr_t)p);
    struct bs_span *s = bs_span_of((uintptr_t)p), *now;
    void *block[400];
    unsigned n = 0;
    release_one(class, p);
    do
        ck_assert_uint_lt(n, BS_ARRAY_LEN(block));
    while (bs_span_of((uintptr_t)(block[n++] = claim_one(class))) == s);
    now = bs_span_of((uintptr_t)block[n - 1]);
    void *stale = block[n - 1];
    for (unsigned i = 0; i < n; i++) {
        release_one(class, block[i]);
        bs_central_give_up_empty();
        bs_waiting_return(10); /* the record of the last one is the next that is used */
    }
    ck_assert_uint_eq((uintptr_t)claim_one(class), s->base);
    ck_assert_ptr_eq(bs_span_of(s->base), now);
    release_one(class, stale);
}

START_TEST(crimes_abort) {
    char text[128];
    void *p = claim_one(bs_class_of(48)), *other = claim_one(bs_class_of(48));
    ck_assert_ptr_ne(p, other);
    snprintf(text, sizeof text, "besom: double free of %p (size class 48 bytes)\n", p);
    expect_abort(free_twice, p, text);
    expect_abort(free_twice_in_a_batch, p, text);
    release_one(bs_class_of(48), other);
    expect_abort(free_after_the_span, p, text);
    expect_abort(free_into_another_class, p, text);
    expect_abort(free_after_the_record_has_moved, p, "besom: double free of ");
    snprintf(text, sizeof text, "besom: invalid free of %p (size class 48 bytes)\n",
             (void *)((char *)p + 8));
    expect_abort(free_inside, p, text);
    snprintf(text, sizeof text, "besom: invalid free of %p (size class 48 bytes)\n",
             (void *)((char *)p + 170 * 48));
    expect_abort(free_tail, p, text);
}
END_TEST

static void handler(int sig) {
    (void)sig;
    bs_central_lock_all(); /* the report must not hold a lock: a handler may allocate */
    bs_central_unlock_all();
    _exit(7);
}

START_TEST(report_holds_no_lock) {
    close(STDERR_FILENO); /* the message is not the matter here */
    signal(SIGABRT, handler);
    free_twice(claim_one(bs_class_of(100)));
}
END_TEST

/* --- the rest --------------------------------------------------------------------------------- */

#if BS_FAULTS
START_TEST(every_failure_on_the_way) {
    struct bs_refill r;
    unsigned class = bs_class_of(100), got = 0;
    for (unsigned n = 1; got == 0; n++) { /* until the nth call is never made */
        ck_assert_uint_lt(n, 50);
        bs_os_fail(n, 12, false);
        got = refill(class, 8, 8, &r);
        bs_os_fail(0, 0, false);
        struct bs_pageheap_counts c = bs_pageheap_counts();
        ck_assert(bs_pageheap_is_valid());
        ck_assert_uint_eq(c.span_pages, bs_central_counts(class).spans);
    }
}
END_TEST
#endif

START_TEST(aligned_pages) {
    for (size_t align = 1; align <= 2 * BS_ARENA_PAGES; align *= 2) {
        struct bs_pages p;
        size_t n = 1 + random_skewed(&seed, 6);
        ck_assert(bs_central_take_pages(n, align, &p));
        require(p.base % (align * BS_PAGE_SIZE) == 0, "%zx is not aligned to %zu pages", p.base,
                align);
        ck_assert_uint_eq(p.npages, n);
        ck_assert(bs_pageheap_is_valid());
    }
}
END_TEST

START_TEST(bits_are_copied) {
    struct bs_refill r;
    uint64_t bits[16];
    unsigned class = bs_class_of(8); /* 1024 slots: the most there are */
    for (unsigned i = 0; i < 20; i++)
        refill(class, 1 + (unsigned)random_below(&seed, 64), 64, &r);
    struct bs_span *s = bs_span_of((uintptr_t)held[0]);
    uint16_t holes = 0xffff;
    bs_central_copy_bits(s, s->class, bits, &holes);
    ck_assert_uint_eq(holes, s->holes);
    ck_assert_uint_eq(bs_range_count(bits, 0, 1024), s->nalloc);
    for (unsigned i = 0; i < nheld; i++)
        if (bs_span_of((uintptr_t)held[i]) == s)
            ck_assert(bs_bit_test(bits, ((uintptr_t)held[i] - s->base) / 8));
}
END_TEST

int main(void) {
    all_sizes_at_home();
    Suite *suite = suite_create("central");
    TCase *tc = add_case(suite, "refill");
    tcase_add_test(tc, refills_bring_what_was_asked);
    tcase_add_test(tc, slots_of_a_new_span_are_used_in_their_order);
    tcase_add_test(tc, scattered_slots_come_in_one_refill);
    tcase_add_test(tc, refill_takes_from_the_fullest);
    tcase_add_test(tc, random_claims_are_from_the_fullest_group);
    tcase_add_test(tc, ties_go_to_the_lower_address);
    tc = add_case(suite, "empty");
    tcase_add_test(tc, one_empty_span_is_kept);
    tcase_add_test(tc, waiting_spans_are_bounded);
    tcase_add_test(tc, waiting_spans_serve_others_before_growth);
    tcase_add_test(tc, waiting_spans_go_before_memory_is_new);
    tc = add_case(suite, "zero");
    tcase_add_test(tc, fresh_until_the_first_release);
    tcase_add_test(tc, released_pages_are_fresh_again_dirty_ones_not);
    tcase_add_test(tc, zero_is_never_wrong);
    tc = add_case(suite, "crimes");
    tcase_add_test(tc, crimes_abort);
    tcase_add_exit_test(tc, report_holds_no_lock, 7);
    tc = add_case(suite, "rest");
#if BS_FAULTS
    tcase_add_test(tc, every_failure_on_the_way);
#endif
    tcase_add_test(tc, aligned_pages);
    tcase_add_test(tc, bits_are_copied);
    return run_suite(suite);
}
