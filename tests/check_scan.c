/* SPDX-License-Identifier: MIT */
/*
 * check_scan.c - one scan after another in a process with threads: what was planted is found in the
 * second one, with the stack it came from, and what is reachable never, wherever the pointer lies. Each
 * test runs in place, by copy, and while the program runs. The parts have tests of their own (check_roots,
 * check_trace, check_leaks, check_world, check_snapshot).
 */
#define _GNU_SOURCE
#include "scan_unit.h"

#include "advice.h"
#include "thread.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <fcntl.h>

/* --- what is lost ----------------------------------------------------------------------------- */

static void **a_global;

static void __attribute__((noinline)) plant(void) {
    for (unsigned i = 0; i < 10; i++)
        (void)site_a(100);
    void **p = SHOWN(site_b(200)), **q = SHOWN(site_a(300)); /* one hangs on the other */
    p[3] = q;
    void **ring = SHOWN(site_b(64)), **other = SHOWN(site_b(64));
    ring[0] = other + 1;
    other[0] = ring;
    a_global = SHOWN(site_a(500));
    a_global[2] = SHOWN(site_b(600));
}

START_TEST(planted_leaks_are_found) {
    setup(_i);
    plant();
    wipe();
    size_t mappings = count_mappings();
    must_scan();
    ck_assert_uint_eq(verdict.reported.leaks, 0);
    ck_assert_uint_eq(verdict.waiting, 12);
    ck_assert_uint_eq(verdict.lost_blocks, 14);
    ck_assert_ptr_null(got.before);
    for (unsigned i = 0; i < 3; i++) {
        must_scan();
        struct bs_leak_sums a = LEAKS_OF(site_a), b = LEAKS_OF(site_b);
        require_uint_eq(a.leaks, 10);
        require_uint_eq(a.bytes, 1000);
        require_uint_eq(a.indirect_blocks, 0);
        require_uint_eq(b.leaks, 2);
        require_uint_eq(b.bytes, 264);
        require_uint_eq(b.indirect_blocks, 2);
        require_uint_eq(verdict.reported.leaks, 12);
        require_uint_eq(verdict.reported.blocks, 12);
        require_uint_eq(verdict.waiting, 0);
        require(got.before != NULL, "no verdict before");
        require_uint_eq(before.reported.leaks, i == 0 ? 0 : 12);
    }
    ck_assert_uint_le(count_mappings(), mappings + 2); /* a verdict is kept, and metadata has grown */
    a_global = NULL;
    must_scan();
    ck_assert_uint_eq(verdict.reported.leaks, 12);
    ck_assert_uint_eq(verdict.waiting, 1);
    must_scan();
    ck_assert_uint_eq(verdict.reported.leaks, 13);
}
END_TEST

static void *rest_until_told(void *arg) {
    while (!bs_load((bool *)arg))
        usleep(1000);
    return NULL;
}

/* Two scans are for pointers that somebody moves meanwhile. */
START_TEST(the_last_one_alone_needs_no_other) {
    static bool ends;
    pthread_t thread;
    setup(_i);
    rules.is_last = true;
    ck_assert_int_eq(pthread_create(&thread, NULL, rest_until_told, &ends), 0);
    plant();
    wipe();
    must_scan();
    ck_assert_uint_eq(verdict.reported.leaks, 0);
    ck_assert_uint_eq(verdict.waiting, 12);
    (void)site_a(100);
    wipe();
    bs_store(&ends, true);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    must_scan();
    ck_assert_uint_eq(got.threads, 0);
    ck_assert_uint_eq(verdict.reported.leaks, 13);
    ck_assert_uint_eq(verdict.waiting, 0);
}
END_TEST

START_TEST(young_blocks_wait) {
    setup(_i);
    rules.age_ns = 1000000 * MS;
    (void)site_a(100);
    wipe();
    for (unsigned i = 0; i < 3; i++) {
        must_scan();
        ck_assert_uint_eq(verdict.reported.leaks, 0);
        ck_assert_uint_eq(verdict.waiting, 1);
    }
    rules.age_ns = 1;
    must_scan();
    ck_assert_uint_eq(verdict.reported.leaks, 1);
}
END_TEST

static void __attribute__((noinline)) show(uintptr_t hidden) {
    a_global = SHOWN(hidden);
}

