/* SPDX-License-Identifier: MIT */
/*
 * check_linear.c - the engine that reads all live words marks exactly the held slots that one of them
 * points to: graphs at random with held, freed, large and idle blocks, under each rule, with vector
 * instructions of each width and without, by one worker, by several, and by one that is called.
 */
#include "graph_unit.h"
#include "linear.h"
#include "reader_unit.h"

#include <pthread.h>

static struct bs_linear linear;
static uintptr_t root_words[40000];
static const struct bs_range root[2] = {
    {(uintptr_t)root_words + 8, (uintptr_t)(root_words + 20001)},
    {(uintptr_t)(root_words + 30000), (uintptr_t)(root_words + 40000)},
};

static bool held[4000], expected[4000];

static void *work(void *arg) {
    bs_linear_work(&linear);
    return arg;
}

static void expect(uintptr_t x) {
    const struct node *n = block_at(x);
    if (n != NULL && held[n - node])
        expected[n - node] = true;
}
static void expect_range(const struct bs_trace_rules *r, uintptr_t start, uintptr_t end) {
    for (; start + 8 <= end; start += r->unaligned ? 1 : 8) {
        uintptr_t x;
        memcpy(&x, (const void *)start, sizeof x);
        x &= r->mask != 0 ? r->mask : ~(uintptr_t)0;
        expect(x);
        const struct node *n = block_at(x);
        if (r->past_end != BS_PAST_END_NEVER && (n == NULL || n->base == x)) {
            const struct node *before = block_at(x - 1);
            if (before != NULL && before->base + before->size == x)
                expect(x - 1);
        }
    }
}

static void make(size_t blocks, uint64_t number, bool unaligned) {
    static const size_t sizes[] = {16, 48, 64, 96, 1024, 32768, 50000, 6 << 20};
    graph_init(blocks, number);
    for (size_t i = 0; i < blocks; i++)
        add_block(sizes[random_below(&seed, i % 50 == 0 ? 8 : 5)]);
    graph_sort();
    scatter(blocks, unaligned);
    for (size_t i = 0; i < blocks; i++) {
        struct bs_span *s = bs_span_of(node[i].base);
        ck_assert(bs_marks_make(node[i].base, BS_SIDE_HELD));
        if (random_below(&seed, 4) == 0) {
            held[i] = true;
            ck_assert(hold((void *)node[i].base));
        } else if (s->class != 0 && random_below(&seed, 8) == 0) {
            release_one(s->class, (void *)node[i].base);
            node[i].gone = true;
        }
    }
    for (size_t i = 0; i < 40000; i++)
        root_words[i] = random_below(&seed, 50) == 0 ? random_word() : random_next(&seed) >> 20;
}

static const struct bs_trace_rules rules[] = {
    {.past_end = BS_PAST_END_ALWAYS},
    {.past_end = BS_PAST_END_NEVER},
    {.past_end = BS_PAST_END_ALWAYS, .unaligned = true},
    {.past_end = BS_PAST_END_NEVER, .mask = ~(uintptr_t)15},
};

START_TEST(marks_what_is_pointed_to) {
    const struct bs_trace_rules *r = &rules[_i % 4];
    struct bs_linear_sums sums;
    pthread_t thread[2];
    unsigned more = _i % 3 == 2 ? 2 : 0;
    make(2000, (uint64_t)_i, r->unaligned);
    memset(root_words, 0, _i % 5 == 0 ? sizeof root_words - 400 : 0);
    for (size_t i = 0; i < 2; i++)
        expect_range(r, root[i].start, root[i].end);
    for (size_t i = 0; i < nnodes; i++)
        if (!held[i] && !node[i].gone)
            expect_range(r, node[i].base, node[i].base + node[i].size);
    begin();
    ck_assert(bs_linear_begin(&linear, r, root, 2));
    linear.sieve = bs_min(linear.sieve, (enum bs_sieve_way)(_i / 4 % BS_SIEVE_WAYS));
    for (unsigned i = 0; i < more; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, work, NULL), 0);
    bs_linear_work(&linear);
    for (unsigned i = 0; i < more; i++)
        pthread_join(thread[i], NULL);
    bs_linear_end(&linear, &sums);
    size_t n = 0;
    for (size_t i = 0; i < nnodes; i++) {
        require(node[i].gone || has_bit(&node[i], BS_SIDE_MARK) == expected[i],
                "block %zu of %zu bytes at %lx is %smarked", i, node[i].size, node[i].base,
                expected[i] ? "not " : "");
        n += expected[i];
    }
    ck_assert_uint_eq(sums.marked, n);
    ck_assert_uint_gt(n, 0);
    bs_cycle_end();
    free(node);
}
END_TEST

