/* SPDX-License-Identifier: MIT */
/*
 * check_scavenge.c - the policy fed with invented time, and the giving back of pages on a real
 * heap: order, amounts, what stays, and what happens when the kernel refuses.
 *
 * libcheck forks for each test, so each has a heap of its own.
 */
#include "central.h"
#include "counter.h"
#include "holes.h"
#include "large.h"
#include "opt.h"
#include "os.h"
#include "scavenge.h"
#include "thp.h"

#include "unit.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define EPOCH_NS 1000000000u
#define IDLE_NS (3 * (uint64_t)EPOCH_NS)
#define START_NS (100 * (uint64_t)EPOCH_NS)

/* --- the policy ------------------------------------------------------------------------------- */

/* A heap that once had 1000 pages in spans and has 100 now; 900 are dirty. */
static struct bs_scavenge_input shrunken(uint64_t now_ns, uint64_t activity) {
    return (struct bs_scavenge_input){.now_ns = now_ns, .activity = activity, .epoch_ns = EPOCH_NS,
                                      .idle_ns = IDLE_NS, .span_pages = 100, .dirty_pages = 900,
                                      .peak_pages = 100};
}

static struct bs_scavenge_policy with_peak(size_t peak_pages) {
    struct bs_scavenge_policy p = {0};
    struct bs_scavenge_input in = shrunken(START_NS, 1);
    in.peak_pages = peak_pages;
    (void)bs_scavenge_goal(&p, &in);
    ck_assert_uint_eq(p.peak_pages, peak_pages);
    return p;
}

START_TEST(the_excess_halves_every_epoch) {
    struct bs_scavenge_policy p = with_peak(1000);
    size_t excess = 900;
    for (uint64_t i = 1; i <= 8; i++) {
        struct bs_scavenge_input in = shrunken(START_NS + i * EPOCH_NS, 1 + i);
        excess /= 2;
        size_t retain = (100 + excess) * 11 / 10;
        ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 900 - (retain - 100));
        ck_assert_uint_eq(p.peak_pages, 100 + excess);
    }
}
END_TEST

START_TEST(several_epochs_at_once_are_the_same) {
    struct bs_scavenge_policy p = with_peak(1000);
    struct bs_scavenge_input in = shrunken(START_NS + 3 * (uint64_t)EPOCH_NS, 2);
    (void)bs_scavenge_goal(&p, &in);
    ck_assert_uint_eq(p.peak_pages, 100 + 900 / 8);
    const uint64_t many[] = {39, 40, 63, 64, 65, 128, 1000000}; /* a word has 64 bits to shift */
    for (size_t i = 0; i < BS_ARRAY_LEN(many); i++) {
        p = with_peak(1000);
        in = shrunken(START_NS + many[i] * EPOCH_NS, 2);
        (void)bs_scavenge_goal(&p, &in);
        ck_assert_uint_eq(p.peak_pages, 100);
    }
}
END_TEST

START_TEST(short_ticks_decay_nearly_as_fast) {
    struct bs_scavenge_policy p = with_peak(1000);
    size_t last = 1000;
    for (uint64_t i = 1; i <= 10; i++) {
        struct bs_scavenge_input in = shrunken(START_NS + i * EPOCH_NS / 10, 1 + i);
        (void)bs_scavenge_goal(&p, &in);
        ck_assert_msg(p.peak_pages < last, "tick %ju: the peak stays at %zu", (uintmax_t)i, last);
        last = p.peak_pages;
    }
    /* linear steps of a tenth: 0.95^10 is 0.6 */
    ck_assert_msg(last >= 100 + 900 / 2 && last <= 100 + 900 * 62 / 100, "peak %zu", last);
}
END_TEST

START_TEST(a_new_peak_counts_at_once) {
    struct bs_scavenge_policy p = with_peak(500);
    struct bs_scavenge_input in = shrunken(START_NS + EPOCH_NS, 2);
    in.peak_pages = 4000;
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 0);
    ck_assert_uint_eq(p.peak_pages, 4000);
}
END_TEST

START_TEST(an_idle_heap_keeps_nothing_but_keep_pages) {
    struct bs_scavenge_policy p = with_peak(1000);
    struct bs_scavenge_input in = shrunken(START_NS + IDLE_NS - 1, 1);
    ck_assert_uint_lt(bs_scavenge_goal(&p, &in), 900);
    in.now_ns = START_NS + IDLE_NS;
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 900);
    in.keep_pages = 32;
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 900 - 32);
    in.keep_pages = 5000;
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 0);
    in.keep_pages = 0;
    in.activity++; /* not idle any more */
    in.now_ns++;
    in.peak_pages = 1000;
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 0);
}
END_TEST

