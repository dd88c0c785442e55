/* SPDX-License-Identifier: MIT */
/*
 * check_dangling.c - what is known of freed blocks comes and goes with their quarantine; what is kept twice is told
 * once, with the words that point to it, wherever they lie, and not for a pointer to its neighbour; what there
 * is no room for comes the next time. The report's text, threads and real programs: scripts/dangling.sh.
 */
#define _GNU_SOURCE
#include "world_unit.h"

#include "background.h"
#include "bygone.h"
#include "dangling.h"
#include "heap.h"
#include "large.h"
#include "meta.h"
#include "opt.h"
#include "sample.h"
#include "thread.h"
#include "warden.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define HIDE(p) (~(uintptr_t)(p))
#define SHOWN(x) ((void **)~(x))

static struct bs_hunt_result got;
static struct bs_dangling_report *report;

static bool trim(bool all) {
    return all;
}
static void setup(void) {
    static const struct bs_heap_keeper keeper = {
        bs_quarantine_small, bs_quarantine_large, bs_quarantine_resize, bs_quarantine_check, trim,
        bs_bygone_note};
    inside_text();
    (void)bs_heap_alloc(10); /* words of besom's own lead to the heap's first block */
    bs_heap_set_keeper(&keeper);
    bs_opt.sample = 1;
    bs_opt.log_stacks = 200;
    bs_heap_start_sampling();
}

/* Overwrites what dead frames, and registers, have left. */
static void __attribute__((noinline, no_sanitize("address"))) wipe(void) {
    volatile char junk[16384];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
    wipe_vectors();
}
static void search(void) {
    wipe();
    ck_assert(bs_hunt_run(BS_HUNT_SOUND, 0, bs_dangling_guest(), &got));
    require(got.end == BS_SCAN_DONE, "end %d, world %d, thread %d", got.end, got.world,
            got.culprit);
}
static void hunt(void) {
    if (report != NULL)
        bs_dangling_drop(report);
    search();
    report = bs_dangling_take();
    ck_assert_ptr_null(bs_dangling_take());
}

static uintptr_t __attribute__((noinline)) make(size_t size) {
    void *p = bs_heap_alloc(size);
    memset(p, 0x5a, size);
    return HIDE(p);
}
/* Sites that free, in which no two have the same stack. */
#define SITE(name)                                                 \
    static void __attribute__((noinline)) name(uintptr_t hidden) { \
        bs_heap_free(SHOWN(hidden));                               \
        __asm__ volatile("# " #name); /* not the same code */      \
    }
SITE(free_here)
SITE(free_there)
SITE(free_elsewhere)

static void __attribute__((noinline)) point(void **place, uintptr_t hidden, size_t offset) {
    *place = (char *)SHOWN(hidden) + offset;
}
/* (Under a lock, which nobody would give up who asserts something.) */
struct known {
    uintptr_t hidden;
    bool is, whole, kept;
    unsigned looks;
};
static bool visit_known(void *ctx, uintptr_t p, const struct bs_bygone *f) {
    struct known *known = ctx;
    if (p == ~known->hidden) {
        known->is = true;
        known->kept = f->kept;
        known->looks = f->looks;
        known->whole = f->stack != NULL && f->origin != NULL && f->blocks == 1 && f->time_ns != 0;
    }
    return !known->is;
}
static bool __attribute__((noinline)) is_known(uintptr_t hidden) {
    struct known known = {.hidden = hidden};
    bs_bygone_each(visit_known, &known);
    ck_assert(!known.is || known.whole);
    return known.is;
}

static unsigned __attribute__((noinline)) looks_for(uintptr_t hidden) {
    struct known known = {.hidden = hidden};
    bs_bygone_each(visit_known, &known);
    ck_assert(known.kept);
    return known.looks;
}

static void *global[16];
static __thread void *local;

START_TEST(knowledge_comes_and_goes) {
    static const size_t sizes[] = {16, 100, 5000, 40000, 3 << 20};
    setup();
    for (size_t k = 0; k < BS_ARRAY_LEN(sizes); k++) {
        uintptr_t hidden = make(sizes[k]), kept = make(sizes[k]), wall = make(sizes[k]);
        ck_assert(!is_known(hidden));
        free_here(hidden);
        free_there(kept);
        ck_assert(is_known(hidden) && is_known(kept));
        point(global, kept, 1);
        hunt();
        require(!is_known(hidden) && is_known(kept), "%zu bytes", sizes[k]);
        global[0] = NULL;
        hunt();
        require(!is_known(kept), "%zu bytes", sizes[k]);
        free_here(wall);
        hunt();
        ck_assert_uint_eq(bs_bygone_count(), 0);
    }
}
END_TEST

/* One that goes makes room in the table for one that was looked at, or will be. */
START_TEST(knowledge_of_many_goes_at_once) {
    enum { N = 3000 };
    static uintptr_t hidden[N];
    size_t metadata = 0;
    setup();
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < N; i++)
            hidden[i] = make(64);
        for (unsigned i = 0; i < N; i++)
            free_here(hidden[i]);
        ck_assert_uint_eq(bs_bygone_count(), N);
        search();
        ck_assert_uint_eq(got.released.gone.blocks, N);
        ck_assert_uint_eq(bs_bygone_count(), 0);
        metadata = round == 0 ? bs_meta_used_bytes() : metadata;
    }
    ck_assert_uint_eq(bs_meta_used_bytes(), metadata);
}
END_TEST

