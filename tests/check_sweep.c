/* SPDX-License-Identifier: MIT */
/*
 * check_sweep.c - cycles of scan and sweep whose marks the test sets itself: what a refill sweeps
 * before it claims, what the walk does with spans that are full, empty, borrowed, waiting or new,
 * large blocks, thread caches, fork. What the bits mean is check_sweep_modes.c's part, threads are
 * check_sweep_threads.c's.
 */
#include "child.h"
#include "counter.h"
#include "cycle_unit.h"
#include "fork.h"
#include "heap.h"
#include "large.h"
#include "os.h"
#include "round.h"
#include "sweep.h"
#include "waiting.h"

/* --- on demand -------------------------------------------------------------------------------- */

START_TEST(a_refill_sweeps_what_it_claims_from) {
    enum { SPANS = 6, SLOTS = 8 };
    unsigned class = bs_class_of(1024);
    void *block[SPANS * SLOTS];
    claim_many(class, block, SPANS * SLOTS);
    for (unsigned i = 0; i < SPANS; i++)
        release_one(class, block[i * SLOTS]); /* all are listed */
    begin();
    for (unsigned i = 0; i < SPANS * SLOTS; i++)
        if (i % SLOTS > 2)
            ck_assert(mark(block[i]));
    start(BS_SWEEP_COLLECT);
    uint64_t before = bs_counted(spans_swept_on_demand);
    void *p = claim_one(class);
    ck_assert_uint_eq(bs_counted(spans_swept_on_demand), before + 1);
    ck_assert_uint_eq(nreported, 2); /* of that span alone */
    struct bs_span *s = span_of(p);
    ck_assert(!bs_span_is_unswept(s));
    ck_assert_uint_eq(s->nalloc, SLOTS - 3 + 1);
    ck_assert_uint_eq(bs_central_counts(class).slots_out, SPANS * (SLOTS - 1) - 2 + 1);
    for (unsigned i = 0; i < SPANS * SLOTS; i += SLOTS)
        ck_assert(span_of(block[i]) == s || bs_span_is_unswept(span_of(block[i])));
    bs_cycle_finish();
    ck_assert(is_out(p)); /* unmarked, but younger than the scan */
    ck_assert_uint_eq(nreported, 2 * SPANS);
    check_complete();
}
END_TEST

START_TEST(a_refill_keeps_the_span_that_it_empties) {
    unsigned class = bs_class_of(1024);
    void *p = claim_one(class);
    struct bs_span *s = span_of(p);
    begin();
    start(BS_SWEEP_COLLECT);
    void *q = claim_one(class);
    ck_assert_ptr_eq(span_of(q), s);
    ck_assert_uint_eq(s->nalloc, 1);
    bs_cycle_finish();
    ck_assert(is_out(q));
    release_one(class, q); /* the class's only empty span, if it counts them right */
    ck_assert_uint_eq(bs_central_counts(class).spans, 1);
    ck_assert_uint_eq(bs_waiting_count(), 0);
    bs_central_give_up_empty();
    ck_assert_uint_eq(bs_central_counts(class).spans, 0);
    bs_waiting_return(SIZE_MAX);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 0);
}
END_TEST

START_TEST(swept_slots_are_not_zero) {
    unsigned class = bs_class_of(1024);
    struct bs_refill r = {.blocks = NULL, .max_blocks = 0};
    for (unsigned i = 0; i < 4; i++) {
        ck_assert(bs_central_refill(class, 1, &r) && r.run_zero);
        memset(r.run_base + bs_ctz(r.run_mask) * 1024, 0xaa, 1024);
    }
    begin();
    start(BS_SWEEP_COLLECT);
    ck_assert(bs_central_refill(class, 1, &r) && !r.run_zero);
    bs_cycle_finish();
}
END_TEST

START_TEST(a_class_without_slots_sweeps_a_bounded_number) {
    enum { SPANS = 300 };
    unsigned class = bs_class_of(1024), dry = bs_class_of(2048), n = SPANS * 8;
    static void *block[SPANS * 8];
    claim_many(class, block, n);
    begin();
    for (unsigned i = 0; i < n; i++)
        ck_assert(mark(block[i]));
    start(BS_SWEEP_COLLECT);
    (void)claim_one(dry);
    uint64_t swept = bs_counted(spans_swept);
    ck_assert_uint_ge(swept, 90);
    ck_assert_uint_le(swept, BS_SWEEP_REFILL_MAX);
    ck_assert_uint_eq(bs_counted(spans_swept_on_demand), swept);
    bs_cycle_finish();
    ck_assert_uint_eq(bs_counted(spans_swept), SPANS); /* not the one that was born meanwhile */
}
END_TEST

