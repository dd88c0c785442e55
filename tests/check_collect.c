/* SPDX-License-Identifier: MIT */
/*
 * check_collect.c - scan after scan with the collector as guest: which blocks are closed and when, what
 * brings them back, what is given away; each test in place and by copy. The pages of one span are compared
 * with a slow model. Whole programs are tests/preload's.
 */
#define _GNU_SOURCE
#include "collect_unit.h"
#include "world_unit.h"

#include "collect_pick.h"
#include "heap.h"
#include "large.h"
#include "opt.h"
#include "sample.h"
#include "sampler.h"
#include "scan.h"
#include "tcache.h"
#include "thread.h"

#include <sys/mman.h>

#define HIDE(p) (~(uintptr_t)(p))
/* Not before it is wanted: no register may have it. */
static inline uint64_t *SHOWN(uintptr_t hidden) {
    __asm__ volatile("" : "+r"(hidden));
    return (uint64_t *)~hidden;
}

static struct bs_scan_rules rules;
static struct bs_scan_result got;
static const struct bs_collect_report *report;
static struct bs_collect_rules collect = {.scans = 3};
static bool unwatched;
static uintptr_t touch_late; /* hidden: between the search and what follows from it */

static bool is_watched(void) {
    return !unwatched;
}

static void note_result(void *ctx, const struct bs_scan_result *result) {
    ck_assert_ptr_eq(ctx, &got);
    got = *result;
    if (touch_late != 0)
        ck_assert_uint_eq(SHOWN(touch_late)[3], 3 + 200000);
    touch_late = 0;
    report = bs_collect_after(result);
}
static void scan(void) {
    rules.guest = bs_collect_guest();
    ck_assert(bs_scan_run(&rules, note_result, &got));
}
static void must_scan(void) {
    scan();
    require(got.end == BS_SCAN_DONE, "end %d, world %d, thread %d, error %d", got.end, got.world,
            got.culprit, got.error);
    ck_assert_int_eq(got.in_place, rules.in_place_bytes != 0);
}
static void setup(int by_copy) {
    static const struct bs_collect_faults faults = {start_watching, is_watched};
    inside_text();
    rules = (struct bs_scan_rules){.in_place_bytes = by_copy ? 0 : SIZE_MAX};
    bs_heap_free(bs_heap_alloc(10));
    bs_opt.sample = 1;
    bs_heap_start_sampling();
    bs_heap_set_freed_hook(bs_park_freed);
    ck_assert(bs_collect_start(&collect, &faults));
}

static uint64_t blocks(enum bs_collect_what what) {
    uint64_t n = 0;
    for (size_t i = 0; i < report->n; i++)
        n += report->note[i].what == what ? report->note[i].blocks : 0;
    return n;
}

static void __attribute__((noinline)) wipe(void) {
    volatile char junk[16384];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
    wipe_vectors();
}
/* Full of numbers that are no addresses. */
static uintptr_t __attribute__((noinline)) site_a(size_t size) {
    uint64_t *p = bs_heap_alloc_zero(size);
    for (size_t i = 0; i < size / 8; i++)
        p[i] = i + size;
    __asm__ volatile("" ::"r"(p) : "memory");
    return HIDE(p);
}
static uintptr_t __attribute__((noinline)) site_b(size_t size) {
    uintptr_t hidden = site_a(size);
    __asm__ volatile("" ::: "memory");
    return hidden;
}
static bool is_whole(uintptr_t hidden, size_t size) {
    const uint64_t *p = SHOWN(hidden);
    for (size_t i = 0; i < size / 8; i++)
        if (p[i] != i + size)
            return false;
    return true;
}
static bool is_out_at(uintptr_t hidden) {
    struct bs_span *s = bs_span_of((uintptr_t)SHOWN(hidden));
    uint32_t slot;
    return s != NULL && bs_slot_of(s, (uintptr_t)SHOWN(hidden), &slot) && bs_bit_test(s->alloc, slot);
}

static bool is_lost(uintptr_t hidden) {
    struct bs_span *s = bs_span_of((uintptr_t)SHOWN(hidden));
    uint32_t slot;
    return bs_slot_of(s, (uintptr_t)SHOWN(hidden), &slot) &&
           (bs_marks_bits(s->base, BS_SIDE_LOST, slot / 64) >> (slot % 64) & 1) != 0;
}

