/* SPDX-License-Identifier: MIT */
/*
 * check_held.c - what a span does when a search is over: for each combination of alloc, held and mark bits which slots
 * become free and which are told of; where the span goes; what is taken out of a span, and given back to it, by bits
 * (collect.c). Which slots are held is check_quarantine.c's part.
 *
 * One thread and no thread cache: the state of each slot is known.
 */
#include "counter.h"
#include "cycle_unit.h"
#include "freed.h"
#include "large.h"
#include "os.h"
#include "waiting.h"

static struct bs_found found;

/* As the quarantine has them when it searches: tables of all that is asked for. */
static void claim_tabled(unsigned class, void **block, unsigned n) {
    claim_many(class, block, n);
    for (unsigned i = 0; i < n; i++)
        ck_assert(bs_marks_make((uintptr_t)block[i], BS_SIDE_HELD) && bs_marks_make((uintptr_t)block[i], BS_SIDE_MARK) &&
                  bs_freed_make((uintptr_t)block[i]));
}
/* True: it has left its class, and waits now. */
static bool release_held(unsigned class, struct bs_span *s) {
    memset(&found, 0, sizeof found);
    bool left = bs_central_release_held(s, &found);
    if (left)
        bs_waiting_add(class, &s, 1);
    return left;
}
static bool was_told(void *p) {
    return bs_bit_test(found.bits, ((uintptr_t)p - found.base) / found.size);
}

/* --- the bits --------------------------------------------------------------------------------- */

enum { ALLOC = 1, HELD = 2, MARK = 4 };
/* Slot i's bits: every combination that there is, at changing places of the words. */
static unsigned bits_of(unsigned i) {
    unsigned bits = (i + i / 13) % 8;
    return (bits & ALLOC) != 0 ? bits : 0;
}

START_TEST(held_slots_without_a_mark_are_free) {
    static const size_t sizes[] = {8, 64, 96, 1024, 32768};
    static void *block[4096];
    unsigned class = bs_class_of(sizes[_i]), nslots = bs_class_info[class].nslots, n = nslots * 3, out = 0;
    claim_tabled(class, block, n);
    for (unsigned i = 0; i < n; i++) {
        ck_assert((bits_of(i) & HELD) == 0 || hold(block[i]));
        ck_assert((bits_of(i) & MARK) == 0 || mark(block[i]));
    }
    for (unsigned i = 0; i < n; i++)
        if (bits_of(i) == 0)
            release_one(class, block[i]);
    uint64_t released = bs_counted(slots_released);
    for (unsigned k = 0; k < 3; k++) {
        unsigned told = 0, went = 0;
        struct bs_span *s = span_of(block[k * nslots]);
        if (s == NULL || s->nalloc == 0) /* all its slots were freed above */
            continue;
        (void)release_held(class, s);
        for (unsigned i = k * nslots; i < (k + 1) * nslots; i++) {
            bool goes = bits_of(i) == (ALLOC | HELD), stays = bits_of(i) != 0 && !goes;
            require(is_out(block[i]) == stays, "size %zu, bits %x: out is %d", sizes[_i], bits_of(i), !stays);
            require(was_told(block[i]) == (bits_of(i) == (ALLOC | HELD | MARK)), "size %zu, bits %x: told of, or not",
                    sizes[_i], bits_of(i));
            told += was_told(block[i]);
            went += goes;
            out += stays;
        }
        ck_assert_uint_eq(found.reported, told);
        ck_assert_uint_eq(found.released, went);
        ck_assert_uint_eq(found.size, bs_class_info[class].size);
        released += went;
    }
    ck_assert_uint_eq(bs_counted(slots_released), released);
    ck_assert_uint_eq(bs_central_counts(class).slots_out, out);
    for (unsigned i = 0; i < n; i++) { /* no mark is left, and what is held still is */
        require(!is_out(block[i]) || mark(block[i]), "size %zu, bits %x: marked", sizes[_i], bits_of(i));
        struct bs_span *s = span_of(block[i]);
        size_t slot = i % nslots;
        bool held = s != NULL && (bs_marks_bits(s->base, BS_SIDE_HELD, slot / 64) >> (slot % 64) & 1) != 0;
        require(held == (bits_of(i) == (ALLOC | HELD | MARK)), "size %zu, bits %x: held, or not", sizes[_i], bits_of(i));
    }
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

START_TEST(released_slots_are_not_zero) {
    unsigned class = bs_class_of(1024);
    void *block[4];
    struct bs_refill r = {.blocks = NULL, .max_blocks = 0};
    claim_tabled(class, block, 4);
    ck_assert(hold(block[1]));
    ck_assert(!release_held(class, span_of(block[0])));
    ck_assert(bs_central_refill(class, 1, &r) && !r.run_zero);
}
END_TEST

START_TEST(a_block_that_is_released_is_freed_no_more) {
    unsigned class = bs_class_of(1024);
    void *block[4];
    claim_tabled(class, block, 4);
    struct bs_span *s = span_of(block[0]);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert(hold(block[i]));
        bs_freed_bytes(bs_freed_table(s->base), s->base, 0)[i] = 1;
    }
    ck_assert(mark(block[1]));
    ck_assert(!release_held(class, s));
    ck_assert_uint_eq(bs_freed_bits(s->base, 0), 2);
}
END_TEST

/* --- its place -------------------------------------------------------------------------------- */