START_TEST(full_spans_serve_after_their_sweep) {
    unsigned class = bs_class_of(1024);
    void *block[80];
    claim_many(class, block, 80); /* ten spans, on no list */
    uint64_t made = bs_counted(spans_made);
    begin();
    for (unsigned i = 0; i < 80; i++)
        if (i % 8 != 3)
            ck_assert(mark(block[i]));
    start(BS_SWEEP_COLLECT);
    for (unsigned i = 0; i < 10; i++)
        (void)claim_one(class);
    ck_assert_uint_eq(bs_counted(spans_made), made); /* the slots that were collected */
    bs_cycle_finish();
    check_complete();
}
END_TEST

/* --- the walk --------------------------------------------------------------------------------- */

START_TEST(the_walk_goes_on_where_it_was) {
    unsigned class = bs_class_of(1024), piece = 1 + (unsigned)_i * 7;
    static void *block[4000];
    claim_many(class, block, 4000); /* 500 spans */
    for (unsigned i = 0; i < 3; i++)
        ck_assert_ptr_nonnull(bs_large_alloc((1 + i * 30) * BS_MIB, 1, false));
    begin();
    start(BS_SWEEP_LEAKS);
    size_t total = 0;
    while (bs_cycle_is_under_way()) {
        size_t swept = bs_cycle_walk(piece, 0);
        require(swept <= piece, "%zu spans in a piece of %u", swept, piece);
        total += swept;
    }
    ck_assert_uint_eq(total, 503);
    ck_assert_uint_eq(nreported, 4003);
    check_complete();
    ck_assert_uint_eq(bs_cycle_walk(piece, 0), 0);
}
END_TEST

START_TEST(spans_go_where_their_fullness_says) {
    enum { SPANS = 40 };
    unsigned class = bs_class_of(1024);
    void *block[SPANS * 8];
    claim_many(class, block, SPANS * 8);
    begin();
    for (unsigned i = 0; i < SPANS * 8; i++) /* span k keeps k % 9 slots */
        if (i % 8 < i / 8 % 9)
            ck_assert(mark(block[i]));
    start(BS_SWEEP_COLLECT);
    bs_cycle_finish();
    check_complete();
    ck_assert_uint_eq(bs_waiting_count(), 4); /* of five empty ones the class keeps one */
    ck_assert_uint_eq(bs_central_counts(class).spans, SPANS - 4);
    for (unsigned k = 0; k < SPANS; k++) {
        struct bs_span *s = span_of(block[k * 8]);
        unsigned live = k % 9;
        require(s->nalloc == live, "span %u has %u slots", k, s->nalloc);
        bool listed = (s->flags & BS_SPAN_LISTED) != 0;
        require(live == 0 || listed == (live < 8), "span %u: on a list or not", k);
        require(!listed || s->group == bs_span_fullness(s), "span %u: group %u", k, s->group);
    }
    ck_assert_uint_eq(bs_waiting_return(100), 4);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, SPANS - 4);
}
END_TEST

START_TEST(emptied_spans_go_back_in_a_round) {
    unsigned class = bs_class_of(1024);
    void *block[800];
    claim_many(class, block, 800);
    begin();
    start(BS_SWEEP_COLLECT);
    struct bs_sweep_work work = bs_sweep(SIZE_MAX, 10);
    ck_assert_uint_eq(work.swept, 100);
    ck_assert_uint_eq(work.returned, 99);
    /* a round has so much time and no more: one that was interrupted leaves the cycle's end to the next */
    while (bs_sweep_has_work()) {
        work = bs_sweep(SIZE_MAX, 10);
        ck_assert_uint_eq(work.swept + work.returned, 0);
    }
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 1);
    check_complete();
}
END_TEST

START_TEST(new_and_waiting_spans_are_not_swept) {
    unsigned class = bs_class_of(1024), other = bs_class_of(2048);
    void *block[32], *young[16];
    claim_many(class, block, 32);
    bs_central_release(class, block, 32); /* one kept, three waiting */
    ck_assert_uint_eq(bs_waiting_count(), 3);
    begin();
    start(BS_SWEEP_COLLECT);
    claim_many(class, block, 32); /* out of the waiting ones */
    claim_many(other, young, 16);
    void *large = bs_large_alloc(BS_MIB, 1, false);
    bs_cycle_finish();
    for (unsigned i = 0; i < 32; i++)
        ck_assert(is_out(block[i]));
    for (unsigned i = 0; i < 16; i++)
        ck_assert(is_out(young[i]));
    ck_assert_ptr_nonnull(span_of(large));
    ck_assert_uint_eq(nreported, 0);
    ck_assert_uint_eq(bs_counted(spans_swept), 1); /* the kept one */
    check_complete();
}
END_TEST