/* What is found again between two scans begins anew. */
START_TEST(lost_twice_means_in_a_row) {
    setup(_i);
    uintptr_t hidden = site_a(100);
    wipe();
    for (unsigned i = 0; i < 3; i++) {
        must_scan();
        ck_assert_uint_eq(verdict.waiting, 1);
        show(hidden);
        must_scan();
        ck_assert_uint_eq(verdict.lost_blocks, 0);
        a_global = NULL;
        wipe();
    }
    must_scan();
    must_scan();
    ck_assert_uint_eq(verdict.reported.leaks, 1);
}
END_TEST

/* --- what is not ------------------------------------------------------------------------------ */

static __thread void **in_tls;
static void *in_data[4] = {&in_data};
static void **in_memory;  /* a mapping that is ordinary, not forked, wiped by fork, shared */

static void by_global(void) {
    in_data[2] = SHOWN(site_a(100));
}
static void by_tls(void) {
    in_tls = SHOWN(site_a(100));
}
static void by_inside(void) {
    in_data[2] = (char *)SHOWN(site_a(1000)) + 999;
}
static void by_block(void) {
    void **p = SHOWN(site_a(100));
    p[5] = SHOWN(site_a(40000));
    ((void **)p[5])[4000] = SHOWN(site_a(16));
    in_data[1] = p;
}
static void by_mapping(int flags, int advice) {
    in_memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    if (advice != 0)
        ck_assert_int_eq(madvise(in_memory, 8192, advice), 0);
    in_memory[600] = SHOWN(site_a(100));
}
static void by_private(void) {
    by_mapping(MAP_PRIVATE, 0);
}
static void by_unforked(void) {
    by_mapping(MAP_PRIVATE, MADV_DONTFORK);
}
static void by_wiped(void) {
    by_mapping(MAP_PRIVATE, MADV_WIPEONFORK);
}
static void by_shared(void) {
    by_mapping(MAP_SHARED, 0);
}
static void by_epoll(void) {
    int fd[2], epoll = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = SHOWN(site_a(100))};
    ck_assert_int_eq(pipe(fd), 0);
    ck_assert_int_eq(epoll_ctl(epoll, EPOLL_CTL_ADD, fd[0], &e), 0);
    memset(&e, 0, sizeof e);
}
/* mov $block, %rax, so to speak */
static void by_code(void) {
    in_memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void **p = SHOWN(site_a(100));
    memcpy((char *)in_memory + 4090, &p, sizeof p);
    ck_assert_int_eq(mprotect(in_memory, 8192, PROT_READ | PROT_EXEC), 0);
}
static void (*const ways[])(void) = {by_code, by_global,  by_tls,    by_inside, by_block,  by_private,
                                     by_unforked, by_wiped, by_shared, by_epoll};
#define NWAYS ((int)BS_ARRAY_LEN(ways))

START_TEST(reachable_blocks_are_none) {
    setup(_i / NWAYS);
    ways[_i % NWAYS]();
    wipe();
    for (unsigned i = 0; i < 3; i++) {
        must_scan();
        ck_assert_uint_eq(verdict.lost_blocks, 0);
    }
    bool inside = ways[_i % NWAYS] == by_inside;
    ck_assert_int_eq(verdict.interior_blocks, inside);
    ck_assert_uint_eq(POSSIBLE_OF(site_a), inside ? 1000 : 0);
    rules.age_ns = 1000000 * MS;
    must_scan();
    ck_assert_uint_eq(POSSIBLE_OF(site_a), 0);
}
END_TEST

static bool is_unforked(const void *p) {
    return advice_has_flag((uintptr_t)p, " dc");
}

/* The program's own children do without it, as it has said, and what is beside it they have. */
START_TEST(advice_is_as_it_was) {
    setup(_i);
    char *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_int_eq(madvise(p + 16384, 16384, MADV_DONTFORK), 0);
    ((void **)(void *)p)[3000] = SHOWN(site_a(100));
    size_t mappings = count_mappings();
    for (unsigned i = 0; i < 3; i++) {
        must_scan();
        require_uint_eq(verdict.lost_blocks, 0);
        require(!is_unforked(p + 16383) && is_unforked(p + 16384) && is_unforked(p + 32767) && !is_unforked(p + 32768),
                "what is not for children is something else, after %u scans", i + 1);
    }
    ck_assert_uint_le(count_mappings(), mappings + 4);
}
END_TEST

/* --- other threads ---------------------------------------------------------------------------- */