/* Use swings between 100 and 1000 pages, each for `half_ns`, looked at ten times an epoch; the
 * most that ever should go. */
static size_t most_of_sawtooth(uint64_t half_ns) {
    struct bs_scavenge_policy p = {0};
    size_t most = 0;
    uint64_t activity = 0;
    for (uint64_t t = 0; t < 50 * (uint64_t)EPOCH_NS; t += EPOCH_NS / 10) {
        bool high = t / half_ns % 2 == 0, turned = t % half_ns < EPOCH_NS / 10;
        struct bs_scavenge_input in = shrunken(START_NS + t, ++activity);
        in.span_pages = high ? 1000 : 100;
        in.dirty_pages = 1000 - in.span_pages;
        in.peak_pages = high || turned ? 1000 : 100;
        size_t goal = bs_scavenge_goal(&p, &in);
        most = bs_max(most, goal);
    }
    return most;
}

START_TEST(a_sawtooth_keeps_its_pages) {
    ck_assert_uint_eq(most_of_sawtooth(EPOCH_NS / 10), 0);
    ck_assert_uint_eq(most_of_sawtooth(EPOCH_NS / 5), 0);
    size_t most = most_of_sawtooth(EPOCH_NS / 2); /* a period of one epoch: most of them */
    ck_assert_msg(most <= 900 / 4, "%zu of 900 pages would go and come every epoch", most);
    most = most_of_sawtooth(10 * (uint64_t)EPOCH_NS); /* this one is no sawtooth: they go */
    ck_assert_msg(most >= 800, "%zu of 900 pages after ten quiet epochs", most);
}
END_TEST

START_TEST(clocks_that_jump) {
    struct bs_scavenge_policy p = with_peak(1000);
    struct bs_scavenge_input in = shrunken(START_NS / 2, 2); /* backwards */
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 0);
    ck_assert_uint_eq(p.peak_pages, 1000);
    in.now_ns = START_NS / 2; /* no step */
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 0);
    in = shrunken(START_NS / 4, 2); /* backwards, nothing happened: not idle by accident */
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 0);
    in.now_ns += EPOCH_NS; /* and time goes on from there */
    (void)bs_scavenge_goal(&p, &in);
    ck_assert_uint_eq(p.peak_pages, 100 + 450);
    in.now_ns = UINT64_MAX; /* centuries */
    in.activity++;
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 900 - 10);
    ck_assert_uint_eq(p.peak_pages, 100);
    in.now_ns = 1;
    ck_assert_uint_le(bs_scavenge_goal(&p, &in), 900);
}
END_TEST

START_TEST(an_epoch_of_zero) {
    struct bs_scavenge_policy p = with_peak(1000);
    struct bs_scavenge_input in = shrunken(START_NS + 1000, 2);
    in.epoch_ns = 0;
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 900 - 10);
}
END_TEST

START_TEST(the_overhead_option_takes_the_peaks_place) {
    struct bs_scavenge_policy p = with_peak(1000);
    struct bs_scavenge_input in = shrunken(START_NS + EPOCH_NS / 10, 2);
    in.has_room = true;
    in.room_pages = 30; /* far below what the peak would keep */
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 900 - 30);
    in.room_pages = 2000; /* and far above it, after the peak is gone */
    in.now_ns += 100 * (uint64_t)EPOCH_NS;
    in.activity++;
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 0);
    in.room_pages = 0;
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 900);
    in.keep_pages = 32; /* never worth it */
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 900 - 32);
    in.room_pages = 2000; /* an idle heap keeps nothing, whatever room there is */
    in.now_ns += IDLE_NS;
    ck_assert_uint_eq(bs_scavenge_goal(&p, &in), 900 - 32);
}
END_TEST

START_TEST(room_is_a_share_of_what_is_live) {
    ck_assert_uint_eq(bs_scavenge_room(1000, 1000, 20), 200);
    ck_assert_uint_eq(bs_scavenge_room(1000, 1150, 20), 50); /* spans use 150 of it */
    ck_assert_uint_eq(bs_scavenge_room(1000, 1200, 20), 0);
    ck_assert_uint_eq(bs_scavenge_room(1000, 5000, 20), 0);
    ck_assert_uint_eq(bs_scavenge_room(1000, 900, 20), 200); /* sums of different moments */
    ck_assert_uint_eq(bs_scavenge_room(0, 0, 20), 0);
    ck_assert_uint_eq(bs_scavenge_room(SIZE_MAX / 10, 0, 10000), SIZE_MAX);
}
END_TEST

static uint64_t seed = 88172645463325252u;
static uint64_t random_number(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed >> seed % 64; /* of all magnitudes */
}

