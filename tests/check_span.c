/* SPDX-License-Identifier: MIT */
/*
 * check_span.c - spans of every class: claims, releases, what is no block, the page map's view of
 * them, and descriptors that are used again.
 *
 * A span never touches the memory of its slots, so the pages here are addresses only: an arena
 * that the page map knows and nobody reserved.
 */
#include "span.h"

#include "unit.h"

#include <pthread.h>

#define ARENA ((uintptr_t)0x300000000000)
#define BASE (ARENA + BS_GROUP_PAGES * BS_PAGE_SIZE)

static uint64_t seed = 1;

static void make_arena(void) {
    ck_assert(bs_pagemap_add(ARENA, BS_ARENA_SIZE));
}

static size_t popcount(const struct bs_span *s) {
    size_t n = 0;
    for (size_t slot = 0; slot < s->nslots; slot++)
        n += (s->alloc[slot / 64] >> (slot % 64)) & 1;
    return n;
}

static uintptr_t slot_address(const struct bs_span *s, size_t slot) {
    return s->base + slot * bs_class_info[s->class].size;
}

/* --- claims ----------------------------------------------------------------------------------- */

/* Claims a random number of slots of word w, of all or of some; each must have been free and be taken now. */
static void claim_some(struct bs_span *s, size_t w) {
    uint64_t of = random_below(&seed, 2) == 0 ? random_next(&seed) : ~(uint64_t)0;
    uint64_t before = s->alloc[w], avail = of & ~before & bs_span_word_mask(s, w);
    unsigned nalloc = s->nalloc, max = 1 + (unsigned)random_below(&seed, 64);
    uint64_t got = bs_span_claim(s, w, of, max);
    unsigned expected = bs_popcount(avail) < max ? bs_popcount(avail) : max;
    require((got & ~avail) == 0, "class %u: claimed slots that were not free", s->class);
    require(bs_popcount(got) == expected, "class %u: claimed %u of %u free, at most %u", s->class,
            bs_popcount(got), bs_popcount(avail), max);
    require(s->alloc[w] == (before | got), "class %u: other bits have changed", s->class);
    require(s->nalloc == nalloc + expected && bs_span_is_valid(s), "class %u: count", s->class);
    if (expected != 0 && expected < bs_popcount(avail)) /* the lowest ones */
        require(bs_msb(got) < bs_ctz(avail & ~got), "class %u: not the lowest slots", s->class);
}

/* As the central lists do it. *done: how many are released. */
static enum bs_free_result release_blocks(struct bs_span *s, void *const *blocks, unsigned n,
                                          unsigned *done) {
    for (*done = 0; *done < n;) {
        struct bs_slots at;
        unsigned count = bs_span_place(bs_span_class(s), (uintptr_t)blocks[*done] - s->base, blocks + *done, n - *done, &at);
        if (count == 0)
            return BS_FREE_INTERIOR;
        require(count == bs_popcount(at.mask), "%u blocks at a place of other bits", count);
        if (!bs_span_clear(s, at, count)) { /* up to the guilty one */
            for (; bs_span_is_allocated(s, (uintptr_t)blocks[*done]); ++*done) {
                require(bs_span_place(bs_span_class(s), (uintptr_t)blocks[*done] - s->base, blocks + *done, 1, &at) == 1,
                        "not one block");
                require(bs_span_clear(s, at, 1), "cleared by one before it");
            }
            return BS_FREE_TWICE;
        }
        *done += count;
    }
    return BS_FREED;
}

static enum bs_free_result release_slot(struct bs_span *s, uintptr_t p) {
    void *block = (void *)p;
    unsigned done = 7, nalloc = s->nalloc;
    enum bs_free_result result = release_blocks(s, &block, 1, &done);
    require(done == (result == BS_FREED) && s->nalloc == nalloc - done, "%u released", done);
    return result;
}

START_TEST(claims_and_releases) {
    make_arena();
    for (unsigned class = 1; class < BS_NCLASSES; class ++) {
        struct bs_span *s = bs_span_make_small(class, BASE, false);
        ck_assert_ptr_nonnull(s);
        for (unsigned step = 0; step < 3000 / UNIT_SLOWNESS; step++) {
            size_t slot = random_below(&seed, s->nslots);
            bool was = (s->alloc[slot / 64] >> (slot % 64)) & 1;
            if (step % 4 == 0)
                claim_some(s, random_below(&seed, bs_span_words(s)));
            else
                require(release_slot(s, slot_address(s, slot)) ==
                            (was ? BS_FREED : BS_FREE_TWICE),
                        "class %u: release of slot %zu, allocated %d", class, slot, was);
            require(bs_span_is_valid(s) && popcount(s) == s->nalloc, "class %u: count", class);
            require(bs_span_full(s) == (popcount(s) == s->nslots), "class %u: full?", class);
        }
        for (size_t slot = 0; slot < s->nslots; slot++)
            release_slot(s, slot_address(s, slot));
        ck_assert_uint_eq(s->nalloc, 0);
        bs_span_retire(s);
    }
}
END_TEST

