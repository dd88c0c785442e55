/* SPDX-License-Identifier: MIT */
/*
 * check_owners.c - each block counts for the first word that leads to it, as a slow marker says, word for word: random
 * graphs, words in the order of ranges, copies of words by the address that they are from; when a table is full pages
 * stand for their words; and by whole scans of every kind: variables before stacks, sampled blocks by their stack.
 */
#include "graph_unit.h"
#include "scan_unit.h"

#include <sys/epoll.h>

static struct bs_owners owners;

static const struct bs_owned *entry(const struct bs_owners *o, const struct bs_stack *stack, struct bs_owner owner) {
    for (size_t i = 0; i < BS_OWNED; i++)
        if (o->of[i].blocks != 0 && o->of[i].stack == stack && o->of[i].owner.kind == owner.kind &&
            o->of[i].owner.at == owner.at)
            return &o->of[i];
    return NULL;
}
static struct bs_owner word_at(const volatile void *at) {
    return (struct bs_owner){BS_OWNER_MEMORY, (uintptr_t)at};
}

/* --- graphs at random --------------------------------------------------------------------------- */

enum { NWORDS = 300 };
static struct bs_trace trace;
static uintptr_t words[NWORDS];

/* What the word leads to that no other has led to before. */
static struct bs_owned spread(const struct bs_trace_rules *r, uintptr_t x) {
    struct bs_owned sum = {.blocks = 0};
    npending = 0;
    meet(r, x);
    while (npending != 0) {
        const struct node *n = &node[pending[--npending]];
        sum.blocks++;
        sum.bytes += n->size;
        read_range(r, n->base, n->base + n->size);
    }
    return sum;
}

static void make_graph(uint64_t number) {
    graph_init(2000, 4000 + number);
    for (size_t i = 0; i < 2000; i++)
        add_block(random_below(&seed, 100) == 0 ? 100000 : 16 + random_below(&seed, 2000));
    graph_sort();
    scatter(number % 3 == 0 ? 6000 : 1500, false);
    for (size_t i = 0; i < NWORDS; i++)
        words[i] = random_below(&seed, 3) == 0 ? random_word() : 0;
}

static void compare(const struct bs_owners *o, const struct bs_trace_rules *r, const uintptr_t *from) {
    size_t n = 0;
    pending = calloc(nnodes, sizeof *pending);
    for (size_t i = 0; i < nnodes; i++)
        node[i].marked = false;
    for (size_t i = 0; i < NWORDS; i++) {
        struct bs_owned want = spread(r, words[i]);
        struct bs_owner owner = word_at(from != NULL ? (void *)from[i] : &words[i]);
        if (owner.at == 0)
            continue; /* of the kernel's: all together, below */
        const struct bs_owned *e = entry(o, NULL, owner);
        require((e != NULL) == (want.blocks != 0), "word %zu leads to %ju blocks", i, (uintmax_t)want.blocks);
        if (e == NULL)
            continue;
        require_uint_eq(e->blocks, want.blocks);
        require_uint_eq(e->bytes, want.bytes);
        n++;
    }
    require(n != 0, "no word leads anywhere");
    free(pending);
}

/* Small stacks forget what they have to read: it is still the word's. */
START_TEST(each_block_is_the_first_words) {
    static const struct bs_trace_rules some[] = {{.past_end = BS_PAST_END_FREE}, {.past_end = BS_PAST_END_ALWAYS}};
    const struct bs_trace_rules *r = &some[_i % 2];
    const struct bs_range range[] = {{(uintptr_t)words, (uintptr_t)(words + 100)},
                                     {(uintptr_t)(words + 100), (uintptr_t)(words + NWORDS)}};
    struct bs_trace_sums sums;
    make_graph((uint64_t)_i);
    require(bs_trace_prepare(&trace, 1, _i % 3 == 0 ? 1 : 4096), "no memory");
    begin();
    bs_trace_begin(&trace, r, NULL, 0);
    trace.owners = &owners;
    trace.owner = (struct bs_owner){BS_OWNER_MEMORY, 0};
    for (unsigned i = 0; i < 2; i++) {
        bs_trace_more(&trace, &range[i], 1);
        bs_trace_work(&trace, 0);
    }
    require(bs_trace_end(&trace, &sums), "cancelled");
    ck_assert(_i % 3 != 0 || sums.forgotten != 0);
    compare(&owners, r, NULL);
    bs_cycle_end();
}
END_TEST

