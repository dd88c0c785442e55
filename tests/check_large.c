/* SPDX-License-Identifier: MIT */
/*
 * check_large.c - large blocks: content kept and lengths exact through growth in place, moves and
 * shrinking; spans kept for the next block; zeros where zeros are promised, whatever lay there before;
 * alignment beyond an arena; sums; a kernel that refuses; and that moving blocks does not eat the process's mappings.
 */
#include "large.h"

#include "central.h"
#include "clear.h"
#include "counter.h"
#include "opt.h"
#include "os.h"
#include "scavenge.h"
#include "unit.h"
#include "waiting.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static uint64_t seed = 1;

static struct bs_span *span_of(void *p) {
    struct bs_span *s = bs_span_of((uintptr_t)p);
    ck_assert_ptr_nonnull(s);
    return s;
}

/* One that was freed lately may be longer by a part. */
static void check_length(const void *p, size_t size) {
    size_t least = bs_align_up(bs_max(size, 1), BS_PAGE_SIZE), usable = bs_large_usable(bs_span_of((uintptr_t)p));
    require(usable >= least && usable <= least + least / BS_KEPT_SLACK_PART, "%zu bytes: %zu usable", size, usable);
}

static void *alloc(size_t size, bool zero) {
    void *p = bs_large_alloc(size, 1, zero);
    require(p != NULL, "no memory for %zu bytes", size);
    check_length(p, size);
    return p;
}

static void release(void *p) {
    bs_large_free(span_of(p));
}

/* A word that tells its place and its block, every 64 bytes. */
static uint64_t mark_at(uint64_t block, size_t offset) {
    return (block + 1) * 0x9e3779b97f4a7c15u ^ offset;
}
static void fill(void *p, size_t size, uint64_t block) {
    for (size_t at = 0; at + 8 <= size; at += 64)
        *(uint64_t *)((char *)p + at) = mark_at(block, at);
}
static void check_filled(const void *p, size_t size, uint64_t block) {
    for (size_t at = 0; at + 8 <= size; at += 64)
        require(*(const uint64_t *)((const char *)p + at) == mark_at(block, at),
                "block %ju of %zu bytes: byte %zu has changed", (uintmax_t)block, size, at);
}
static void check_zero(const void *p, size_t size) {
    const uint64_t *word = p;
    for (size_t i = 0; i < size / 8; i++)
        require(word[i] == 0, "byte %zu of %zu is not zero", i * 8, size);
    for (size_t i = size & ~(size_t)7; i < size; i++)
        require(((const char *)p)[i] == 0, "byte %zu of %zu is not zero", i, size);
}

static void check_sums(size_t in_spans) {
    struct bs_pageheap_counts c = bs_pageheap_counts();
    require(bs_large_span_bytes() == in_spans, "%zu bytes in spans, expected %zu",
            bs_large_span_bytes(), in_spans);
    size_t kept = bs_waiting_large_bytes();
    require(kept <= BS_KEPT_PAGES_MAX * BS_PAGE_SIZE, "%zu bytes of spans are kept", kept);
    require(c.span_pages * BS_PAGE_SIZE == in_spans + kept, "the page heap counts %zu pages in spans",
            c.span_pages);
    require(bs_pageheap_is_valid(), "the page heap is broken");
}

/* --- resizing --------------------------------------------------------------------------------- */

START_TEST(grows_in_place_when_it_can) {
    char *p = alloc(100000, false);
    fill(p, 100000, 1);
    ck_assert_ptr_eq(bs_large_resize(span_of(p), 3000000), p);
    ck_assert_uint_eq(bs_counted(large_grown_in_place), 1);
    ck_assert_uint_eq(span_of(p)->request, 3000000);
    ck_assert_ptr_eq(bs_span_of((uintptr_t)p + 2999999), span_of(p));
    check_filled(p, 100000, 1);
    memset(p, 1, bs_large_usable(span_of(p)));
    ck_assert_uint_eq(span_of(p)->request, 3000000);
    check_sums(bs_align_up(3000000, BS_PAGE_SIZE));
    release(p);
    check_sums(0);
}
END_TEST

START_TEST(shrinks_in_place) {
    char *p = alloc(3000000, false);
    fill(p, 3000000, 2);
    ck_assert_ptr_eq(bs_large_resize(span_of(p), 100000), p);
    check_filled(p, 100000, 2);
    ck_assert_ptr_null(bs_span_of((uintptr_t)p + bs_align_up(100000, BS_PAGE_SIZE)));
    ck_assert_uint_eq(span_of(p)->request, 100000);
    check_sums(bs_align_up(100000, BS_PAGE_SIZE));
    char *q = alloc(100000, false); /* the tail is used again */
    ck_assert_ptr_eq(q, p + bs_align_up(100000, BS_PAGE_SIZE));
    release(p);
    release(q);
    check_sums(0);
}
END_TEST