#if BS_FAULTS
START_TEST(what_there_is_no_memory_for_is_not_known) {
    enum { N = 3000 };
    static uintptr_t hidden[N];
    setup();
    for (unsigned i = 0; i < N; i++)
        hidden[i] = make(64);
    free_here(hidden[0]); /* the quarantine has its tables */
    bs_os_fail(1, ENOMEM, true);
    for (unsigned i = 1; i < N; i++)
        free_here(hidden[i]);
    bs_os_fail(0, 0, false);
    ck_assert_uint_lt(bs_bygone_count(), N);
    search();
    ck_assert_uint_eq(got.released.gone.blocks, N);
    ck_assert_uint_eq(bs_bygone_count(), 0);
}
END_TEST
#endif

START_TEST(a_block_that_stays_in_place_is_not_freed) {
    setup();
    uintptr_t hidden = make(100000), wall = make(100000);
    uintptr_t now = HIDE(bs_heap_realloc(SHOWN(hidden), 80000));
    ck_assert_uint_eq(now, hidden);
    ck_assert(!is_known(hidden));
    now = HIDE(bs_heap_realloc(SHOWN(hidden), 9 << 20)); /* it moves */
    ck_assert_uint_ne(now, hidden);
    ck_assert(is_known(hidden));
    free_here(wall);
}
END_TEST

/* A search of which nothing but the look for one block is wanted. */
static struct bs_referrers *r;
static void prepare(void) {
    bs_referrers_prepare(r);
}
static void look_stopped(const struct bs_roots *roots) {
    bs_referrers_roots(r, roots);
}
static struct bs_range memory(void) {
    return (struct bs_range){(uintptr_t)r, (uintptr_t)(r + 1)};
}
static void look_running(void) {
    bs_referrers_heap(r);
}
static void __attribute__((noinline)) want(uintptr_t hidden) {
    r->n = 1;
    r->want[0] =
        (struct bs_wanted){.base = ~hidden, .size = bs_slot_block(bs_span_of(~hidden), 0).size};
}
static void look_for(uintptr_t hidden) {
    static const struct bs_hunt_guest guest = {prepare,      look_stopped, memory,
                                               look_running, NULL,         bs_bygone_settle};
    if (r == NULL)
        r = bs_os_alloc_shared(bs_align_up(sizeof *r, bs_os_page_size()));
    want(hidden);
    wipe();
    ck_assert(bs_hunt_run(BS_HUNT_SOUND, 0, &guest, &got));
    require(got.end == BS_SCAN_DONE, "end %d, world %d, thread %d", got.end, got.world,
            got.culprit);
}

START_TEST(words_are_found_where_they_lie) {
    setup();
    void **mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void **live = bs_heap_alloc(48), **large = bs_heap_alloc(100000);
    void **places[] = {global, &local, mapped + 100, live + 2, large + 9000};
    const enum bs_referrer_kind kinds[] = {BS_REFERRER_MEMORY, BS_REFERRER_MEMORY,
                                           BS_REFERRER_MEMORY, BS_REFERRER_HEAP, BS_REFERRER_HEAP};
    static const size_t sizes[] = {64, 5000, 40000, 3 << 20};
    for (size_t k = 0; k < BS_ARRAY_LEN(sizes); k++)
        for (size_t i = 0; i < BS_ARRAY_LEN(places); i++)
            for (unsigned way = 0; way < 3; way++) {
                uintptr_t hidden = make(sizes[k]);
                size_t offset = way == 0 ? 0 : way == 1 ? sizes[k] / 2 : sizes[k] - 1;
                free_here(hidden);
                point(places[i], hidden, offset);
                look_for(hidden);
                const struct bs_wanted *w = bs_referrers_of(r, ~hidden);
                unsigned n = 0;
                while (n < w->n && w->by[n].at != (uintptr_t)places[i])
                    n++;
                require(n < w->n, "%zu bytes, place %zu, way %u: %u words", sizes[k], i, way, w->n);
                ck_assert_int_eq(w->by[n].kind, kinds[i]);
                ck_assert_uint_eq(w->by[n].value, ~hidden + offset);
                if (kinds[i] == BS_REFERRER_HEAP) {
                    ck_assert_ptr_nonnull(w->by[n].origin);
                    ck_assert_uint_eq(w->by[n].block, (uintptr_t)(i == 3 ? live : large));
                }
                *places[i] = NULL;
                hunt();
            }
    bs_heap_free(live);
    bs_heap_free(large);
    munmap(mapped, 4096);
}
END_TEST

