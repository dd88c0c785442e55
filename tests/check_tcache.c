/* SPDX-License-Identifier: MIT */
/*
 * check_tcache.c - thread caches: conservation of blocks through every operation, magazines that
 * grow within their budgets, flush and drain, the ends of threads (told and untold), and doing
 * without a cache.
 *
 * Everything goes through heap.h's fast path, as a program does. What is in a cache is read from
 * its fields; what has left the spans is asked of the central lists.
 */
#include "heap.h"

#include "counter.h"
#include "fork.h"
#include "meta.h"
#include "opt.h"
#include "os.h"
#include "pageheap.h"
#include "tcache_gate.h"
#include "thread.h"
#include "home_unit.h"
#include "unit.h"

#include <pthread.h>
#include <sys/syscall.h>

#define LIVE_MAX 40000

static uint64_t seed = 1;
static void *live[LIVE_MAX];
static size_t nlive, live_of[BS_NCLASSES];

static void take(size_t size) {
    unsigned *p = bs_heap_alloc(size);
    require(p != NULL, "no memory for %zu bytes", size);
    require(nlive < LIVE_MAX, "the test holds too many blocks");
    live_of[bs_class_of(size)]++;
    live[nlive++] = p;
}

static void give(size_t i) {
    live_of[bs_span_of((uintptr_t)live[i])->class]--;
    bs_heap_free(live[i]);
    live[i] = live[--nlive];
}

static size_t slots_out(void) {
    size_t n = 0;
    for (unsigned class = 1; class < BS_NCLASSES; class ++)
        n += bs_central_counts(class).slots_out;
    return n;
}

static uint32_t first_capacity(size_t size) {
    uint32_t cap = BS_MAGAZINE_START;
    while (cap > 2 && cap * size > BS_MAGAZINE_MAX_BYTES)
        cap /= 2;
    return cap;
}

static bool is_below_a_gate(unsigned class, void **limit) {
    const struct bs_gates *gates = bs_tcache_self()->gates;
    void **at = gates != NULL ? gates->gate[class].at : NULL;
    return at != NULL && (limit + 1 == at || limit + 1 == at + bs_gate_spacing(class));
}

/* The highest gate that blocks have reached, and no other place, is empty. */
static void check_gate(unsigned class) {
    const struct bs_tcache *tc = bs_tcache_self();
    void **top = tc->tops.top[class], **bottom = tc->bin[class].blocks - 1;
    void **at = tc->gates != NULL ? tc->gates->gate[class].at : NULL;
    for (void **place = bottom + 1; place <= top; place++)
        require((*place == NULL) == (place == at), "class %u: place %zd is empty, or should be; top %zd gate %zd", class, place - bottom, top - bottom, at - bottom);
    if (at == NULL)
        return;
    size_t spacing = bs_gate_spacing(class);
    require(at > bottom && (at <= top ? top - at < (ptrdiff_t)spacing && tc->gates->gate[class].aside != NULL
                                      : at - bottom <= (ptrdiff_t)spacing),
            "class %u: the gate is at %zd, the top at %zd", class, at - bottom, top - bottom);
}

/* What has left the spans is live or in this thread's cache; magazines are within their bounds. */
static void check_conservation(void) {
    size_t bytes = 0, extra = 0;
    for (unsigned class = 1; class < BS_NCLASSES; class ++) {
        const struct bs_bin *bin = &bs_tcache_self()->bin[class];
        size_t count = bs_tcache_count(bs_tcache_self(), class);
        size_t cached = count + bs_popcount(bin->run_mask), size = bs_class_info[class].size;
        size_t out = bs_central_counts(class).slots_out;
        require(out == live_of[class] + cached, "class %u: %zu slots out, %zu live + %zu cached",
                class, out, live_of[class], cached);
        bytes += cached * size;
        if (bin->cap == 0) /* one of the static caches */
            continue;
        require(count <= bin->cap && bin->cap <= BS_MAGAZINE_MAX, "class %u: %zu of %u", class,
                count, bin->cap);
        void **limit = bs_tcache_self()->tops.limit[class];
        bool closed = bin->run_base == NULL && limit == bin->blocks - 1;
        require((closed || limit == bin->blocks + bin->cap - 1 || is_below_a_gate(class, limit)) && bin->blocks[-1] == NULL,
                "class %u: a magazine without its limit or bottom", class);
        check_gate(class);
        require(!closed || count == 0, "class %u: %zu blocks in a closed magazine", class, count);
        require(bin->cap <= 2 * BS_MAGAZINE_LEAST || bin->cap * size <= BS_MAGAZINE_MAX_BYTES,
                "class %u: room for %zu bytes", class, bin->cap * size);
        extra += (bin->cap - first_capacity(size)) * size;
    }
    require(bs_tcache_bytes(bs_tcache_self()) == bytes, "%zu bytes cached, expected %zu",
            bs_tcache_bytes(bs_tcache_self()), bytes);
    require(bs_tcache_self()->extra_bytes == extra && extra <= BS_CACHE_THREAD_BYTES,
            "%zu bytes of room granted, expected %zu", bs_tcache_self()->extra_bytes, extra);
    require(*bs_tcache_self()->tops.top[0] == NULL && bs_tcache_self()->tops.top[0] == bs_tcache_self()->tops.limit[0] &&
                bs_tcache_self()->bin[0].run_mask == 0,
            "bin 0 is not empty and full");
}

