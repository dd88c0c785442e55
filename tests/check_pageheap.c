/* SPDX-License-Identifier: MIT */
/*
 * check_pageheap.c - the page heap against a shadow: an array with the state of every page, in
 * which each answer is looked up by walking. Thousands of random steps, with all invariants
 * verified after each: first fit must be the lowest address exactly, counts, hulls of dirty pages
 * and the scavenger's choice must be exact, too.
 *
 * The page heap never touches the memory it manages, so the arenas here are addresses only:
 * nothing is reserved, and arenas can lie and come in any order.
 */
#include "pageheap_internal.h"

#include "os.h"
#include "unit.h"

#include <string.h>

#define ARENAS 14
#define PAGES (ARENAS * BS_ARENA_PAGES)
#define WINDOW ((uintptr_t)0x200000000000) /* the model's page 0 */
#define NONE ((size_t)-1)
#define HUGE_PAGES (2 * BS_MIB / BS_PAGE_SIZE)
#define SPANS_MAX 4000

enum state { UNMAPPED, IN_SPAN, DIRTY, RELEASED, BORROWED };

static uint8_t state[PAGES];
static bool used[PAGES]; /* has been in a span, or in the scavenger's hands */
static size_t number_of[BORROWED + 1];
static bool known[ARENAS]; /* the arena was announced to the page heap */
static struct bs_run spans[SPANS_MAX];
static size_t nspans, peak;
static uint64_t seed;

static uintptr_t address(size_t page) {
    return WINDOW + page * BS_PAGE_SIZE;
}
static size_t model_page(uintptr_t base) {
    return (base - WINDOW) / BS_PAGE_SIZE;
}

static void set_state(size_t page, size_t n, enum state to) {
    for (size_t i = page; i < page + n; i++) {
        number_of[state[i]]--;
        number_of[to]++;
        state[i] = (uint8_t)to;
        used[i] |= to == IN_SPAN || to == BORROWED;
    }
    peak = bs_max(peak, number_of[IN_SPAN]);
}

static bool is_free(size_t page) {
    return state[page] == DIRTY || state[page] == RELEASED;
}

/* Adjacent arenas between which the index has a gap (it stays when an arena comes into it). */
static bool gap_before(size_t page) {
    if (page % BS_ARENA_PAGES != 0 || page == 0 || !known[page / BS_ARENA_PAGES] ||
        !known[page / BS_ARENA_PAGES - 1])
        return false;
    return bs_page_index(address(page)) != bs_page_index(address(page - 1)) + 1;
}

static size_t lowest_run(size_t n) {
    size_t run = 0;
    for (size_t i = 0; i < PAGES; i++) {
        if (gap_before(i))
            run = 0;
        run = is_free(i) ? run + 1 : 0;
        if (run == n)
            return i + 1 - n;
    }
    return NONE;
}

/* --- steps ------------------------------------------------------------------------------------ */

static void grow(size_t page, size_t nregions) {
    size_t bytes = nregions * BS_REGION_SIZE, last = page + bytes / BS_PAGE_SIZE - 1;
    ck_assert(bs_pagemap_add(address(page), bytes));
    ck_assert(bs_pageheap_prepare(address(page), bytes));
    for (size_t a = page / BS_ARENA_PAGES; a <= last / BS_ARENA_PAGES; a++)
        known[a] = true;
    bs_pageheap_insert(address(page), bytes);
    set_state(page, bytes / BS_PAGE_SIZE, RELEASED);
}

/* The next one or more unmapped regions somewhere, perhaps over arenas. */
static void grow_somewhere(void) {
    size_t page = random_below(&seed, ARENAS) * BS_ARENA_PAGES, n = 0;
    while (page < PAGES && state[page] != UNMAPPED)
        page += BS_REGION_PAGES;
    size_t max = random_below(&seed, 6) == 0 ? BS_ARENA_REGIONS + 3 : 1 + random_below(&seed, 3);
    while (n < max && page + n * BS_REGION_PAGES < PAGES &&
           state[page + n * BS_REGION_PAGES] == UNMAPPED)
        n++;
    if (n != 0)
        grow(page, n);
}