START_TEST(spans_go_where_their_fullness_says) {
    enum { SPANS = 40 };
    unsigned class = bs_class_of(1024);
    void *block[SPANS * 8];
    bool left[SPANS];
    claim_tabled(class, block, SPANS * 8);
    for (unsigned i = 0; i < SPANS * 8; i++) { /* span k keeps k % 9 slots */
        ck_assert(hold(block[i]));
        ck_assert(i % 8 >= i / 8 % 9 || mark(block[i]));
    }
    for (unsigned k = 0; k < SPANS; k++)
        left[k] = release_held(class, span_of(block[k * 8]));
    ck_assert_uint_eq(bs_waiting_count(), 4); /* of five empty ones the class keeps one */
    ck_assert_uint_eq(bs_central_counts(class).spans, SPANS - 4);
    for (unsigned k = 0; k < SPANS; k++) {
        struct bs_span *s = span_of(block[k * 8]);
        unsigned live = k % 9;
        require(s->nalloc == live, "span %u has %u slots", k, s->nalloc);
        bool listed = (s->flags & BS_SPAN_LISTED) != 0;
        require(left[k] == (live == 0 && k != 0), "span %u: left its class or not", k);
        require(listed == (live < 8 && !left[k]), "span %u: on a list or not", k);
        require(!listed || s->group == bs_span_fullness(s), "span %u: group %u", k, s->group);
    }
    ck_assert_uint_eq(bs_waiting_return(100), 4);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, SPANS - 4);
}
END_TEST

START_TEST(a_borrowed_span_stays_borrowed) {
    unsigned class = bs_class_of(1024), n = 0;
    void *block[8];
    struct bs_span *s;
    uint16_t pages;
    claim_tabled(class, block, 8);
    for (unsigned i = 0; i < 4; i++) /* an OS page's worth */
        release_one(class, block[i]);
    if (bs_os_page_size() != 4096)
        return;
    for (unsigned i = 4; i < 8; i++)
        ck_assert(hold(block[i]));
    ck_assert(mark(block[7]));
    ck_assert_int_eq(bs_central_borrow((uintptr_t)block[0], true, &s, &pages), BS_BORROWED);
    ck_assert(!release_held(class, s));
    ck_assert_uint_eq(s->nalloc, 1);
    ck_assert((s->flags & BS_SPAN_BORROWED) != 0 && (s->flags & BS_SPAN_LISTED) == 0);
    for (unsigned i = 0; i < 8; i++)
        n += is_out(block[i]);
    ck_assert_uint_eq(n, 1);
    bs_central_give_back(s, pages);
    ck_assert(s->flags & BS_SPAN_LISTED);
}
END_TEST

/* --- large ------------------------------------------------------------------------------------ */

START_TEST(a_large_block_that_was_held_is_gone) {
    for (int empty = 0; empty < 2; empty++) {
        char *p = bs_large_alloc(3 * BS_MIB, 1, false);
        ck_assert(bs_freed_make((uintptr_t)p));
        memset(p, 1, 3 * BS_MIB);
        ck_assert(empty == 0 || bs_large_empty(span_of(p)));
        bs_freed_bytes(bs_freed_table((uintptr_t)p), (uintptr_t)p, 0)[0] = 1;
        bs_large_release_held(span_of(p), empty != 0);
        ck_assert_ptr_null(span_of(p));
        ck_assert_uint_eq(bs_freed_bits((uintptr_t)p, 0), 0);
        ck_assert_uint_eq(bs_large_span_bytes(), 0);
        ck_assert_uint_eq(bs_pageheap_counts().span_pages, 0);
        p = bs_large_alloc(3 * BS_MIB, 1, true);
        for (size_t i = 0; i < 3 * BS_MIB; i += 512)
            ck_assert_int_eq(p[i], 0);
        bs_large_free(span_of(p));
    }
}
END_TEST

/* --- by bits ---------------------------------------------------------------------------------- */

START_TEST(bits_are_reserved_and_released) {
    unsigned class = bs_class_of(1024);
    void *block[16];
    claim_many(class, block, 16);
    struct bs_span *s = span_of(block[0]), *other = span_of(block[8]);
    for (unsigned i = 1; i < 4; i++)
        release_one(class, block[i]);
    const uint64_t free_ones = 0xe, last = 0xff, of_other = 0xff;
    bs_central_reserve(s, &free_ones);
    ck_assert_uint_eq(s->alloc[0], 0xff);
    ck_assert_uint_eq(s->nalloc, 8);
    ck_assert_uint_eq(bs_central_counts(class).slots_out, 16);
    ck_assert((s->flags & BS_SPAN_LISTED) == 0); /* it is full */
    ck_assert(!bs_central_release_bits(s, &free_ones));
    ck_assert_uint_eq(s->alloc[0], 0xf1);
    ck_assert_uint_eq(s->nalloc, 5);
    ck_assert_uint_eq(bs_central_counts(class).slots_out, 13);
    ck_assert((s->flags & BS_SPAN_LISTED) != 0);
    ck_assert(!bs_central_release_bits(s, &last)); /* those that are out: the class's only empty span */
    ck_assert_uint_eq(s->nalloc, 0);
    ck_assert(bs_central_release_bits(other, &of_other));
    ck_assert_uint_eq(bs_central_counts(class).spans, 1);
    ck_assert_uint_eq(bs_central_counts(class).slots_out, 0);
    bs_waiting_add(class, &other, 1);
    ck_assert_uint_eq(bs_waiting_return(10), 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("held");
    TCase *tc = add_case(suite, "held");
    tcase_add_loop_test(tc, held_slots_without_a_mark_are_free, 0, 5);
    tcase_add_test(tc, released_slots_are_not_zero);
    tcase_add_test(tc, a_block_that_is_released_is_freed_no_more);
    tcase_add_test(tc, spans_go_where_their_fullness_says);
    tcase_add_test(tc, a_borrowed_span_stays_borrowed);
    tcase_add_test(tc, a_large_block_that_was_held_is_gone);
    tcase_add_test(tc, bits_are_reserved_and_released);
    return run_suite(suite);
}