static void *on_stack(void *arg) {
    struct runner *r = arg;
    void **volatile p = SHOWN(site_a(100)), **volatile tls = SHOWN(site_b(100));
    in_tls = tls;
    tls = NULL;
    bs_store_release(&r->tid, bs_os_tid());
    sem_wait(&go_on);
    require(p != NULL && in_tls != NULL, "lost");
    return NULL;
}
/* Shown in the registers alone, from its first turn on: before it they are hidden. */
static void *in_register(void *arg) {
    struct runner *r = arg;
    uintptr_t general = site_a(100), vector = site_b(100);
    wipe();
    bs_store_release(&r->tid, bs_os_tid());
#if defined(__x86_64__)
    __asm__ volatile("mov %0, %%r13\n\t"
                     "not %%r13\n\t"
                     "not %1\n\t"
                     "movq %1, %%xmm15\n\t"
                     "xor %1, %1\n\t"
                     "movq $1, (%3)\n"
                     "1:\tcmpl $0, (%2)\n\t"
                     "je 1b"
                     : "+r"(general), "+r"(vector)
                     : "r"(&end_all), "r"(&r->turns)
                     : "r13", "xmm15", "memory");
#else
    __asm__ volatile("mvn x20, %0\n\t"
                     "mvn %1, %1\n\t"
                     "fmov d15, %1\n\t"
                     "mov %1, xzr\n\t"
                     "mov x21, #1\n\t"
                     "str x21, [%3]\n"
                     "1:\tldr w21, [%2]\n\t"
                     "cbz w21, 1b"
                     : "+r"(general), "+r"(vector)
                     : "r"(&end_all), "r"(&r->turns)
                     : "x20", "x21", "v15", "memory");
#endif
    return NULL;
}
static void *(*const thread_ways[])(void *) = {on_stack, in_register};

static void wait_for_turn(struct runner *r) {
    while (bs_load(&r->turns) == 0)
        bs_os_yield();
}

START_TEST(threads_hold_blocks) {
    setup(_i / 2);
    start_threads(3, thread_ways[_i % 2]);
    for (unsigned i = 0; i < 3 && thread_ways[_i % 2] == in_register; i++)
        wait_for_turn(&runners[i]);
    for (unsigned i = 0; i < 3; i++) {
        must_scan();
        ck_assert_uint_eq(got.threads, 3);
        ck_assert_uint_eq(LEAKS_OF(site_a).leaks + LEAKS_OF(site_b).leaks, 0);
    }
    join_threads(3);
    for (unsigned i = 0; i < 2; i++)
        must_scan();
}
END_TEST

/* Of the first thread's stack what is below its pointer is not read: there its registers lie. */
static struct runner first;
static void *scan_thrice(void *arg) {
    wait_for_turn(&first);
    for (unsigned i = 0; i < 3; i++) {
        must_scan();
        *(uint64_t *)arg += LEAKS_OF(site_a).leaks + LEAKS_OF(site_b).leaks;
    }
    bs_store(&end_all, 1u);
    return NULL;
}

START_TEST(the_first_thread_holds_blocks) {
    static uint64_t found;
    pthread_t thread;
    setup(_i);
    bs_store(&end_all, 0u);
    ck_assert_int_eq(pthread_create(&thread, NULL, scan_thrice, &found), 0);
    (void)in_register(&first);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(found, 0);
}
END_TEST

/* And what dead frames of it have left there holds nothing. */
static void *scan_twice(void *arg) {
    for (unsigned i = 0; i < 2; i++)
        must_scan();
    *(uint64_t *)arg = verdict.reported.leaks;
    bs_store(&end_all, 1u);
    return NULL;
}

START_TEST(dead_frames_hold_nothing) {
    static uint64_t found;
    pthread_t thread;
    setup(_i % NSEARCHES);
    leave_words(site_a(100), 100);
    wipe(); /* unused places of frames that come */
    if (_i >= NSEARCHES) { /* by this thread itself */
        (void)scan_twice(&found);
        ck_assert_uint_eq(found, 1);
        return;
    }
    bs_store(&end_all, 0u);
    ck_assert_int_eq(pthread_create(&thread, NULL, scan_twice, &found), 0);
    while (!bs_load(&end_all)) { /* nor do registers */
        char text[64];
        snprintf(text, sizeof text, "%g", (double)bs_os_now_ns());
    }
    pthread_join(thread, NULL);
    ck_assert_uint_eq(found, 1);
}
END_TEST

/* --- when it cannot be ------------------------------------------------------------------------ */