/* What a span has beyond what was asked for is the block's until it becomes smaller. */
START_TEST(grows_into_what_it_has) {
    char *p = alloc(10 * BS_PAGE_SIZE, false);
    release(p);
    ck_assert_ptr_eq(alloc(8 * BS_PAGE_SIZE, false), p);
    ck_assert_ptr_eq(bs_large_resize(span_of(p), 9 * BS_PAGE_SIZE - 7), p);
    ck_assert_uint_eq(span_of(p)->request, 9 * BS_PAGE_SIZE - 7);
    check_sums(10 * BS_PAGE_SIZE);
    ck_assert_ptr_eq(bs_large_resize(span_of(p), 9 * BS_PAGE_SIZE - 8), p);
    check_sums(9 * BS_PAGE_SIZE);
    release(p);
}
END_TEST

/* Blocks from BS_LARGE_GIVE_BYTES on leave no dirty page, smaller ones are kept a moment. */
START_TEST(huge_blocks_go_back_at_once) {
    const size_t size[] = {BS_LARGE_GIVE_BYTES - BS_PAGE_SIZE, BS_LARGE_GIVE_BYTES,
                           3 * BS_LARGE_GIVE_BYTES};
    for (size_t i = 0; i < BS_ARRAY_LEN(size); i++) {
        char *p = alloc(size[i], false);
        fill(p, size[i], i);
        size_t dirty = bs_pageheap_counts().dirty_pages;
        release(p);
        size_t more = bs_pageheap_counts().dirty_pages - dirty;
        require(more == (size[i] < BS_LARGE_GIVE_BYTES ? size[i] / BS_PAGE_SIZE : 0),
                "%zu bytes: %zu dirty pages", size[i], more);
        check_sums(0);
        p = alloc(size[i], true); /* what is said to be released reads as zeros */
        check_zero(p, size[i]);
        release(p);
    }
}
END_TEST

START_TEST(what_goes_back_at_once_is_counted_and_may_be_kept) {
    const size_t size = 2 * BS_LARGE_GIVE_BYTES, keep[] = {SIZE_MAX, size, size - 1, 0};
    for (size_t i = 0; i < BS_ARRAY_LEN(keep); i++) {
        char *p = alloc(size, false);
        fill(p, size, i);
        bs_large_set_keep(keep[i]);
        size_t dirty = bs_pageheap_counts().dirty_pages;
        uint64_t given = bs_counted(scavenged_bytes), calls = bs_counted(scavenge_calls);
        ck_assert_uint_eq(dirty, 0);
        release(p);
        bool kept = keep[i] >= size;
        ck_assert_uint_eq(bs_pageheap_counts().dirty_pages, kept ? size / BS_PAGE_SIZE : 0);
        ck_assert_uint_eq(bs_counted(scavenged_bytes) - given, kept ? 0 : size);
        ck_assert_uint_eq(bs_counted(scavenge_calls) - calls, !kept);
        bs_large_set_keep(0);
        release(alloc(size, false));
        check_sums(0);
    }
}
END_TEST

static void return_kept(void) {
    while (bs_waiting_return(SIZE_MAX) != 0)
        ;
}

/* A neighbour stands in the way: no kept span that lies elsewhere. */
static void move_once(size_t size, size_t to, bool by_tables) {
    return_kept();
    char *p = alloc(size, false), *wall = alloc(40000, false);
    uint64_t moved = bs_counted(large_moved), copied = bs_counted(large_copied);
    fill(p, size, 3);
    char *q = bs_large_resize(span_of(p), to);
    require(q != NULL && q != p, "%zu to %zu bytes: did not move", size, to);
    require(bs_counted(large_moved) == moved + by_tables &&
                bs_counted(large_copied) == copied + !by_tables,
            "%zu to %zu bytes: moved by %s", size, to, by_tables ? "copy" : "tables");
    check_filled(q, size, 3);
    fill(q, to, 4);
    ck_assert_uint_eq(span_of(q)->request, to);
    ck_assert_uint_eq(span_of(wall)->request, 40000);
    check_sums(bs_align_up(to, BS_PAGE_SIZE) + bs_align_up(40000, BS_PAGE_SIZE));
    release(q);
    release(wall);
    check_sums(0);
}

START_TEST(moves_when_it_must) {
    move_once(40000, 50000, false);
    move_once(500000, 600000, false);
    move_once(BS_MREMAP_MIN_BYTES, 3 * BS_MREMAP_MIN_BYTES, true);
    /* The heap's first region is advised against huge pages: a block that begins there and ends behind
     * it lies in two mappings. */
    move_once(9000000, 90000000, false);
}
END_TEST

START_TEST(moves_behind_the_first_region) {
    char *first = alloc(BS_REGION_SIZE, false), *p = alloc(9000000, false), *wall = alloc(40000, false);
    fill(p, 9000000, 3);
    char *q = bs_large_resize(span_of(p), 90000000);
    ck_assert_uint_eq(bs_counted(large_moved), 1);
    check_filled(q, 9000000, 3);
    release(q);
    release(wall);
    release(first);
}
END_TEST

/* What a moved block left, and what a moved block was, read as zeros and can be used. */
START_TEST(pages_after_a_move_are_sound) {
    size_t size = 4 * BS_MIB;
    char *p = alloc(size, false), *wall = alloc(40000, false);
    fill(p, size, 5);
    char *q = bs_large_resize(span_of(p), 2 * size);
    ck_assert_uint_eq(bs_counted(large_moved), 1);
    char *old = alloc(size, true); /* the lowest fit is the place it left */
    ck_assert_ptr_eq(old, p);
    check_zero(old, size);
    fill(old, size, 6);
    fill(q, 2 * size, 7);
    check_filled(old, size, 6);
    release(q);
    char *again = alloc(2 * size, true);
    ck_assert_ptr_eq(again, q);
    check_zero(again, 2 * size);
    fill(again, 2 * size, 8);
    release(again);
    release(old);
    release(wall);
    check_sums(0);
}
END_TEST