/* --- conservation ----------------------------------------------------------------------------- */

static void random_steps(unsigned steps) {
    for (unsigned step = 0; step < steps; step++) {
        size_t size = random_skewed(&seed, 15);
        unsigned n = 1 + (unsigned)random_skewed(&seed, 7);
        bool grow = nlive < LIVE_MAX / 4 && random_below(&seed, 2) == 0;
        for (unsigned i = 0; i < n && grow; i++)
            take(size);
        for (unsigned i = 0; i < n && !grow && nlive != 0; i++)
            give(step % 3 == 0 ? nlive - 1 : random_below(&seed, nlive));
        check_conservation();
        if (step % 500 == 499)
            bs_tcache_drain(bs_tcache_self());
    }
}

/* From now on blocks are sampled, on average one in so many bytes; 0: not. */
static void begin_sampling(uint64_t interval) {
    bs_opt.sample = interval;
    if (interval != 0)
        bs_heap_start_sampling();
}
static void sample(uint64_t interval) {
    take(10); /* a cache without gates, and a page with a class */
    begin_sampling(interval);
}

/* How often blocks are sampled, in what is tested in each way. */
static const uint64_t intervals[] = {0, 4096, 512 * BS_KIB};

START_TEST(nothing_is_lost_or_doubled) {
    sample(intervals[_i]);
    random_steps(8000 / UNIT_SLOWNESS);
    while (nlive != 0)
        give(nlive - 1);
    check_conservation();
    bs_tcache_drain(bs_tcache_self());
    ck_assert_uint_eq(slots_out(), 0);
    ck_assert_uint_eq(bs_tcache_bytes(bs_tcache_self()), 0);
}
END_TEST

/* What a gate is: where it is, and that it is one for takes and puts alike (tcache_gate.h). Heights are places above the
 * bottom. */
static size_t height(const struct bs_tcache *tc, unsigned class) {
    return (size_t)(tc->tops.top[class] - (tc->bin[class].blocks - 1));
}

static size_t visits;
static void count_visit(uintptr_t p) {
    require(p != 0, "no block is visited");
    visits++;
}

/* Each height is a gate or none, for malloc as for free, until the magazine is filled or emptied: whoever comes through it
 * comes to the slow door. */
START_TEST(gates_stay_where_they_are) {
    sample(_i == 0 ? UINT64_C(1) << 40 : UINT64_C(1) << 11); /* a gate in 256 places, or in 8 */
    unsigned class = bs_class_of(16), gates = 0, plain = 0;
    struct bs_tcache *tc = bs_tcache_self();
    for (unsigned i = 0; i < 2000; i++)
        take(16);
    while (height(tc, class) < 300)
        give(nlive - 1);
    bs_gate_lift(tc, class);
    bs_gate_set(tc, class);
    bool gate[512] = {false}; /* by height */
    for (unsigned round = 0; round < 6; round++)
        for (unsigned i = 0; i < 290; i++) {
            size_t from = height(tc, class);
            bool up = round % 2 != 0;
            size_t place = up ? from + 1 : from;
            bool slow = up ? tc->tops.top[class] == tc->tops.limit[class] : *tc->tops.top[class] == NULL;
            require(round == 0 || slow == gate[place], "place %zu, round %u: %d", place, round, slow);
            gate[place] = slow;
            *(slow ? &gates : &plain) += 1;
            if (up)
                give(nlive - 1);
            else
                take(16);
            ck_assert_uint_eq(height(tc, class), up ? from + 1 : from - 1);
            check_conservation();
        }
    ck_assert_uint_ge(gates, _i == 0 ? 6 : 6 * 36);
    ck_assert_uint_le(gates, _i == 0 ? 12 : 6 * 37);
    ck_assert_uint_ne(plain, 0);
}
END_TEST

/* The highest place of a magazine is one like the others. */
START_TEST(the_highest_place_may_be_a_gate) {
    sample(UINT64_C(1) << 11);
    unsigned class = bs_class_of(16);
    struct bs_tcache *tc = bs_tcache_self();
    for (unsigned i = 0; i < 2000; i++)
        take(16);
    while (height(tc, class) + 1 != tc->bin[class].cap)
        give(nlive - 1);
    void **highest = tc->tops.top[class] + 1;
    for (unsigned round = 0; round < 20; round++) {
        do {
            bs_gate_lift(tc, class);
            bs_gate_set(tc, class);
        } while (tc->tops.top[class] != tc->tops.limit[class]);
        give(nlive - 1);
        ck_assert_ptr_eq(tc->tops.top[class], highest);
        ck_assert_ptr_eq(tc->gates->gate[class].at, highest);
        check_conservation();
        take(16);
        ck_assert_ptr_eq(tc->tops.limit[class], highest - 1);
        check_conservation();
    }
}
END_TEST

/* As a fork may find it in a free at a gate: the gate below is open, and the next one's block is noted. */
START_TEST(an_open_gate_keeps_its_block) {
    sample(UINT64_C(1) << 11);
    unsigned class = bs_class_of(16);
    struct bs_tcache *tc = bs_tcache_self();
    for (unsigned i = 0; i < 300; i++)
        take(16);
    while (height(tc, class) < 30)
        give(nlive - 1);
    struct bs_gate *gate = &tc->gates->gate[class];
    void **at = gate->at, *block = gate->aside;
    ck_assert(at <= tc->tops.top[class] && block != NULL);
    *at = block;
    gate->aside = live[0];
    bs_gate_lift(tc, class);
    ck_assert_ptr_eq(*at, block);
    bs_gate_set(tc, class);
    check_conservation();
}
END_TEST