START_TEST(no_verdict_without_all_threads) {
    setup(_i);
    (void)site_a(100);
    start_threads(1, blocks_all);
    ck_assert(bs_scan_run(&rules, note_result, &got));
    ck_assert_int_eq(got.end, BS_SCAN_WORLD);
    ck_assert_int_eq(got.world, BS_WORLD_BLOCKED);
    ck_assert_int_eq(got.culprit, runners[0].tid);
    ck_assert_ptr_null(got.verdict);
    join_threads(1);
    must_scan();
    ck_assert_uint_eq(verdict.waiting, 1);
}
END_TEST

/* Whatever fails, a scan ends, the program goes on, and the next one comes to its verdict. */
START_TEST(failures_are_survived) {
    unsigned verdicts = 0, calls = _i % NSEARCHES == CONCURRENT ? 120 : 40;
    setup(_i % NSEARCHES);
    (void)site_a(100);
    wipe();
    for (unsigned n = 1; n < calls; n++) {
        bs_os_fail(n, _i < NSEARCHES ? ENOMEM : EAGAIN, false);
        ck_assert(bs_scan_run(&rules, note_result, &got));
        bs_os_fail(0, 0, false);
        verdicts += got.end == BS_SCAN_DONE;
        ck_assert(got.end == BS_SCAN_DONE || got.verdict == NULL);
        bs_heap_free(bs_heap_alloc(1000)); /* a stale word to the next slot would keep the first block */
        must_scan();
    }
    ck_assert_uint_eq(LEAKS_OF(site_a).leaks, 1);
    require(verdicts != 0 && verdicts != calls - 1, "%u", verdicts);
}
END_TEST

/* Who knows only a part of the flags does not know what a copy lacks. */
START_TEST(what_a_copy_lacks_is_not_lost) {
    unsigned in_place = 0, in_copy = 0;
    bool failed = true;
    setup(BY_COPY);
    (_i == 0 ? by_unforked : by_wiped)();
    wipe();
    for (unsigned n = 1; failed; n++) {
        bs_os_fail(n, EAGAIN, false);
        ck_assert(bs_scan_run(&rules, note_result, &got));
        failed = bs_os_fail(0, 0, false) >= n;
        if (got.end != BS_SCAN_DONE)
            continue;
        require(verdict.lost_blocks == 0, "call %u failed", n);
        require(got.error == 0 || got.in_place, "call %u failed: error %d", n, got.error);
        in_place += got.in_place;
        in_copy += !got.in_place;
    }
    require(in_place >= 2 && in_copy >= 2, "%u in place, %u in a copy", in_place, in_copy);
}
END_TEST

/* The same of what is marked so after flags were read. */
static void **marked_late;
static void mark_late(struct bs_roots *roots) {
    (void)roots;
    (void)madvise(marked_late, 4096, MADV_WIPEONFORK);
}
static void do_nothing(void) {
}
static void judge_nothing(struct bs_trace *t) {
    (void)t;
}
START_TEST(what_a_copy_has_not_any_more_is_noticed) {
    static const struct bs_scan_guest guest = {BS_PAST_END_FREE, mark_late, do_nothing, do_nothing, judge_nothing};
    setup(BY_COPY);
    marked_late = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *marked_late = SHOWN(site_a(100));
    wipe();
    rules.guest = &guest;
    ck_assert(bs_scan_run(&rules, note_result, &got));
    ck_assert_int_eq(got.end, BS_SCAN_NO_ROOTS);
    rules.guest = NULL;
    must_scan();
    ck_assert_uint_eq(verdict.lost_blocks, 0);
}
END_TEST