/* Words that were copied from elsewhere, some from nowhere. */
START_TEST(copies_count_for_where_they_are_from) {
    static uintptr_t from[NWORDS];
    const struct bs_trace_rules r = {.past_end = BS_PAST_END_FREE};
    const struct bs_range range = {(uintptr_t)words, (uintptr_t)(words + NWORDS)};
    struct bs_trace_sums sums;
    make_graph(100 + (uint64_t)_i);
    for (size_t i = 0; i < NWORDS; i++)
        from[i] = i % 5 == 0 ? 0 : 0x10000 + i * 8;
    require(bs_trace_prepare(&trace, 1, 4096), "no memory");
    begin();
    bs_trace_begin(&trace, &r, &range, 1);
    trace.owners = &owners;
    trace.owner = (struct bs_owner){BS_OWNER_KERNEL, 0};
    trace.from = from;
    bs_trace_work(&trace, 0);
    require(bs_trace_end(&trace, &sums), "cancelled");
    compare(&owners, &r, from);
    const struct bs_owned *kernel = entry(&owners, NULL, (struct bs_owner){BS_OWNER_KERNEL, 0});
    ck_assert_ptr_nonnull(kernel);
    size_t bytes = 0;
    for (size_t i = 0; i < BS_OWNED; i++)
        bytes += owners.of[i].bytes;
    ck_assert_uint_eq(bytes, sums.bytes);
    bs_cycle_end();
}
END_TEST

/* --- a table that is full ------------------------------------------------------------------------ */

START_TEST(pages_stand_for_words_without_room) {
    const struct bs_owned *top[4];
    uintptr_t base = 0x100000;
    for (uintptr_t i = 0; i < BS_OWNERS_EACH + 1024; i++) {
        bs_owners_turn(&owners, (struct bs_owner){BS_OWNER_MEMORY, base + i * 8});
        bs_owners_sum(&owners, 1, i == 7 ? 5 * BS_MIB : 16);
    }
    ck_assert_uint_eq(owners.n, BS_OWNERS_EACH + 2);
    uintptr_t page = base + BS_OWNERS_EACH * 8;
    const struct bs_owned *e = entry(&owners, NULL, word_at((void *)page));
    ck_assert_ptr_nonnull(e);
    ck_assert_uint_eq(e->blocks, 512);
    ck_assert_uint_eq(e->bytes, 512 * 16);
    bs_owners_turn(&owners, word_at((void *)(base + 8)));
    bs_owners_sum(&owners, 1, 16); /* one that has its place keeps it */
    ck_assert_uint_eq(entry(&owners, NULL, word_at((void *)(base + 8)))->blocks, 2);
    ck_assert_uint_eq(bs_owners_top(&owners, BS_OWNERS_WORDS, NULL, top, 4), 4);
    ck_assert_uint_eq(top[0]->owner.at, base + 7 * 8);
    ck_assert_uint_eq(top[1]->bytes, 512 * 16);
    ck_assert_uint_eq(top[2]->bytes, 512 * 16);
    ck_assert_uint_eq(top[3]->bytes, 32);
    ck_assert_uint_eq(bs_owners_top(&owners, BS_OWNERS_WORDS, NULL, top, 0), 0);
    ck_assert_uint_eq(bs_owners_top(&owners, BS_OWNERS_STACKS, NULL, top, 4), 0);
}
END_TEST

START_TEST(a_full_table_takes_no_more) {
    for (uintptr_t i = 0; i < 2 * BS_OWNED; i++) {
        bs_owners_turn(&owners, (struct bs_owner){BS_OWNER_MEMORY, i * BS_OWNERS_PAGE + 8});
        bs_owners_sum(&owners, 1, 1);
    }
    ck_assert_uint_eq(owners.n, BS_OWNERS_FULL);
    bs_owners_sum(&owners, 0, 0);
}
END_TEST

/* --- whole scans --------------------------------------------------------------------------------- */

static void **first, **second; /* in this order in memory, or the other */
static void ***const variable[] = {&first, &second};

/* Blocks that come from there, by that owner, or one of that kind; over all stacks: each call has its own. */
static struct bs_owned owned_from(const char *from, const char *to, enum bs_owner_kind kind, uintptr_t at) {
    struct bs_owned sum = {.blocks = 0};
    for (size_t i = 0; i < BS_OWNED; i++) {
        const struct bs_owned *e = &verdict.owners->of[i];
        if (e->stack == NULL || !is_of(e->stack, from, to) || e->owner.kind != kind || (at != 0 && e->owner.at != at))
            continue;
        sum.stack = e->stack;
        sum.owner = e->owner;
        sum.blocks += e->blocks;
        sum.bytes += e->bytes;
        sum.samples += e->samples;
    }
    return sum;
}
#define OWNED(site, kind, at) owned_from(__start_in_##site, __stop_in_##site, kind, (uintptr_t)(at))

/* Three blocks of 100 bytes in a list, at the end of which is one of 1000. */
static void __attribute__((noinline)) plant(void) {
    void **list = SHOWN(site_b(1000));
    for (unsigned i = 0; i < 3; i++) {
        void **block = SHOWN(site_a(100));
        block[5] = list;
        list = block;
    }
    first = list;
    second = SHOWN(site_b(2000));
    second[1] = list; /* both lead there, and one is the first */
}