START_TEST(a_span_that_leaves_has_the_generation) {
    unsigned class = bs_class_of(1024);
    void *block[24];
    claim_many(class, block, 24);
    begin();
    for (unsigned i = 0; i < 24; i++)
        ck_assert(mark(block[i]));
    start(BS_SWEEP_COLLECT);
    bs_central_release(class, block, 24); /* before anything is swept */
    ck_assert_uint_eq(bs_waiting_count(), 2);
    ck_assert(!bs_span_is_unswept(span_of(block[8])) && !bs_span_is_unswept(span_of(block[16])));
    bs_central_give_up_empty();
    ck_assert(!bs_span_is_unswept(span_of(block[0])));
    ck_assert_uint_eq(bs_waiting_return(SIZE_MAX), 3);
    bs_cycle_finish();
    ck_assert_uint_eq(nreported, 0);
    check_complete();
}
END_TEST

START_TEST(a_borrowed_span_is_swept_meanwhile) {
    unsigned class = bs_class_of(1024), n = 0;
    void *block[16];
    struct bs_span *s;
    uint16_t pages;
    claim_many(class, block, 16);
    for (unsigned i = 0; i < 4; i++) /* an OS page's worth */
        release_one(class, block[i]);
    if (bs_os_page_size() != 4096)
        return;
    begin();
    ck_assert(mark(block[7]));
    start(BS_SWEEP_COLLECT);
    ck_assert_int_eq(bs_central_borrow((uintptr_t)block[0], true, &s, &pages), BS_BORROWED);
    bs_cycle_finish();
    ck_assert_uint_eq(s->nalloc, 1);
    ck_assert((s->flags & BS_SPAN_BORROWED) != 0 && (s->flags & BS_SPAN_LISTED) == 0);
    for (unsigned i = 0; i < 8; i++)
        n += is_out(block[i]);
    ck_assert_uint_eq(n, 1);
    bs_central_give_back(s, pages);
    ck_assert(s->flags & BS_SPAN_LISTED);
    check_complete();
}
END_TEST

/* --- large blocks ----------------------------------------------------------------------------- */

START_TEST(kept_large_spans_are_not_swept) {
    char *kept = bs_large_alloc(60000, 1, false), *lost = bs_large_alloc(60000, 1, false);
    bs_heap_free(kept);
    begin();
    ck_assert(!mark(kept));
    start(BS_SWEEP_COLLECT);
    ck_assert_ptr_eq(bs_large_alloc(60000, 1, false), kept); /* young: not judged in this cycle */
    bs_cycle_finish();
    ck_assert_ptr_nonnull(span_of(kept));
    ck_assert(was_reported(lost) && nreported == 1);
    ck_assert_ptr_null(span_of(lost)); /* kept in turn */
    begin();
    ck_assert(mark(kept));
    start(BS_SWEEP_COLLECT);
    bs_cycle_finish();
    ck_assert_uint_eq(bs_waiting_return(SIZE_MAX), 1); /* with the generation, as all that leaves */
    ck_assert_uint_eq(bs_pageheap_counts().span_pages * BS_PAGE_SIZE, bs_large_span_bytes());
    check_complete();
}
END_TEST

START_TEST(large_blocks_are_judged) {
    char *marked = bs_large_alloc(BS_MIB, 1, false), *lost = bs_large_alloc(3 * BS_MIB, 1, false);
    for (int i = 0; i < 2; i++) {
        begin();
        ck_assert(mark(marked + 12345));
        start(i == 0 ? BS_SWEEP_LEAKS : BS_SWEEP_COLLECT);
        bs_cycle_finish();
        ck_assert_uint_eq(nreported, 1);
        ck_assert(was_reported(lost));
        ck_assert_ptr_nonnull(span_of(marked));
        ck_assert(i == 1 || span_of(lost) != NULL);
    }
    ck_assert_ptr_null(span_of(lost));
    ck_assert_uint_eq(bs_large_span_bytes(), BS_MIB);
    ck_assert(bs_marks_make((uintptr_t)marked, BS_SIDE_HELD));
    ck_assert(bs_large_hold(span_of(marked)) && !bs_large_hold(span_of(marked)));
    begin();
    start(BS_SWEEP_COLLECT);
    bs_cycle_finish();
    ck_assert_ptr_nonnull(span_of(marked));
    begin();
    start(BS_SWEEP_QUARANTINE);
    bs_cycle_finish();
    ck_assert_ptr_null(span_of(marked));
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 0);
    check_complete();
}
END_TEST