START_TEST(absurd_numbers_stay_within_the_dirty_pages) {
    struct bs_scavenge_policy p = {0};
    for (unsigned i = 0; i < 2000000; i++) {
        struct bs_scavenge_input in = {
            .now_ns = random_number(), .activity = random_number() % 3,
            .epoch_ns = random_number(), .idle_ns = random_number(),
            .span_pages = random_number(), .dirty_pages = random_number(),
            .peak_pages = random_number(), .keep_pages = random_number(),
            .has_room = random_number() % 2 != 0, .room_pages = random_number()};
        size_t goal = bs_scavenge_goal(&p, &in);
        require(goal <= bs_sub_clamped(in.dirty_pages, in.keep_pages), "round %u: %zu of %zu dirty pages, %zu to keep",
                i, goal, in.dirty_pages, in.keep_pages);
        require(p.peak_pages >= bs_min(in.span_pages, in.peak_pages), "round %u: a peak of %zu, %zu in spans", i,
                p.peak_pages, in.span_pages);
        if (i % 1000 == 0)
            p = (struct bs_scavenge_policy){0};
    }
}
END_TEST

START_TEST(a_peak_near_the_end_of_numbers_keeps_all) {
    struct bs_scavenge_policy p = {0};
    struct bs_scavenge_input in = shrunken(START_NS, 1);
    in.peak_pages = SIZE_MAX;
    in.dirty_pages = SIZE_MAX - 100;
    ck_assert_msg(bs_scavenge_goal(&p, &in) == 0, "peak + 10 %% wrapped around");
}
END_TEST

/* --- on a real heap --------------------------------------------------------------------------- */

#define HEAP_PAGES ((size_t)1536) /* three regions */
#define HUGE_PAGES (2 * BS_MIB / BS_PAGE_SIZE)

static uintptr_t heap; /* HEAP_PAGES pages, all taken and touched */

static void take_heap(void) {
    struct bs_pages pages;
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 0); /* whatever this machine's setting is */
    ck_assert(bs_central_take_pages(HEAP_PAGES, HUGE_PAGES, &pages));
    heap = pages.base;
    memset((void *)heap, 0x5a, HEAP_PAGES * BS_PAGE_SIZE);
    ck_assert_uint_eq(bs_pageheap_counts().dirty_pages, 0);
}

static void give(size_t first, size_t npages) {
    struct bs_run run = {.base = heap + first * BS_PAGE_SIZE, .npages = npages};
    bs_pageheap_free(&run, 1);
}

/* OS pages of the run that are in memory, in bytes. */
static size_t resident(size_t first, size_t npages) {
    static unsigned char vec[HEAP_PAGES * BS_PAGE_SIZE / 4096];
    size_t bytes = npages * BS_PAGE_SIZE, os_page = bs_os_page_size(), total = 0;
    ck_assert_int_eq(bs_os_residency((void *)(heap + first * BS_PAGE_SIZE), bytes, vec), 0);
    for (size_t i = 0; i < bytes / os_page; i++)
        total += (vec[i] & 1) != 0 ? os_page : 0;
    return total;
}
static bool is_gone(size_t first, size_t npages) {
    return resident(first, npages) == 0;
}
static bool is_there(size_t first, size_t npages) {
    return resident(first, npages) == npages * BS_PAGE_SIZE;
}