/* A block that waits at a gate is the cache's like others: each is visited once, and in order. */
START_TEST(what_waits_at_a_gate_is_in_the_cache) {
    sample(UINT64_C(1) << 13);
    for (unsigned i = 0; i < 300; i++)
        take(16);
    for (unsigned i = 0; i < 100; i++)
        give(nlive - 1);
    struct bs_tcache *tc = bs_tcache_self();
    unsigned class = bs_class_of(16);
    size_t in_all = 0;
    for (unsigned i = 1; i < BS_NCLASSES; i++)
        in_all += bs_tcache_count(tc, i) + bs_popcount(tc->bin[i].run_mask);
    visits = 0;
    bs_tcache_each_block(tc, count_visit);
    ck_assert_uint_eq(visits, in_all);
    ck_assert_uint_ge(bs_tcache_count(tc, class), 50);
    bs_tcache_drain(tc);
    ck_assert_uint_eq(bs_tcache_bytes(tc), 0);
    check_conservation();
}
END_TEST

static void *with_a_cache(void *arg) {
    pthread_barrier_t *barrier = arg;
    void *p = bs_heap_alloc(48);
    bs_heap_free(bs_heap_alloc(1000));
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier); /* sampling begins */
    bs_heap_free(p);
    for (unsigned i = 0; i < 1000; i++)
        bs_heap_free(bs_heap_alloc(48));
    bool none_yet = bs_tcache_self()->gates == NULL;
    static void *block[1000];
    for (unsigned i = 0; i < 1000; i++)
        block[i] = bs_heap_alloc(48);
    const struct bs_gates *gates = bs_tcache_self()->gates;
    bool has_some = gates != NULL && gates->gate[bs_class_of(1000)].at != NULL; /* in all magazines that have blocks */
    for (unsigned i = 0; i < 1000; i++)
        bs_heap_free(block[i]);
    return none_yet && has_some ? arg : NULL;
}

/* A thread that has a cache already comes to gates when it comes to the slow door. */
START_TEST(a_cache_that_is_older_than_sampling) {
    pthread_t thread;
    pthread_barrier_t barrier;
    void *answer;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, with_a_cache, &barrier);
    pthread_barrier_wait(&barrier);
    sample(UINT64_C(1) << 40);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, &answer);
    ck_assert_ptr_nonnull(answer);
    ck_assert_ptr_nonnull(bs_tcache_self()->gates); /* the one that began */
    random_steps(200);
}
END_TEST

START_TEST(last_freed_comes_first) {
    for (unsigned i = 0; i < 20; i++)
        take(100);
    void *a = live[3], *b = live[7];
    bs_heap_free(a);
    bs_heap_free(b);
    ck_assert_ptr_eq(bs_heap_alloc(100), b);
    ck_assert_ptr_eq(bs_heap_alloc(100), a);
}
END_TEST

START_TEST(first_cache_is_made_at_the_slow_door) {
    ck_assert_ptr_eq(bs_tcache_self(), &bs_tcache_empty);
    bs_heap_free(NULL);
    ck_assert_ptr_eq(bs_tcache_self(), &bs_tcache_empty);
    take(1);
    ck_assert(bs_tcache_self() != &bs_tcache_empty && bs_tcache_self() != &bs_tcache_none);
    ck_assert_uint_eq(bs_thread_count(), 1);
    ck_assert_uint_eq(bs_counted(caches_made), 1);
    ck_assert_int_eq(bs_tcache_self()->tid, bs_os_tid());
    ck_assert_ptr_eq(bs_tcache_self()->word, &bs_self);
}
END_TEST

/* --- growth, flush, budgets ------------------------------------------------------------------- */

/* The capacity at which a magazine of this size stops to grow. */
static uint32_t full_capacity(size_t size) {
    uint32_t cap = BS_MAGAZINE_LEAST;
    while (cap < BS_MAGAZINE_MAX && cap * 2 * size <= BS_MAGAZINE_MAX_BYTES)
        cap *= 2;
    return cap;
}

static void fill_and_empty(size_t size, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        take(size);
    while (nlive != 0)
        give(nlive - 1);
}

START_TEST(magazines_grow_on_demand) {
    const struct bs_bin *bin = NULL;
    unsigned class = bs_class_of(64), full = full_capacity(64);
    for (unsigned i = 0; i < 3 * full; i++)
        take(64);
    bin = &bs_tcache_self()->bin[class];
    ck_assert_uint_eq(bin->cap, BS_MAGAZINE_WORD); /* as far as refills let it */
    for (unsigned cap = bin->cap; nlive != 0; cap = bin->cap) {
        give(0);
        if (bin->cap != cap)
            ck_assert_uint_eq(bin->cap, cap * 2);
    }
    ck_assert_uint_eq(bin->cap, full);
    check_conservation();
}
END_TEST