START_TEST(a_large_block_that_is_used_is_not_released) {
    char *shrinks = bs_large_alloc(4 * BS_MIB, 1, false), *freed = bs_large_alloc(BS_MIB, 1, false);
    char *grows = bs_large_alloc(4 * BS_MIB, 1, false);
    begin();
    start(BS_SWEEP_COLLECT);
    shrinks = bs_heap_realloc(shrinks, 2 * BS_MIB);
    bs_heap_free(freed);
    grows = bs_heap_realloc(grows, 200 * BS_MIB);
    bs_cycle_finish();
    ck_assert_ptr_nonnull(span_of(shrinks));
    ck_assert_ptr_nonnull(span_of(grows));
    ck_assert_uint_eq(nreported, 0);
    bs_heap_free(shrinks);
    bs_heap_free(grows);
    ck_assert_uint_eq(bs_large_span_bytes(), 0);
    check_complete();
}
END_TEST

/* --- thread caches ---------------------------------------------------------------------------- */

START_TEST(what_a_cache_holds_is_idle) {
    enum { N = 3000 };
    static void *live[N];
    uint64_t seed = 5;
    for (unsigned i = 0; i < N; i++)
        live[i] = bs_heap_alloc(1 + random_below(&seed, 2000));
    for (unsigned i = 0; i < N; i += 2) /* magazines and runs hold something of each class */
        bs_heap_free(live[i]);
    begin();
    for (unsigned i = 1; i < N; i += 2)
        ck_assert(mark(live[i]));
    start(BS_SWEEP_COLLECT);
    bs_cycle_finish();
    ck_assert_uint_eq(nreported, 0);
    ck_assert_uint_eq(bs_counted(slots_swept), 0);
    for (unsigned i = 1; i < N; i += 2)
        bs_heap_free(live[i]);
    bs_heap_trim(0);
    ck_assert_uint_eq(bs_heap_totals().spans, 0);
    check_complete();
}
END_TEST

/* --- fork ------------------------------------------------------------------------------------- */

static void fork_in_a_cycle(void *arg) {
    void *block[80];
    (void)arg;
    bs_fork_start();
    claim_many(bs_class_of(1024), block, 80);
    begin();
    for (unsigned i = 0; i < 80; i++)
        CHILD_CHECK(i % 8 == 0 || mark(block[i]));
    start(BS_SWEEP_COLLECT);
    CHILD_CHECK(bs_cycle_walk(4, 0) == 4);
    pid_t pid = fork();
    int status = 0;
    bs_round_enter(); /* free in both */
    CHILD_CHECK(bs_cycle_walk(SIZE_MAX, 0) == 6 && !bs_cycle_is_under_way());
    bs_round_leave();
    CHILD_CHECK(nreported == 10 && bs_cycle_is_complete() && bs_pageheap_is_valid());
    if (pid == 0)
        _exit(0);
    CHILD_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

START_TEST(a_forked_child_goes_on) {
    struct outcome o = child_run(fork_in_a_cycle, NULL, 60);
    ck_assert_msg(child_ended_well(&o), "status %x: %s", (unsigned)o.status, o.err);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sweep");
    TCase *tc = add_case(suite, "demand");
    tcase_add_test(tc, a_refill_sweeps_what_it_claims_from);
    tcase_add_test(tc, a_refill_keeps_the_span_that_it_empties);
    tcase_add_test(tc, swept_slots_are_not_zero);
    tcase_add_test(tc, a_class_without_slots_sweeps_a_bounded_number);
    tcase_add_test(tc, full_spans_serve_after_their_sweep);
    tc = add_case(suite, "walk");
    tcase_add_loop_test(tc, the_walk_goes_on_where_it_was, 0, 4);
    tcase_add_test(tc, spans_go_where_their_fullness_says);
    tcase_add_test(tc, emptied_spans_go_back_in_a_round);
    tcase_add_test(tc, new_and_waiting_spans_are_not_swept);
    tcase_add_test(tc, a_span_that_leaves_has_the_generation);
    tcase_add_test(tc, a_borrowed_span_is_swept_meanwhile);
    tc = add_case(suite, "large");
    tcase_add_test(tc, kept_large_spans_are_not_swept);
    tcase_add_test(tc, large_blocks_are_judged);
    tcase_add_test(tc, a_large_block_that_is_used_is_not_released);
    tc = add_case(suite, "rest");
    tcase_add_test(tc, what_a_cache_holds_is_idle);
    tcase_add_test(tc, a_forked_child_goes_on);
    return run_suite(suite);
}
