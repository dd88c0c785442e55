/* SPDX-License-Identifier: MIT */
/*
 * check_scan_concurrent.c - scans that mark while the program runs, where they end in another way than they began,
 * and what the program may take away meanwhile. That they find what others find is check_scan's.
 */
#define _GNU_SOURCE
#include "scan_unit.h"

#include <dirent.h>
#include <sys/mman.h>

static unsigned descriptors(void) {
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static void *a_root;

/* Blocks enough that a marker asks whether it is to go on. */
static void make_chain(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        void **p = bs_heap_alloc(64);
        ck_assert_ptr_nonnull(p);
        p[0] = a_root;
        a_root = p;
    }
}

/* Roots are only known in the stop: if they are too many, a copy is made after all; it is a whole scan. */
START_TEST(too_many_roots_for_a_stop) {
    const size_t bytes = 64 * BS_MIB;
    setup(BY_COPY);
    rules.concurrent = BS_SCAN_CONCURRENT_IF_SHORT;
    char *roots = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(roots, MAP_FAILED);
    memset(roots, 1, bytes);
    (void)site_a(100);
    wipe();
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(bs_scan_run(&rules, note_result, &got));
        ck_assert_int_eq(got.end, BS_SCAN_DONE);
        ck_assert(!got.concurrent && !got.in_place);
        ck_assert_uint_eq(verdict.lost_blocks, 1);
        ck_assert_uint_eq(verdict.reported.leaks, i != 0);
    }
}
END_TEST

/* Also if it comes to no verdict. */
START_TEST(no_descriptor_is_left) {
    setup(CONCURRENT);
    make_chain(10000);
    unsigned before_it = descriptors();
    rules.copy_ns = 1;
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(bs_scan_run(&rules, note_result, &got));
        if (can_watch())
            ck_assert_int_eq(got.end, BS_SCAN_KILLED);
        ck_assert_uint_eq(descriptors(), before_it);
    }
    rules.copy_ns = 0;
    must_scan();
    ck_assert_uint_eq(descriptors(), before_it);
}
END_TEST

/* When the next stop has begun, and its search is about to. */
static void *want_last(void *arg) {
    uint64_t stops = bs_counted(world_stops);
    bs_store_release((bool *)arg, true);
    for (uint64_t end = bs_os_now_ns() + LONG; bs_counted(world_stops) == stops && bs_os_now_ns() < end;)
        bs_os_yield();
    bs_scan_want_last(true);
    return NULL;
}

/* Whoever ends does not wait for it. In one of some tries: the search may have come to its end before. */
START_TEST(quits_for_the_last_one) {
    enum { TRIES = 100 };
    unsigned tries = 0;
    setup(_i);
    make_chain(200000);
    do {
        pthread_t thread;
        bool waits = false;
        bs_scan_want_last(false);
        ck_assert_int_eq(pthread_create(&thread, NULL, want_last, &waits), 0);
        while (!bs_load_acquire(&waits))
            bs_os_yield();
        ck_assert(bs_scan_run(&rules, note_result, &got));
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert(got.end == BS_SCAN_DONE || got.why == BS_BUDGET_QUIT);
    } while (got.end == BS_SCAN_DONE && ++tries < TRIES);
    ck_assert_int_eq(got.end, BS_SCAN_KILLED);
    ck_assert(!bs_scan_run(&rules, note_result, &got));
    rules.is_last = true;
    must_scan();
    bs_scan_want_last(false);
    rules.is_last = false;
    must_scan();
}
END_TEST

static bool ends; /* [atomic] */
static void *map_and_unmap(void *arg) {
    const size_t bytes = 8 * BS_MIB;
    (void)arg;
    while (!bs_load(&ends)) {
        char *code = mmap(NULL, bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (code == MAP_FAILED)
            return arg;
        for (size_t i = 0; i < bytes; i += 4096)
            code[i] = 1;
        (void)munmap(code, bytes);
    }
    return NULL;
}

/* Of a library that is unloaded, say: it is no root any more when it is read. */
START_TEST(code_goes_meanwhile) {
    pthread_t thread;
    void *refused;
    setup(CONCURRENT);
    bs_store(&ends, false);
    ck_assert_int_eq(pthread_create(&thread, NULL, map_and_unmap, &ends), 0);
    for (unsigned i = 0; i < (BS_SANITIZE_THREAD ? 4 : 30); i++)
        ck_assert(bs_scan_run(&rules, note_result, &got));
    bs_store(&ends, true);
    ck_assert_int_eq(pthread_join(thread, &refused), 0);
    if (refused != NULL)
        printf("skipped: no memory may be executable that is written to\n");
    must_scan();
}
END_TEST

/* --- files that are cut short --------------------------------------------------------------------- */

static int file;
static size_t left_pages;
static void cut(struct bs_roots *roots) {
    (void)roots;
    ck_assert_int_eq(ftruncate(file, (off_t)(left_pages * bs_os_page_size())), 0);
}
static void nothing(void) {
}
static void judge_nothing(struct bs_trace *t) {
    (void)t;
}

/* Private pages of a file that were written to are listed as roots; then, before they are read, another process cuts
 * the file short, and they are gone. */
START_TEST(a_file_is_cut_short_meanwhile) {
    static const struct bs_scan_guest guest = {
        .past_end = BS_PAST_END_FREE, .roots = cut, .open = nothing, .close = nothing, .judge = judge_nothing};
    enum { PAGES = 64 };
    const size_t bytes = PAGES * bs_os_page_size();
    setup(_i);
    file = memfd_create("cut", MFD_CLOEXEC);
    ck_assert(file >= 0 && ftruncate(file, (off_t)bytes) == 0);
    void **p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    for (size_t i = 0; i < bytes / sizeof *p; i += 64)
        p[i] = SHOWN(site_a(100));
    wipe();
    must_scan();
    ck_assert_uint_eq(verdict.lost_blocks, 0);
    rules.guest = &guest;
    const size_t left[] = {PAGES, 19, 0}; /* some, so that one of the kernel's copies ends early */
    for (unsigned i = 0; i < BS_ARRAY_LEN(left); i++) {
        left_pages = left[i];
        must_scan();
        require_uint_eq(verdict.lost_blocks, (PAGES - left[i]) * bs_os_page_size() / sizeof *p / 64);
    }
    (void)close(file);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("scan_concurrent");
    TCase *tc = add_case(suite, "running");
    add_but_tsan(tc, too_many_roots_for_a_stop, UNIT_ALONE);
    add_but_tsan(tc, no_descriptor_is_left, UNIT_ALONE);
    tcase_add_test(tc, code_goes_meanwhile);
    add_loop_but_tsan(tc, quits_for_the_last_one, BY_COPY, NSEARCHES, UNIT_ALONE);
    add_loop_but_tsan(tc, a_file_is_cut_short_meanwhile, IN_PLACE, BY_COPY + 1, UNIT_ALONE);
    return run_suite(suite);
}
