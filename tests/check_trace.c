/* SPDX-License-Identifier: MIT */
/*
 * check_trace.c - the engine that follows pointers marks what a slow marker marks, block for block:
 * graphs at random under every rule, with stacks of a few ranges, with several workers, in a forked
 * child; long chains; wide blocks; the edges of bitmaps; large blocks whose pages are not in memory
 * and stay so.
 */
#include "graph_unit.h"

#include "child.h"
#include "heap.h"
#include "reader_unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#define MAX_WORKERS 4

static struct bs_trace trace;

static void *work(void *number) {
    bs_trace_work(&trace, (unsigned)(uintptr_t)number);
    return NULL;
}

static struct bs_trace_sums run(const struct bs_trace_rules *rules, const struct bs_range *roots,
                                size_t nroots, unsigned nworkers) {
    struct bs_trace_sums sums;
    pthread_t thread[MAX_WORKERS];
    bs_trace_begin(&trace, rules, roots, nroots);
    for (unsigned i = 1; i < nworkers; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)i), 0);
    bs_trace_work(&trace, 0);
    for (unsigned i = 1; i < nworkers; i++)
        ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
    ck_assert(bs_trace_end(&trace, &sums));
    return sums;
}
static void end(void) {
    bs_cycle_end();
    bs_trace_drop(&trace);
    free(node);
}

/* --- random graphs ---------------------------------------------------------------------------- */

static size_t random_size(void) {
    static const size_t sizes[] = {8, 16, 48, 64, 96, 512, 1024, 3000, 8192, 32768};
    if (random_below(&seed, 300) == 0)
        return 40000 + random_below(&seed, 3 * BS_MIB);
    return sizes[random_below(&seed, BS_ARRAY_LEN(sizes) - (random_below(&seed, 8) != 0 ? 4 : 0))];
}

/* Some blocks are freed afterwards: pointers to them are left. */
static void make_graph(uint64_t number, size_t blocks, bool unaligned) {
    graph_init(blocks, 1000 + number);
    for (size_t i = 0; i < blocks; i++)
        add_block(random_size());
    graph_sort();
    scatter(blocks, unaligned);
    for (size_t i = 0; i < blocks / 10; i++) {
        struct node *n = &node[random_below(&seed, blocks)];
        if (n->size <= BS_SMALL_MAX && !n->gone) {
            release_one(bs_span_of(n->base)->class, (void *)n->base);
            n->gone = true;
        }
    }
}

static uintptr_t root_words[512];
static const struct bs_range root[2] = {
    {(uintptr_t)root_words, (uintptr_t)(root_words + 200)},
    {(uintptr_t)(root_words + 300), (uintptr_t)(root_words + 512)},
};

static void random_roots(void) {
    memset(root_words, 0, sizeof root_words);
    for (size_t i = 0; i < 20; i++)
        root_words[random_below(&seed, BS_ARRAY_LEN(root_words))] = random_word();
}

#define NRULES 6
static const struct bs_trace_rules rules[NRULES] = {
    {.past_end = BS_PAST_END_FREE},
    {.past_end = BS_PAST_END_ALWAYS},
    {.past_end = BS_PAST_END_NEVER, .starts = true},
    {.past_end = BS_PAST_END_FREE, .unaligned = true},
    {.past_end = BS_PAST_END_ALWAYS, .unaligned = true, .mask = ~(uintptr_t)7},
    {.past_end = BS_PAST_END_FREE, .mask = 0x0000fffffffffff0, .starts = true},
};

START_TEST(marks_what_a_slow_marker_marks) {
    static const size_t stacks[] = {4096, 1, 2, 16};
    const struct bs_trace_rules *r = &rules[_i % NRULES];
    make_graph((uint64_t)_i, _i % 2 == 0 ? 3000 : 300, r->unaligned);
    random_roots();
    ck_assert(bs_trace_prepare(&trace, 1, stacks[(_i / NRULES) % BS_ARRAY_LEN(stacks)]));
    begin();
    for (size_t i = 0; i < nnodes && r->starts; i++)
        ck_assert(bs_marks_make(node[i].base, BS_SIDE_START));
    mark_slowly(r, root, 2);
    struct bs_trace_sums sums = run(r, root, 2, 1);
    size_t marked = compare_marks("one worker");
    ck_assert_uint_eq(sums.blocks, marked);
    ck_assert_uint_gt(marked, 0);
    ck_assert_uint_eq(sums.root_bytes, sizeof root_words - 100 * sizeof(uintptr_t));
    for (size_t i = 0; i < nnodes && r->starts; i++)
        if (!node[i].gone)
            require(has_bit(&node[i], BS_SIDE_START) == node[i].start, "block %zu: start is %d", i,
                    !node[i].start);
    end();
}
END_TEST