/* The heap's answer about pages it gave, against the states they had; they become a span's. */
static void check_taken(const struct bs_pages *got, size_t page, size_t n) {
    size_t nreleased = 0, nfresh = 0, dirty_first = NONE, dirty_last = 0;
    require(got->base == address(page) && got->npages == n, "pages %zu+%zu, expected %zu+%zu",
            model_page(got->base), got->npages, page, n);
    for (size_t i = page; i < page + n; i++) {
        require(is_free(i), "page %zu was not free", i);
        nreleased += state[i] == RELEASED;
        nfresh += state[i] == RELEASED && !used[i];
        if (state[i] == DIRTY)
            dirty_last = i;
        if (state[i] == DIRTY && dirty_first == NONE)
            dirty_first = i;
    }
    uintptr_t base = dirty_first == NONE ? 0 : address(dirty_first);
    uintptr_t end = dirty_first == NONE ? 0 : address(dirty_last + 1);
    require(got->nreleased == nreleased, "%zu of %zu released, expected %zu", got->nreleased, n,
            nreleased);
    require(got->nzero == nreleased, "%zu of %zu zero, expected %zu", got->nzero, n, nreleased);
    require(got->nfresh == nfresh, "%zu of %zu fresh, expected %zu", got->nfresh, n, nfresh);
    require(got->dirty_base == base && got->dirty_end == end,
            "dirty hull %zx-%zx of %zu+%zu, expected %zx-%zx", got->dirty_base, got->dirty_end,
            page, n, base, end);
    set_state(page, n, IN_SPAN);
    require(nspans < SPANS_MAX, "the test holds too many spans");
    spans[nspans++] = (struct bs_run){.base = got->base, .npages = n};
}

static void step_alloc(size_t n, size_t align_pages) {
    struct bs_pages got;
    size_t page = lowest_run(n + align_pages - 1);
    bool ok = bs_pageheap_alloc(n, align_pages, &got);
    require(ok == (page != NONE), "%zu pages aligned to %zu: %s, expected at %zd", n, align_pages,
            ok ? "found" : "not found", (ssize_t)page);
    if (ok)
        check_taken(&got,
                    bs_align_up(address(page), align_pages * BS_PAGE_SIZE) / BS_PAGE_SIZE -
                        WINDOW / BS_PAGE_SIZE,
                    n);
}

/* In place after a span, or anywhere. */
static void step_alloc_at(void) {
    struct bs_pages got;
    size_t n = 1 + random_skewed(&seed, 10), page = random_below(&seed, PAGES);
    if (nspans != 0 && random_below(&seed, 4) != 0) {
        const struct bs_run *s = &spans[random_below(&seed, nspans)];
        page = model_page(s->base) + s->npages;
    }
    bool expected = page + n <= PAGES;
    for (size_t i = page; expected && i < page + n; i++)
        expected = is_free(i) && (i == page || !gap_before(i));
    bool ok = bs_pageheap_alloc_at(address(page), n, &got);
    require(ok == expected, "alloc_at(%zu, %zu) said %d", page, n, ok);
    if (ok)
        check_taken(&got, page, n);
}

static struct bs_run take_span(void) {
    size_t i = random_below(&seed, nspans);
    struct bs_run run = spans[i];
    spans[i] = spans[--nspans];
    return run;
}

static void step_free(void) {
    struct bs_run batch[32] = {{.base = 0}};
    size_t n = bs_min(nspans, 1 + random_below(&seed, 32));
    for (size_t i = 0; i < n; i++)
        batch[i] = take_span();
    bs_pageheap_free(batch, n);
    for (size_t i = 0; i < n; i++)
        set_state(model_page(batch[i].base), batch[i].npages, DIRTY);
}

static void step_free_released(void) {
    if (nspans == 0)
        return;
    struct bs_run run = take_span();
    bs_pageheap_free_released(run.base, run.npages);
    set_state(model_page(run.base), run.npages, RELEASED);
}