/* A thread that does not free comes to the slow door once for a word of bits; few blocks, or long ones, do not grow it. */
START_TEST(magazines_grow_as_they_are_refilled) {
    const struct bs_bin *bin;
    unsigned doors = 0, short_class = bs_class_of(96), long_class = bs_class_of(BS_TINY_MAX * 2);
    for (unsigned i = 0; i < 4000; i++) {
        doors += i >= 2000 && bs_tcache_count(bs_tcache_self(), short_class) == 0;
        take(96);
    }
    bin = bs_tcache_self()->bin;
    ck_assert_uint_eq(bin[short_class].cap, BS_MAGAZINE_WORD);
    ck_assert_uint_le(doors, 2 * 2000 / BS_MAGAZINE_WORD + 2);
    for (unsigned i = 0; i < BS_MAGAZINE_START; i++)
        take(160);
    ck_assert_uint_eq(bin[bs_class_of(160)].cap, BS_MAGAZINE_START);
    for (unsigned i = 0; i < 200; i++)
        take(BS_TINY_MAX * 2);
    ck_assert_uint_le(bin[long_class].cap, BS_MAGAZINE_START);
    check_conservation();
    while (nlive != 0)
        give(nlive - 1);
    check_conservation();
}
END_TEST

/* Where nothing is freed into them. */
START_TEST(magazines_grow_as_they_are_filled) {
    bs_tcache_set_one_way();
    for (unsigned i = 0; i < 4 * BS_CLAIM_MAX; i++) {
        take(64);
        check_conservation();
    }
    ck_assert_uint_eq(bs_tcache_self()->bin[bs_class_of(64)].cap, BS_CLAIM_MAX_BYTES / 64);
    while (nlive != 0)
        give(nlive - 1);
    check_conservation();
}
END_TEST

START_TEST(large_blocks_have_small_magazines) {
    fill_and_empty(32768, 2);
    const struct bs_bin *bin = &bs_tcache_self()->bin[bs_class_of(32768)];
    ck_assert_uint_eq(bin->cap, 2);
    check_conservation();
    fill_and_empty(32768, 20); /* on demand they grow, out of the budget */
    ck_assert_uint_eq(bin->cap, BS_MAGAZINE_LEAST);
    check_conservation();
    void *storage = bin->blocks;
    bs_tcache_borrow_lock();
    (void)bs_tcache_strip(bs_tcache_self());
    bs_tcache_borrow_unlock();
    ck_assert_uint_eq(bin->cap, 2);
    ck_assert_ptr_eq(bin->blocks, storage);
    check_conservation();
    fill_and_empty(4096, 200);
    ck_assert_uint_eq(bs_tcache_self()->bin[bs_class_of(4096)].cap, BS_MAGAZINE_MAX_BYTES / 4096);
    check_conservation();
}
END_TEST

/* What a refill claims comes through the magazine, lowest address on top, as far as there is room. */
START_TEST(runs_spread_into_magazines) {
    unsigned class = bs_class_of(48);
    take(48);
    const struct bs_bin *bin = &bs_tcache_self()->bin[class];
    ck_assert_uint_eq(bin->run_mask, 0);
    ck_assert_uint_eq(bs_tcache_count(bs_tcache_self(), class), BS_MAGAZINE_START - 1);
    for (unsigned i = 1; i < BS_MAGAZINE_START; i++) {
        take(48);
        require((char *)live[i] == (char *)live[i - 1] + 48, "block %u is no neighbour", i);
    }
    unsigned spreads = 0;
    for (unsigned i = 0; i < 2000; i++) {
        size_t count = bs_tcache_count(bs_tcache_self(), class), left = bs_popcount(bin->run_mask);
        take(48);
        if (count != 0 || left == 0)
            continue;
        spreads++;
        size_t moved = bs_min(left - 1, bin->cap);
        ck_assert_uint_eq(bs_tcache_count(bs_tcache_self(), class), moved);
        ck_assert_uint_eq(bs_popcount(bin->run_mask), left - 1 - moved);
    }
    ck_assert_uint_gt(spreads, 10);
    check_conservation();
}
END_TEST

/* Not where malloc's inline path does not serve the class: calloc takes fresh slots from the run. */
START_TEST(large_runs_stay) {
    take(2048);
    ck_assert_uint_eq(bs_tcache_count(bs_tcache_self(), bs_class_of(2048)), 0);
    ck_assert_uint_ne(bs_tcache_self()->bin[bs_class_of(2048)].run_mask, 0);
    check_conservation();
}
END_TEST

static bool in_magazine(unsigned class, const void *p) {
    for (size_t i = 0; i < bs_tcache_count(bs_tcache_self(), class); i++)
        if (bs_tcache_self()->bin[class].blocks[i] == p)
            return true;
    return false;
}

/* A free too many gives half of the magazine back to the spans, and keeps the rest as it was. */
START_TEST(flush_gives_half) {
    unsigned class = bs_class_of(32), full = full_capacity(32);
    fill_and_empty(32, 3 * full);
    struct bs_bin *bin = &bs_tcache_self()->bin[class];
    bs_tcache_drain(bs_tcache_self());
    while (nlive < full + 1 || bin->run_mask != 0 || bs_tcache_count(bs_tcache_self(), class) != 0)
        take(32);
    ck_assert_uint_eq(bs_tcache_count(bs_tcache_self(), class), 0);
    for (unsigned i = 0; i < full + 1; i++)
        bs_heap_free(live[i]);
    ck_assert_uint_eq(bs_tcache_count(bs_tcache_self(), class), full / 2 + 1);
    for (unsigned i = 0; i < full + 1; i++) {
        struct bs_span *s = bs_span_of((uintptr_t)live[i]);
        bool out = s != NULL && bs_central_is_allocated(s, (uintptr_t)live[i]);
        require(out == in_magazine(class, live[i]), "block %u: out %d", i, out);
    }
}
END_TEST