START_TEST(several_workers_mark_the_same) {
    unsigned nworkers = 2 + (unsigned)_i % 3;
    make_graph((uint64_t)_i, 20000 / UNIT_SLOWNESS, false);
    scatter(40000 / UNIT_SLOWNESS, false);
    random_roots();
    ck_assert(bs_trace_prepare(&trace, nworkers, _i % 2 == 0 ? 2048 : 3));
    begin();
    mark_slowly(&rules[0], root, 2);
    struct bs_trace_sums sums = run(&rules[0], root, 2, nworkers);
    ck_assert_uint_eq(sums.blocks, compare_marks("several workers"));
    end();
}
END_TEST

/* --- shapes ----------------------------------------------------------------------------------- */

/* The graph's depth is its size: nothing may grow with it. */
START_TEST(a_chain_of_a_million) {
    size_t n = 1000000 / UNIT_SLOWNESS;
    graph_init(n, 1);
    for (size_t i = 0; i < n; i++)
        add_block(32);
    for (size_t i = 0; i + 1 < n; i++) /* the first, the last, the second, the last but one, ... */
        *(uintptr_t *)node[i % 2 == 0 ? i / 2 : n - 1 - i / 2].base =
            node[i % 2 != 0 ? (i + 1) / 2 : n - 1 - (i + 1) / 2].base;
    graph_sort();
    root_words[0] = node[0].base;
    ck_assert(bs_trace_prepare(&trace, 1, 1));
    begin();
    mark_slowly(&rules[0], root, 1);
    struct bs_trace_sums sums = run(&rules[0], root, 1, 1);
    ck_assert_uint_eq(sums.blocks, compare_marks("chain"));
    ck_assert_uint_eq(sums.blocks, n);
    ck_assert_uint_eq(sums.forgotten, 0);
    end();
}
END_TEST

/* Blocks full of pointers to blocks full of pointers: all but one range is forgotten again and again. */
START_TEST(what_is_forgotten_is_found_again) {
    enum { WIDTH = 128, DEPTH = 3 };
    size_t first[DEPTH + 1] = {0, 1, 1 + WIDTH, 1 + WIDTH + WIDTH * 16};
    graph_init(first[DEPTH] + WIDTH * 16 * 4, 1);
    while (nnodes < nodes_max)
        add_block(WIDTH * 8);
    root_words[7] = node[0].base;
    for (size_t level = 0; level < DEPTH; level++) {
        size_t parents = first[level + 1] - first[level];
        size_t children = (level + 1 < DEPTH ? first[level + 2] : nnodes) - first[level + 1];
        for (size_t i = 0; i < children; i++) /* the last words, so that all is in the rest */
            ((uintptr_t *)node[first[level] + i % parents].base)[WIDTH - 1 - i / parents] =
                node[first[level + 1] + i].base;
        for (size_t i = 0; i < parents; i++)
            for (size_t j = 0; j < WIDTH - (children + parents - 1) / parents; j++)
                ((uintptr_t *)node[first[level] + i].base)[j] = node[first[level] + i].base + j;
    }
    graph_sort();
    ck_assert(bs_trace_prepare(&trace, 1, 1 + (size_t)_i));
    begin();
    mark_slowly(&rules[0], root, 1);
    struct bs_trace_sums sums = run(&rules[0], root, 1, 1);
    ck_assert_uint_eq(compare_marks("wide"), nnodes);
    ck_assert_uint_eq(sums.blocks, nnodes);
    if (_i == 0) {
        ck_assert_uint_gt(sums.forgotten, 0);
        ck_assert_uint_gt(sums.rounds, 0);
    }
    end();
}
END_TEST