/* What the scavenger must get: the highest run of dirty pages within a region ... */
static struct bs_run expected_dirty(size_t max) {
    size_t top = PAGES;
    while (top > 0 && state[top - 1] != DIRTY)
        top--;
    size_t first = top, bottom = top == 0 ? 0 : bs_align_down(top - 1, BS_REGION_PAGES);
    while (first > bottom && top - first < max && state[first - 1] == DIRTY)
        first--;
    return (struct bs_run){.base = address(first), .npages = top - first, .ndirty = top - first};
}
/* ... with larger OS pages one of these at least that is free, and dirty in part ... */
static size_t pages_of_os_page(void) {
    return bs_max(1, bs_os_page_size() / BS_PAGE_SIZE);
}
static bool has_dirty_os_page(void) {
    size_t group = pages_of_os_page();
    for (size_t g = 0; g < PAGES; g += group) {
        size_t nfree = 0, ndirty = 0;
        for (size_t i = g; i < g + group; i++) {
            nfree += is_free(i);
            ndirty += state[i] == DIRTY;
        }
        if (nfree == group && ndirty != 0)
            return true;
    }
    return false;
}
/* ... or the highest free aligned 2 MiB with a dirty page in it. */
static struct bs_run expected_huge(void) {
    for (size_t first = PAGES; first > 0;) {
        size_t nfree = 0, ndirty = 0;
        first -= HUGE_PAGES;
        for (size_t i = first; i < first + HUGE_PAGES; i++) {
            nfree += is_free(i);
            ndirty += state[i] == DIRTY;
        }
        if (nfree == HUGE_PAGES && ndirty != 0)
            return (struct bs_run){.base = address(first), .npages = HUGE_PAGES, .ndirty = ndirty};
    }
    return (struct bs_run){.base = 0};
}

static void check_heap(unsigned step);

static void step_scavenge(void) {
    struct bs_run run = {.base = 0};
    bool huge = random_below(&seed, 3) == 0, released = random_below(&seed, 4) != 0;
    size_t max = 1 + random_skewed(&seed, 9);
    struct bs_run expected = huge ? expected_huge() : expected_dirty(max);
    struct bs_dirty_search search = {.below = UINTPTR_MAX, .max_pages = max, .huge = huge};
    bool ok = bs_pageheap_take_dirty(&search, &run);
    bool some = huge || pages_of_os_page() == 1 ? expected.npages != 0 : has_dirty_os_page();
    require(ok == some, "take_dirty(%d, %zu) said %d", huge, max, ok);
    if (!ok)
        return;
    /* with larger OS pages the run is widened to whole ones: then only what follows is checked */
    if (pages_of_os_page() == 1)
        require(run.base == expected.base && run.npages == expected.npages &&
                    run.ndirty == expected.ndirty,
                "take_dirty(%d, %zu) took %zu+%zu (%zu dirty), expected %zu+%zu (%zu)", huge, max,
                model_page(run.base), run.npages, run.ndirty, model_page(expected.base),
                expected.npages, expected.ndirty);
    for (size_t i = 0; i < run.npages; i++)
        require(is_free(model_page(run.base) + i), "the scavenger got a page in use");
    set_state(model_page(run.base), run.npages, BORROWED);
    check_heap(0);
    if (random_below(&seed, 2) == 0) /* others go on meanwhile */
        step_alloc(1 + random_skewed(&seed, 5), 1);
    bs_pageheap_scavenged(&run, released);
    set_state(model_page(run.base), run.npages, released ? RELEASED : DIRTY);
}