static void *volatile a_global;

/* --- the pages of a span ------------------------------------------------------------------------ */

/* Byte by byte: whose is it? */
static void check_pick(struct bs_span *s, const uint64_t *lost, const struct bs_pick *pick) {
    size_t size = bs_span_class(s)->size, os_page = bs_os_page_size();
    uintptr_t first = bs_span_os_page_base(s, os_page);
    bool block[1024], changed = true;
    for (size_t i = 0; i < s->nslots; i++)
        block[i] = bs_bit_test(lost, i);
    while (changed) {
        changed = false;
        for (size_t i = 0; i < s->nslots; i++) {
            uintptr_t from = s->base + i * size;
            bool bad = from < first || from + size > s->base + s->npages * BS_PAGE_SIZE;
            for (uintptr_t page = bs_align_down(from, os_page); page < from + size && !bad; page += os_page)
                for (size_t k = 0; k < s->nslots; k++)
                    bad |= s->base + k * size < page + os_page && s->base + (k + 1) * size > page &&
                           bs_bit_test(s->alloc, k) && !block[k];
            if (block[i] && bad) {
                block[i] = false;
                changed = true;
            }
        }
    }
    for (size_t i = 0; i < s->nslots; i++) {
        uint32_t on = 0;
        for (uintptr_t p = s->base + i * size; p < s->base + (i + 1) * size; p++)
            on |= p >= first ? 1u << ((p - first) / os_page) : 0;
        require(bs_bit_test(pick->block, i) == block[i], "class %u slot %zu", s->class, i);
        require(!block[i] || (on & ~pick->pages) == 0, "class %u slot %zu pages", s->class, i);
        bool free_there = !bs_bit_test(s->alloc, i) && (on & pick->pages) != 0;
        require(bs_bit_test(pick->reserve, i) == free_there, "class %u free slot %zu", s->class, i);
    }
}

START_TEST(pages_of_lost_and_free_slots_alone) {
    uint64_t seed = 4711;
    size_t with_pages = 0;
    for (unsigned round = 0; round < 600 / UNIT_SLOWNESS; round++) {
        unsigned class = 1 + (unsigned)random_below(&seed, BS_NCLASSES - 1);
        union {
            struct bs_span s;
            char room[sizeof(struct bs_span) + 128];
        } u = {.s = {.base = 0x10000000, .class = (uint8_t)class}};
        uint64_t lost[BS_MARKS_PLANES] = {0};
        struct bs_pick pick;
        uint64_t kinds[] = {2, 20, 1000};
        size_t few = kinds[random_below(&seed, 3)];
        u.s.npages = bs_class_info[class].npages;
        u.s.nslots = bs_class_info[class].nslots;
        for (size_t i = 0; i < u.s.nslots; i++) {
            bool live = random_below(&seed, few) == 0, is_free = random_below(&seed, 3) == 0;
            if (live || !is_free)
                u.s.alloc[i / 64] |= (uint64_t)1 << (i % 64);
            if (!live && !is_free)
                lost[i / 64] |= (uint64_t)1 << (i % 64);
        }
        bool any = bs_collect_pick(&u.s, lost, &pick);
        ck_assert_int_eq(any, pick.pages != 0);
        check_pick(&u.s, lost, &pick);
        with_pages += any;
    }
    ck_assert_uint_gt(with_pages, 100 / UNIT_SLOWNESS);
}
END_TEST

/* --- from lost to reclaimed ----------------------------------------------------------------------- */

#define LARGE 200000
#define SMALL 512
#define NSMALL 200
static uintptr_t small[NSMALL], large[3];

static void __attribute__((noinline, noclone)) plant(void) {
    for (unsigned i = 0; i < NSMALL; i++)
        small[i] = site_a(SMALL);
    for (unsigned i = 0; i < BS_ARRAY_LEN(large); i++)
        large[i] = site_b(LARGE);
}
static void until_closed(void) {
    wipe();
    for (unsigned i = 0; i < collect.scans; i++) {
        ck_assert_uint_eq(bs_park_count(), 0);
        must_scan();
    }
    ck_assert_uint_ne(bs_park_count(), 0);
}