/* Each slot of spans with one word of bits, two, three and sixteen, by its first and its last byte. */
START_TEST(every_slot_is_found_by_its_edges) {
    static const size_t sizes[] = {8, 16, 48, 64, 128, 1024, 32768};
    size_t n = 0;
    for (size_t k = 0; k < BS_ARRAY_LEN(sizes); k++)
        n += 2 * bs_class_info[bs_class_of(sizes[k])].nslots;
    graph_init(n, 1);
    uintptr_t *words = calloc(n, sizeof *words);
    for (size_t k = 0; k < BS_ARRAY_LEN(sizes); k++)
        for (size_t i = 0; i < 2u * bs_class_info[bs_class_of(sizes[k])].nslots; i++)
            add_block(sizes[k]);
    for (size_t i = 0; i < n; i++)
        words[i] = i % 3 == 0 ? 0 : node[i].base + (i % 3 == 1 ? 0 : node[i].size - 1);
    graph_sort();
    struct bs_range r = {(uintptr_t)words, (uintptr_t)(words + n)};
    ck_assert(bs_trace_prepare(&trace, 1, 16));
    begin();
    mark_slowly(&rules[0], &r, 1);
    struct bs_trace_sums sums = run(&rules[0], &r, 1, 1);
    ck_assert_uint_eq(compare_marks("edges"), n - (n + 2) / 3);
    ck_assert_uint_eq(sums.bytes, sums.read_bytes);
    end();
    free(words);
}
END_TEST

/* Words that begin in one piece of a root, or of a large block, and end in the next. */
START_TEST(unaligned_words_cross_pieces) {
    enum { ROOTS = 300 * 1024, STEP = 65536, LARGE = 5 << 20 };
    const struct bs_trace_rules unaligned = {.unaligned = true};
    graph_init(1000, 1);
    char *words = calloc(1, ROOTS);
    uintptr_t large = add_block(LARGE)->base;
    memset((void *)large, 1, LARGE);
    for (size_t at = STEP; at < ROOTS; at += STEP)
        memcpy(words + at - 7 + at / STEP, &add_block(64)->base, 8);
    memcpy(words, &large, 8);
    for (size_t at = STEP, i = 0; at < LARGE; at += STEP, i++)
        memcpy((char *)large + at - 7 + i % 7, &add_block(64)->base, 8);
    graph_sort();
    struct bs_range r = {(uintptr_t)words, (uintptr_t)words + ROOTS};
    ck_assert(bs_trace_prepare(&trace, 1, 16));
    begin();
    mark_slowly(&unaligned, &r, 1);
    (void)run(&unaligned, &r, 1, 1);
    ck_assert_uint_eq(compare_marks("unaligned"), nnodes);
    end();
    free(words);
}
END_TEST

/* --- pages ------------------------------------------------------------------------------------ */

static size_t resident_pages(uintptr_t base, size_t bytes) {
    static unsigned char vec[65536];
    size_t n = 0;
    ck_assert_uint_le(bytes / 4096, sizeof vec);
    ck_assert_int_eq(mincore((void *)base, bytes, vec), 0);
    for (size_t i = 0; i < bytes / bs_os_page_size(); i++)
        n += vec[i] & 1;
    return n;
}