/* 64 KiB live in each class at most, one class at a time, and what the caches and spans keep of the others:
 * the heap stays far below what would allow a thread all of its budget. */
START_TEST(capacity_is_within_a_part_of_the_heap) {
    for (unsigned class = 1; bs_class_info[class].size <= 128; class++) {
        unsigned n = (unsigned)bs_min(BS_MAGAZINE_MAX, 64 * BS_KIB / bs_class_info[class].size);
        fill_and_empty(bs_class_info[class].size, n);
        check_conservation();
    }
    ck_assert_uint_lt(bs_pageheap_used_bytes(), BS_MIB);
    ck_assert_uint_le(bs_tcache_self()->extra_bytes, BS_MIB / BS_CACHE_HEAP_PART);
    ck_assert_uint_gt(bs_tcache_self()->extra_bytes, 0);
}
END_TEST

START_TEST(capacity_is_within_the_threads_budget) {
    /* so much in use that the part of it is no bound */
    void *ballast = bs_heap_alloc(BS_CACHE_THREAD_BYTES * BS_CACHE_HEAP_PART);
    ck_assert_ptr_nonnull(ballast);
    for (unsigned round = 0; round < 3; round++)
        for (unsigned class = BS_NCLASSES; class -- > 1;) {
            fill_and_empty(bs_class_info[class].size, 3 * BS_MAGAZINE_MAX);
            check_conservation();
        }
    /* every class would like more than the budget: it must have been used */
    ck_assert_uint_gt(bs_tcache_self()->extra_bytes, BS_CACHE_THREAD_BYTES - 2 * BS_MAGAZINE_MAX_BYTES);
    ck_assert_uint_le(bs_tcache_self()->extra_bytes, BS_CACHE_THREAD_BYTES);
    bs_heap_free(ballast);
    bs_tcache_leave();
    ck_assert(bs_thread_grant(BS_CACHE_TOTAL_BYTES)); /* all of it was refunded */
}
END_TEST

START_TEST(capacity_is_within_the_total) {
    ck_assert(bs_thread_grant(BS_CACHE_TOTAL_BYTES - 100 * 64));
    ck_assert(!bs_thread_grant(100 * 64 + 1));
    fill_and_empty(64, 3 * BS_MAGAZINE_MAX); /* 8, 16, 32 more; 64 more are too many */
    ck_assert_uint_eq(bs_tcache_self()->bin[bs_class_of(64)].cap, 64);
    check_conservation();
    bs_thread_refund(BS_CACHE_TOTAL_BYTES - 100 * 64);
    fill_and_empty(64, 3 * BS_MAGAZINE_MAX);
    ck_assert_uint_eq(bs_tcache_self()->bin[bs_class_of(64)].cap, full_capacity(64));
}
END_TEST

START_TEST(claims_are_bounded_in_bytes) {
    const size_t size[] = {8, 64, 1024, 4096, 16384, 32768};
    for (size_t k = 0; k < BS_ARRAY_LEN(size); k++) {
        unsigned class = bs_class_of(size[k]);
        size_t most = bs_max(1, bs_min(BS_CLAIM_MAX, BS_CLAIM_MAX_BYTES / size[k])), before;
        for (unsigned i = 0; i < 300; i++) {
            before = bs_central_counts(class).slots_out;
            take(size[k]);
            size_t got = bs_central_counts(class).slots_out - before;
            require(got <= most, "size %zu: %zu slots in one refill, %zu allowed", size[k], got,
                    most);
        }
    }
    check_conservation();
}
END_TEST

/* In a large heap a refill claims more, but not so much that a free finds no room; and blocks of 32 KiB have larger
 * magazines. */
START_TEST(bounds_grow_with_the_heap) {
    const size_t size = 2048;
    void *much = bs_heap_alloc(64 * BS_MIB);
    unsigned class = bs_class_of(size);
    size_t most = 0;
    ck_assert_ptr_nonnull(much);
    fill_and_empty(32768, 40);
    ck_assert_uint_eq(bs_tcache_self()->bin[bs_class_of(32768)].cap, 2 * BS_MAGAZINE_LEAST);
    fill_and_empty(size, 400);
    ck_assert_uint_eq(bs_tcache_self()->bin[class].cap, full_capacity(size));
    for (unsigned i = 0; i < 800; i++)
        take(size);
    for (unsigned i = 0; i < 200; i++) /* a few slots of each span */
        give(3 * i);
    for (unsigned i = 0; i < 300; i++) {
        size_t before = bs_central_counts(class).slots_out;
        take(size);
        most = bs_max(most, bs_central_counts(class).slots_out - before);
    }
    ck_assert_uint_eq(most, BS_CLAIM_LARGE_BYTES / size);
    ck_assert_uint_le(most, bs_tcache_self()->bin[class].cap / 2);
    check_conservation();
    bs_heap_free(much);
}
END_TEST