START_TEST(lost_blocks_are_closed_then_given_away) {
    setup(_i);
    plant();
    until_closed();
    uint64_t closed = blocks(BS_COLLECT_CLOSED);
    /* at the ends others, or slots that a cache holds, may share a page with them */
    require(closed >= 3 + NSMALL - 20, "%ju closed", (uintmax_t)closed);
    ck_assert_ptr_null(report->why_not);
    must_scan();
    ck_assert_uint_eq(blocks(BS_COLLECT_RECLAIMED), closed);
    for (unsigned i = 0; i < BS_ARRAY_LEN(large); i++)
        ck_assert(!is_out_at(large[i]));
    ck_assert(!is_out_at(small[NSMALL / 2]));
    bool again = false;
    for (unsigned i = 0; i < 10 && !again; i++) {
        char *p = bs_heap_alloc(LARGE); /* whole, and accessible */
        memset(p, 1, LARGE);
        again = HIDE(p) == large[0];
    }
    ck_assert(again);
    for (unsigned i = 0; i < NSMALL; i++)
        memset(bs_heap_alloc(SMALL), 1, SMALL);
    must_scan();
    ck_assert_uint_eq(blocks(BS_COLLECT_CLOSED), 0);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

START_TEST(who_is_given_the_slots_may_free_them) {
    void *mine[4 * NSMALL];
    setup(_i);
    plant();
    for (unsigned i = 0; i < 3; i++)
        (void)site_a(SMALL);
    bs_tcache_drain_own(); /* what it has not used is free, on the pages of the last blocks */
    until_closed();
    size_t reserved = 0;
    for (size_t i = 0; i < bs_park_count(); i++)
        for (size_t w = 0; w < BS_MARKS_PLANES; w++)
            reserved += bs_popcount(bs_park_entry(i)->pick.reserve[w]);
    ck_assert_uint_ne(reserved, 0);
    must_scan();
    ck_assert_uint_ne(blocks(BS_COLLECT_RECLAIMED), 0);
    for (size_t i = 0; i < BS_ARRAY_LEN(mine); i++)
        mine[i] = bs_heap_alloc(SMALL);
    for (size_t i = 0; i < BS_ARRAY_LEN(mine); i++)
        bs_heap_free(mine[i]);
    must_scan();
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

static void free_it(void *p) {
    bs_heap_free(p);
}
static void free_what_is_taken(void *p) {
    bs_store(&bs_park_find((uintptr_t)p)->state, (uint32_t)BS_PARK_TAKEN);
    bs_heap_free(p);
}
/* A slot that was free before, on a closed page. */
static void *reserved_slot(void) {
    for (size_t i = 0; i < bs_park_count(); i++)
        for (size_t w = 0; w < BS_MARKS_PLANES; w++) {
            const struct bs_parked *e = bs_park_entry(i);
            if (e->pick.reserve[w] != 0)
                return (char *)e->base + (w * 64 + bs_ctz(e->pick.reserve[w])) * bs_class_info[e->class].size;
        }
    return NULL;
}

START_TEST(crimes_against_closed_memory_abort) {
    char text[128];
    setup(_i);
    plant();
    for (unsigned i = 0; i < 3; i++)
        (void)site_a(SMALL);
    bs_tcache_drain_own();
    until_closed();
    void *p = reserved_slot();
    ck_assert_ptr_nonnull(p);
    snprintf(text, sizeof text, "besom: double free of %p (size class %d bytes)\n", p, SMALL);
    expect_abort(free_it, p, text);
    p = (void *)SHOWN(large[1]);
    snprintf(text, sizeof text, "besom: free of %p, whose memory scan:collect uses again\n", p);
    expect_abort(free_what_is_taken, p, text);
}
END_TEST

/* Somebody who gives memory other rights has an eye on it. */
START_TEST(what_has_other_rights_is_left_alone) {
    setup(_i);
    plant();
    uintptr_t first = bs_align_up((uintptr_t)SHOWN(large[1]), bs_os_page_size());
    ck_assert_int_eq(mprotect((void *)first, bs_os_page_size(), PROT_READ), 0);
    first = ~first;
    until_closed();
    ck_assert_ptr_null(bs_park_find((uintptr_t)SHOWN(large[1])));
    ck_assert_ptr_nonnull(bs_park_find((uintptr_t)SHOWN(large[2])));
    ck_assert(is_whole(large[1], LARGE));
    ck_assert_int_eq(mprotect((void *)~first, bs_os_page_size(), PROT_READ | PROT_WRITE), 0);
}
END_TEST

static void __attribute__((noinline)) bring_back(void) {
    uintptr_t a = small[NSMALL / 2], b = large[1], other = site_b(4 * LARGE);
    until_closed();
    ck_assert(is_whole(a, SMALL));
    touch_late = b;
    must_scan();
    uint64_t back = blocks(BS_COLLECT_REVIVED);
    require(back > 1 && back < NSMALL, "%ju", (uintmax_t)back);
    ck_assert_uint_eq(blocks(BS_COLLECT_RECLAIMED), 0); /* somebody was there: wait */
    must_scan();
    ck_assert_uint_ne(blocks(BS_COLLECT_RECLAIMED), 0);
    ck_assert(!is_out_at(other)); /* closed before its like was touched */
    for (unsigned i = 0; i < 6; i++)
        must_scan();
    ck_assert(is_whole(a, SMALL) && is_whole(b, LARGE));
    ck_assert(is_out_at(a) && is_out_at(b));
    ck_assert(!is_lost(a) && !is_lost(b)); /* nor are they reported any more */
}
/* Of the stacks that were brought back nothing is closed any more. */
static void __attribute__((noinline)) leave_alone(void) {
    wipe();
    for (unsigned i = 0; i < 6; i++) {
        must_scan();
        for (unsigned k = 0; k < NSMALL; k++)
            ck_assert_ptr_null(bs_park_find((uintptr_t)SHOWN(small[k])));
        ck_assert_ptr_null(bs_park_find((uintptr_t)SHOWN(large[1])));
    }
}

START_TEST(a_touch_brings_back) {
    static void (*const volatile then[])(void) = {bring_back, leave_alone};
    setup(_i);
    for (volatile unsigned round = 0; round < 2; round++) { /* the same place calls both times */
        plant();
        then[round]();
    }
}
END_TEST

/* Where one of unknown origin comes from nobody knows: it may be the same place. */
START_TEST(a_touch_spares_the_unknown_of_its_size) {
    setup(_i);
    plant();
    until_closed();
    ck_assert(is_whole(large[1], LARGE));
    must_scan();
    ck_assert_uint_eq(blocks(BS_COLLECT_REVIVED), 1);
    bs_store(&bs_sample_interval, UINT64_MAX); /* of a block of this size one in 9e13 is sampled */
    for (unsigned i = 0; i < 3; i++) /* more than one: a word may still lead to the first */
        plant();
    wipe();
    for (unsigned i = 0; i < 6; i++) {
        must_scan();
        ck_assert_ptr_null(bs_park_find((uintptr_t)SHOWN(large[1])));
    }
    ck_assert(is_whole(large[1], LARGE) && is_out_at(large[1]));
}
END_TEST

/* Freed, or resized, without being touched before. */
START_TEST(a_free_brings_back) {
    setup(_i);
    plant();
    until_closed();
    bs_heap_free(SHOWN(large[0]));
    bs_heap_free(SHOWN(small[NSMALL / 2]));
    large[1] = HIDE(bs_heap_realloc(SHOWN(large[1]), 2 * LARGE));
    ck_assert(is_whole(large[1], 8) || SHOWN(large[1])[7] == 7 + LARGE);
    ck_assert_uint_eq(SHOWN(large[1])[LARGE / 8 - 1], LARGE / 8 - 1 + LARGE);
    small[NSMALL / 2 + 1] = HIDE(bs_heap_realloc(SHOWN(small[NSMALL / 2 + 1]), 4 * SMALL));
    ck_assert_uint_eq(SHOWN(small[NSMALL / 2 + 1])[9], 9 + SMALL);
    for (unsigned i = 0; i < 4; i++) {
        memset(bs_heap_alloc(LARGE), 1, LARGE);
        for (unsigned k = 0; k < 50; k++)
            memset(bs_heap_alloc(SMALL), 1, SMALL);
        must_scan();
        if (i == 0) {
            require(blocks(BS_COLLECT_FREED) >= 3, "%ju", (uintmax_t)blocks(BS_COLLECT_FREED));
            ck_assert_uint_ne(blocks(BS_COLLECT_RECLAIMED), 0); /* they came before the scan */
        }
    }
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* Live ones are in spans of which other pages are closed. */
START_TEST(a_free_beside_closed_memory_opens_nothing) {
    static void *live[NSMALL];
    size_t beside = 0;
    setup(_i);
    for (unsigned i = 0; i < NSMALL; i++) {
        (void)site_a(SMALL);
        live[i] = i % 12 == 0 ? (void *)SHOWN(site_a(SMALL)) : NULL;
    }
    plant();
    until_closed();
    for (unsigned i = 0; i < NSMALL; i++) {
        const struct bs_parked *e = live[i] != NULL ? bs_park_find((uintptr_t)live[i]) : NULL;
        if (e == NULL)
            continue;
        bs_heap_free(live[i]);
        ck_assert_uint_eq(bs_load(&e->state), BS_PARK_CLOSED);
        beside++;
    }
    ck_assert_uint_ne(beside, 0); /* else the test shows nothing */
    must_scan();
    ck_assert_uint_eq(blocks(BS_COLLECT_FREED), 0);
    ck_assert_uint_ne(blocks(BS_COLLECT_RECLAIMED), 0);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

static void free_again(void *arg) {
    bs_heap_free(arg);
    bs_heap_free(arg);
}
START_TEST(a_double_free_is_found) {
    setup(_i);
    plant();
    until_closed();
    expect_abort(free_again, SHOWN(small[NSMALL / 2]), "double free of");
    expect_abort(free_again, SHOWN(large[0]), "free of");
    must_scan();
    ck_assert_uint_ne(blocks(BS_COLLECT_RECLAIMED), 0);
    expect_abort(free_again, SHOWN(small[NSMALL / 2]), "double free of");
}
END_TEST

static uintptr_t inner, deeper, own;

static void __attribute__((noinline)) plant_components(void) {
    a_global = SHOWN(site_a(64));
    void **head = (void **)SHOWN(site_a(64)); /* behind a live one: cannot be closed */
    inner = site_b(LARGE);
    deeper = site_b(LARGE);
    own = site_b(LARGE);
    head[3] = SHOWN(inner) + 5;
    *(void **)SHOWN(inner) = SHOWN(deeper);
    *(void **)SHOWN(own) = SHOWN(own) + LARGE / 8; /* its own end */
}

/* What leads to a doomed block is doomed, or it is not. */
START_TEST(a_component_goes_as_a_whole) {
    setup(_i);
    plant_components();
    wipe();
    for (unsigned i = 0; i < 7; i++) {
        must_scan();
        ck_assert_ptr_null(bs_park_find((uintptr_t)SHOWN(inner)));
        ck_assert_ptr_null(bs_park_find((uintptr_t)SHOWN(deeper)));
    }
    ck_assert(is_out_at(inner) && is_out_at(deeper));
    ck_assert(!is_out_at(own));
}
END_TEST

/* Pairs that share an OS page: of each the second leads to the next one's first. So each time that what is doomed is
 * looked through one more of them is not. */
enum { NPAIRS = 100 };
static uintptr_t chained[6 * NPAIRS];
static unsigned __attribute__((noinline, noclone)) plant_chain(void) {
    uintptr_t last = 0;
    unsigned n = 0;
    a_global = SHOWN(site_a(64));
    void **head = (void **)SHOWN(site_a(64)); /* cannot be closed */
    for (unsigned i = 0; i < BS_ARRAY_LEN(chained); i++)
        chained[i] = site_a(2048);
    for (unsigned i = 0; i < BS_ARRAY_LEN(chained) && n < NPAIRS; i++)
        for (unsigned k = 0; k < BS_ARRAY_LEN(chained); k++)
            if ((uintptr_t)SHOWN(chained[i]) % 4096 == 0 && (uintptr_t)SHOWN(chained[k]) == (uintptr_t)SHOWN(chained[i]) + 2048) {
                *(n == 0 ? head + 3 : (void **)SHOWN(last) + 3) = SHOWN(chained[i]);
                last = chained[k];
                n++;
                break;
            }
    return n;
}

/* Where that does not come to an end in time nothing is closed. */
START_TEST(a_long_chain_closes_nothing) {
    setup(_i);
    if (bs_os_page_size() != 4096)
        return;
    ck_assert_uint_eq(plant_chain(), NPAIRS);
    plant();
    wipe();
    for (unsigned i = 0; i < 5; i++) {
        must_scan();
        ck_assert_uint_eq(bs_park_count(), 0);
    }
    ck_assert(is_whole(large[1], LARGE));
}
END_TEST

/* However often they were lost. */
START_TEST(young_blocks_are_left_alone) {
    collect.age_ns = UINT64_C(1000000000) * 86400;
    setup(_i);
    plant();
    wipe();
    for (unsigned i = 0; i < 5; i++) {
        must_scan();
        ck_assert_uint_eq(bs_park_count(), 0);
    }
    ck_assert(is_lost(large[1]));
}
END_TEST

/* The way back to one block of a span opens the others as well. */
START_TEST(a_span_is_opened_as_a_whole) {
    setup(_i);
    plant();
    until_closed();
    const struct bs_parked *e = bs_park_find((uintptr_t)SHOWN(small[NSMALL / 2]));
    ck_assert_ptr_nonnull(e);
    uintptr_t base = e->base, end = base + e->bytes;
    a_global = SHOWN(small[NSMALL / 2]);
    must_scan();
    ck_assert_ptr_null(bs_park_find(base));
    unsigned others = 0;
    for (unsigned i = 0; i < NSMALL; i++)
        if ((uintptr_t)SHOWN(small[i]) >= base && (uintptr_t)SHOWN(small[i]) < end) {
            ck_assert(is_out_at(small[i]) && is_whole(small[i], SMALL));
            others++;
        }
    ck_assert_uint_gt(others, 1);
    ck_assert(!is_out_at(large[0]));
}
END_TEST

/* A way back that the scan sees. */
START_TEST(what_is_reached_is_opened) {
    setup(_i);
    plant();
    until_closed();
    a_global = SHOWN(large[2]);
    must_scan();
    /* the end of one block may be the beginning of another, and then holds it as well */
    uint64_t opened = blocks(BS_COLLECT_REACHED);
    require(opened == 1 || opened == 2, "%ju", (uintmax_t)opened);
    ck_assert(is_whole(large[2], LARGE));
    ck_assert(!is_out_at(large[0]));
    a_global = NULL;
    wipe();
    for (unsigned i = 0; i < 4; i++)
        must_scan();
    ck_assert(!is_out_at(large[2]));
}
END_TEST

START_TEST(an_incomplete_world_counts_from_the_start) {
    setup(_i);
    plant();
    wipe();
    must_scan();
    must_scan();
    start_threads(1, blocks_all);
    scan();
    ck_assert_int_eq(got.end, BS_SCAN_WORLD);
    join_threads(1);
    wipe();
    must_scan();
    must_scan();
    ck_assert_uint_eq(bs_park_count(), 0);
    must_scan();
    ck_assert_uint_ne(bs_park_count(), 0);
}
END_TEST

START_TEST(scans_count_only_some_time_apart) {
    collect.spacing_ns = 100 * MS;
    collect.grace_ns = 300 * MS;
    collect.age_ns = 150 * MS;
    setup(_i);
    uint64_t start = bs_os_now_ns(), closed = 0;
    plant();
    wipe();
    for (;; usleep(10000)) {
        uint64_t before = bs_os_now_ns(); /* not after: any time may pass between the deed and the look */
        must_scan();
        uint64_t now = bs_os_now_ns();
        if (closed == 0 && bs_park_count() != 0) {
            closed = before;
            require(now - start >= 200 * MS, "closed after %ju ns", (uintmax_t)(now - start));
        }
        if (blocks(BS_COLLECT_RECLAIMED) == 0)
            continue;
        require(now - closed >= 300 * MS, "given away after %ju ns", (uintmax_t)(now - closed));
        break;
    }
}
END_TEST

START_TEST(nothing_is_closed_that_nobody_watches) {
    setup(_i);
    plant();
    until_closed();
    unwatched = true;
    must_scan();
    ck_assert_uint_eq(bs_park_count(), 0);
    ck_assert_ptr_nonnull(report->why_not);
    signal(SIGSEGV, SIG_DFL);
    for (unsigned i = 0; i < NSMALL; i++)
        ck_assert(is_whole(small[i], SMALL));
    for (unsigned i = 0; i < 4; i++)
        must_scan();
    ck_assert_uint_eq(bs_park_count(), 0);
}
END_TEST

START_TEST(a_forked_child_begins_anew) {
    setup(_i);
    plant();
    until_closed();
    pid_t pid = fork();
    if (pid == 0) {
        bs_thread_forked();
        bs_world_forked();
        bs_scan_forked();
        bs_collect_forked();
        if (!is_whole(large[0], LARGE))
            _exit(1);
        rules.guest = bs_collect_guest();
        if (!bs_scan_run(&rules, note_result, &got) || got.end != BS_SCAN_DONE || bs_park_count() != 0)
            _exit(2);
        signal(SIGSEGV, SIG_DFL);
        for (unsigned i = 0; i < NSMALL; i++)
            if (!is_whole(small[i], SMALL))
                _exit(3);
        _exit(is_whole(large[1], LARGE) ? 0 : 4);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    must_scan();
    ck_assert_uint_ne(blocks(BS_COLLECT_RECLAIMED), 0);
}
END_TEST

/* Whatever the kernel refuses, what is closed opens to who comes. */
START_TEST(failures_are_survived) {
    setup(_i % 2);
    for (unsigned n = 1; n < 60; n++) {
        plant();
        wipe();
        bs_os_fail(n, _i < 2 ? ENOMEM : EAGAIN, false);
        scan();
        bs_os_fail(0, 0, false);
        ck_assert(n % 3 != 0 || is_whole(small[NSMALL / 2], SMALL));
    }
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* Where there may be no more mappings all opens for one; what was not watched for a while is not given
 * away, and is closed anew. */
START_TEST(what_opened_with_others_is_not_given_away) {
    setup(_i);
    plant();
    until_closed();
    bs_os_fail(1, ENOMEM, false);
    bool whole = is_whole(large[1], LARGE);
    bs_os_fail(0, 0, false);
    ck_assert(whole);
    for (size_t i = 0; i < bs_park_count(); i++)
        ck_assert_uint_ne(bs_park_entry(i)->state, BS_PARK_CLOSED);
    must_scan();
    ck_assert_uint_eq(blocks(BS_COLLECT_RECLAIMED), 0);
    ck_assert_uint_eq(blocks(BS_COLLECT_REVIVED), 1);
    for (unsigned i = 0; i < 2; i++) {
        must_scan();
        ck_assert(is_out_at(large[1]));
    }
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* Another stack each time: a search that finds something closed counts as who comes. */
static uintptr_t __attribute__((noinline)) from_depth(unsigned n) {
    uintptr_t hidden = n == 0 ? site_b(LARGE) : from_depth(n - 1);
    __asm__ volatile("" ::: "memory");
    return hidden;
}
/* Closed again after a search in place, or nobody would be seen to come. */
START_TEST(what_is_watched_is_closed) {
    unsigned watched = 0;
    bool failed = true;
    collect.grace_ns = LONG;
    setup(0);
    for (unsigned n = 1; failed && n < 1000; n++) {
        for (unsigned i = 0; i < 5 && !bs_park_is_closed(); i++) {
            (void)from_depth(n % 20);
            wipe();
            must_scan();
        }
        require(bs_park_is_closed(), "call %u failed before: end %d, %s", n - 1, got.end, report->why_not);
        bs_os_fail(n, ENOMEM, false);
        scan();
        failed = bs_os_fail(0, 0, false) >= n;
        for (size_t i = 0; i < bs_park_count(); i++)
            if (bs_park_entry(i)->state == BS_PARK_CLOSED) {
                require(!bs_os_readable(bs_park_entry(i)->base), "call %u failed", n);
                watched++;
            }
    }
    ck_assert_uint_gt(watched, 10);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

START_TEST(what_nobody_watched_is_not_given_away) {
    setup(_i);
    plant();
    until_closed();
    bs_store(&bs_park_entry(0)->state, (uint32_t)BS_PARK_GOING); /* as after what opened with others */
    ck_assert(!bs_park_expire());
    for (size_t i = 1; i < bs_park_count(); i++)
        ck_assert_uint_eq(bs_park_entry(i)->state, BS_PARK_CLOSED);
    must_scan();
    for (size_t i = 0; i < bs_park_count(); i++)
        ck_assert_uint_ne(bs_park_entry(i)->state, BS_PARK_CLOSED);
}
END_TEST

/* After the verdict, before the memory is taken: it is the program's again. */
START_TEST(who_comes_late_is_in_time_until_it_is_taken) {
    setup(_i);
    plant();
    until_closed();
    struct bs_parked *a = bs_park_find((uintptr_t)SHOWN(large[0]));
    struct bs_parked *b = bs_park_find((uintptr_t)SHOWN(large[1]));
    bs_park_expire();
    ck_assert(is_whole(large[0], LARGE));
    ck_assert(!bs_park_take(a));
    bs_heap_free(SHOWN(large[1]));
    ck_assert(!bs_park_take(b));
    must_scan();
    ck_assert_uint_eq(blocks(BS_COLLECT_REVIVED), 1);
    ck_assert_uint_eq(blocks(BS_COLLECT_FREED), 1);
    for (unsigned i = 0; i < 4; i++)
        must_scan();
    ck_assert(is_whole(large[0], LARGE) && is_out_at(large[0]));
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

int main(void) {
    Suite *suite = suite_create("collect");
    TCase *tc = add_case(suite, "collect");
    tcase_add_test(tc, pages_of_lost_and_free_slots_alone);
    tcase_add_loop_test(tc, lost_blocks_are_closed_then_given_away, 0, 2);
    tcase_add_loop_test(tc, who_is_given_the_slots_may_free_them, 0, 2);
    tcase_add_loop_test(tc, crimes_against_closed_memory_abort, 0, 2);
    tcase_add_loop_test(tc, what_has_other_rights_is_left_alone, 0, 2);
    tcase_add_loop_test(tc, a_touch_brings_back, 0, 2);
    tcase_add_loop_test(tc, a_touch_spares_the_unknown_of_its_size, 0, 2);
    tcase_add_loop_test(tc, a_free_brings_back, 0, 2);
    tcase_add_loop_test(tc, a_free_beside_closed_memory_opens_nothing, 0, 2);
    tcase_add_loop_test(tc, a_double_free_is_found, 0, 2);
    tcase_add_loop_test(tc, a_component_goes_as_a_whole, 0, 2);
    tcase_add_loop_test(tc, a_long_chain_closes_nothing, 0, 2);
    tcase_add_loop_test(tc, young_blocks_are_left_alone, 0, 2);
    tcase_add_loop_test(tc, a_span_is_opened_as_a_whole, 0, 2);
    tcase_add_loop_test(tc, what_is_reached_is_opened, 0, 2);
    tcase_add_loop_test(tc, an_incomplete_world_counts_from_the_start, 0, 2);
    tcase_add_loop_test(tc, scans_count_only_some_time_apart, 0, 2);
    tcase_add_loop_test(tc, nothing_is_closed_that_nobody_watches, 0, 2);
    tcase_add_loop_test(tc, a_forked_child_begins_anew, 0, 2);
    tcase_add_loop_test(tc, what_opened_with_others_is_not_given_away, 0, 2);
    tcase_add_loop_test(tc, who_comes_late_is_in_time_until_it_is_taken, 0, 2);
    tcase_add_loop_test(tc, failures_are_survived, 0, 4);
    tcase_add_test(tc, what_is_watched_is_closed);
    tcase_add_loop_test(tc, what_nobody_watched_is_not_given_away, 0, 2);
    return run_suite(suite);
}