START_TEST(whole_huge_pages_first_then_the_highest) {
    take_heap();
    give(0, HUGE_PAGES + 10); /* low, with a huge page in it */
    give(600, 8);
    give(1000, 8);
    give(1500, 8);
    struct bs_scavenge_work work = bs_scavenge_pages(HUGE_PAGES, 0, 0);
    ck_assert_uint_eq(work.huge_bytes, 2 * BS_MIB);
    ck_assert_uint_eq(work.page_bytes, 0);
    ck_assert_uint_eq(work.calls, 1);
    ck_assert(!work.failed);
    ck_assert(is_gone(0, HUGE_PAGES));
    ck_assert(is_there(HUGE_PAGES, HEAP_PAGES - HUGE_PAGES));
    work = bs_scavenge_pages(8, 0, 0);
    ck_assert_uint_eq(work.page_bytes, 8 * BS_PAGE_SIZE);
    ck_assert_uint_eq(work.huge_bytes, 0);
    ck_assert(is_gone(1500, 8) && is_there(1000, 8) && is_there(600, 8));
    work = bs_scavenge_pages(12, 0, 0); /* and the top of the next */
    ck_assert_uint_eq(work.page_bytes, 12 * BS_PAGE_SIZE);
    ck_assert(is_gone(1000, 8) && is_gone(604, 4) && is_there(600, 4));
    ck_assert(is_there(HUGE_PAGES, 10));
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* After the whole huge pages the others, from the top again; counted is what was dirty. */
START_TEST(huge_pages_do_not_hide_what_lies_above) {
    take_heap();
    give(0, 100);
    uint64_t calls = bs_counted(scavenge_calls), bytes = bs_counted(scavenged_bytes);
    struct bs_scavenge_work work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_eq(bs_counted(scavenge_calls) - calls, work.calls);
    ck_assert_uint_eq(work.page_bytes, 100 * BS_PAGE_SIZE);
    give(100, HUGE_PAGES - 100); /* of the huge page the rest */
    give(1500, 8);
    work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_eq(work.huge_bytes, (HUGE_PAGES - 100) * BS_PAGE_SIZE);
    ck_assert_uint_eq(work.page_bytes, 8 * BS_PAGE_SIZE);
    ck_assert_uint_eq(bs_counted(scavenged_bytes) - bytes, (HUGE_PAGES + 8) * BS_PAGE_SIZE);
    ck_assert(is_gone(0, HUGE_PAGES) && is_gone(1500, 8));
    ck_assert_uint_eq(bs_pageheap_dirty_bytes(), 0);
}
END_TEST

START_TEST(all_that_is_free_and_nothing_else) {
    take_heap();
    uint64_t before = bs_counted(scavenged_bytes);
    size_t given = 0;
    for (size_t i = 0; i < HEAP_PAGES; i += 16) {
        give(i, i / 16 % 15 + 1);
        given += i / 16 % 15 + 1;
    }
    struct bs_scavenge_work work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_eq(work.page_bytes + work.huge_bytes, given * BS_PAGE_SIZE);
    ck_assert_uint_eq(bs_counted(scavenged_bytes) - before, given * BS_PAGE_SIZE);
    for (size_t i = 0; i < HEAP_PAGES; i += 16) {
        size_t n = i / 16 % 15 + 1;
        ck_assert_msg(is_gone(i, n), "pages at %zu stayed", i);
        ck_assert_msg(is_there(i + n, 16 - n), "pages in use at %zu went", i + n);
    }
    ck_assert_uint_eq(bs_pageheap_counts().dirty_pages, 0);
    ck_assert(bs_pageheap_is_valid());
    work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_eq(work.calls, 0);
}
END_TEST

START_TEST(given_back_pages_come_again_as_zeros) {
    struct bs_pages pages;
    take_heap();
    give(100, 50);
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert(bs_pageheap_alloc_at(heap + 100 * BS_PAGE_SIZE, 50, &pages));
    ck_assert_uint_eq(pages.nreleased, 50);
    const char *p = (const char *)pages.base;
    for (size_t i = 0; i < 50 * BS_PAGE_SIZE; i++)
        ck_assert_msg(p[i] == 0, "byte %zu is not zero", i);
}
END_TEST

/* After MADV_FREE a page holds what it held until the kernel takes it: nothing may count on zeros. */
START_TEST(lazily_freed_pages_are_not_known_to_be_zero) {
    struct bs_pages pages;
    bs_opt.advice = BS_ADVICE_FREE;
    take_heap();
    give(100, 50);
    struct bs_scavenge_work work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_eq(work.page_bytes, 50 * BS_PAGE_SIZE);
    ck_assert(bs_pageheap_alloc_at(heap + 100 * BS_PAGE_SIZE, 50, &pages));
    ck_assert_uint_eq(pages.nreleased, 50);
    ck_assert_uint_eq(pages.nzero, 0);
    ck_assert_uint_eq(pages.dirty_base, pages.base);
    ck_assert_uint_eq(pages.dirty_end, pages.base + 50 * BS_PAGE_SIZE);
}
END_TEST

START_TEST(calloc_clears_what_went_back_lazily) {
    const size_t size = 3 * BS_MIB;
    bs_opt.advice = BS_ADVICE_FREE;
    for (unsigned round = 0; round < 3; round++) {
        char *p = bs_large_alloc(size, 1, true);
        for (size_t i = 0; i < size; i++)
            require(p[i] == 0, "byte %zu is not zero in round %u", i, round);
        memset(p, 'x', size);
        bs_large_free(bs_span_of((uintptr_t)p));
        (void)bs_scavenge_to(0);
    }
}
END_TEST

/* --- decommit:hard ---------------------------------------------------------------------------- */

static char permissions_at(uintptr_t p) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512], found = '?', perms[8];
    uintptr_t start, end;
    while (fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) == 3 && p >= start && p < end)
            found = perms[0];
    fclose(f);
    return found;
}