START_TEST(every_slot_once) {
    make_arena();
    for (unsigned class = 1; class < BS_NCLASSES; class ++) {
        struct bs_span *s = bs_span_make_small(class, BASE, true);
        ck_assert_uint_eq(s->flags, BS_SPAN_FRESH);
        for (size_t w = 0; w < bs_span_words(s); w++)
            bs_span_claim(s, w, ~(uint64_t)0, 64);
        require(bs_span_full(s) && popcount(s) == bs_class_info[class].nslots,
                "class %u: %u of %u slots", class, s->nalloc, s->nslots);
        for (size_t w = 0; w < bs_span_words(s); w++)
            require(bs_span_claim(s, w, ~(uint64_t)0, 64) == 0, "class %u: a slot twice", class);
        for (size_t slot = s->nslots; slot-- > 0;)
            require(release_slot(s, slot_address(s, slot)) == BS_FREED, "slot %zu", slot);
        bs_span_retire(s);
    }
}
END_TEST

/* Many at once, in the orders in which programs free: the same bits as one by one, and a block
 * that is none stops it where it is. */
START_TEST(many_at_once) {
    make_arena();
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        struct bs_span *s = bs_span_make_small(class, BASE, false);
        for (unsigned round = 0; round < 300 / UNIT_SLOWNESS; round++) {
            void *blocks[64];
            for (size_t w = 0; w < bs_span_words(s); w++)
                bs_span_claim(s, w, ~(uint64_t)0, 64);
            size_t slot = random_below(&seed, s->nslots);
            unsigned n = 0, done, bad;
            int step = (int)random_below(&seed, 3) - 1; /* up, down, anywhere */
            uint64_t model[16];
            memcpy(model, s->alloc, bs_span_words(s) * sizeof *model);
            for (; n < 64 && slot < s->nslots; n++) {
                if (!bs_bit_test(model, slot))
                    break;
                model[slot / 64] &= ~((uint64_t)1 << slot % 64);
                blocks[n] = (void *)slot_address(s, slot);
                slot = step != 0 ? slot + (size_t)step : random_below(&seed, s->nslots);
                if (step != 0 && random_below(&seed, 20) == 0)
                    slot += (size_t)step;
            }
            bad = round % 3 == 0 ? n : (unsigned)random_below(&seed, n);
            if (bad < n && round % 3 == 1) { /* that one is free already */
                require(release_slot(s, (uintptr_t)blocks[bad]) == BS_FREED, "no slot");
            } else if (bad < n) {
                blocks[bad] = (char *)blocks[bad] + 4;
            }
            unsigned before = s->nalloc;
            enum bs_free_result result = release_blocks(s, blocks, n, &done);
            require(done == bad && s->nalloc == before - bad, "%u of %u released, bad is %u", done, n,
                    bad);
            require(result == (bad == n ? BS_FREED : round % 3 == 1 ? BS_FREE_TWICE : BS_FREE_INTERIOR),
                    "result %d", (int)result);
            require(bs_span_is_valid(s), "class %u: counts", class);
            for (unsigned i = 0; i < done; i++)
                require(!bs_span_is_allocated(s, (uintptr_t)blocks[i]), "block %u is still out", i);
            if (bad == n)
                require(memcmp(model, s->alloc, bs_span_words(s) * sizeof *model) == 0,
                        "class %u: other bits than one by one", class);
        }
        for (size_t slot = 0; slot < s->nslots; slot++)
            (void)release_slot(s, slot_address(s, slot));
        bs_span_retire(s);
    }
}
END_TEST