/* Free pages that somebody has for a moment and gives back as they were. */
static void step_borrow(void) {
    static uint8_t states[BS_REGION_PAGES];
    static bool uses[BS_REGION_PAGES];
    size_t region = random_below(&seed, PAGES / BS_REGION_PAGES) * BS_REGION_PAGES;
    size_t first = random_below(&seed, BS_REGION_WORDS) * 64, n = 64 * (1 + random_below(&seed, BS_REGION_WORDS - first / 64));
    struct bs_loan loan;
    bool all_free = true;
    for (size_t i = 0; i < n; i++)
        all_free &= is_free(region + first + i);
    bool ok = bs_pageheap_borrow(address(region), first, n, &loan);
    require(ok == all_free, "borrow %zu+%zu said %d", region + first, n, ok);
    if (!ok)
        return;
    memcpy(states, &state[region + first], n * sizeof states[0]);
    memcpy(uses, &used[region + first], n * sizeof uses[0]);
    set_state(region + first, n, BORROWED);
    check_heap(0);
    if (random_below(&seed, 2) == 0) /* others go on meanwhile */
        step_alloc(1 + random_skewed(&seed, 5), 1);
    bs_pageheap_return(&loan);
    for (size_t i = 0; i < n; i++)
        set_state(region + first + i, 1, (enum state)states[i]);
    memcpy(&used[region + first], uses, n * sizeof uses[0]);
}

/* --- checks ----------------------------------------------------------------------------------- */

static void check_heap(unsigned step) {
    struct bs_pageheap_counts c = bs_pageheap_counts();
    require(bs_pageheap_is_valid(), "an invariant is broken after step %u", step);
    require(c.mapped_pages == PAGES - number_of[UNMAPPED], "mapped %zu", c.mapped_pages);
    require(c.span_pages == number_of[IN_SPAN], "in spans %zu, expected %zu", c.span_pages,
            number_of[IN_SPAN]);
    require(c.dirty_pages == number_of[DIRTY] + number_of[BORROWED], "dirty %zu, expected %zu",
            c.dirty_pages, number_of[DIRTY] + number_of[BORROWED]);
    require(c.released_pages == number_of[RELEASED], "released %zu, expected %zu", c.released_pages,
            number_of[RELEASED]);
    require(c.peak_pages == peak, "peak %zu, expected %zu", c.peak_pages, peak);
    require(bs_pageheap_dirty_bytes() == c.dirty_pages * BS_PAGE_SIZE, "dirty bytes");
    require(bs_pageheap_used_bytes() == (c.span_pages + c.dirty_pages) * BS_PAGE_SIZE,
            "used bytes");
}

struct walk {
    uintptr_t last;
    size_t pages;
};

static bool check_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                         const uint64_t *released) {
    struct walk *walk = ctx;
    require(base > walk->last, "regions are not in the order of addresses");
    walk->last = base;
    walk->pages += BS_REGION_PAGES;
    for (size_t i = 0; i < BS_REGION_PAGES; i++) {
        size_t page = model_page(base) + i;
        require(bs_bit_test(alloc, i) == !is_free(page), "alloc bit of page %zu", page);
        require(bs_bit_test(released, i) == (state[page] == RELEASED), "released bit of page %zu",
                page);
    }
    return true;
}

static void check_bitmaps(void) {
    struct walk walk = {0, 0};
    bs_pageheap_each_region(check_region, &walk);
    ck_assert_uint_eq(walk.pages, PAGES - number_of[UNMAPPED]);
}

static void model_init(uint64_t start) {
    seed = start;
    number_of[UNMAPPED] = PAGES;
}

static void random_step(void) {
    switch (random_below(&seed, 16)) {
    case 0:
        step_alloc(1 + random_skewed(&seed, 13), 1);
        break;
    case 1:
        step_alloc(1 + random_skewed(&seed, 6), (size_t)1 << random_below(&seed, 14));
        break;
    case 2:
    case 3:
        step_alloc_at();
        break;
    case 4:
        step_free();
        break;
    case 5:
        step_free_released();
        break;
    case 6:
    case 7:
        step_scavenge();
        break;
    case 9:
        step_borrow();
        break;
    case 8:
        ck_assert_uint_eq(bs_pageheap_take_peak(), peak);
        peak = number_of[IN_SPAN];
        break;
    default:
        step_alloc(1 + random_skewed(&seed, 5), 1);
    }
}

/* --- tests ------------------------------------------------------------------------------------ */