START_TEST(large_blocks_stay_out_of_memory) {
    enum { BLOCKS = 200 };
    size_t large = 100 * BS_MIB,
           at[] = {0, 5 * BS_MIB, 64 * BS_MIB - 8, 64 * BS_MIB, 100 * BS_MIB - 8};
    bs_os_pages_use((enum bs_pages_source)_i);
    graph_init(BLOCKS, 1);
    struct node *big = add_block(large);
    while (nnodes < BLOCKS)
        add_block(64);
    uintptr_t base = big->base;
    for (size_t i = 0; i < BS_ARRAY_LEN(at); i++)
        *(uintptr_t *)(base + at[i]) = node[1 + i].base;
    for (size_t i = 0; i < 100; i++) /* every other page of a stretch */
        *(uintptr_t *)(base + 20 * BS_MIB + 2 * i * bs_os_page_size()) = node[10 + i].base;
    /* pages that hold a pointer, and are given back */
    *(uintptr_t *)(base + 40 * BS_MIB) = node[150].base;
    ck_assert_int_eq(bs_os_unused((void *)(base + 40 * BS_MIB), 2 * BS_MIB), 0);
    size_t before = resident_pages(base, large);
    root_words[0] = base + 3 * BS_MIB;
    graph_sort();
    ck_assert(bs_trace_prepare(&trace, 1, 64));
    begin();
    struct bs_trace_sums sums = run(&rules[0], root, 1, 1);
    enum bs_pages_source source = bs_os_pages_source();
    if (source != BS_PAGES_ALL) {
        ck_assert_uint_eq(resident_pages(base, large), before);
        ck_assert_uint_le(sums.read_bytes, before * bs_os_page_size() + BLOCKS * 64);
    }
    if (_i != BS_PAGES_UNKNOWN && source != (enum bs_pages_source)_i)
        fprintf(stderr, "check_trace: pages by way %d cannot be had, tried %d\n", _i, (int)source);
    mark_slowly(&rules[0], root, 1);
    ck_assert_uint_eq(compare_marks("large"), 1 + BS_ARRAY_LEN(at) + 100);
    end();
}
END_TEST

/* --- any word --------------------------------------------------------------------------------- */

START_TEST(any_word_may_be_asked) {
    static const struct bs_trace_rules inside = {.past_end = BS_PAST_END_NEVER};
    struct bs_trace_sums sums;
    unsigned class = bs_class_of(48); /* 170 slots and a tail of 32 bytes */
    char *p = claim_one(class), *freed = claim_one(class), *large = bs_large_alloc(80 * BS_MIB, 1, false);
    memset(p, 0, 48);
    release_one(class, freed);
    const uintptr_t junk[] = {0, 1, 4096, 0x7fffffffffff, UINTPTR_MAX, UINTPTR_MAX / 2, (uintptr_t)&sums,
                              (uintptr_t)freed, bs_span_of((uintptr_t)p)->base + 170 * 48};
    ck_assert(bs_trace_prepare(&trace, 1, 64));
    memset(root_words, 0, sizeof root_words);
    memcpy(root_words, junk, sizeof junk);
    begin();
    sums = run(&inside, root, 1, 1);
    ck_assert_uint_eq(sums.blocks, 0);
    ck_assert_uint_eq(count_unmarked(), 2);
    bs_cycle_end();
    for (size_t i = 0; i < 48; i++)
        root_words[i] = (uintptr_t)p + i;
    root_words[48] = (uintptr_t)large + 70 * BS_MIB; /* in another arena than its start */
    begin();
    sums = run(&inside, root, 1, 1);
    ck_assert_uint_eq(sums.blocks, 2);
    ck_assert_uint_eq(count_unmarked(), 0);
    end();
}
END_TEST

/* --- caches, fork, the end -------------------------------------------------------------------- */

START_TEST(slots_in_caches_lead_nowhere) {
    void **p = bs_heap_alloc(64), *q = bs_heap_alloc(4096);
    ck_assert(p != NULL && q != NULL);
    *p = q;
    root_words[0] = (uintptr_t)p;
    for (int freed = 0; freed < 2; freed++) {
        ck_assert(bs_trace_prepare(&trace, 1, 64));
        begin();
        bs_cycle_spare_caches();
        struct bs_trace_sums sums = run(&rules[0], root, 1, 1);
        ck_assert_uint_eq(sums.blocks, freed ? 0 : 2);
        ck_assert(!freed == !mark(q));
        ck_assert_uint_eq(count_unmarked(), 0);
        bs_cycle_end();
        bs_trace_drop(&trace);
        bs_heap_free(p); /* into the cache: the pointer in it is left */
    }
}
END_TEST