static const struct bs_dangling *only(void) {
    ck_assert_ptr_nonnull(report);
    ck_assert_uint_eq(report->n, 1);
    ck_assert_uint_eq(report->more, 0);
    return &report->item[0];
}

/* Each is in `global`, at the place that the test gave it. (Not in the test's own frame, where what the looks have spilled
 * would stay, and point there.) */
static void __attribute__((noinline)) check_words(const struct bs_dangling *d) {
    for (unsigned i = 0; i < d->nwords; i++) {
        uintptr_t at = d->word[i].by.at;
        ck_assert(at >= (uintptr_t)global && at < (uintptr_t)(global + 10));
        ck_assert_uint_eq(d->word[i].by.value - d->word[i].base, 8 * (at - (uintptr_t)global) / 8);
        ck_assert_int_eq(d->word[i].by.kind, BS_REFERRER_MEMORY);
        ck_assert_uint_ne(BS_FRAME_MODULE(d->word[i].variable.as.frame), 0);
    }
}

START_TEST(what_is_kept_twice_is_told_once) {
    setup();
    for (unsigned i = 0; i < 10; i++) { /* each of a slot's neighbours is another one's */
        uintptr_t hidden = make(100);
        free_here(hidden);
        point(&global[i], hidden, 8 * i);
    }
    hunt();
    ck_assert_ptr_null(report);
    ck_assert_uint_eq(got.released.again.blocks, 0);
    hunt();
    const struct bs_dangling *d = only();
    ck_assert_uint_eq(d->blocks, 10);
    ck_assert_uint_eq(d->samples, 10);
    ck_assert_uint_eq(d->bytes, 1000);
    ck_assert_uint_eq(d->nwords, BS_REFERRERS_OF_STACK);
    check_words(d);
    ck_assert_uint_eq(got.released.again.blocks, 10);
    for (unsigned i = 0; i < 5; i++) {
        hunt();
        ck_assert_ptr_null(report);
        ck_assert_uint_eq(got.released.again.blocks, 10);
    }
    memset(global, 0, sizeof global);
    hunt();
    ck_assert_uint_eq(got.released.kept.blocks, 0);
}
END_TEST