/* Moved blocks that shrink, grow again, and die: content and zeros stay right. */
START_TEST(moved_blocks_shrink_and_grow) {
    size_t size = 4 * BS_MIB;
    char *p = alloc(size, false), *wall = alloc(40000, false);
    fill(p, size, 9);
    char *q = bs_large_resize(span_of(p), size + BS_PAGE_SIZE);
    ck_assert_ptr_ne(q, p);
    ck_assert_ptr_eq(bs_large_resize(span_of(q), size / 2), q);
    check_filled(q, size / 2, 9);
    char *tail = alloc(size / 2, true); /* may lie in the moved mapping's tail */
    check_zero(tail, size / 2);
    fill(tail, size / 2, 10);
    char *r = bs_large_resize(span_of(q), 3 * size);
    check_filled(r, size / 2, 9);
    check_filled(tail, size / 2, 10);
    release(r);
    release(tail);
    release(wall);
    check_sums(0);
}
END_TEST

#if !BS_SANITIZED /* sanitizers map and unmap on their own */
START_TEST(moves_do_not_eat_mappings) {
    size_t size = 2 * BS_MIB;
    size_t before = 0, after;
    for (unsigned i = 0; i < 300; i++) {
        char *p = alloc(size, false), *wall = alloc(40000, false);
        fill(p, size, i);
        char *q = bs_large_resize(span_of(p), size + BS_PAGE_SIZE * (1 + i));
        check_filled(q, size, i);
        release(q);
        release(wall);
        if (i == 10)
            before = count_mappings();
    }
    after = count_mappings();
    ck_assert_uint_ge(bs_counted(large_moved), 300);
    ck_assert_msg(after <= before + 20, "%zu mappings after 10 moves, %zu after 300", before, after);
}
END_TEST

/* Between blocks that never moved, too: what a moved block was must be as its neighbours are. */
START_TEST(freed_moved_blocks_merge_with_neighbours) {
    enum { N = 60 };
    void *block[N];
    size_t size = BS_MREMAP_MIN_BYTES;
    char *p = alloc(size, false), *wall = alloc(40000, false);
    (void)wall;
    size_t before = count_mappings();
    for (unsigned i = 0; i < N; i++) {
        p[0] = 1;
        block[i] = bs_large_resize(span_of(p), size + BS_PAGE_SIZE);
        alloc(size + 2 * BS_PAGE_SIZE, false); /* a neighbour that stays: too large for the gap */
        require(alloc(size, false) == p, "block %u is not where the last one was", i);
    }
    ck_assert_uint_eq(bs_counted(large_moved), N);
    ck_assert_uint_ge(count_mappings(), before + N); /* else this test shows nothing */
    for (unsigned i = 0; i < N; i++)
        release(block[i]);
    size_t after = count_mappings();
    ck_assert_msg(after <= before + 10, "%zu mappings before, %zu after", before, after);
}
END_TEST

/* What a moved block is cut by has others on it when it ends, and may not be a mapping of its own then. */
START_TEST(what_moved_blocks_are_cut_by_merges_with_neighbours) {
    enum { N = 60 };
    char *block[N];
    size_t size = BS_MREMAP_MIN_BYTES;
    char *p = alloc(size, false), *wall = alloc(40000, false);
    (void)wall;
    size_t before = count_mappings();
    for (unsigned i = 0; i < N; i++) {
        p[0] = 1;
        block[i] = bs_large_resize(span_of(p), size + BS_PAGE_SIZE);
        block[i][0] = 2;
        require(bs_large_resize(span_of(block[i]), size / 2) == block[i], "block %u is not cut in place", i);
        require(alloc(size, false) == p, "block %u is not where the last one was", i);
        char *stays = alloc(size / 2 + BS_PAGE_SIZE, true);
        require(stays == block[i] + size / 2, "what block %u was cut by is not used", i);
        check_zero(stays, size / 2 + BS_PAGE_SIZE);
    }
    ck_assert_uint_eq(bs_counted(large_moved), N);
    for (unsigned i = 0; i < N; i++)
        release(block[i]);
    size_t after = count_mappings();
    ck_assert_msg(after <= before + 10, "%zu mappings before, %zu after", before, after);
}
END_TEST
#endif

#if BS_FAULTS
/* Where an OS page is eight of ours, what lies behind a block in its last one is not wiped out when the block's mapping is
 * made anew. */
