/* SPDX-License-Identifier: MIT */
/*
 * check_pins.c - what stacks pin: with all blocks sampled each stack's figure is the one that follows from the
 * addresses of its blocks, and their sum the ledger's; with some sampled it is near it; blocks that come and go
 * meanwhile, and a lack of memory, do no harm.
 */
#include "child.h"
#include "heap.h"
#include "ledger.h"
#include "opt.h"
#include "os.h"
#include "pins.h"
#include "sample.h"
#include "span.h"
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>

static void start(uint64_t interval) {
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* what is touched is in memory */
    bs_heap_free(bs_heap_alloc(10));
    bs_opt.sample = interval;
    bs_heap_start_sampling();
}

/* Two stacks. */
static void *__attribute__((noinline)) few(size_t size) {
    void *p = bs_heap_alloc(size);
    memset(p, 1, size);
    return p;
}
static void *__attribute__((noinline)) many(size_t size) {
    void *p = bs_heap_alloc(size);
    memset(p, 2, size);
    return p;
}

static const struct bs_stack *stack_of(const void *p) {
    struct bs_sampled s;
    ck_assert(bs_sample_find(p, &s));
    return s.stack;
}

/* --- every block ------------------------------------------------------------------------------ */

enum { NBLOCKS = 40000, MANY_EACH = 7, FEW_EACH = 59 };
static struct block {
    uintptr_t p;
    bool is_few;
} kept[NBLOCKS];
static size_t nkept;

/* Of NBLOCKS in the order of their making one in MANY_EACH and one in FEW_EACH stay. */
static void keep_some(size_t size) {
    static void *gone[NBLOCKS];
    size_t ngone = 0;
    for (unsigned i = 0; i < NBLOCKS; i++) {
        bool is_few = i % FEW_EACH == 0;
        void *p = is_few ? few(size) : many(size);
        if (is_few || i % MANY_EACH == 0)
            kept[nkept++] = (struct block){(uintptr_t)p, is_few};
        else
            gone[ngone++] = p;
    }
    for (size_t i = 0; i < ngone; i++)
        bs_heap_free(gone[i]);
}

static int by_address(const void *a, const void *b) {
    uintptr_t p = ((const struct block *)a)->p, q = ((const struct block *)b)->p;
    return p < q ? -1 : p > q;
}

/* Of one OS page: [i, n) are the blocks from the first on that is on it. Adds what each of them pins. */
static void account(uintptr_t page, size_t os_page, size_t i, uint64_t pinned[2]) {
    size_t taken = 0, blocks[2] = {0, 0};
    struct bs_shape s;
    ck_assert(bs_span_shape(bs_span_of(kept[i].p), &s));
    uintptr_t from = bs_max(page, s.base), to = bs_min(page + os_page, s.base + s.bytes);
    for (; i < nkept && kept[i].p < to; i++) {
        taken += bs_min(kept[i].p + s.size, to) - bs_max(kept[i].p, from);
        blocks[kept[i].is_few]++;
    }
    uint64_t each = (to - from - taken) / (blocks[0] + blocks[1]);
    pinned[0] += each * blocks[0];
    pinned[1] += each * blocks[1];
}

/* The same from the addresses alone. */
static void expected(size_t os_page, uint64_t pinned[2]) {
    qsort(kept, nkept, sizeof *kept, by_address);
    uintptr_t done = 0; /* pages below it are accounted for */
    for (size_t i = 0; i < nkept; i++) {
        struct bs_shape s;
        ck_assert(bs_span_shape(bs_span_of(kept[i].p), &s));
        uintptr_t page = bs_max(bs_align_down(kept[i].p, os_page), done);
        for (; page < kept[i].p + s.size; page += os_page) {
            account(page, os_page, i, pinned);
            done = page + os_page;
        }
    }
}

static const size_t sizes[] = {16, 48, 100, 1000, 3000};

START_TEST(shares_follow_from_the_addresses) {
    struct bs_ledger ledger;
    struct bs_pins pins;
    uint64_t want[2] = {0, 0};
    start(1);
    keep_some(sizes[_i]);
    expected(bs_os_page_size(), want);
    ck_assert(bs_pins_take(&pins));
    const struct bs_stack *stack[2] = {NULL, NULL};
    for (size_t i = 0; i < nkept; i++)
        stack[kept[i].is_few] = stack_of((void *)kept[i].p);
    ck_assert_ptr_ne(stack[0], stack[1]);
    ck_assert_uint_gt(want[1], 0);
    ck_assert_uint_eq(bs_pins_of(&pins, stack[0]), want[0]);
    ck_assert_uint_eq(bs_pins_of(&pins, stack[1]), want[1]);
    ck_assert_uint_eq(pins.bytes, want[0] + want[1]);
    ck_assert(bs_ledger_take(&ledger));
    ck_assert_uint_le(pins.bytes, ledger.pinned);
    /* Each page loses less than a byte for each of its blocks. */
    uint64_t block_pages = nkept * (sizes[_i] / bs_os_page_size() + 2);
    ck_assert_uint_ge(pins.bytes + block_pages, ledger.pinned);
    bs_pins_drop(&pins);
    ck_assert_uint_eq(pins.bytes, 0);
    ck_assert_uint_eq(bs_pins_of(&pins, stack[0]), 0);
}
END_TEST