START_TEST(variables_own_what_they_lead_to) {
    setup(_i);
    rules.owners = true;
    plant();
    wipe();
    must_scan();
    const unsigned low = (uintptr_t)&first > (uintptr_t)&second; /* which of them is the first to be read */
    void ***const lower = variable[low], ***const higher = variable[1 - low];
    const struct bs_owned a = OWNED(site_a, BS_OWNER_MEMORY, lower), *top[3];
    require_uint_eq(a.bytes, 300);
    require_uint_eq(a.samples, 3);
    require_uint_eq(OWNED(site_a, BS_OWNER_MEMORY, higher).bytes, 0);
    require_uint_eq(OWNED(site_b, BS_OWNER_MEMORY, lower).bytes, low == 0 ? 1000 : 3000);
    require_uint_eq(OWNED(site_b, BS_OWNER_MEMORY, higher).bytes, low == 0 ? 2000 : 0);
    require_uint_eq(OWNED(site_a, BS_OWNER_NONE, 0).bytes, 300);
    const struct bs_owned *e = entry(verdict.owners, NULL, word_at(lower));
    require(e != NULL && e->blocks == (low == 0 ? 4 : 5), "the lower one's blocks");
    ck_assert_uint_eq(bs_owners_top(verdict.owners, BS_OWNERS_OF_STACK, a.stack, top, 3), 1);
    ck_assert_uint_eq(top[0]->bytes, 300);
    ck_assert_uint_eq(bs_owners_top(verdict.owners, BS_OWNERS_STACKS, NULL, top, 3), 3);
    ck_assert_uint_eq(top[0]->bytes, 2000);
    ck_assert_uint_eq(top[1]->bytes, 1000);
    ck_assert_uint_eq(top[2]->bytes, 300);
}
END_TEST

START_TEST(nobody_is_asked_for_owners) {
    setup(_i);
    plant();
    must_scan();
    ck_assert_ptr_null(verdict.owners);
}
END_TEST

static void **volatile *shared_place;
static void *hold_on_a_stack(void *arg) {
    void **volatile here = SHOWN(site_a(4000));
    bs_store_release(&shared_place, &here);
    while (!bs_load((bool *)arg))
        usleep(1000);
    return (void *)here;
}

/* What a variable and a stack lead to is the variable's; what the stack alone leads to is the stack's, by one owner. */
START_TEST(stacks_come_after_variables) {
    static bool ends;
    pthread_t thread;
    setup(_i);
    rules.owners = true;
    ck_assert_int_eq(pthread_create(&thread, NULL, hold_on_a_stack, &ends), 0);
    while (bs_load_acquire(&shared_place) == NULL)
        usleep(1000);
    must_scan();
    struct bs_owned a = OWNED(site_a, BS_OWNER_STACK, 0);
    require_uint_eq(a.bytes, 4000);
    require(a.owner.at <= (uintptr_t)shared_place, "at %lx", a.owner.at);
    first = *shared_place;
    must_scan();
    require_uint_eq(OWNED(site_a, BS_OWNER_STACK, 0).bytes, 0);
    require_uint_eq(OWNED(site_a, BS_OWNER_MEMORY, &first).bytes, 4000);
    bs_store(&ends, true);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

/* (While the program runs that is read in a stop, and what is found there has no owner.) */
START_TEST(the_kernel_owns_too) {
    setup(_i);
    rules.owners = true;
    int fd = epoll_create1(EPOLL_CLOEXEC), ends[2];
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pipe(ends), 0);
    {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = SHOWN(site_a(700))};
        ck_assert_int_eq(epoll_ctl(fd, EPOLL_CTL_ADD, ends[0], &event), 0);
        event.data.ptr = NULL;
        __asm__ volatile("" ::"r"(&event) : "memory");
    }
    wipe();
    must_scan();
    require_uint_eq(verdict.lost_blocks, 0);
    require_uint_eq(OWNED(site_a, BS_OWNER_KERNEL, 0).bytes, 700);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("owners");
    TCase *tc = add_case(suite, "owners");
    tcase_add_loop_test(tc, each_block_is_the_first_words, 0, 24 / UNIT_SLOWNESS + 3);
    tcase_add_loop_test(tc, copies_count_for_where_they_are_from, 0, 4);
    tcase_add_test(tc, pages_stand_for_words_without_room);
    tcase_add_test(tc, a_full_table_takes_no_more);
    tcase_add_loop_test(tc, variables_own_what_they_lead_to, 0, NSEARCHES);
    tcase_add_loop_test(tc, nobody_is_asked_for_owners, 0, NSEARCHES);
    tcase_add_loop_test(tc, stacks_come_after_variables, 0, NSEARCHES);
    tcase_add_loop_test(tc, the_kernel_owns_too, 0, CONCURRENT);
    return run_suite(suite);
}