/* A fork between the search and the telling: the parent tells, and the child neither that nor, later, the same. */
START_TEST(a_child_does_not_tell_it_again) {
    int status;
    setup();
    uintptr_t hidden = make(100);
    free_here(hidden);
    point(&global[0], hidden, 0);
    hunt();
    ck_assert_ptr_null(report);
    search();
    pid_t child = fork();
    if (child == 0) {
        bs_thread_forked();
        bs_warden_start(); /* whose child it is */
        bs_background_forked();
        if (bs_dangling_take() != NULL)
            _exit(1);
        wipe();
        if (!bs_hunt_run(BS_HUNT_SOUND, 0, bs_dangling_guest(), &got) || got.end != BS_SCAN_DONE)
            _exit(2);
        _exit(got.released.again.blocks == 1 && bs_dangling_take() == NULL ? 0 : 3);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    report = bs_dangling_take();
    ck_assert_uint_eq(only()->blocks, 1);
}
END_TEST

START_TEST(a_word_more_is_not_told_of_each) {
    setup();
    uintptr_t hidden = make(100);
    free_here(hidden);
    for (unsigned i = 0; i < BS_ARRAY_LEN(global); i++)
        point(&global[i], hidden, 0);
    hunt();
    hunt();
    ck_assert_uint_eq(only()->nwords, BS_REFERRERS_EACH);
    memset(global, 0, sizeof global);
}
END_TEST

/* Slots lie side by side: the end of one is the next one's beginning. */
START_TEST(a_pointer_to_the_neighbour_is_not_told) {
    setup();
    uintptr_t first = make(64), second = make(64), third = make(64);
    ck_assert_uint_eq(~second - ~first, 64);
    free_here(first);
    free_there(third);
    point(&global[0], second, 0);
    hunt();
    hunt();
    ck_assert_uint_eq(got.released.again.blocks, 1); /* kept it is */
    ck_assert_ptr_null(report);
    for (unsigned i = 0; i < 2 * BS_REFERRERS_LOOKS; i++) { /* what is not found is looked for so often and no more */
        hunt();
        ck_assert_ptr_null(report);
        ck_assert_uint_le(looks_for(first), BS_REFERRERS_LOOKS);
        ck_assert(i < BS_REFERRERS_LOOKS || looks_for(first) == BS_REFERRERS_LOOKS);
    }
    free_elsewhere(second);
    global[0] = NULL;
    hunt();
    hunt();
    ck_assert_uint_eq(got.released.kept.blocks, 0);
    first = make(64); /* just past the end of what has no neighbour */
    free_here(first);
    point(&global[0], first, 64);
    hunt();
    hunt();
    ck_assert_uint_eq(only()->word[0].by.value - only()->word[0].base, 64);
    global[0] = NULL;
}
END_TEST

START_TEST(what_has_no_room_comes_the_next_time) {
    setup();
    bs_opt.log_stacks = 1;
    void (*const sites[])(uintptr_t) = {free_here, free_there, free_elsewhere};
    for (unsigned i = 0; i < 3; i++) {
        uintptr_t hidden = make(100 * (i + 1));
        sites[i](hidden);
        point(&global[i], hidden, 0);
    }
    hunt();
    for (unsigned i = 0; i < 3; i++) {
        hunt();
        require(report != NULL, "report %u, kept %ju, again %ju", i,
                (uintmax_t)got.released.kept.blocks, (uintmax_t)got.released.again.blocks);
        ck_assert_uint_eq(report->n, 1);
        ck_assert_uint_eq(report->first, i + 1);
        ck_assert_uint_eq(report->more, 2 - i);
        ck_assert_uint_eq(report->item[0].bytes, 100 * (3 - i)); /* most first */
    }
    hunt();
    ck_assert_ptr_null(report);
    memset(global, 0, sizeof global);
}
END_TEST

/* The search that finds the table empty may release what is freed before it turns. */
static void begin_late(void) {
    bs_dangling_guest()->begin();
    for (unsigned i = 0; i < 10; i++)
        free_here(make(100));
}
START_TEST(what_is_freed_as_a_search_begins_is_forgotten) {
    setup();
    struct bs_hunt_guest guest = *bs_dangling_guest();
    guest.begin = begin_late;
    wipe();
    ck_assert(bs_hunt_run(BS_HUNT_STOPPED, 0, &guest, &got));
    ck_assert_int_eq(got.end, BS_SCAN_DONE);
    ck_assert_uint_ge(got.released.gone.blocks, 9);
    ck_assert_uint_eq(bs_bygone_count(), got.released.kept.blocks);
}
END_TEST

/* There are no reports, then, and nobody would forget. */
START_TEST(without_a_log_nothing_is_known) {
    setup();
    bs_warden_start();
    uintptr_t hidden = make(100);
    ck_assert_uint_eq(bs_sample_count(), 1);
    free_here(hidden);
    ck_assert(!is_known(hidden));
    ck_assert_uint_eq(bs_sample_count(), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dangling");
    TCase *tc = add_case(suite, "dangling");
    tcase_add_test(tc, knowledge_comes_and_goes);
    tcase_add_test(tc, knowledge_of_many_goes_at_once);
#if BS_FAULTS
    tcase_add_test(tc, what_there_is_no_memory_for_is_not_known);
#endif
    tcase_add_test(tc, a_block_that_stays_in_place_is_not_freed);
    tcase_add_test(tc, words_are_found_where_they_lie);
    tcase_add_test(tc, what_is_kept_twice_is_told_once);
    tcase_add_test(tc, a_child_does_not_tell_it_again);
    tcase_add_test(tc, a_word_more_is_not_told_of_each);
    tcase_add_test(tc, a_pointer_to_the_neighbour_is_not_told);
    tcase_add_test(tc, what_has_no_room_comes_the_next_time);
    tcase_add_test(tc, what_is_freed_as_a_search_begins_is_forgotten);
    tcase_add_test(tc, without_a_log_nothing_is_known);
    return run_suite(suite);
}