/* What a thread's cache holds, and held blocks, hold nothing. */
START_TEST(dead_words_are_not_read) {
    struct bs_linear_sums sums;
    void **target = claim_one(bs_class_of(64)), **owner = claim_one(bs_class_of(64));
    *owner = target;
    ck_assert(hold(target));
    for (int turn = 0; turn < 3; turn++) {
        if (turn == 2)
            ck_assert(hold(owner));
        begin();
        if (turn == 1)
            bs_settle_spare((uintptr_t)owner);
        ck_assert(bs_linear_begin(&linear, NULL, NULL, 0));
        bs_linear_work(&linear);
        bs_linear_end(&linear, &sums);
        ck_assert_uint_eq(sums.marked, turn == 0 ? 1 : 0);
        bs_cycle_end();
    }
}
END_TEST

/* --- while the program runs ----------------------------------------------------------------------- */

/* While a span is read another thread retires it, and closes its pages. Second turn: without membarrier. */
START_TEST(a_span_that_is_read_stays) {
    static char copy[BS_LINEAR_COPY_BYTES];
    struct bs_linear_sums sums;
    void **block = window_block(2048), *held_one = claim_one(bs_class_of(64));
    if (!has_barrier())
        return;
    memset(held_one, 0, 64);
    block[200] = held_one;
    ck_assert(hold(held_one));
    ck_assert(bs_cycle_prepare());
    ck_assert(bs_linear_begin(&linear, NULL, NULL, 0));
    linear.copy = copy;
    ck_assert(bs_reader_begin());
    window_begin(1, _i == 1);
    bs_linear_work(&linear);
    window_end();
    bs_linear_end(&linear, &sums);
    ck_assert_uint_eq(sums.marked, 1);
    bs_cycle_end();
}
END_TEST

/* --- with the helper ---------------------------------------------------------------------------- */

static bool called, stop;
static void *join_when_called(void *arg) {
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
        if (__atomic_exchange_n(&called, false, __ATOMIC_ACQ_REL))
            (void)bs_linear_join();
    return arg;
}
static size_t taken(void) {
    while (__atomic_exchange_n(&linear.busy_word, 1, __ATOMIC_ACQUIRE) != 0)
        bs_os_yield();
    size_t n = linear.root + linear.root_pos + linear.next;
    bs_store_release(&linear.busy_word, 0u);
    return n;
}
/* It is known to be at its first piece. */
static void comes_and_begins(void) {
    __atomic_store_n(&called, true, __ATOMIC_RELEASE);
    while (taken() == 0)
        bs_os_yield();
}
static void nobody_comes(void) {
}
static uint64_t came_and_left;
static void comes_and_reads_all(void) {
    (void)bs_linear_join();
    came_and_left++;
}

/* All of it, none of it, and what a thread gets hold of, which is waited for. */
START_TEST(the_helper_reads_a_part) {
    static void (*const call[])(void) = {comes_and_reads_all, nobody_comes, comes_and_begins};
    pthread_t helper;
    struct bs_linear_sums sums, alone;
    uint64_t cpu_ns;
    make(2000, 7, false);
    begin();
    ck_assert(bs_linear_begin(&linear, NULL, root, 2));
    bs_linear_work(&linear);
    bs_linear_end(&linear, &alone);
    if (_i == 2)
        ck_assert_int_eq(pthread_create(&helper, NULL, join_when_called, NULL), 0);
    bs_linear_set_call(call[_i]);
    for (unsigned turn = 0; turn < (_i == 2 ? 100u : 2u); turn++) {
        for (size_t i = 0; i < nnodes; i++)
            bs_store(bs_marks_word(bs_span_of(node[i].base)->base, BS_SIDE_MARK, 0), (uint64_t)0);
        ck_assert(bs_linear_begin(&linear, NULL, root, 2));
        bool helped = bs_linear_work_in_company(&linear, &cpu_ns);
        bs_linear_end(&linear, &sums);
        ck_assert_uint_eq(came_and_left, _i == 0 ? turn + 1 : 0);
        ck_assert_int_eq(helped, _i != 1);
        ck_assert(helped || cpu_ns == 0);
        ck_assert_uint_eq(sums.root_bytes, alone.root_bytes);
        ck_assert_uint_eq(sums.heap_bytes, alone.heap_bytes);
        ck_assert_uint_eq(sums.candidates, alone.candidates);
        (void)bs_linear_join(); /* too late: nothing is offered */
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    if (_i == 2)
        pthread_join(helper, NULL);
    bs_cycle_end();
    free(node);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("linear");
    TCase *tc = add_case(suite, "linear");
    /* each third has threads, and the slow model need not be slower still */
    add_loop_but_tsan(tc, marks_what_is_pointed_to, 0, 24, "but for two that have several threads");
    if (BS_SANITIZE_THREAD) {
        tcase_add_loop_test(tc, marks_what_is_pointed_to, 5, 6);
        tcase_add_loop_test(tc, marks_what_is_pointed_to, 11, 12);
    }
    add_but_tsan(tc, dead_words_are_not_read, UNIT_ALONE);
    tcase_add_loop_test(tc, a_span_that_is_read_stays, 0, 2);
    tcase_add_loop_test(tc, the_helper_reads_a_part, 0, 3);
    return run_suite(suite);
}