START_TEST(a_forked_child_begins_anew) {
    setup(_i);
    (void)site_a(100);
    wipe();
    must_scan();
    must_scan();
    ck_assert_uint_eq(verdict.reported.leaks, 1);
    pid_t pid = fork();
    if (pid == 0) {
        bs_thread_forked();
        bs_world_forked();
        bs_scan_forked();
        if (!bs_scan_run(&rules, note_result, &got) || got.end != BS_SCAN_DONE ||
            verdict.reported.leaks != 0 || verdict.waiting != 1)
            _exit(1);
        _exit(bs_scan_run(&rules, note_result, &got) && verdict.reported.leaks == 1 ? 0 : 2);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    must_scan();
    ck_assert_uint_eq(verdict.reported.leaks, 1);
}
END_TEST

/* --- several searchers ------------------------------------------------------------------------ */

#define GRAPH 6000
#define ROOTS 40
static uintptr_t graph[GRAPH]; /* hidden */
static void *volatile root[ROOTS];

/* Blocks of all sizes with pointers to any others, one in eight to the middle. */
static void __attribute__((noinline)) make_graph(void) {
    uint64_t seed = 1;
    for (size_t i = 0; i < GRAPH; i++)
        graph[i] = HIDE(bs_heap_alloc_zero(i % 500 == 0 ? 300000 : 16 + (i * 7919) % 2000));
    for (size_t i = 0; i < GRAPH; i++)
        for (size_t k = 0; k < 2; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            SHOWN(graph[i])[k] = (char *)SHOWN(graph[(seed >> 33) % (i < GRAPH / 2 ? GRAPH / 2 : GRAPH)]) +
                                 (seed % 8 == 0 ? 8 : 0);
        }
    for (size_t i = 0; i < ROOTS; i++)
        root[i] = SHOWN(graph[i * 7]);
}
static bool is_lost(uintptr_t hidden) {
    uintptr_t p = ~hidden;
    uint32_t slot;
    const struct bs_span *s = bs_span_of(p);
    return bs_slot_of(s, p, &slot) && (bs_marks_bits(s->base, BS_SIDE_LOST, slot / 64) >> (slot % 64) & 1) != 0;
}

START_TEST(several_searchers_find_the_same) {
    static bool lost[GRAPH];
    size_t nlost = 0;
    setup(BY_COPY);
    make_graph();
    wipe();
    must_scan();
    ck_assert_uint_eq(verdict.searchers, 1);
    for (size_t i = 0; i < GRAPH; i++)
        nlost += lost[i] = is_lost(graph[i]);
    require(nlost > GRAPH / 3 && nlost < GRAPH * 2 / 3, "%zu lost of %d", nlost, GRAPH);
    const struct bs_trace_sums alone = verdict.trace;
    for (unsigned n = 2; n <= 16; n *= 2) {
        rules.searchers = n;
        must_scan();
        ck_assert_uint_eq(verdict.searchers, BS_SANITIZED ? 1 : n);
        for (size_t i = 0; i < GRAPH; i++)
            require(is_lost(graph[i]) == lost[i], "block %zu: lost %d with %u searchers", i, !lost[i], n);
        ck_assert_uint_eq(verdict.trace.blocks, alone.blocks);
        ck_assert_uint_eq(verdict.lost_blocks, nlost);
    }
    rules.searchers_bytes = SIZE_MAX;
    must_scan();
    ck_assert_uint_eq(verdict.searchers, 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("scan");
    TCase *tc = add_case(suite, "scan");
    add_loop_but_tsan(tc, planted_leaks_are_found, 0, NSEARCHES, UNIT_ALONE);
    tcase_add_loop_test(tc, the_last_one_alone_needs_no_other, 0, NSEARCHES);
    add_loop_but_tsan(tc, young_blocks_wait, 0, NSEARCHES, UNIT_ALONE);
    add_loop_but_tsan(tc, lost_twice_means_in_a_row, 0, NSEARCHES, UNIT_ALONE);
    add_loop_but_tsan(tc, reachable_blocks_are_none, 0, NSEARCHES * NWAYS, UNIT_ALONE);
    add_loop_but_tsan(tc, advice_is_as_it_was, 0, NSEARCHES, UNIT_ALONE);
    tcase_add_loop_test(tc, threads_hold_blocks, 0, 2 * NSEARCHES);
    tcase_add_loop_test(tc, the_first_thread_holds_blocks, 0, NSEARCHES);
    /* a sanitizer's frames are large, and have old words in them */
    add_loop_but_tsan(tc, dead_frames_hold_nothing, 0, (UNIT_SLOWNESS == 1 ? 2 : 1) * NSEARCHES, UNIT_ALONE);
    tcase_add_loop_test(tc, no_verdict_without_all_threads, 0, NSEARCHES);
    add_loop_but_tsan(tc, failures_are_survived, 0, 2 * NSEARCHES, UNIT_ALONE);
    add_loop_but_tsan(tc, what_a_copy_lacks_is_not_lost, 0, 2, UNIT_ALONE);
    add_but_tsan(tc, what_a_copy_has_not_any_more_is_noticed, UNIT_ALONE);
    add_loop_but_tsan(tc, a_forked_child_begins_anew, 0, NSEARCHES, UNIT_ALONE);
    add_but_tsan(tc, several_searchers_find_the_same, UNIT_ALONE);
    return run_suite(suite);
}