START_TEST(random_steps) {
    model_init((uint64_t)_i + 1);
    check_heap(0);
    for (unsigned step = 1; step <= 3000 / UNIT_SLOWNESS; step++) {
        if (step % 200 == 1 && number_of[UNMAPPED] != 0)
            grow_somewhere();
        random_step();
        check_heap(step);
        if (step % 100 == 0)
            check_bitmaps();
    }
    while (nspans != 0)
        step_free();
    check_heap(0);
    check_bitmaps();
    ck_assert_uint_eq(number_of[DIRTY] + number_of[RELEASED], PAGES - number_of[UNMAPPED]);
}
END_TEST

START_TEST(nothing_in_an_empty_heap) {
    struct bs_pages got;
    struct bs_run run;
    ck_assert(!bs_pageheap_alloc(1, 1, &got));
    ck_assert(!bs_pageheap_alloc_at(WINDOW, 1, &got));
    struct bs_dirty_search search = {.below = UINTPTR_MAX, .max_pages = 1};
    ck_assert(!bs_pageheap_take_dirty(&search, &run));
    search.huge = true;
    ck_assert(!bs_pageheap_take_dirty(&search, &run));
    ck_assert(bs_pageheap_is_valid());
    ck_assert_uint_eq(bs_pageheap_grown(), 0);
}
END_TEST

START_TEST(runs_cross_regions_and_arenas) {
    model_init(1);
    for (size_t a = 0; a < 3; a++) /* one region after the other, as the heap grows */
        for (size_t r = 0; r < BS_ARENA_REGIONS; r++)
            grow(a * BS_ARENA_PAGES + r * BS_REGION_PAGES, 1);
    ck_assert_uint_eq(bs_pageheap_grown(), 3 * BS_ARENA_REGIONS);
    ck_assert(!gap_before(BS_ARENA_PAGES) && !gap_before(2 * BS_ARENA_PAGES));
    step_alloc(BS_REGION_PAGES - 1, 1);
    step_alloc(2, 1); /* over a region's border */
    ck_assert_uint_eq(spans[1].base, address(BS_REGION_PAGES - 1));
    step_alloc(BS_ARENA_PAGES + 3, 1); /* more than an arena */
    check_heap(0);
    step_alloc(BS_ARENA_PAGES - BS_REGION_PAGES - 10, 1);
    check_heap(0);
    step_free();
    check_heap(0);
    while (nspans != 0)
        step_free();
    step_alloc(3 * BS_ARENA_PAGES, 1); /* all of it */
    check_heap(0);
    ck_assert_uint_eq(spans[0].npages, 3 * BS_ARENA_PAGES);
    check_bitmaps();
}
END_TEST

START_TEST(arenas_come_in_any_order) {
    const size_t order[] = {6, 7, 2, 10, 0, 3, 12, 4, 8};
    model_init(1);
    for (size_t i = 0; i < BS_ARRAY_LEN(order); i++) {
        struct bs_pages got;
        grow(order[i] * BS_ARENA_PAGES + i * BS_REGION_PAGES, 2);
        step_alloc(10, 1); /* the hint and the bits must follow the new numbers */
        check_heap((unsigned)i);
        check_bitmaps();
        /* no run may lead over addresses that are not the heap's */
        ck_assert(!bs_pageheap_alloc(2 * BS_REGION_PAGES + 1, 1, &got));
    }
}
END_TEST

static bool take_in(struct bs_dirty_search *search, uint32_t epoch, struct bs_run *run) {
    *search = (struct bs_dirty_search){.below = UINTPTR_MAX, .max_pages = 100, .epoch = epoch};
    return bs_pageheap_take_dirty(search, run);
}

static void free_pages(size_t page, size_t n) {
    struct bs_run run = {.base = address(page), .npages = n};
    bs_pageheap_free(&run, 1);
}