/* Every byte of the span: only the start of a slot that is out is a block. */
START_TEST(what_is_no_block) {
    make_arena();
    for (unsigned class = 1; class < BS_NCLASSES; class ++) {
        struct bs_span *s = bs_span_make_small(class, BASE, false);
        size_t size = bs_class_info[class].size, step = size > 512 ? 16 : 1;
        for (size_t w = 0; w < bs_span_words(s); w++) /* every other slot is out */
            s->alloc[w] = 0x5555555555555555u & bs_span_word_mask(s, w);
        s->nalloc = (uint16_t)popcount(s);
        for (size_t offset = 0; offset < s->npages * BS_PAGE_SIZE; offset += step) {
            bool start = offset % size == 0 && offset / size < s->nslots;
            bool out = start && offset / size % 2 == 0;
            uintptr_t p = BASE + offset;
            require(bs_span_is_allocated(s, p) == out, "class %u, offset %zu", class, offset);
            if (!out)
                require(release_slot(s, p) == (start ? BS_FREE_TWICE : BS_FREE_INTERIOR),
                        "class %u: release at offset %zu", class, offset);
        }
        require(bs_span_is_valid(s), "class %u: refused releases changed it", class);
        for (size_t slot = 0; slot < s->nslots; slot += 2)
            release_slot(s, slot_address(s, slot));
        bs_span_retire(s);
    }
}
END_TEST

/* --- the page map ----------------------------------------------------------------------------- */

static void check_pages(uintptr_t base, size_t npages, struct bs_span *span, unsigned class) {
    for (size_t i = 0; i < npages; i++)
        for (size_t at = 0; at < BS_PAGE_SIZE; at += BS_PAGE_SIZE / 2 - 1) {
            uintptr_t p = base + i * BS_PAGE_SIZE + at;
            require(bs_span_of(p) == span, "span of page %zu", i);
            require(bs_pagemap_class(p) == class, "class of page %zu", i);
        }
}

START_TEST(found_by_address) {
    make_arena();
    ck_assert_ptr_null(bs_span_of(BASE));
    for (unsigned class = 1; class < BS_NCLASSES; class ++) {
        size_t npages = bs_class_info[class].npages;
        struct bs_span *s = bs_span_make_small(class, BASE, false);
        check_pages(BASE, npages, s, class);
        require(bs_span_of(BASE - 1) != s && bs_span_of(BASE + npages * BS_PAGE_SIZE) != s,
                "class %u: found outside its pages", class);
        bs_span_retire(s);
        check_pages(BASE, npages, NULL, 0);
    }
}
END_TEST

START_TEST(large_spans) {
    make_arena();
    struct bs_span *s = bs_span_make_large(BASE, 100, 800000);
    ck_assert_ptr_nonnull(s);
    ck_assert_uint_eq(s->class, 0);
    ck_assert_uint_eq(s->request, 800000);
    ck_assert_uint_eq(s->nalloc, 1);
    ck_assert(bs_span_is_valid(s));
    check_pages(BASE, 100, s, 0);
    ck_assert(bs_span_is_allocated(s, BASE));
    ck_assert(!bs_span_is_allocated(s, BASE + 16));
    bs_store(&s->npages, 50u); /* shrunk: the tail is not its own any more */
    check_pages(BASE, 50, s, 0);
    check_pages(BASE + 50 * BS_PAGE_SIZE, 50, NULL, 0);
    bs_span_retire(s);
    check_pages(BASE, 100, NULL, 0);
}
END_TEST

START_TEST(any_word_may_be_asked) {
    make_arena();
    struct bs_span *s = bs_span_make_small(bs_class_of(64), BASE, false);
    const uintptr_t edge[] = {0,
                              1,
                              ARENA - 1,
                              ARENA,
                              ARENA + BS_ARENA_SIZE - 1,
                              ARENA + BS_ARENA_SIZE,
                              (uintptr_t)1 << BS_ADDRESS_BITS,
                              ((uintptr_t)1 << BS_ADDRESS_BITS) - 1,
                              UINTPTR_MAX,
                              UINTPTR_MAX - BS_ARENA_SIZE,
                              (uintptr_t)&seed,
                              (uintptr_t)s};
    for (size_t i = 0; i < BS_ARRAY_LEN(edge); i++)
        ck_assert_ptr_null(bs_span_of(edge[i]));
    for (unsigned i = 0; i < 1000000 / UNIT_SLOWNESS; i++) {
        uintptr_t p = (uintptr_t)random_next(&seed) >> random_below(&seed, 64);
        require(bs_span_of(p) == (p - BASE < BS_PAGE_SIZE ? s : NULL), "word %zx", p);
    }
}
END_TEST

/* A stale entry leads to a descriptor that is dead or has become another span: never to ours. */
START_TEST(stale_entries_lead_nowhere) {
    make_arena();
    const unsigned class = bs_class_of(8192); /* four pages */
    struct bs_span *old = bs_span_make_small(class, BASE, false);
    bs_span_retire(old);
    ck_assert_ptr_eq(bs_pagemap_span(BASE), old); /* entries are never cleared */
    struct bs_span *s = bs_span_make_small(class, BASE + 64 * BS_PAGE_SIZE, false);
    ck_assert_ptr_eq(s, old); /* the pool is type-stable */
    check_pages(BASE, 4, NULL, 0);
    check_pages(s->base, 4, s, class);
}
END_TEST