/* From 12 MiB on, for the largest. */
START_TEST(magazines_of_large_blocks_grow_with_the_heap) {
    const size_t size = 32768, blocks = 40;
    void *much = bs_heap_alloc(10 * BS_MIB - blocks * size), *more;
    fill_and_empty(size, blocks);
    const struct bs_bin *bin = &bs_tcache_self()->bin[bs_class_of(size)];
    ck_assert_uint_eq(bin->cap, BS_MAGAZINE_LEAST);
    more = bs_heap_alloc(3 * BS_MIB);
    fill_and_empty(size, blocks);
    ck_assert_uint_eq(bin->cap, 2 * BS_MAGAZINE_LEAST);
    check_conservation();
    bs_heap_free(much);
    bs_heap_free(more);
}
END_TEST

/* The heap grows by large spans and then by one small span: what is unused in the cache is used first. */
START_TEST(growth_takes_what_is_unused) {
    unsigned idle = bs_class_of(512), busy = bs_class_of(1024), large = bs_class_of(4096);
    for (int i = 0; i < 24; i++)
        take(512);
    for (int i = 0; i < 3; i++)
        take(4096);
    while (nlive != 0)
        give(0);
    bs_tcache_self()->bin[idle].refilled = false; /* as after a pass */
    bs_tcache_self()->bin[large].refilled = false;
    ck_assert_uint_ne(bs_tcache_count(bs_tcache_self(), idle), 0);
    for (size_t bytes = 0; bytes < BS_SPARE_BYTES + BS_KIB; bytes += BS_KIB) {
        ck_assert_uint_ne(bs_tcache_count(bs_tcache_self(), large), 0); /* these stay in any case */
        take(1024);
    }
    ck_assert_uint_eq(bs_tcache_count(bs_tcache_self(), idle), 0);
    ck_assert_uint_eq(bs_tcache_self()->bin[idle].run_mask, 0);
    ck_assert_uint_eq(bs_central_counts(idle).slots_out, 0);
    ck_assert_uint_eq(bs_central_counts(busy).slots_out * BS_KIB, bs_central_counts(busy).spans * BS_PAGE_SIZE);
    check_conservation();
}
END_TEST

START_TEST(unused_magazines_shrink) {
    fill_and_empty(64, 3 * BS_MAGAZINE_MAX);
    unsigned class = bs_class_of(64);
    size_t before = bs_tcache_count(bs_tcache_self(), class);
    ck_assert_uint_ge(before, full_capacity(64) / 2);
    for (unsigned i = 0; i < 8 * 1024 && bs_tcache_count(bs_tcache_self(), class) > 1; i++) /* another phase of the program */
        fill_and_empty(32768, 20);
    ck_assert_uint_le(bs_tcache_count(bs_tcache_self(), class), 1);
    check_conservation();
}
END_TEST

/* --- ends ------------------------------------------------------------------------------------- */

static void use_some(void) {
    void *p[400];
    uint64_t mine = (uint64_t)bs_os_tid();
    for (unsigned i = 0; i < 400; i++)
        p[i] = bs_heap_alloc(random_skewed(&mine, 12));
    for (unsigned i = 0; i < 400; i++)
        bs_heap_free(p[i]);
}

static void *ordinary_thread(void *arg) {
    (void)arg;
    use_some();
    require(bs_tcache_bytes(bs_tcache_self()) != 0, "nothing was cached");
    return NULL;
}

/* libc calls destructors in four rounds; ThreadSanitizer takes leave of a thread in the last. */
#if BS_SANITIZE_THREAD
#define LATE_ROUNDS 3
#else
#define LATE_ROUNDS 4
#endif
static pthread_key_t late_key;

static void late_destructor(void *arg) {
    use_some();
    if ((uintptr_t)arg > 1) /* again in the next round */
        pthread_setspecific(late_key, (void *)((uintptr_t)arg - 1));
}
static void *thread_with_late_destructors(void *arg) {
    (void)arg;
    pthread_setspecific(late_key, (void *)(uintptr_t)LATE_ROUNDS);
    use_some();
    return NULL;
}

static void run_threads(void *(*fn)(void *), unsigned n) {
    pthread_t thread[64];
    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, fn, (void *)(uintptr_t)i), 0);
    for (unsigned i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
}

START_TEST(thread_ends_give_all_back) {
    begin_sampling(intervals[_i]);
    ck_assert_int_eq(pthread_key_create(&late_key, late_destructor), 0);
    run_threads(ordinary_thread, 20);
    ck_assert_uint_eq(bs_counted(caches_closed), 20);
    ck_assert_uint_eq(bs_thread_count(), 0);
    ck_assert_uint_eq(slots_out(), 0);
    run_threads(thread_with_late_destructors, 20);
    ck_assert_uint_eq(bs_thread_count(), 0);
    ck_assert_uint_eq(slots_out(), 0);
    ck_assert_uint_eq(bs_counted(caches_made), bs_counted(caches_closed));
    ck_assert(bs_thread_grant(BS_CACHE_TOTAL_BYTES));
}
END_TEST

START_TEST(gates_end_with_their_thread) {
    enum { N = 200 };
    size_t metadata = 0;
    begin_sampling(512 * BS_KIB);
    for (unsigned i = 0; i < N + 20; i++) { /* pools grow a little at first */
        run_threads(ordinary_thread, 1);
        metadata = i < 20 ? bs_meta_used_bytes() : metadata;
    }
    ck_assert_uint_lt(bs_meta_used_bytes(), metadata + N / 2 * sizeof(struct bs_gates));
}
END_TEST