START_TEST(large_blocks_pin_nothing) {
    struct bs_pins pins;
    start(1);
    const void *large = few(100001), *small = many(64);
    ck_assert(bs_pins_take(&pins));
    ck_assert_uint_eq(bs_pins_of(&pins, stack_of(large)), 0);
    ck_assert_uint_eq(bs_pins_of(&pins, stack_of(small)), bs_os_page_size() - 64);
    ck_assert_uint_eq(bs_pins_of(&pins, &bs_stacks_other), 0);
    bs_pins_drop(&pins);
}
END_TEST

/* --- some of them ----------------------------------------------------------------------------- */

#define INTERVAL 4096

/* 25000 blocks of 64 bytes stay, each on a page with three others at most: some 400 samples, which are within 30 % of
 * the truth but once in 10^8. Of their pages some hold blocks that the thread's cache has, which take their share. */
START_TEST(samples_stand_for_the_others) {
    enum { ALL = 400000, EACH = 16 };
    static void *block[ALL];
    struct bs_ledger ledger;
    struct bs_pins pins;
    start(INTERVAL);
    for (unsigned i = 0; i < ALL; i++)
        block[i] = many(64);
    for (unsigned i = 0; i < ALL; i++)
        if (i % EACH != 0)
            bs_heap_free(block[i]);
    ck_assert(bs_pins_take(&pins));
    ck_assert(bs_ledger_take(&ledger));
    ck_assert_uint_gt(ledger.pinned, (ALL / EACH) * 64 * (EACH - 2));
    ck_assert_uint_le(pins.bytes, ledger.pinned / 10 * 13);
    ck_assert_uint_ge(pins.bytes, ledger.pinned / 10 * 6);
    bs_pins_drop(&pins);
}
END_TEST

/* --- meanwhile, and without memory ------------------------------------------------------------ */

static bool over;
static void *come_and_go(void *arg) {
    void *block[300] = {NULL};
    unsigned state = (unsigned)(uintptr_t)arg;
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        state = state * 1103515245 + 12345;
        void **b = &block[state / 65536 % BS_ARRAY_LEN(block)];
        bs_heap_free(*b);
        *b = bs_heap_alloc(16u << (state / 7 % 13)); /* to 64 KiB: spans come, go, and change their class */
    }
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        bs_heap_free(block[i]);
    return NULL;
}

START_TEST(blocks_come_and_go_meanwhile) {
    enum { N = 3, ROUNDS = 100 / UNIT_SLOWNESS };
    pthread_t thread[N];
    struct bs_pins pins;
    start(_i == 0 ? 1 : INTERVAL);
    for (uintptr_t i = 0; i < N; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, come_and_go, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        require(bs_pins_take(&pins), "no memory");
        require(pins.bytes < 64 * BS_MIB, "%zu bytes are pinned by 900 blocks", (size_t)pins.bytes);
        bs_pins_drop(&pins);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < N; i++)
        pthread_join(thread[i], NULL);
    ck_assert(bs_pins_take(&pins));
    ck_assert_uint_eq(pins.bytes, 0);
    bs_pins_drop(&pins);
}
END_TEST

START_TEST(without_memory_nothing_is_known) {
    struct bs_pins pins;
    start(1);
    const struct bs_stack *stack = stack_of(few(64));
    bs_os_fail(1, ENOMEM, true);
    bool known = bs_pins_take(&pins);
    bs_os_fail(0, 0, false);
    ck_assert(!known);
    ck_assert_uint_eq(pins.bytes, 0);
    ck_assert_uint_eq(bs_pins_of(&pins, stack), 0);
    ck_assert(bs_pins_take(&pins));
    ck_assert_uint_gt(bs_pins_of(&pins, stack), 0);
    bs_pins_drop(&pins);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pins");
    TCase *tc = add_case(suite, "every block");
    tcase_add_loop_test(tc, shares_follow_from_the_addresses, 0, BS_ARRAY_LEN(sizes));
    tcase_add_test(tc, large_blocks_pin_nothing);
    tc = add_case(suite, "some");
    tcase_add_test(tc, samples_stand_for_the_others);
    tc = add_case(suite, "meanwhile");
    tcase_add_loop_test(tc, blocks_come_and_go_meanwhile, 0, 2);
    tc = add_case(suite, "without memory");
    add_but_tsan(tc, without_memory_nothing_is_known, UNIT_ALONE);
    return run_suite(suite);
}
