/* SPDX-License-Identifier: MIT */
/*
 * check_threads.c - the core under 2, 8 and 64 threads: random allocation with a pattern in every
 * block, blocks handed to other threads, threads that die with their blocks left to others, and
 * beside them a thread that does the background rounds and one that reads all statistics.
 *
 * In the end everything is freed and every cache drained: then no slot may be out, no page in a
 * span, and every invariant must hold. This is the program for ThreadSanitizer: the threads run
 * for a fixed time, so it takes as long under a sanitizer as without.
 */
#include "background.h"
#include "central.h"
#include "cgroup.h"
#include "heap.h"
#include "large.h"
#include "opt.h"
#include "tcache.h"
#include "thread.h"
#include "unit.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#define RUN_MS 600 /* a test; there are six */
#define LEAST 500  /* steps a thread does in any case, since a busy machine may let it do few by then */
#define MORTALS 4  /* threads that a maker makes in any case */
#define OWN 200    /* blocks a thread holds at most */
#define SHARED 256 /* places where blocks change hands */
#define THREADS_MAX 64

struct header { /* the start of every block: what is behind it follows from these */
    uint32_t size, tag;
};

static struct header *shared[SHARED]; /* [atomic] */
static uint32_t stop;                 /* [atomic] */
static uint64_t total_steps;          /* [atomic] */

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- blocks with patterns --------------------------------------------------------------------- */

/* Bytes looked at in a block: all of a small one, the ends of a large one. */
static size_t next_offset(size_t at, size_t size) {
    return at < 256 || at + 64 >= size ? at + 1 : bs_min(at + 509, size - 64);
}

static struct header *stamp(struct header *h, size_t size, uint64_t *seed) {
    unsigned char *p = (unsigned char *)h;
    h->size = (uint32_t)size;
    h->tag = (uint32_t)random_next(seed);
    for (size_t i = sizeof *h; i < size; i = next_offset(i, size))
        p[i] = (unsigned char)(h->tag + i);
    return h;
}

static void check(const struct header *h, size_t size, size_t bytes) {
    const unsigned char *p = (const unsigned char *)h;
    require(h->size == size, "a block of %zu bytes says it has %u", size, h->size);
    for (size_t i = sizeof *h; i < bytes; i = next_offset(i, size))
        require(p[i] == (unsigned char)(h->tag + i), "block %p of %zu bytes: byte %zu is %x",
                (const void *)p, size, i, p[i]);
}

static size_t some_size(uint64_t *seed) {
    size_t kind = random_below(seed, 256);
    return sizeof(struct header) +
           (kind == 0 ? random_skewed(seed, 21) : random_skewed(seed, kind < 16 ? 16 : 10));
}

static struct header *make(uint64_t *seed) {
    size_t size = some_size(seed);
    struct header *h;
    switch (random_below(seed, 8)) {
    case 0:
        h = bs_heap_alloc_zero(size);
        for (size_t i = 0; h != NULL && i < size; i = next_offset(i, size))
            require(((char *)h)[i] == 0, "calloc of %zu bytes: byte %zu is not zero", size, i);
        break;
    case 1:
        h = bs_heap_alloc_aligned((size_t)8 << random_below(seed, 13), size);
        break;
    default:
        h = bs_heap_alloc(size);
    }
    require(h != NULL, "no memory for %zu bytes", size);
    return stamp(h, size, seed);
}

static void destroy(struct header *h) {
    check(h, h->size, h->size);
    memset(h, 0xdf, sizeof *h);
    bs_heap_free(h);
}

static struct header *resize(struct header *h, uint64_t *seed) {
    size_t old = h->size, to = some_size(seed);
    check(h, old, old);
    h = bs_heap_realloc(h, to);
    require(h != NULL, "realloc to %zu bytes", to);
    require(h->size == old, "realloc from %zu to %zu bytes lost the start", old, to);
    /* what was looked at in the old block depends on its size, so does what is left of it */
    for (size_t i = sizeof *h; i < old && i < to; i = next_offset(i, old))
        require(((unsigned char *)h)[i] == (unsigned char)(h->tag + i),
                "realloc from %zu to %zu bytes: byte %zu has changed", old, to, i);
    return stamp(h, to, seed);
}