START_TEST(moved_blocks_share_long_os_pages) {
    bs_os_page_size_is(65536);
    size_t size = BS_MREMAP_MIN_BYTES;
    char *p = bs_large_alloc(size, 65536, false), *wall = alloc(65536, false);
    p[0] = 1;
    char *q = bs_large_resize(span_of(p), size + BS_PAGE_SIZE);
    ck_assert_uint_eq(bs_counted(large_moved), 1);
    ck_assert_ptr_eq(q, wall + 65536);
    release(alloc(size, false)); /* where it was: what follows lies behind it */
    char *fills = alloc(size, false), *behind = alloc(size, false);
    ck_assert_ptr_eq(behind, q + size + BS_PAGE_SIZE);
    fill(behind, size, 7);
    ck_assert_ptr_eq(bs_large_resize(span_of(q), size / 2 + BS_PAGE_SIZE), q); /* cut within an OS page */
    fill(q, size / 2 + BS_PAGE_SIZE, 8);
    char *cut = alloc(40000, false);
    ck_assert_ptr_eq(cut, q + size / 2 + BS_PAGE_SIZE);
    fill(cut, 40000, 9);
    check_filled(q, size / 2 + BS_PAGE_SIZE, 8);
    release(q);
    check_filled(cut, 40000, 9);
    check_filled(behind, size, 7);
    release(fills);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* Linux moves what it can of several mappings, and then refuses. New pages hold something or nothing. */
START_TEST(a_move_that_is_refused_half_way) {
    size_t size = 4 * BS_MREMAP_MIN_BYTES;
    for (unsigned n = 1, failed = 1; failed != 0; n++) {
        char *p = alloc(size, false), *wall = alloc(40000, false);
        if (n % 2 != 0) {
            char *dirty = alloc(2 * size, false);
            memset(dirty, 99, 2 * size);
            release(dirty);
        }
        for (size_t i = 0; i < size; i += 8)
            *(uint64_t *)(void *)(p + i) = i / BS_PAGE_SIZE % 3 == 0 ? 0 : i + n;
        (void)bs_os_fail(n, EFAULT, false);
        char *q = bs_large_resize(span_of(p), size + 10 * BS_PAGE_SIZE);
        failed = bs_os_fail(0, 0, false) >= n;
        char *now = q != NULL ? q : p;
        for (size_t i = 0; i < size; i += 8)
            require(*(uint64_t *)(void *)(now + i) == (i / BS_PAGE_SIZE % 3 == 0 ? 0 : i + n), "call %u, byte %zu", n, i);
        release(now);
        release(wall);
        ck_assert(bs_pageheap_is_valid());
        require(n < 20, "%u calls", n);
    }
    ck_assert_uint_ne(bs_counted(large_copied), 0);
    ck_assert_uint_ne(bs_counted(large_moved), 0);
}
END_TEST

/* Mapping anew was refused after the old mapping was gone: who takes the pages next has them mapped. */
START_TEST(a_moved_block_whose_mapping_is_lost) {
    size_t size = BS_MREMAP_MIN_BYTES;
    for (unsigned cut = 0; cut < 2; cut++) {
        char *p = alloc(size, false), *wall = alloc(40000, false);
        p[0] = 1;
        char *q = bs_large_resize(span_of(p), size + BS_PAGE_SIZE);
        ck_assert_uint_eq(bs_counted(large_moved), cut + 1);
        (void)bs_os_fail(1, ENOMEM, false);
        if (cut != 0)
            ck_assert_ptr_eq(bs_large_resize(span_of(q), size / 2), q);
        else
            release(q);
        (void)bs_os_fail(0, 0, false);
        ck_assert(bs_pageheap_is_valid());
        char *again = alloc(2 * size, true); /* covers both places */
        check_zero(again, 2 * size);
        memset(again, 1, 2 * size);
        char *third = alloc(size / 2, true);
        check_zero(third, size / 2);
        memset(third, 1, size / 2);
        if (cut != 0)
            release(q);
        release(again);
        release(third);
        release(wall);
        ck_assert(bs_pageheap_is_valid());
    }
}
END_TEST
#endif

START_TEST(live_moved_blocks_have_a_budget) {
    enum { N = BS_MREMAP_BUDGET + 20 };
    static void *block[N];
    size_t size = BS_MREMAP_MIN_BYTES;
    /* all addresses at once: where the kernel does not follow the hint, as under ThreadSanitizer, the heap's
     * next arena may lie below, and the lowest place would not be the one that was left */
    release(alloc((N + 2) * (size + 2 * BS_PAGE_SIZE), false));
    char *p = alloc(size, false), *wall = alloc(40000, false);
    /* every block is moved once and stays: address space, with one page touched in each */
    for (unsigned i = 0; i < N; i++) {
        p[0] = (char)i;
        char *q = bs_large_resize(span_of(p), size + 2 * BS_PAGE_SIZE);
        require(q != NULL && q != p && q[0] == (char)i, "block %u", i);
        block[i] = q;
        q = alloc(size, false); /* in the place it left, before the wall */
        require(q == p, "block %u is not where the last one was", i);
    }
    release(wall);
    ck_assert_uint_le(bs_counted(large_moved), BS_MREMAP_BUDGET);
    ck_assert_uint_ge(bs_counted(large_copied), 20);
    for (unsigned i = 0; i < N; i++)
        release(block[i]);
    char *q = bs_large_resize(span_of(p), 64 * BS_MIB); /* the budget is there again */
    ck_assert_ptr_nonnull(q);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* --- random lives ----------------------------------------------------------------------------- */

START_TEST(random_lives) {
    enum { N = 40 };
    void *block[N] = {NULL};
    size_t size[N] = {0}, length[N] = {0}, in_spans = 0;
    for (unsigned step = 0; step < 3000 / UNIT_SLOWNESS; step++) {
        unsigned i = (unsigned)random_below(&seed, N);
        size_t to = BS_SMALL_MAX + 1 + random_skewed(&seed, 22);
        in_spans -= length[i];
        if (block[i] == NULL) {
            bool zero = random_below(&seed, 2) == 0;
            block[i] = alloc(to, zero);
            if (zero)
                check_zero(block[i], to);
        } else if (random_below(&seed, 3) == 0) {
            check_filled(block[i], size[i], i);
            release(block[i]);
            block[i] = NULL;
            to = 0;
        } else {
            block[i] = bs_large_resize(span_of(block[i]), to);
            require(block[i] != NULL, "no memory");
            check_filled(block[i], bs_min(size[i], to), i);
        }
        size[i] = to;
        require(to == 0 || span_of(block[i])->request == to, "%zu bytes requested, expected %zu",
                span_of(block[i])->request, to);
        length[i] = to != 0 ? span_of(block[i])->npages * BS_PAGE_SIZE : 0;
        if (to != 0)
            check_length(block[i], to);
        in_spans += length[i];
        if (to != 0)
            fill(block[i], to, i);
        check_sums(in_spans);
        if (step % 50 == 0)
            bs_scavenge_pages(random_below(&seed, 2000), 0, 0);
    }
    for (unsigned i = 0; i < N; i++)
        if (block[i] != NULL) {
            check_filled(block[i], size[i], i);
            release(block[i]);
        }
    check_sums(0);
}
END_TEST

/* --- clearing or giving back (clear.h) ---------------------------------------------------------- */

static size_t resident_pages(const char *p, size_t size) {
    static unsigned char vec[16 * BS_MIB / 4096];
    size_t resident = 0;
    ck_assert_int_eq(bs_os_residency(p, size, vec), 0);
    for (size_t i = 0; i < size / bs_os_page_size(); i++)
        resident += vec[i] & 1;
    return resident;
}

/* A block from calloc of which a part is used, and freed; the next one takes its place. The OS pages of that
 * which have memory at once. */
static size_t resident_after(size_t size, size_t used) {
    char *p = alloc(size, true);
    ck_assert_int_eq(p[size - 1], 0);
    memset(p, 0xee, used);
    release(p);
    p = alloc(size, true);
    size_t resident = resident_pages(p, size);
    check_zero(p, used);
    memset(p, 0xdd, used);
    release(p);
    return resident;
}

START_TEST(sparse_blocks_stay_sparse) {
    size_t size = 16 * BS_MIB, all = size / bs_os_page_size(), small = BS_CLEAR_EMPTY_BYTES - BS_PAGE_SIZE;
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    ck_assert_uint_eq(resident_after(size, size), all);
    ck_assert_uint_eq(resident_after(size, size / 8), all); /* no block without memory was seen */
    bs_scavenge_to(0);
    for (unsigned i = 0; i < 3; i++) { /* what is likely to be used is cleared, the rest goes back */
        size_t resident = resident_after(size, size / 8);
        ck_assert_uint_le(resident, all / 8);
        ck_assert_uint_ge(resident, all / 10);
    }
    ck_assert_uint_eq(resident_after(size, size / 2), all);
    ck_assert_uint_eq(resident_after(small, 8), small / bs_os_page_size());
    bs_scavenge_to(0);
    ck_assert_uint_le(resident_after(size, size / 8), all / 8);
    for (unsigned i = 0; i < 64; i++) /* and what was likely once does not stay so */
        ck_assert_uint_le(resident_after(size, 8), all / 8);
    ck_assert_uint_le(resident_after(size, 8), all / 256);
    bs_opt.scavenge = false; /* what the process has stays with it */
    ck_assert_uint_eq(resident_after(size, size / 8), all);
}
END_TEST

/* Nor does a watched block that lives long keep others from being seen. */
START_TEST(sparse_blocks_beside_one_that_lives) {
    size_t size = 16 * BS_MIB, last = 1;
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    char *kept = alloc(size, true);
    for (unsigned i = 0; i <= BS_CLEAR_OTHERS; i++) {
        bs_scavenge_to(0);
        last = resident_after(size, 8);
    }
    ck_assert_uint_eq(last, 1);
    release(kept);
}
END_TEST

/* A watched block that ends shorter than an OS page tells nothing, and nothing is divided by its pages. */
START_TEST(a_watched_block_may_become_short) {
    bs_os_page_size_is(65536);
    char *p = alloc(16 * BS_MIB, true);
    ck_assert_ptr_eq(bs_large_resize(span_of(p), 40000), p);
    release(p);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* Used here and there, with gaps of every length up to twice what is cleared with its neighbours. */
START_TEST(sparse_blocks_with_gaps) {
    size_t size = 16 * BS_MIB, os_page = bs_os_page_size(), pages = size / os_page / 8;
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    for (size_t gap = 0; gap <= 2 * BS_CLEAR_GAP_PAGES; gap++) {
        bs_scavenge_to(0);
        ck_assert_uint_le(resident_after(size, size / 6), size / os_page / 6); /* so that it is likely */
        bs_scavenge_to(0);
        char *p = alloc(size, true);
        for (size_t i = 0; i < pages; i += gap + 1)
            memset(p + i * os_page, 0xee, os_page);
        release(p);
        p = alloc(size, true);
        check_zero(p, size / 6);
        release(p);
    }
}
END_TEST

/* What is dirty may lie before, beside or across what is likely to be used, and begin and end in the middle of OS pages, which
 * are others' in part then. */
START_TEST(any_part_of_a_sparse_block_is_cleared) {
    const size_t size = 32 * BS_MIB + 100, odd = 40;
    const struct {
        size_t from, to;
    } part[] = {{0, size},           {0, 5 * BS_MIB},     {odd, 5 * BS_MIB + odd},      {4 * BS_MIB + odd, 30 * BS_MIB - odd},
                {odd, size + 5000}, {20 * BS_MIB, size}, {20 * BS_MIB + odd, size - 1}, {odd, odd + 1}};
    char *p = alloc(size, true);
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    memset(p, 1, size / 5);
    bs_clear_judge((uintptr_t)p, size);
    for (size_t i = 0; i < BS_ARRAY_LEN(part); i++) {
        size_t from = part[i].from, to = bs_min(part[i].to, size);
        memset(p, 0xee, size);
        bs_clear_block((uintptr_t)p, size, (uintptr_t)p + from, (uintptr_t)p + part[i].to);
        if (from <= 20 * BS_MIB && to >= 28 * BS_MIB) /* else the test shows nothing */
            ck_assert_uint_eq(resident_pages(p + 20 * BS_MIB, 8 * BS_MIB), 0);
        check_zero(p + from, to - from);
        ck_assert(from == 0 || p[from - 1] == (char)0xee);
        ck_assert(to == size || p[to] == (char)0xee);
    }
}
END_TEST

/* A block that was watched and grows, is cut, or moves is judged by what it is at its end. */
START_TEST(watched_block_changes_its_size) {
    ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    for (unsigned i = 0; i < 3; i++) {
        char *p = alloc(16 * BS_MIB, true), *behind = i == 0 ? alloc(BS_MIB, false) : NULL;
        p = bs_large_resize(span_of(p), i == 2 ? 64 * 1024 : 40 * BS_MIB);
        ck_assert_ptr_nonnull(p);
        release(p);
        if (behind != NULL)
            release(behind);
        check_zero(p = alloc(16 * BS_MIB, true), 16 * BS_MIB);
        release(p);
    }
}
END_TEST

/* --- spans kept for the next block ------------------------------------------------------------- */

START_TEST(freed_block_is_used_again) {
    char *p = alloc(100000, false), *other = alloc(60000, false);
    uint64_t made = bs_counted(spans_made);
    memset(p, 0xee, 100000);
    release(p);
    ck_assert_ptr_null(bs_span_of((uintptr_t)p)); /* a second free finds no block */
    ck_assert_uint_eq(span_of(other)->request, 60000);
    check_sums(bs_align_up(60000, BS_PAGE_SIZE));
    char *q = alloc(100000, true); /* of the same pages */
    ck_assert_ptr_eq(q, p);
    check_zero(q, 100000);
    ck_assert_uint_eq(span_of(q)->request, 100000);
    check_sums(bs_align_up(100000, BS_PAGE_SIZE) + bs_align_up(60000, BS_PAGE_SIZE));
    (void)alloc(200000, false); /* stands behind the other one */
    release(other);
    ck_assert_ptr_ne(alloc(100000, false), other); /* of other pages */
    ck_assert_uint_eq(bs_counted(spans_made), made + 2);
}
END_TEST

START_TEST(kept_spans_come_before_new_pages) {
    char *p = alloc(5 * BS_PAGE_SIZE, false), *q = alloc(5 * BS_PAGE_SIZE, false);
    ck_assert_ptr_eq(q, p + 5 * BS_PAGE_SIZE);
    release(p);
    release(q);
    ck_assert_uint_eq(bs_waiting_large_bytes(), 10 * BS_PAGE_SIZE);
    ck_assert_ptr_eq(alloc(10 * BS_PAGE_SIZE, false), p); /* and not what is behind q */
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 10);
}
END_TEST

START_TEST(kept_spans_are_bounded) {
    enum { N = 300 };
    void *block[N];
    for (unsigned i = 0; i < N; i++)
        block[i] = alloc(1 + random_below(&seed, 300000), false);
    for (unsigned i = 0; i < N; i++)
        release(block[i]);
    check_sums(0);
    size_t kept = bs_waiting_large_bytes(), part = bs_pageheap_used_bytes() / BS_KEPT_HEAP_PART;
    ck_assert_uint_ne(kept, 0);
    ck_assert_uint_le(kept, bs_max(part, BS_KEPT_PAGES * BS_PAGE_SIZE));
    ck_assert_uint_eq(bs_waiting_small_count(), 0);
    return_kept();
    ck_assert_uint_eq(bs_waiting_large_bytes() + bs_waiting_count(), 0);
    check_sums(0);
    ck_assert_ptr_nonnull(alloc(100000, false));
}
END_TEST

START_TEST(kept_spans_are_aligned_as_asked) {
    enum { N = 60 };
    uintptr_t block[N];
    for (unsigned round = 0; round < 40; round++) {
        for (unsigned i = 0; i < N; i++) {
            size_t align = BS_PAGE_SIZE << random_below(&seed, 5);
            block[i] = (uintptr_t)bs_large_alloc(1 + random_below(&seed, 20000), align, false);
            require(block[i] % align == 0, "%zx is not aligned to %zu", block[i], align);
        }
        for (unsigned i = 0; i < N; i++)
            release((void *)block[i]);
    }
    check_sums(0);
}
END_TEST

/* --- zeros ------------------------------------------------------------------------------------ */

START_TEST(dirty_pages_are_cleared) {
    for (unsigned round = 0; round < 20; round++) {
        size_t size = 40000 + random_below(&seed, 5000000);
        char *p = alloc(size, false);
        memset(p, 0xee, bs_large_usable(span_of(p)));
        release(p);
        if (round % 3 == 0) /* a part of it is given back: dirty and zero pages mixed */
            bs_scavenge_pages(random_below(&seed, size / BS_PAGE_SIZE), 0, 0);
        size_t less = size - random_below(&seed, size / 2);
        p = alloc(less, true);
        check_zero(p, less);
        memset(p, 0xee, bs_large_usable(span_of(p)));
        release(p);
    }
}
END_TEST

START_TEST(untouched_pages_are_not_cleared) { /* calloc of new memory costs no memory */
    size_t size = 64 * BS_MIB, os_page = bs_os_page_size(), resident = 0;
    static unsigned char vec[65536];
    char *p = alloc(size, true);
    ck_assert_uint_le(size / os_page, sizeof vec);
    ck_assert_int_eq(bs_os_residency(p, size, vec), 0);
    for (size_t i = 0; i < size / os_page; i++)
        resident += vec[i] & 1;
    ck_assert_msg(resident <= 600, "%zu of %zu pages are in memory", resident, size / os_page);
}
END_TEST

/* --- alignment, limits ------------------------------------------------------------------------ */

START_TEST(aligned_up_to_beyond_an_arena) {
    for (size_t align = BS_PAGE_SIZE; align <= 2 * BS_ARENA_SIZE; align *= 2) {
        const size_t size[] = {1, BS_PAGE_SIZE, 100000, align, align + 1};
        void *block[BS_ARRAY_LEN(size)];
        for (size_t i = 0; i < BS_ARRAY_LEN(size); i++) {
            block[i] = bs_large_alloc(size[i], align, true);
            require(block[i] != NULL && (uintptr_t)block[i] % align == 0, "%zu at %zu: %p", size[i],
                    align, block[i]);
            check_zero(block[i], bs_min(size[i], 100000));
            memset(block[i], 0xee, bs_min(size[i], 100000));
        }
        for (size_t i = 0; i < BS_ARRAY_LEN(size); i++)
            release(block[i]);
    }
    check_sums(0);
}
END_TEST

START_TEST(absurd_sizes_are_refused) {
    /* more than there are addresses, and more than a span can count */
    const size_t size[] = {BS_REQUEST_MAX, BS_REQUEST_MAX - 1, (size_t)1 << BS_ADDRESS_BITS,
                           (size_t)1 << 60, ((size_t)UINT32_MAX + 1) * BS_PAGE_SIZE};
    char *p = alloc(100000, false);
    fill(p, 100000, 1);
    for (size_t i = 0; i < BS_ARRAY_LEN(size); i++) {
        require(bs_large_alloc(size[i], 1, false) == NULL, "%zu bytes were given", size[i]);
        require(bs_large_alloc(size[i], 1 << 20, true) == NULL, "%zu bytes were given", size[i]);
        require(bs_large_resize(span_of(p), size[i]) == NULL, "resized to %zu bytes", size[i]);
    }
    ck_assert_ptr_null(bs_large_alloc(1, (size_t)1 << 62, false));
    check_filled(p, 100000, 1);
    ck_assert_uint_eq(span_of(p)->request, 100000);
    check_sums(bs_align_up(100000, BS_PAGE_SIZE));
}
END_TEST

#if BS_FAULTS
/* More pages than a span counts: not even asked for, so that no kernel says yes. */
START_TEST(no_block_is_longer_than_a_span_counts) {
    const size_t pages = (size_t)UINT32_MAX + 1;
    char *p = alloc(100000, false);
    bs_os_fail(0, 0, false);
    ck_assert_ptr_null(bs_large_alloc(pages * BS_PAGE_SIZE, 1, false));
    ck_assert_ptr_null(bs_large_alloc(pages * BS_PAGE_SIZE + 1, 1, true));
    ck_assert_ptr_null(bs_large_resize(span_of(p), (pages + 5) * BS_PAGE_SIZE));
    ck_assert_uint_eq(bs_os_fail(0, 0, false), 0);
    ck_assert_uint_eq(bs_large_usable(span_of(p)), bs_align_up(100000, BS_PAGE_SIZE));
    release(p);
}
END_TEST

#if !BS_SANITIZED /* sanitizers map and unmap on their own */
static size_t address_space(void) {
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert(f != NULL && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    return pages * bs_os_page_size();
}

/* Whichever call is refused, of those that a block takes for which the heap has to grow by so much. */
static void refuse_each_call(size_t bytes, size_t unit) {
    unsigned refused = 0;
    release(alloc(100000, false));
    size_t before = address_space();
    /* (One refusal may be followed by another way to the same, with so much room that the next growth has fewer calls than
     * that. Then it goes on to the limit: what the kernel itself refuses may leave nothing either.) */
    for (unsigned n = 1, calls = n; calls >= n || refused == 0; n++) {
        require(n < 1000, "there is no end of calls");
        bs_os_fail(n, 12 /* ENOMEM */, false);
        void *p = bs_large_alloc(bytes, 1, false);
        calls = bs_os_fail(0, 0, false);
        refused += p == NULL;
        require(p != NULL || address_space() < before + 2 * unit, "call %u: %zu bytes are left", n,
                address_space() - before);
        if (p != NULL) /* the next has to grow as well */
            before = address_space();
    }
    ck_assert_uint_ne(refused, 0);
}

START_TEST(a_refused_block_leaves_no_addresses) {
    refuse_each_call(16 * BS_ARENA_SIZE, BS_ARENA_SIZE);
}
END_TEST

/* Under a limit of 400 MiB a region is reserved at a time (grow.c). */
START_TEST(nor_under_a_limit) {
    const struct rlimit limit = {400 * BS_MIB, 400 * BS_MIB};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    refuse_each_call(52 * BS_MIB, BS_REGION_SIZE);
}
END_TEST
#endif

/* Growth of the heap, moves and renewals fail one after the other; nothing may be lost. */
START_TEST(every_failure_on_the_way) {
    bool failed = true;
    for (unsigned n = 1; failed && n < 60; n++) {
        size_t size = 4 * BS_MIB;
        bs_os_fail(n, 12 /* ENOMEM */, false);
        void *p = bs_large_alloc(size, 1, true), *wall = bs_large_alloc(40000, 1, false), *q = NULL;
        if (p != NULL) {
            fill(p, size, n);
            q = bs_large_resize(span_of(p), 20 * size + n * BS_ARENA_SIZE);
            check_filled(q != NULL ? q : p, size, n);
        }
        failed = bs_os_fail(0, 0, false) >= n;
        if (p != NULL)
            release(q != NULL ? q : p);
        if (wall != NULL)
            release(wall);
        check_sums(0);
    }
    ck_assert(!failed);
}
END_TEST
#endif

int main(void) {
    Suite *suite = suite_create("large");
    TCase *tc = add_case(suite, "resize");
    tcase_add_test(tc, grows_in_place_when_it_can);
    tcase_add_test(tc, shrinks_in_place);
    tcase_add_test(tc, grows_into_what_it_has);
    tcase_add_test(tc, huge_blocks_go_back_at_once);
    tcase_add_test(tc, what_goes_back_at_once_is_counted_and_may_be_kept);
    tcase_add_test(tc, moves_when_it_must);
    tcase_add_test(tc, moves_behind_the_first_region);
    tcase_add_test(tc, pages_after_a_move_are_sound);
    tcase_add_test(tc, moved_blocks_shrink_and_grow);
#if !BS_SANITIZED
    tcase_add_test(tc, moves_do_not_eat_mappings);
    tcase_add_test(tc, freed_moved_blocks_merge_with_neighbours);
    tcase_add_test(tc, what_moved_blocks_are_cut_by_merges_with_neighbours);
#endif
    tcase_add_test(tc, live_moved_blocks_have_a_budget);
#if BS_FAULTS
    tcase_add_test(tc, moved_blocks_share_long_os_pages);
    tcase_add_test(tc, a_moved_block_whose_mapping_is_lost);
    tcase_add_test(tc, a_move_that_is_refused_half_way);
#endif
    tcase_add_test(tc, random_lives);
    tc = add_case(suite, "kept");
    tcase_add_test(tc, freed_block_is_used_again);
    tcase_add_test(tc, sparse_blocks_stay_sparse);
    tcase_add_test(tc, sparse_blocks_beside_one_that_lives);
    tcase_add_test(tc, sparse_blocks_with_gaps);
#if BS_FAULTS
    tcase_add_test(tc, a_watched_block_may_become_short);
#endif
    tcase_add_test(tc, any_part_of_a_sparse_block_is_cleared);
    tcase_add_test(tc, watched_block_changes_its_size);
    tcase_add_test(tc, kept_spans_come_before_new_pages);
    tcase_add_test(tc, kept_spans_are_bounded);
    tcase_add_test(tc, kept_spans_are_aligned_as_asked);
    tc = add_case(suite, "zero");
    tcase_add_test(tc, dirty_pages_are_cleared);
    tcase_add_test(tc, untouched_pages_are_not_cleared);
    tc = add_case(suite, "limits");
    tcase_add_test(tc, aligned_up_to_beyond_an_arena);
    tcase_add_test(tc, absurd_sizes_are_refused);
#if BS_FAULTS
    tcase_add_test(tc, no_block_is_longer_than_a_span_counts);
#if !BS_SANITIZED
    tcase_add_test(tc, a_refused_block_leaves_no_addresses);
    tcase_add_test(tc, nor_under_a_limit);
#endif
    tcase_add_test(tc, every_failure_on_the_way);
#endif
    return run_suite(suite);
}