START_TEST(hard_closes_what_went_and_opens_what_is_used) {
    struct bs_pages pages;
    bs_opt.decommit = BS_DECOMMIT_HARD;
    take_heap();
    ck_assert_int_eq(permissions_at(heap), 'r');
    give(100, 50);
    give(200, 1);
    ck_assert_int_eq(permissions_at(heap + 100 * BS_PAGE_SIZE), 'r');
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert(bs_pageheap_is_valid());
    ck_assert_int_eq(permissions_at(heap + 99 * BS_PAGE_SIZE), 'r');
    ck_assert_int_eq(permissions_at(heap + 100 * BS_PAGE_SIZE), '-');
    ck_assert_int_eq(permissions_at(heap + 149 * BS_PAGE_SIZE), '-');
    ck_assert_int_eq(permissions_at(heap + 150 * BS_PAGE_SIZE), 'r');
    ck_assert_int_eq(permissions_at(heap + 200 * BS_PAGE_SIZE), '-');
    ck_assert(bs_pageheap_alloc_at(heap + 120 * BS_PAGE_SIZE, 10, &pages)); /* out of the middle */
    ck_assert_uint_eq(pages.nclosed, 10);
    ck_assert(bs_central_make_ready(&pages));
    ck_assert_int_eq(permissions_at(heap + 119 * BS_PAGE_SIZE), '-');
    ck_assert_int_eq(permissions_at(heap + 130 * BS_PAGE_SIZE), '-');
    const char *p = (const char *)pages.base;
    for (size_t i = 0; i < 10 * BS_PAGE_SIZE; i++)
        require(p[i] == 0, "byte %zu is not zero", i);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

START_TEST(hard_keeps_the_budget_of_mappings) {
    struct bs_pages pages;
    bs_opt.decommit = BS_DECOMMIT_HARD;
    take_heap();
    size_t n = 4 * BS_CLOSED_RUNS_MAX, before = count_mappings();
    ck_assert(bs_central_take_pages(n, 1, &pages));
    for (size_t i = 0; i < n; i += 2) {
        struct bs_run run = {.base = pages.base + i * BS_PAGE_SIZE, .npages = 1};
        bs_pageheap_free(&run, 1);
    }
    struct bs_scavenge_work work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_eq(work.page_bytes, n / 2 * BS_PAGE_SIZE); /* all went, open or closed */
    ck_assert_uint_eq(bs_pageheap_closed_runs(), BS_CLOSED_RUNS_MAX);
    ck_assert_uint_le(count_mappings(), before + 2 * BS_CLOSED_RUNS_MAX + 4);
    ck_assert_uint_ge(count_mappings(), before + BS_CLOSED_RUNS_MAX);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* What this process is charged: its mappings that the kernel flags as accountable. (Committed_AS is that
 * of all processes, which come and go meanwhile.) */
static size_t charged_kib(void) {
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    size_t kib = 0, sum = 0;
    while (fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "Size: %zu", &kib) != 1 && strncmp(line, "VmFlags:", 8) == 0 &&
            strstr(line, " ac") != NULL)
            sum += kib;
    fclose(f);
    return sum;
}

START_TEST(hard_gives_the_charge_back) {
    struct bs_pages pages;
    size_t bytes = 256 * BS_MIB, half = 128 * BS_MIB / BS_KIB;
    bs_opt.decommit = BS_DECOMMIT_HARD;
    take_heap();
    ck_assert(bs_central_take_pages(bytes / BS_PAGE_SIZE, 1, &pages));
    for (size_t i = 0; i < bytes; i += 4096)
        ((char *)pages.base)[i] = 1; /* written to, so that mprotect would not give it back */
    size_t full = charged_kib();
    ck_assert_uint_ge(full, bytes / BS_KIB);
    struct bs_run run = {.base = pages.base, .npages = pages.npages};
    bs_pageheap_free(&run, 1);
    (void)bs_scavenge_to(0);
    ck_assert_msg(charged_kib() + half < full, "%zu KiB are charged, %zu before", charged_kib(), full);
}
END_TEST

#if BS_FAULTS
START_TEST(what_cannot_be_opened_stays_closed_and_free) {
    struct bs_pages pages;
    bs_opt.decommit = BS_DECOMMIT_HARD;
    take_heap();
    give(100, 50);
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert(bs_pageheap_alloc_at(heap + 100 * BS_PAGE_SIZE, 50, &pages));
    (void)bs_os_fail(1, ENOMEM, false);
    ck_assert(!bs_central_make_ready(&pages));
    (void)bs_os_fail(0, 0, false);
    ck_assert(bs_pageheap_is_valid());
    ck_assert_int_eq(permissions_at(heap + 100 * BS_PAGE_SIZE), '-');
    ck_assert(bs_pageheap_alloc_at(heap + 110 * BS_PAGE_SIZE, 5, &pages));
    ck_assert_uint_eq(pages.nclosed, 5);
    ck_assert(bs_central_make_ready(&pages));
    memset((void *)pages.base, 'x', 5 * BS_PAGE_SIZE);
    /* the rest counts as dirty; it goes again, by advice where closing is refused, and stays closed */
    (void)bs_os_fail(1, ENOMEM, false);
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    (void)bs_os_fail(0, 0, false);
    ck_assert_uint_eq(bs_pageheap_counts().dirty_pages, 0);
    ck_assert(bs_pageheap_is_valid());
    ck_assert(bs_pageheap_alloc_at(heap + 100 * BS_PAGE_SIZE, 10, &pages));
    ck_assert_uint_eq(pages.nclosed, 10);
}
END_TEST
#endif

START_TEST(no_more_than_asked_and_within_the_budget) {
    take_heap();
    give(0, HEAP_PAGES);
    struct bs_scavenge_work work = bs_scavenge_pages(100, 0, 0);
    ck_assert_uint_eq(work.huge_bytes + work.page_bytes, 100 * BS_PAGE_SIZE);
    work = bs_scavenge_pages(0, 0, 0);
    ck_assert_uint_eq(work.calls, 0);
    work = bs_scavenge_pages(SIZE_MAX, 0, 1); /* a nanosecond: one quantum */
    ck_assert_uint_eq(work.calls, 1);
    ck_assert_uint_le(work.huge_bytes + work.page_bytes, BS_SCAVENGE_QUANTUM_BYTES);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

#if BS_FAULTS
/* Of OS pages as long as eight of ours: 13 are one of them. */
START_TEST(only_whole_os_pages_go) {
    bs_os_page_size_is(65536);
    take_heap();
    give(3, 60);
    struct bs_scavenge_work work = bs_scavenge_pages(13, 0, 0);
    ck_assert_uint_eq(work.page_bytes, 2 * 8 * BS_PAGE_SIZE); /* the rest of 13 takes one more */
    ck_assert(is_gone(40, 16) && is_there(56, 8) && is_there(0, 40));
    work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_eq(work.page_bytes, 4 * 8 * BS_PAGE_SIZE);
    ck_assert(is_gone(8, 48) && is_there(0, 8) && is_there(56, 8));
    ck_assert(bs_pageheap_is_valid());
}
END_TEST
#endif

#if BS_FAULTS
/* With such pages what is opened for a span is all of its OS pages. */
START_TEST(closed_pages_open_as_whole_os_pages) {
    struct bs_pages pages;
    bs_opt.decommit = BS_DECOMMIT_HARD;
    take_heap();
    give(0, 64);
    bs_os_page_size_is(65536);
    (void)bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_int_eq(permissions_at(heap), '-');
    ck_assert(bs_pageheap_alloc_at(heap + 3 * BS_PAGE_SIZE, 7, &pages));
    ck_assert(bs_central_make_ready(&pages));
    ck_assert_int_eq(permissions_at(heap), 'r'); /* else the kernel would have refused */
    ck_assert_int_eq(permissions_at(heap + 15 * BS_PAGE_SIZE), 'r');
    ck_assert_int_eq(permissions_at(heap + 16 * BS_PAGE_SIZE), '-');
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* Locked pages are mapped anew. That may be refused too, and then take them away. */
START_TEST(what_is_locked_is_mapped_anew) {
    struct bs_pages pages;
    take_heap();
    give(0, 40);
    ck_assert_int_eq(syscall(SYS_mlock, heap + 10 * BS_PAGE_SIZE, 100), 0); /* sanitizers make mlock do nothing */
    struct bs_scavenge_work work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert(!work.failed);
    ck_assert(is_gone(0, 40));
    ck_assert(bs_pageheap_alloc_at(heap, 40, &pages));
    ck_assert_uint_eq(pages.nzero, 40);
    memset((void *)heap, 1, 40 * BS_PAGE_SIZE);
    give(0, 40);
    ck_assert_int_eq(syscall(SYS_mlock, heap + 10 * BS_PAGE_SIZE, 100), 0); /* sanitizers make mlock do nothing */
    (void)bs_os_fail(2, ENOMEM, false); /* after the advice */
    work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_ge(bs_os_fail(0, 0, false), 2);
    ck_assert(bs_pageheap_is_valid());
    ck_assert(bs_pageheap_alloc_at(heap, 40, &pages));
    ck_assert_uint_eq(pages.nclosed, 40);
    ck_assert(bs_central_make_ready(&pages));
    memset((void *)heap, 1, 40 * BS_PAGE_SIZE);
    give(0, 40);
    (void)bs_os_fail(1, EINVAL, true);
    work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    (void)bs_os_fail(0, 0, false);
    ck_assert(work.failed);
    ck_assert(is_there(0, 40));
}
END_TEST
#endif

START_TEST(down_to_what_is_to_be_kept) {
    take_heap();
    give(0, HEAP_PAGES);
    size_t keep = 3 * BS_MIB + 5;
    size_t went = bs_scavenge_to(keep);
    ck_assert_uint_ge(bs_pageheap_dirty_bytes(), keep);
    ck_assert_uint_lt(bs_pageheap_dirty_bytes(), keep + BS_PAGE_SIZE);
    ck_assert_uint_eq(went + bs_pageheap_dirty_bytes(), HEAP_PAGES * BS_PAGE_SIZE);
    ck_assert_uint_eq(bs_scavenge_to(keep), 0);
    ck_assert_uint_ne(bs_scavenge_to(0), 0);
    ck_assert_uint_eq(bs_pageheap_dirty_bytes(), 0);
}
END_TEST

#if BS_FAULTS
START_TEST(refused_pages_stay_dirty_and_are_counted) {
    take_heap();
    give(0, HEAP_PAGES);
    size_t dirty = bs_pageheap_dirty_bytes();
    uint64_t failures = bs_counted(os_failures), bytes = bs_counted(scavenged_bytes);
    (void)bs_os_fail(1, ENOMEM, false);
    struct bs_scavenge_work work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert_uint_eq(bs_os_fail(0, 0, false), 1); /* it does not try on */
    ck_assert(work.failed);
    ck_assert_uint_eq(work.huge_bytes + work.page_bytes, 0);
    ck_assert_uint_eq(bs_pageheap_dirty_bytes(), dirty);
    ck_assert_uint_eq(bs_counted(os_failures), failures + 1);
    ck_assert_uint_eq(bs_counted(scavenged_bytes), bytes);
    ck_assert(bs_pageheap_is_valid());
    ck_assert(is_there(0, HEAP_PAGES));

    (void)bs_os_fail(3, EAGAIN, true);
    work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    (void)bs_os_fail(0, 0, false);
    ck_assert(work.failed);
    ck_assert_uint_eq(work.huge_bytes, 2 * BS_SCAVENGE_QUANTUM_BYTES);
    ck_assert_uint_eq(bs_pageheap_dirty_bytes(), dirty - work.huge_bytes);
    ck_assert(bs_pageheap_is_valid());
    work = bs_scavenge_pages(SIZE_MAX, 0, 0);
    ck_assert(!work.failed);
    ck_assert_uint_eq(bs_pageheap_dirty_bytes(), 0);
    ck_assert(is_gone(0, HEAP_PAGES));
    ck_assert(bs_pageheap_is_valid());
}
END_TEST
#endif

#if BS_FAULTS
/* With no hole in a span that was not looked at. */
static bool pages_have_work(void) {
    struct bs_holes_work holes;
    (void)bs_holes_round(UINT64_MAX, SIZE_MAX, true, &holes);
    return bs_scavenge_has_work();
}

/* Slow doors ask again after 4096 runs have come back, or once something went. */
START_TEST(who_was_refused_waits) {
    take_heap();
    give(0, HEAP_PAGES);
    for (int i = 0; i < 2; i++) {
        ck_assert(pages_have_work());
        (void)bs_os_fail(1, ENOMEM, false);
        ck_assert(bs_scavenge_pages(100, 0, 0).failed);
        (void)bs_os_fail(0, 0, false);
        ck_assert(!pages_have_work());
        bs_count(flushes, 4095);
        ck_assert(!pages_have_work());
        bs_count(flushes, 1);
    }
    (void)bs_os_fail(1, ENOMEM, false);
    ck_assert(bs_scavenge_pages(100, 0, 0).failed);
    (void)bs_os_fail(0, 0, false);
    ck_assert(!pages_have_work());
    ck_assert(!bs_scavenge_pages(100, 0, 0).failed);
    ck_assert(pages_have_work());
}
END_TEST
#endif

START_TEST(rounds_keep_what_the_options_say) {
    struct bs_scavenge_work work;
    size_t goal_pages;
    take_heap();
    give(0, HEAP_PAGES);
    bs_opt.scavenge = false;
    ck_assert(!bs_scavenge_has_work());
    ck_assert(!bs_scavenge_round(false, &work, &goal_pages));
    ck_assert_uint_eq(work.calls, 0);
    bs_opt.scavenge = true;
    bs_opt.scavenge_delay = 0;
    bs_scavenge_set_keep(HEAP_PAGES * BS_PAGE_SIZE);
    ck_assert(!bs_scavenge_has_work());
    (void)bs_scavenge_round(false, &work, &goal_pages);
    ck_assert_uint_eq(work.calls, 0);
    bs_scavenge_set_keep(BS_MIB);
    ck_assert(bs_scavenge_has_work());
    (void)bs_scavenge_round(true, &work, &goal_pages); /* a piece */
    ck_assert_uint_eq(work.huge_bytes + work.page_bytes, BS_SCAVENGE_PIECE_BYTES);
    ck_assert_msg(goal_pages == BS_MIB / BS_PAGE_SIZE, "the goal is said to be %zu pages, not %zu",
                  goal_pages, (size_t)(BS_MIB / BS_PAGE_SIZE));
    for (int i = 0; i < 100 && bs_scavenge_round(false, &work, &goal_pages); i++)
        ;
    ck_assert_uint_eq(bs_pageheap_dirty_bytes(), BS_MIB);
    ck_assert(!bs_scavenge_has_work());
}
END_TEST

/* Spans of large blocks are live by themselves: 2 of 6 MiB stay free with 50 %. */
START_TEST(rounds_keep_the_overhead) {
    struct bs_scavenge_work work;
    size_t goal_pages;
    bs_thp_pretend(BS_THP_KERNEL_MADVISE, 0); /* where it makes all pages huge, those met first rest for an epoch */
    void *live = bs_large_alloc(4 * BS_MIB, 16, false), *gone = bs_large_alloc(6 * BS_MIB, 16, false);
    memset(live, 1, 4 * BS_MIB);
    memset(gone, 1, 6 * BS_MIB);
    bs_large_free(bs_span_of((uintptr_t)gone));
    ck_assert_uint_eq(bs_pageheap_dirty_bytes(), 6 * BS_MIB);
    bs_opt.overhead = 50;
    (void)bs_scavenge_round(false, &work, &goal_pages);
    ck_assert_uint_eq(goal_pages, 2 * BS_MIB / BS_PAGE_SIZE);
    for (int i = 0; i < 20; i++) /* a round stops after 10 ms, which may be one call where CPUs are few */
        (void)bs_scavenge_round(false, &work, &goal_pages);
    ck_assert_uint_eq(bs_pageheap_dirty_bytes(), 2 * BS_MIB);
    bs_opt.overhead = 1;
    for (int i = 0; i < 20; i++)
        (void)bs_scavenge_round(false, &work, &goal_pages);
    ck_assert_uint_eq(bs_pageheap_dirty_bytes(), BS_RETAIN_MIN_BYTES);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("scavenge");
    TCase *policy = tcase_create("policy"), *pages = tcase_create("pages");
    tcase_add_test(policy, the_excess_halves_every_epoch);
    tcase_add_test(policy, several_epochs_at_once_are_the_same);
    tcase_add_test(policy, short_ticks_decay_nearly_as_fast);
    tcase_add_test(policy, a_new_peak_counts_at_once);
    tcase_add_test(policy, an_idle_heap_keeps_nothing_but_keep_pages);
    tcase_add_test(policy, a_sawtooth_keeps_its_pages);
    tcase_add_test(policy, clocks_that_jump);
    tcase_add_test(policy, an_epoch_of_zero);
    tcase_add_test(policy, the_overhead_option_takes_the_peaks_place);
    tcase_add_test(policy, room_is_a_share_of_what_is_live);
    tcase_add_test(policy, absurd_numbers_stay_within_the_dirty_pages);
    tcase_add_test(policy, a_peak_near_the_end_of_numbers_keeps_all);
    tcase_add_test(pages, whole_huge_pages_first_then_the_highest);
    tcase_add_test(pages, huge_pages_do_not_hide_what_lies_above);
    tcase_add_test(pages, all_that_is_free_and_nothing_else);
    tcase_add_test(pages, given_back_pages_come_again_as_zeros);
    tcase_add_test(pages, lazily_freed_pages_are_not_known_to_be_zero);
    tcase_add_test(pages, calloc_clears_what_went_back_lazily);
    tcase_add_test(pages, hard_closes_what_went_and_opens_what_is_used);
    tcase_add_test(pages, hard_keeps_the_budget_of_mappings);
    tcase_add_test(pages, hard_gives_the_charge_back);
#if BS_FAULTS
    tcase_add_test(pages, what_cannot_be_opened_stays_closed_and_free);
#endif
    tcase_add_test(pages, no_more_than_asked_and_within_the_budget);
#if BS_FAULTS
    tcase_add_test(pages, only_whole_os_pages_go);
#endif
    tcase_add_test(pages, down_to_what_is_to_be_kept);
#if BS_FAULTS
    tcase_add_test(pages, refused_pages_stay_dirty_and_are_counted);
    tcase_add_test(pages, who_was_refused_waits);
    tcase_add_test(pages, closed_pages_open_as_whole_os_pages);
    tcase_add_test(pages, what_is_locked_is_mapped_anew);
#endif
    tcase_add_test(pages, rounds_keep_what_the_options_say);
    tcase_add_test(pages, rounds_keep_the_overhead);
    tcase_set_timeout(policy, 100);
    tcase_set_timeout(pages, 100);
    suite_add_tcase(suite, policy);
    suite_add_tcase(suite, pages);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