/* --- threads ---------------------------------------------------------------------------------- */

static void random_step(struct header **own, uint64_t *seed) {
    struct header **place = &own[random_below(seed, OWN)];
    size_t what = random_below(seed, 10);
    if (what < 2) { /* to another thread, and whatever lay there from it */
        *place = __atomic_exchange_n(&shared[random_below(seed, SHARED)], *place, __ATOMIC_ACQ_REL);
    } else if (*place == NULL) {
        *place = make(seed);
    } else if (what < 4) {
        *place = resize(*place, seed);
    } else {
        destroy(*place);
        *place = NULL;
    }
}

/* Ends with its blocks in the shared places where there is room. */
static void leave_blocks(struct header **own) {
    for (unsigned i = 0; i < OWN; i++) {
        struct header *none = NULL;
        if (own[i] != NULL &&
            !__atomic_compare_exchange_n(&shared[i % SHARED], &none, own[i], false,
                                         __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            destroy(own[i]);
    }
}

struct worker {
    pthread_t thread;
    uint64_t seed;
    unsigned steps; /* 0: until it is stopped */
};

static void *work(void *arg) {
    struct worker *w = arg;
    struct header *own[OWN] = {NULL};
    unsigned done = 0;
    while (w->steps != 0 ? done < w->steps : !bs_load(&stop) || done < LEAST) {
        random_step(own, &w->seed);
        done++;
    }
    leave_blocks(own);
    bs_add(&total_steps, done);
    return NULL;
}

/* Starts short-lived threads one after the other. */
static void *start_mortals(void *arg) {
    struct worker *w = arg;
    for (unsigned n = 0; n < MORTALS || !bs_load(&stop); n++) {
        struct worker mortal = {.seed = random_next(&w->seed), .steps = 50};
        require(pthread_create(&mortal.thread, NULL, work, &mortal) == 0, "no thread");
        pthread_join(mortal.thread, NULL);
    }
    return NULL;
}

static void *background(void *arg) {
    while (!bs_load(&stop)) {
        bs_background_round();
        bs_heap_trim(1 * BS_MIB); /* the goal alone would let the pages be for a second */
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return arg;
}

static bool look_at_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                           const uint64_t *released) {
    (void)ctx;
    for (size_t w = 0; w < BS_REGION_WORDS; w++)
        require((alloc[w] & released[w]) == 0, "region %zx: a page is allocated and released",
                base);
    return true;
}

static void *read_statistics(void *arg) {
    for (unsigned round = 1; !bs_load(&stop); round++) {
        struct bs_heap_totals t = bs_heap_totals();
        require(t.dirty + t.released <= t.mapped, "free pages: %zu + %zu of %zu", t.dirty,
                t.released, t.mapped);
        require(bs_pageheap_is_valid(), "the page heap is broken");
        bs_pageheap_each_region(look_at_region, NULL);
        for (unsigned i = 0; i < SHARED; i++) /* any word may be asked, also of blocks in use */
            (void)bs_heap_usable(bs_load(&shared[i]));
        if (round % 16 == 0) /* while the background thread does the same */
            bs_heap_trim(2 * BS_MIB);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return arg;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void check_all_is_back(void) {
    for (unsigned i = 0; i < SHARED; i++)
        if (shared[i] != NULL)
            destroy(shared[i]);
    bs_tcache_leave();
    ck_assert_uint_eq(bs_thread_count(), 0);
    bs_heap_trim(0);
    for (unsigned class = 1; class < BS_NCLASSES; class ++) {
        struct bs_central_counts c = bs_central_counts(class);
        require(c.slots_out == 0, "class %u: %zu slots are out", class, c.slots_out);
        /* two threads may have made an empty span at once, and a trim takes one a class */
        while (bs_central_counts(class).spans != 0 && c.spans-- != 0)
            bs_heap_trim(0);
        require(bs_central_counts(class).spans == 0, "class %u has a span", class);
    }
    struct bs_heap_totals t = bs_heap_totals();
    ck_assert_uint_eq(t.allocated + t.cached + t.free_span + t.dirty + t.large, 0);
    ck_assert_uint_eq(t.released, t.mapped);
    ck_assert_uint_eq(bs_pageheap_counts().span_pages, 0);
    ck_assert_uint_eq(bs_large_span_bytes(), 0);
    ck_assert(bs_pageheap_is_valid());
}

static void run_for_a_while(unsigned nthreads, void *(*fn)(void *)) {
    struct worker worker[THREADS_MAX];
#if BS_SANITIZE_THREAD
    /* That a thread sleeps is the kernel's word, which is no synchronisation that the sanitizer
     * knows: it would report each emptied cache. tests/model and stress/idle_storm look at that. */
    bs_opt.idle_threads = false;
#endif
    pthread_t helper[2];
    uint64_t end = now_ms() + RUN_MS;
    ck_assert_int_eq(pthread_create(&helper[0], NULL, background, NULL), 0);
    ck_assert_int_eq(pthread_create(&helper[1], NULL, read_statistics, NULL), 0);
    for (unsigned i = 0; i < nthreads; i++) {
        worker[i] = (struct worker){.seed = i + 1};
        ck_assert_int_eq(pthread_create(&worker[i].thread, NULL, fn, &worker[i]), 0);
    }
    while (now_ms() < end)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    bs_store(&stop, 1u);
    for (unsigned i = 0; i < nthreads; i++)
        pthread_join(worker[i].thread, NULL);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(helper[i], NULL);
    ck_assert_uint_ge(total_steps, 1000);
    check_all_is_back();
}

/* --- walks ------------------------------------------------------------------------------------ */

#define WALKED 200 /* caches; every other one comes and goes */

static struct bs_tcache walked[WALKED];
static unsigned visits[WALKED];

static void *come_and_go(void *arg) {
    uint64_t seed = 1;
    (void)arg;
    while (!bs_load(&stop)) {
        struct bs_tcache *tc = &walked[random_below(&seed, WALKED / 2) * 2 + 1];
        bs_thread_unregister(tc);
        memset(&tc->link, 0, sizeof tc->link); /* whoever still stands here falls */
        bs_thread_register(tc);
    }
    return NULL;
}

static void count_visit(void *ctx, const struct bs_tcache *tc) {
    (void)ctx;
    if (tc >= walked && tc < walked + WALKED)
        visits[tc - walked]++;
}

/* bs_thread_each gives its lock up in between. */
START_TEST(a_walk_visits_each_cache_once) {
    pthread_t other;
    unsigned walks = 0;
    for (size_t i = 0; i < WALKED; i++)
        bs_thread_register(&walked[i]);
    bs_store(&stop, 0u);
    ck_assert_int_eq(pthread_create(&other, NULL, come_and_go, NULL), 0);
    for (uint64_t end = now_ms() + RUN_MS; walks < 2 || now_ms() < end; walks++) {
        memset(visits, 0, sizeof visits);
        bs_thread_each(count_visit, NULL);
        for (size_t i = 0; i < WALKED; i += 2)
            require(visits[i] == 1, "walk %u: a cache was visited %u times", walks, visits[i]);
    }
    bs_store(&stop, 1u);
    pthread_join(other, NULL);
    for (size_t i = 0; i < WALKED; i++)
        bs_thread_unregister(&walked[i]);
}
END_TEST

START_TEST(two_threads) {
    run_for_a_while(2, work);
}
END_TEST
START_TEST(eight_threads) {
    run_for_a_while(8, work);
}
END_TEST
START_TEST(many_threads) {
    run_for_a_while(THREADS_MAX, work);
}
END_TEST
START_TEST(threads_that_die) {
    run_for_a_while(6, start_mortals);
}
END_TEST
START_TEST(threads_without_caches) {
    bs_tcache_disable();
    run_for_a_while(8, work);
}
END_TEST

int main(void) {
    bs_cgroup_set_root("/nowhere"); /* memory that the machine lacks is nobody's business here */
    Suite *suite = suite_create("threads");
    TCase *tc = add_case(suite, "threads");
    tcase_add_test(tc, a_walk_visits_each_cache_once);
    tcase_add_test(tc, two_threads);
    tcase_add_test(tc, eight_threads);
    tcase_add_test(tc, many_threads);
    tcase_add_test(tc, threads_that_die);
    tcase_add_test(tc, threads_without_caches);
    return run_suite(suite);
}