#if !BS_SANITIZED /* a sanitizer does not bear threads that vanish */
static int vanished_tid[64];

static void *thread_that_vanishes(void *arg) {
    vanished_tid[(uintptr_t)arg] = bs_os_tid();
    use_some();
    syscall(SYS_exit, 0); /* no destructor runs */
    return NULL;
}

/* pthread_join returns when the kernel has cleared the tid's word, a moment before it forgets the
 * tid: until then the thread counts as alive, and rightly so. */
static void run_vanishing_threads(unsigned n) {
    run_threads(thread_that_vanishes, n);
    for (unsigned i = 0; i < n; i++)
        while (bs_os_thread_alive(vanished_tid[i]))
            bs_os_yield();
}

START_TEST(vanished_threads_are_found) {
    begin_sampling(intervals[_i]);
    use_some();
    size_t mine = slots_out();
    run_vanishing_threads(30);
    ck_assert_uint_eq(bs_thread_count(), 31);
    ck_assert_uint_gt(slots_out(), mine);
    for (unsigned i = 0; i < 30; i++) {
        struct bs_tcache *orphan = bs_thread_take_orphan(31);
        ck_assert_ptr_nonnull(orphan);
        ck_assert_ptr_ne(orphan, bs_tcache_self());
        bs_tcache_bury(orphan);
    }
    ck_assert_ptr_null(bs_thread_take_orphan(31));
    ck_assert_uint_eq(bs_counted(caches_orphaned), 30);
    ck_assert_uint_eq(bs_thread_count(), 1);
    ck_assert_uint_eq(slots_out(), mine);
}
END_TEST

START_TEST(search_for_orphans_goes_round) { /* a bounded look a call finds all in the end */
    run_vanishing_threads(10);
    use_some(); /* registered last: the dead ones are before it */
    unsigned found = 0;
    for (unsigned i = 0; i < 11; i++) {
        struct bs_tcache *orphan = bs_thread_take_orphan(1);
        if (orphan != NULL) {
            bs_tcache_bury(orphan);
            found++;
        }
    }
    ck_assert_uint_eq(found, 10);
}
END_TEST
#endif

static pthread_barrier_t barrier;

static void *thread_that_waits(void *arg) {
    use_some();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return arg;
}

START_TEST(forked_child_finds_the_others_caches) {
    pthread_t thread[5];
    int status;
    bs_fork_start();
    begin_sampling(intervals[_i]);
    pthread_barrier_init(&barrier, NULL, 6);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, thread_that_waits, NULL), 0);
    pthread_barrier_wait(&barrier);
    use_some();
    pid_t child = fork();
    if (child == 0) {
        unsigned found = 0;
        for (struct bs_tcache *tc; (tc = bs_thread_take_orphan(100)) != NULL; found++)
            bs_tcache_bury(tc);
        bs_tcache_leave();
        _exit(found == 5 && slots_out() == 0 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    ck_assert_int_eq(status, 0);
    ck_assert_ptr_null(bs_thread_take_orphan(100)); /* here they all live */
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < 5; i++)
        pthread_join(thread[i], NULL);
}
END_TEST

/* --- without a cache -------------------------------------------------------------------------- */

/* The two static caches share words: of each, every magazine is empty and full, and no class has a run. */
static void check_static(const struct bs_tcache *tc) {
    for (unsigned class = 0; class < BS_NCLASSES; class++) {
        ck_assert_ptr_nonnull(tc->tops.top[class]);
        ck_assert_ptr_null(*tc->tops.top[class]);
        ck_assert_ptr_eq(tc->tops.top[class], tc->tops.limit[class]);
        ck_assert(tc->bin[class].run_mask == 0);
    }
    ck_assert_ptr_null(tc->gates);
}
START_TEST(static_caches_are_empty_and_full) {
    ck_assert_ptr_ne(&bs_tcache_none, &bs_tcache_empty);
    check_static(&bs_tcache_none);
    check_static(&bs_tcache_empty);
}
END_TEST

START_TEST(disabled_caches) {
    random_steps(200);
    bs_tcache_disable();
    ck_assert_ptr_eq(bs_tcache_self(), &bs_tcache_none);
    ck_assert_uint_eq(bs_thread_count(), 0);
    check_conservation(); /* nothing is cached: what is out is live */
    random_steps(2000 / UNIT_SLOWNESS);
    while (nlive != 0)
        give(nlive - 1);
    ck_assert_ptr_eq(bs_tcache_self(), &bs_tcache_none);
    ck_assert_uint_eq(slots_out(), 0);
}
END_TEST

static void *uncached_thread(void *arg) {
    use_some();
    require(bs_tcache_self() == &bs_tcache_none, "a cache was made although none shall be");
    return arg;
}

START_TEST(disabled_in_other_threads) {
    bs_tcache_disable();
    run_threads(uncached_thread, 10);
    ck_assert_uint_eq(bs_counted(caches_made), 0);
    ck_assert_uint_eq(slots_out(), 0);
}
END_TEST