START_TEST(dense_regions_rest_for_an_epoch) {
    struct bs_dirty_search search;
    struct bs_pages all;
    struct bs_run run;
    grow(0, 2);
    ck_assert(bs_pageheap_alloc(2 * BS_REGION_PAGES, 1, &all));
    free_pages(100, BS_REGION_PAGES - BS_DENSE_PAGES + 1); /* the lower one is just not dense */
    free_pages(BS_REGION_PAGES + 100, BS_REGION_PAGES - BS_DENSE_PAGES); /* the upper one is */
    ck_assert(take_in(&search, 5, &run));
    ck_assert_uint_eq(run.base, address(100));
    bs_pageheap_scavenged(&run, true);
    ck_assert(!take_in(&search, 5, &run));
    ck_assert(!take_in(&search, 6, &run));
    ck_assert(take_in(&search, 7, &run));
    ck_assert_uint_eq(run.base, address(BS_REGION_PAGES + 100));
    bs_pageheap_scavenged(&run, true);
    /* what is freed after that rests anew */
    ck_assert(bs_pageheap_alloc_at(run.base, run.npages, &all));
    free_pages(BS_REGION_PAGES + 200, 3);
    ck_assert(!take_in(&search, 7, &run));
    ck_assert(!take_in(&search, 8, &run));
    /* and a region that was sparse meanwhile begins anew */
    free_pages(BS_REGION_PAGES + 300, 100);
    ck_assert(take_in(&search, 8, &run));
    bs_pageheap_scavenged(&run, false); /* refused: it is still dirty */
    ck_assert(bs_pageheap_alloc_at(address(BS_REGION_PAGES + 300), 100, &all));
    ck_assert(!take_in(&search, 9, &run));
    ck_assert(!take_in(&search, 10, &run));
    ck_assert(take_in(&search, 0, &run)); /* without epochs nothing rests */
    bs_pageheap_scavenged(&run, true);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

START_TEST(a_search_goes_down) {
    struct bs_dirty_search search = {.below = UINTPTR_MAX, .max_pages = 4};
    struct bs_pages all;
    struct bs_run run;
    grow(0, 3);
    ck_assert(bs_pageheap_alloc(3 * BS_REGION_PAGES, 1, &all));
    free_pages(10, 4);
    free_pages(BS_REGION_PAGES + 10, 8);
    ck_assert(bs_pageheap_take_dirty(&search, &run));
    ck_assert_uint_eq(run.base, address(BS_REGION_PAGES + 14));
    bs_pageheap_scavenged(&run, true);
    free_pages(2 * BS_REGION_PAGES + 10, 4); /* above: the next search's */
    ck_assert(bs_pageheap_take_dirty(&search, &run));
    ck_assert_uint_eq(run.base, address(BS_REGION_PAGES + 10));
    bs_pageheap_scavenged(&run, true);
    ck_assert(bs_pageheap_take_dirty(&search, &run));
    ck_assert_uint_eq(run.base, address(10));
    bs_pageheap_scavenged(&run, true);
    ck_assert(!bs_pageheap_take_dirty(&search, &run));
    ck_assert(take_in(&search, 0, &run));
    ck_assert_uint_eq(run.base, address(2 * BS_REGION_PAGES + 10));
    bs_pageheap_scavenged(&run, true);
}
END_TEST

/* A long search gives the lock up in between, and goes on below, over a gap of addresses too. */
START_TEST(a_long_search_reaches_the_bottom) {
    struct bs_pages all;
    struct bs_run run;
    size_t group = pages_of_os_page(), at = bs_align_down(7, group);
    grow(0, 1);
    for (size_t a = 2; a < ARENAS; a++)
        grow(a * BS_ARENA_PAGES, BS_ARENA_REGIONS);
    while (bs_pageheap_alloc(BS_REGION_PAGES, 1, &all))
        continue;
    for (size_t i = 2 * BS_ARENA_REGIONS; i < ARENAS * BS_ARENA_REGIONS; i++)
        free_pages(i * BS_REGION_PAGES + at, group); /* nothing for a search for huge pages */
    free_pages(0, HUGE_PAGES);
    struct bs_dirty_search search = {.below = UINTPTR_MAX, .max_pages = HUGE_PAGES, .huge = true};
    ck_assert(bs_pageheap_take_dirty(&search, &run));
    ck_assert_uint_eq(run.base, address(0));
    bs_pageheap_scavenged(&run, true);
    ck_assert(!bs_pageheap_take_dirty(&search, &run));
    search = (struct bs_dirty_search){.below = UINTPTR_MAX, .max_pages = 1};
    for (size_t i = ARENAS * BS_ARENA_REGIONS; i-- > 2 * BS_ARENA_REGIONS;) {
        ck_assert(bs_pageheap_take_dirty(&search, &run));
        ck_assert_uint_eq(run.base, address(i * BS_REGION_PAGES + at));
        bs_pageheap_scavenged(&run, true);
    }
    ck_assert(!bs_pageheap_take_dirty(&search, &run));
}
END_TEST

START_TEST(warm_pages_all_have_memory) {
    struct bs_pages dirty, got;
    model_init(1);
    grow(0, 2);
    ck_assert(!bs_pageheap_alloc_warm(1, 1, &got)); /* all are new */
    ck_assert(bs_pageheap_alloc(BS_REGION_PAGES + 8, 1, &dirty));
    struct bs_run run = {.base = dirty.base, .npages = dirty.npages};
    bs_pageheap_free(&run, 1);
    ck_assert(!bs_pageheap_alloc_warm(BS_REGION_PAGES + 9, 1, &got)); /* the last one is new */
    ck_assert(bs_pageheap_is_valid());
    ck_assert(bs_pageheap_alloc_warm(BS_REGION_PAGES + 8, 1, &got));
    ck_assert_uint_eq(got.base, dirty.base);
    ck_assert_uint_eq(got.nreleased, 0);
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

/* The dirty pages of an arena must be found after one below it has moved its numbers. */
START_TEST(dirty_pages_stay_known) {
    model_init(1);
    grow(4 * BS_ARENA_PAGES, 1);
    step_alloc(20, 1);
    step_free();
    grow(1 * BS_ARENA_PAGES, 1);
    check_heap(0);
    struct bs_run run;
    struct bs_dirty_search search = {.below = UINTPTR_MAX, .max_pages = 100};
    ck_assert(bs_pageheap_take_dirty(&search, &run));
    ck_assert_uint_eq(run.base, address(4 * BS_ARENA_PAGES));
    ck_assert_uint_eq(run.npages, 20);
}
END_TEST

START_TEST(arena_of_another_reservation_is_not_crossed) {
    struct bs_pages got;
    model_init(1);
    grow(2 * BS_ARENA_PAGES + 15 * BS_REGION_PAGES, 1); /* the end of one arena ... */
    grow(4 * BS_ARENA_PAGES, 1);                        /* ... and the start of the next but one */
    ck_assert(!bs_pageheap_alloc(BS_REGION_PAGES + 1, 1, &got));
    ck_assert(bs_pageheap_alloc(BS_REGION_PAGES, 1, &got));
    ck_assert_uint_eq(got.base, address(2 * BS_ARENA_PAGES + 15 * BS_REGION_PAGES));
    ck_assert(!bs_pageheap_alloc_at(address(3 * BS_ARENA_PAGES), 1, &got));
}
END_TEST

START_TEST(index_grows) { /* beyond its first capacity, with gaps everywhere */
    struct bs_pages got;
    for (size_t i = 300; i-- > 0;) {
        uintptr_t base = WINDOW + i * 2 * BS_ARENA_SIZE;
        ck_assert(bs_pagemap_add(base, BS_REGION_SIZE));
        ck_assert(bs_pageheap_prepare(base, BS_REGION_SIZE));
        bs_pageheap_insert(base, BS_REGION_SIZE);
        ck_assert(bs_pageheap_is_valid());
    }
    for (size_t i = 0; i < 300; i++) {
        ck_assert(bs_pageheap_alloc(BS_REGION_PAGES, 1, &got));
        ck_assert_uint_eq(got.base, WINDOW + i * 2 * BS_ARENA_SIZE);
    }
    ck_assert(!bs_pageheap_alloc(1, 1, &got));
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

#if BS_FAULTS
/* Upward, what is known of the arenas below is copied and not found out anew. */
START_TEST(index_grows_upward) {
    struct bs_pages got;
    for (size_t i = 0; i < 600; i++) {
        uintptr_t base = WINDOW + i * BS_ARENA_SIZE;
        ck_assert(bs_pagemap_add(base, BS_REGION_SIZE));
        ck_assert(bs_pageheap_prepare(base, BS_REGION_SIZE));
        ck_assert(bs_pageheap_is_valid());
        bs_pageheap_insert(base, BS_REGION_SIZE);
    }
    ck_assert(bs_pageheap_is_valid());
    ck_assert(bs_pageheap_alloc(BS_REGION_PAGES, 1, &got));
    ck_assert_uint_eq(got.base, WINDOW);
}
END_TEST

/* The first one lies in other metadata and has room for two arenas with gaps. */
START_TEST(no_memory_for_the_index) {
    uintptr_t arena[] = {WINDOW, WINDOW + 2 * BS_ARENA_SIZE, WINDOW + 4 * BS_ARENA_SIZE};
    model_init(1);
    for (size_t i = 0; i < 3; i++) {
        ck_assert(bs_pagemap_add(arena[i], BS_REGION_SIZE));
        ck_assert(i == 2 || bs_pageheap_prepare(arena[i], BS_REGION_SIZE));
    }
    bs_os_fail(1, 12 /* ENOMEM */, true);
    ck_assert(!bs_pageheap_prepare(arena[2], BS_REGION_SIZE));
    bs_os_fail(0, 0, false);
    ck_assert(bs_pageheap_is_valid());
    ck_assert(bs_pageheap_prepare(arena[2], BS_REGION_SIZE));
    ck_assert(bs_pageheap_is_valid());
    grow(0, 1);
    step_alloc(3, 1);
    check_heap(0);
}
END_TEST
#endif

/* The check of invariants can itself see what it is for. */
START_TEST(broken_state_is_seen) {
    model_init(1);
    grow(0, 2);
    step_alloc(100, 1);
    step_alloc(100, 1);
    step_free();
    step_alloc(10, 1);
    ck_assert(bs_pageheap_is_valid());
    struct bs_region *r = bs_region_at(0);
    r->released[0] ^= 1;
    ck_assert(!bs_pageheap_is_valid());
    r->released[0] ^= 1;
    r->ndirty++;
    ck_assert(!bs_pageheap_is_valid());
    r->ndirty--;
    bs_pageheap.hint += 3 * BS_REGION_PAGES / 2;
    ck_assert(!bs_pageheap_is_valid());
    bs_pageheap.hint -= 3 * BS_REGION_PAGES / 2;
    bs_pageheap.counts.span_pages++;
    ck_assert(!bs_pageheap_is_valid());
    bs_pageheap.counts.span_pages--;
    ck_assert(bs_pageheap_is_valid());
}
END_TEST

static void free_twice(void *arg) {
    bs_pageheap_free(arg, 1);
    bs_pageheap_free(arg, 1);
}

START_TEST(pages_freed_twice_abort) {
    model_init(1);
    grow(0, 1);
    step_alloc(5, 1);
    expect_abort(free_twice, &spans[0], "broken invariant");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pageheap");
    TCase *tc = add_case(suite, "random");
    tcase_add_loop_test(tc, random_steps, 0, 4);
    tc = add_case(suite, "pageheap");
    tcase_add_test(tc, nothing_in_an_empty_heap);
    tcase_add_test(tc, runs_cross_regions_and_arenas);
    tcase_add_test(tc, arenas_come_in_any_order);
    tcase_add_test(tc, warm_pages_all_have_memory);
    tcase_add_test(tc, dirty_pages_stay_known);
    tcase_add_test(tc, dense_regions_rest_for_an_epoch);
    tcase_add_test(tc, a_search_goes_down);
    tcase_add_test(tc, a_long_search_reaches_the_bottom);
    tcase_add_test(tc, arena_of_another_reservation_is_not_crossed);
    tcase_add_test(tc, index_grows);
    tcase_add_test(tc, index_grows_upward);
#if BS_FAULTS
    tcase_add_test(tc, no_memory_for_the_index);
#endif
    tcase_add_test(tc, broken_state_is_seen);
    tcase_add_test(tc, pages_freed_twice_abort);
    return run_suite(suite);
}