START_TEST(a_child_marks_for_itself) {
    int status;
    make_graph(1, 1000, false);
    random_roots();
    ck_assert(bs_trace_prepare(&trace, 1, 64));
    begin();
    mark_slowly(&rules[0], root, 2);
    pid_t child = fork();
    if (child == 0) {
        (void)run(&rules[0], root, 2, 1);
        _exit(compare_marks("child") != 0 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    for (size_t i = 0; i < nnodes; i++)
        ck_assert(node[i].gone || !has_bit(&node[i], BS_SIDE_MARK));
    (void)run(&rules[0], root, 2, 1);
    (void)compare_marks("parent");
    end();
}
END_TEST

/* The worker that finds something first stays at it until it is let go. */
static uint32_t at_it, let_go; /* [atomic] */
static enum bs_lead take_slowly(struct bs_span *s, uintptr_t p, struct bs_marked *block) {
    (void)s, (void)p, (void)block;
    bs_store(&at_it, 1u);
    while (bs_load_acquire(&let_go) == 0)
        bs_os_pause(100000);
    return BS_LEAD_NONE;
}

START_TEST(a_round_that_is_cancelled_ends) {
    struct bs_trace_sums sums;
    pthread_t thread[2];
    make_graph(3, 100, false);
    random_roots();
    ck_assert(bs_trace_prepare(&trace, 2, 64));
    begin();
    bs_trace_begin(&trace, NULL, root, 2);
    bs_trace_use(&trace, take_slowly, NULL);
    ck_assert_int_eq(pthread_create(&thread[0], NULL, work, (void *)(uintptr_t)0), 0);
    while (bs_load(&at_it) == 0)
        bs_os_pause(100000);
    trace.again = true; /* as if it was busy with a region */
    bs_trace_cancel(&trace);
    ck_assert_int_eq(pthread_create(&thread[1], NULL, work, (void *)(uintptr_t)1), 0);
    bs_os_pause(20000000); /* that one finds nothing to do */
    bs_store_release(&let_go, 1u);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
    ck_assert(!bs_trace_end(&trace, &sums));
    end();
}
END_TEST

START_TEST(a_cancelled_trace_ends) {
    struct bs_trace_sums sums;
    make_graph(2, 2000, false);
    random_roots();
    ck_assert(bs_trace_prepare(&trace, 2, 64));
    begin();
    bs_trace_begin(&trace, NULL, root, 2);
    bs_trace_cancel(&trace);
    bs_trace_work(&trace, 1);
    bs_trace_work(&trace, 0); /* comes late */
    ck_assert(!bs_trace_end(&trace, &sums));
    ck_assert_uint_eq(sums.blocks, 0);
    end();
}
END_TEST

/* --- while the program runs -------------------------------------------------------------------- */

static const struct bs_trace_rules running = {.concurrent = true, .past_end = BS_PAST_END_FREE};

static void begin_running(size_t stack_ranges) {
    ck_assert(bs_trace_prepare(&trace, 1, stack_ranges));
    ck_assert(bs_cycle_prepare());
    bs_trace_begin(&trace, &running, root, 2);
}
static void end_running(void) {
    struct bs_trace_sums sums;
    ck_assert(bs_trace_end(&trace, &sums));
    bs_cycle_end();
    bs_trace_drop(&trace);
}
static bool is_marked(const void *p) {
    const struct bs_span *s = bs_span_of((uintptr_t)p);
    uint32_t slot;
    ck_assert(s != NULL && bs_slot_of(s, (uintptr_t)p, &slot));
    return (bs_marks_bits(s->base, BS_SIDE_MARK, slot / 64) >> (slot % 64) & 1) != 0;
}

/* What was read leads to a block in memory that has come since: it is marked, and what hangs on it. */
START_TEST(the_heap_grows_meanwhile) {
    void **old = bs_heap_alloc(8192), **young = bs_heap_alloc(64), ***far = NULL;
    ck_assert(old != NULL && young != NULL);
    memset(old, 0, 8192);
    root_words[0] = (uintptr_t)old;
    begin_running(64);
    bs_trace_work(&trace, 0);
    ck_assert(is_marked(old) && !is_marked(young));
    for (unsigned i = 0; i < 100 && (far == NULL || bs_marks_table((uintptr_t)far, BS_SIDE_MARK) != NULL); i++)
        far = bs_heap_alloc(8 * BS_MIB);
    ck_assert(far != NULL && bs_marks_table((uintptr_t)far, BS_SIDE_MARK) == NULL);
    far[5] = young;
    old[7] = far;
    bs_trace_reread(&trace, (uintptr_t)old, (uintptr_t)old + 8192);
    bs_trace_more(&trace, root, 2); /* (the words of `old` are not read once more) */
    bs_trace_work(&trace, 0);
    ck_assert(is_marked(far) && is_marked(young));
    end_running();
}
END_TEST

/* A large block whose words do not fit, behind the region in which it begins. */
START_TEST(what_is_forgotten_lies_in_any_region) {
    enum { N = 200 };
    void **large = bs_heap_alloc(4 * BS_REGION_SIZE), *block[N];
    ck_assert(large != NULL);
    for (unsigned i = 0; i < N; i++) {
        block[i] = bs_heap_alloc(64);
        ck_assert(block[i] != NULL);
        memset(block[i], 0, 64);
        large[5 * BS_REGION_SIZE / 2 / sizeof *large + i] = block[i];
    }
    root_words[0] = (uintptr_t)large;
    begin_running(1);
    bs_trace_work(&trace, 0);
    for (unsigned i = 0; i < N; i++)
        require(is_marked(block[i]), "block %u", i);
    end_running();
}
END_TEST

static struct bs_span *gone; /* the first look at a block makes it so, and closes its memory */
static enum bs_lead take_and_close(struct bs_span *s, uintptr_t p, struct bs_marked *block) {
    (void)block;
    if (bs_span_of(p) == gone && bs_load(&gone->state) == BS_SPAN_SMALL) {
        uint32_t slot;
        ck_assert(bs_slot_of(s, p, &slot));
        *block = bs_slot_block(s, slot);
        return bs_marks_set(s->base, BS_SIDE_MARK, slot) ? BS_LEAD_NEW : BS_LEAD_OLD;
    }
    bs_store(&gone->state, (uint8_t)BS_SPAN_DEAD);
    ck_assert_int_eq(mprotect((void *)gone->base, BS_PAGE_SIZE, PROT_NONE), 0);
    return BS_LEAD_NONE;
}

/* A block whose rest waits on the stack may be gone when its turn comes, and its memory be another's, who has
 * closed it. */
START_TEST(memory_that_is_closed_meanwhile) {
    static char copy[BS_TRACE_COPY_BYTES];
    enum { SIZE = 2048 };
    void **block = NULL, *other = bs_heap_alloc(64);
    for (unsigned i = 0; i < 8; i++) /* one that begins in its span's first pages */
        if (block == NULL || (uintptr_t)block + SIZE > bs_span_of((uintptr_t)block)->base + BS_PAGE_SIZE)
            block = bs_heap_alloc(SIZE);
    ck_assert(block != NULL && other != NULL);
    for (size_t i = 0; i < SIZE / sizeof *block; i++)
        block[i] = other;
    root_words[0] = (uintptr_t)block;
    gone = bs_span_of((uintptr_t)block);
    ck_assert_uint_le((uintptr_t)block + SIZE, gone->base + BS_PAGE_SIZE);
    begin_running(64);
    trace.copy = copy;
    (void)bs_reader_begin();
    bs_trace_use(&trace, take_and_close, NULL);
    bs_trace_work(&trace, 0);
    bs_reader_end();
    ck_assert(is_marked(other) == false && bs_load(&gone->state) == BS_SPAN_DEAD);
    ck_assert_int_eq(mprotect((void *)gone->base, BS_PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
    bs_store(&gone->state, (uint8_t)BS_SPAN_SMALL);
    end_running();
}
END_TEST

enum { FOUND, FROM_STACK, REREAD, FROM_STACK_ASKED, NWINDOWS };

/* A block that was just found, the rest of one, a block that is read again; and who retires has no barrier. */
START_TEST(a_span_that_is_read_stays) {
    static char copy[BS_TRACE_COPY_BYTES];
    enum { SIZE = 2048, N = SIZE / sizeof(void *) };
    void **block = window_block(SIZE), *other[N];
    if (!has_barrier())
        return;
    for (unsigned i = 0; i < N; i++) /* more than fit into the queue */
        block[i] = other[i] = claim_one(bs_class_of(64));
    for (unsigned i = 0; i < N; i++)
        memset(other[i], 0, 64);
    root_words[0] = (uintptr_t)block;
    begin_running(64);
    trace.copy = copy;
    ck_assert(bs_reader_begin());
    if (_i == REREAD)
        bs_trace_work(&trace, 0);
    window_begin(_i == FOUND || _i == REREAD ? 1 : 2, _i == FROM_STACK_ASKED);
    if (_i == REREAD)
        bs_trace_reread(&trace, (uintptr_t)block, (uintptr_t)block + SIZE);
    else
        bs_trace_work(&trace, 0);
    unsigned mode = bs_load(&bs_reader.mode);
    window_end();
    ck_assert_uint_eq(mode, _i == FROM_STACK_ASKED && !window.refused ? BS_READER_COPIES : BS_READER_DIRECT);
    for (unsigned i = 0; i < 16; i++)
        require(is_marked(other[i]), "block %u", i);
    end_running();
}
END_TEST

/* Who may not read directly copies. */
START_TEST(without_a_barrier_all_is_copied) {
    static char copy[BS_TRACE_COPY_BYTES];
    enum { SIZE = 2048, N = SIZE / sizeof(void *) };
    void **block = window_block(SIZE), *other[N];
    for (unsigned i = 0; i < N; i++) {
        block[i] = other[i] = claim_one(bs_class_of(64));
        memset(other[i], 0, 64);
    }
    root_words[0] = (uintptr_t)block;
    begin_running(64);
    trace.copy = copy;
    if (lose_barrier()) {
        ck_assert(!bs_reader_begin());
        window_begin(1, false);
        bs_trace_work(&trace, 0);
        ck_assert(!window.began);
        for (unsigned i = 0; i < N; i++)
            require(is_marked(other[i]), "block %u", i);
    }
    bs_reader_end();
    end_running();
}
END_TEST

/* The program may close a descriptor that it does not know; what it opens next has the number. */
START_TEST(the_descriptor_is_the_programs_now) {
    struct bs_trace_sums sums;
    begin_running(64);
    int number = trace.pages, other = open("/dev/null", O_RDWR);
    ck_assert_int_ge(number, 0);
    ck_assert(bs_trace_sees_pages(&trace));
    ck_assert_int_eq(dup2(other, number), number);
    ck_assert(!bs_trace_sees_pages(&trace));
    bs_trace_work(&trace, 0);
    ck_assert(!bs_trace_end(&trace, &sums));
    ck_assert_int_ge(fcntl(number, F_GETFD), 0);
    bs_cycle_end();
    bs_trace_drop(&trace);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trace");
    TCase *tc = add_case(suite, "graphs");
    tcase_add_loop_test(tc, marks_what_a_slow_marker_marks, 0, NRULES * 8);
    tcase_add_loop_test(tc, several_workers_mark_the_same, 0, 6);
    tc = add_case(suite, "shapes");
    tcase_add_test(tc, a_chain_of_a_million);
    tcase_add_loop_test(tc, what_is_forgotten_is_found_again, 0, 3);
    tcase_add_test(tc, every_slot_is_found_by_its_edges);
    tcase_add_test(tc, unaligned_words_cross_pieces);
    tc = add_case(suite, "pages");
    tcase_add_loop_test(tc, large_blocks_stay_out_of_memory, BS_PAGES_UNKNOWN, BS_PAGES_ALL + 1);
    tc = add_case(suite, "caches, fork, end");
    tcase_add_test(tc, any_word_may_be_asked);
    tcase_add_test(tc, slots_in_caches_lead_nowhere);
    tcase_add_test(tc, a_child_marks_for_itself);
    tcase_add_test(tc, a_cancelled_trace_ends);
    tcase_add_test(tc, a_round_that_is_cancelled_ends);
    tc = add_case(suite, "running");
    tcase_add_test(tc, the_heap_grows_meanwhile);
    tcase_add_test(tc, what_is_forgotten_lies_in_any_region);
    tcase_add_test(tc, memory_that_is_closed_meanwhile);
    tcase_add_loop_test(tc, a_span_that_is_read_stays, 0, NWINDOWS);
    tcase_add_test(tc, without_a_barrier_all_is_copied);
    tcase_add_test(tc, the_descriptor_is_the_programs_now);
    return run_suite(suite);
}