START_TEST(leaving_is_final) {
    take(10);
    bs_tcache_leave();
    ck_assert_ptr_eq(bs_tcache_self(), &bs_tcache_none);
    take(10);
    ck_assert_ptr_eq(bs_tcache_self(), &bs_tcache_none);
    give(0);
    give(0);
    ck_assert_uint_eq(slots_out(), 0);
    bs_tcache_leave(); /* again is harmless */
}
END_TEST

#if BS_FAULTS
START_TEST(no_memory_for_a_cache) {
    struct bs_tcache *before = bs_tcache_self();
    bs_os_fail(1, 12 /* ENOMEM */, true);
    ck_assert_ptr_null(bs_heap_alloc(10));
    ck_assert_ptr_eq(bs_tcache_self(), before);
    bs_os_fail(0, 0, false);
    take(10);
    check_conservation();
}
END_TEST
#endif

/* --- cache lines ------------------------------------------------------------------------------- */

#define NEIGHBOURS 4
static void *handed[NEIGHBOURS], *taken[NEIGHBOURS];
static size_t handed_bytes;
static pthread_barrier_t all_have_one;

static void *free_then_take(void *arg) {
    void **place = arg, *given = handed[place - taken];
    bs_heap_free(given);
    *place = bs_heap_alloc(handed_bytes);
    pthread_barrier_wait(&all_have_one); /* nobody's cache goes before */
    return NULL;
}

/* Who hands neighbours to threads, as the arguments of pthread_create, gives them one cache line. When each
 * has freed its own and takes a block of that size, they share none any more. */
START_TEST(handed_neighbours_part) {
    pthread_t thread[NEIGHBOURS];
    handed_bytes = (size_t)8 << _i % 3;
    sample(intervals[_i / 3]);
    for (unsigned i = 0; i < NEIGHBOURS; i++)
        handed[i] = bs_heap_alloc(handed_bytes);
    pthread_barrier_init(&all_have_one, NULL, NEIGHBOURS);
    for (unsigned i = 0; i < NEIGHBOURS; i++)
        pthread_create(&thread[i], NULL, free_then_take, &taken[i]);
    for (unsigned i = 0; i < NEIGHBOURS; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < NEIGHBOURS; i++)
        for (unsigned j = 0; j < i; j++)
            require((uintptr_t)taken[i] / 64 != (uintptr_t)taken[j] / 64, "%p and %p of %zu bytes",
                    taken[i], taken[j], handed_bytes);
    for (unsigned i = 0; i < NEIGHBOURS; i++)
        bs_heap_free(taken[i]);
}
END_TEST

int main(void) {
    all_sizes_at_home();
    Suite *suite = suite_create("tcache");
    TCase *tc = add_case(suite, "conservation");
    tcase_add_loop_test(tc, nothing_is_lost_or_doubled, 0, BS_ARRAY_LEN(intervals));
    tcase_add_loop_test(tc, gates_stay_where_they_are, 0, 2);
    tcase_add_test(tc, what_waits_at_a_gate_is_in_the_cache);
    tcase_add_test(tc, the_highest_place_may_be_a_gate);
    tcase_add_test(tc, an_open_gate_keeps_its_block);
    tcase_add_test(tc, a_cache_that_is_older_than_sampling);
    tcase_add_test(tc, last_freed_comes_first);
    tcase_add_test(tc, first_cache_is_made_at_the_slow_door);
    tc = add_case(suite, "capacity");
    tcase_add_test(tc, magazines_grow_on_demand);
    tcase_add_test(tc, magazines_grow_as_they_are_refilled);
    tcase_add_test(tc, magazines_grow_as_they_are_filled);
    tcase_add_test(tc, large_blocks_have_small_magazines);
    tcase_add_test(tc, runs_spread_into_magazines);
    tcase_add_test(tc, large_runs_stay);
    tcase_add_test(tc, flush_gives_half);
    tcase_add_test(tc, capacity_is_within_the_threads_budget);
    tcase_add_test(tc, capacity_is_within_a_part_of_the_heap);
    tcase_add_test(tc, capacity_is_within_the_total);
    tcase_add_test(tc, claims_are_bounded_in_bytes);
    tcase_add_test(tc, bounds_grow_with_the_heap);
    tcase_add_test(tc, magazines_of_large_blocks_grow_with_the_heap);
    tcase_add_test(tc, growth_takes_what_is_unused);
    tcase_add_test(tc, unused_magazines_shrink);
    tc = add_case(suite, "lines");
    tcase_add_loop_test(tc, handed_neighbours_part, 0, 9);
    tc = add_case(suite, "ends");
    tcase_add_loop_test(tc, thread_ends_give_all_back, 0, BS_ARRAY_LEN(intervals));
    tcase_add_test(tc, gates_end_with_their_thread);
#if !BS_SANITIZED
    tcase_add_loop_test(tc, vanished_threads_are_found, 0, BS_ARRAY_LEN(intervals));
    tcase_add_test(tc, search_for_orphans_goes_round);
#endif
    tcase_add_loop_test(tc, forked_child_finds_the_others_caches, 0, BS_ARRAY_LEN(intervals));
    tc = add_case(suite, "without");
    tcase_add_test(tc, disabled_caches);
    tcase_add_test(tc, static_caches_are_empty_and_full);
    tcase_add_test(tc, disabled_in_other_threads);
    tcase_add_test(tc, leaving_is_final);
#if BS_FAULTS
    tcase_add_test(tc, no_memory_for_a_cache);
#endif
    return run_suite(suite);
}