/* The entry of a page in the middle of a large span leads to whoever held the page before, whose descriptor
 * may become another span while it is read: with the new base and the old length it would hold the page. */
static struct {
    bool stop;     /* [atomic] */
    unsigned seen; /* [atomic] lives of the old descriptor */
} lives;

static void *live_again(void *old) {
    while (!bs_load(&lives.stop)) {
        struct bs_span *s = bs_span_make_large(BASE + 600 * BS_PAGE_SIZE, 200, 1);
        require(s == old, "another descriptor");
        bs_span_rest(s);
        bs_span_retire(s);
        s = bs_span_make_large(BASE - BS_PAGE_SIZE, 1, 1);
        require(s == old, "another descriptor");
        bs_span_rest(s);
        bs_span_retire(s);
        bs_store(&lives.seen, bs_load(&lives.seen) + 1);
    }
    return NULL;
}

START_TEST(stale_entries_change_under_the_reader) {
    const uintptr_t p = BASE + 3 * BS_PAGE_SIZE;
    pthread_t thread;
    make_arena();
    struct bs_span *old = bs_span_make_small(bs_class_of(8192), BASE, false);
    bs_span_retire(old);
    struct bs_span *aside = bs_span_make_large(BASE + 600 * BS_PAGE_SIZE, 1, 1);
    ck_assert_ptr_eq(aside, old);
    struct bs_span *s = bs_span_make_large(BASE, 100, 1);
    ck_assert_ptr_ne(s, old);
    ck_assert_ptr_eq(bs_pagemap_entry(p), old);
    bs_span_rest(aside);
    bs_span_retire(aside);
    ck_assert_int_eq(pthread_create(&thread, NULL, live_again, old), 0);
    while (bs_load(&lives.seen) < 2000000 / UNIT_SLOWNESS / UNIT_SLOWNESS)
        for (unsigned i = 0; i < 1000; i++)
            require(bs_span_of(p) == s, "after %u lives", bs_load(&lives.seen));
    bs_store(&lives.stop, true);
    pthread_join(thread, NULL);
}
END_TEST

/* --- the rest --------------------------------------------------------------------------------- */

START_TEST(fullness_groups) {
    make_arena();
    for (unsigned class = 1; class < BS_NCLASSES; class ++) {
        struct bs_span *s = bs_span_make_small(class, BASE, false);
        unsigned last = 0;
        for (unsigned n = 0; n < s->nslots; n++) {
            s->nalloc = (uint16_t)n;
            unsigned g = bs_span_fullness(s);
            require(g < BS_GROUPS && g >= last, "class %u: %u slots out are group %u", class, n, g);
            last = g;
        }
        if (s->nslots >= 64)
            require(last == BS_GROUPS - 1, "class %u: the fullest is in group %u", class, last);
        s->nalloc = 0;
        ck_assert_uint_eq(bs_span_fullness(s), 0);
        bs_span_retire(s);
    }
}
END_TEST

START_TEST(broken_span_is_seen) {
    make_arena();
    struct bs_span *s = bs_span_make_small(bs_class_of(48), BASE, false); /* 170 slots */
    bs_span_claim(s, 1, ~(uint64_t)0, 20);
    ck_assert(bs_span_is_valid(s));
    s->nalloc++;
    ck_assert(!bs_span_is_valid(s));
    s->nalloc--;
    s->alloc[2] |= (uint64_t)1 << 50; /* slot 178 does not exist */
    s->nalloc++;
    ck_assert(!bs_span_is_valid(s));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("span");
    TCase *tc = add_case(suite, "span");
    tcase_add_test(tc, claims_and_releases);
    tcase_add_test(tc, every_slot_once);
    tcase_add_test(tc, many_at_once);
    tcase_add_test(tc, what_is_no_block);
    tcase_add_test(tc, found_by_address);
    tcase_add_test(tc, large_spans);
    tcase_add_test(tc, any_word_may_be_asked);
    tcase_add_test(tc, stale_entries_lead_nowhere);
    tcase_add_test(tc, stale_entries_change_under_the_reader);
    tcase_add_test(tc, fullness_groups);
    tcase_add_test(tc, broken_span_is_seen);
    return run_suite(suite);
}
