/* SPDX-License-Identifier: MIT */
/*
 * check_roots.c - which memory is listed as roots: all that was written to in each kind of mapping
 * that may hold pointers, and nothing of what must not be read; the dead part of stacks; flags for
 * forked children; more mappings than any buffer holds; words that only the kernel has. Whatever is
 * listed is read, which must not end in a signal or bring a page into memory.
 */
#define _GNU_SOURCE
#include "heap.h"
#include "lines.h"
#include "meta.h"
#include "pagemap.h"
#include "roots.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static struct bs_roots roots;
static size_t page;

static void take(const struct bs_root_stack *stack, size_t nstacks, const struct bs_range *without,
                 size_t nwithout) {
    page = bs_os_page_size();
    if (roots.range == NULL)
        ck_assert(bs_roots_prepare(&roots, 4096));
    ck_assert(bs_roots_learn(&roots));
    ck_assert_int_eq(bs_roots_take(&roots, stack, nstacks, without, nwithout), BS_ROOTS_TAKEN);
}
/* The lesser ways would read a sanitizer's shadow, of many TB, for minutes. */
static void take_but_giants(void) {
    struct bs_range giant[8];
    size_t n = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    ck_assert_ptr_nonnull(maps);
    for (uintptr_t start, end; fscanf(maps, "%" SCNxPTR "-%" SCNxPTR "%*[^\n]", &start, &end) == 2;)
        if (end - start >= 1024 * BS_GIB && bs_pagemap_arena(start) == NULL && n < BS_ARRAY_LEN(giant))
            giant[n++] = (struct bs_range){start, end};
    fclose(maps);
    take(NULL, 0, giant, n);
}
static const struct bs_range *find(const void *p) {
    for (size_t i = 0; i < roots.n; i++)
        if ((uintptr_t)p - roots.range[i].start < roots.range[i].end - roots.range[i].start)
            return &roots.range[i];
    return NULL;
}
static unsigned flags_of(const void *p) {
    const struct bs_range *r = find(p);
    ck_assert_ptr_nonnull(r);
    return roots.flags[r - roots.range];
}
static void *map(size_t pages, int prot, int flags) {
    page = bs_os_page_size();
    void *p = mmap(NULL, pages * page, prot, flags, -1, 0);
    ck_assert(p != MAP_FAILED);
    return p;
}
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
#define SHARED (MAP_SHARED | MAP_ANONYMOUS)

__attribute__((no_sanitize("address"))) static uintptr_t read_all(void) {
    uintptr_t sum = 0;
    for (size_t i = 0; i < roots.n; i++)
        for (uintptr_t p = roots.range[i].start; p + 8 <= roots.range[i].end; p += 8)
            sum += *(const volatile uintptr_t *)p;
    return sum;
}

/* --- what is listed ---------------------------------------------------------------------------- */

static int data = 1, bss;
static __thread int tls, tls_data = 1;
static sem_t ready, leave;
static void *volatile thread_stack, *volatile thread_tls;

static void *stay(void *arg) {
    int local = 1;
    tls = 1;
    thread_stack = &local;
    thread_tls = &tls;
    sem_post(&ready);
    sem_wait(&leave);
    return arg;
}

START_TEST(written_memory_is_listed) {
    pthread_t thread;
    int local = 1, file = memfd_create("roots", 0);
    sem_init(&ready, 0, 0);
    sem_init(&leave, 0, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, stay, NULL), 0);
    sem_wait(&ready);
    bss = tls = 1;
    char *private = map(3, PROT_READ | PROT_WRITE, PRIVATE);
    char *shared = map(3, PROT_READ | PROT_WRITE, SHARED);
    char *sealed = map(1, PROT_READ | PROT_WRITE, PRIVATE);
    char *named = map(1, PROT_READ | PROT_WRITE, PRIVATE);
    ck_assert_int_eq(ftruncate(file, (off_t)(2 * page)), 0);
    char *memfd = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ck_assert(memfd != MAP_FAILED);
    private[page] = shared[page] = *sealed = *named = memfd[page] = 1;
    ck_assert_int_eq(mprotect(sealed, page, PROT_READ), 0);
    (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named, page, "vvar of - a program: rw-p");
    pid_t child = fork(); /* another process's page is ours without a page table entry */
    if (child == 0) {
        shared[0] = 1;
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    take(NULL, 0, NULL, 0);
    ck_assert_ptr_nonnull(find(&data));
    ck_assert_ptr_nonnull(find(&bss));
    ck_assert_ptr_nonnull(find(&local));
    ck_assert_ptr_nonnull(find(&tls));
    ck_assert_ptr_nonnull(find(&tls_data));
    ck_assert_ptr_nonnull(find(thread_stack));
    ck_assert_ptr_nonnull(find(thread_tls));
    ck_assert_ptr_nonnull(find(private + page));
    ck_assert_ptr_nonnull(find(sealed));
    ck_assert_ptr_nonnull(find(named));
    ck_assert_uint_eq(flags_of(private + page), 0);
    ck_assert_uint_eq(flags_of(shared), BS_ROOT_SHARED);
    ck_assert_uint_eq(flags_of(shared + page), BS_ROOT_SHARED);
    ck_assert_uint_eq(flags_of(memfd + page), BS_ROOT_SHARED);
    ck_assert(!roots.is_blind);
    (void)read_all();
    sem_post(&leave);
    pthread_join(thread, NULL);
}
END_TEST

/* --- what is not -------------------------------------------------------------------------------- */

static char *map_file(size_t size, int flags, int prot) {
    char path[] = "/tmp/check_roots.XXXXXX", byte = 1;
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    unlink(path);
    for (size_t i = 0; i < size; i += page)
        ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)i), 1);
    char *p = mmap(NULL, size, prot, flags, fd, 0);
    ck_assert(p != MAP_FAILED);
    for (size_t i = 0; i < size; i += page)
        (void)*(volatile char *)(p + i);
    if (flags == MAP_PRIVATE && (prot & PROT_WRITE) != 0) {
        p[page] = p[3 * page] = 2;
        ck_assert_int_eq(ftruncate(fd, (off_t)(2 * page)), 0);
    }
    close(fd);
    return p;
}

START_TEST(nothing_else_is_listed) {
    page = bs_os_page_size();
    char *private = map(4, PROT_READ | PROT_WRITE, PRIVATE);
    char *closed = map(1, PROT_READ | PROT_WRITE, PRIVATE);
    char *zero = map(1, PROT_READ | PROT_WRITE, PRIVATE);
    char *shared = map(3, PROT_READ | PROT_WRITE, SHARED);
    char *copied = map_file(4 * page, MAP_PRIVATE, PROT_READ | PROT_WRITE);
    char *written = map_file(2 * page, MAP_SHARED, PROT_READ | PROT_WRITE);
    char *text = map_file(2 * page, MAP_PRIVATE, PROT_READ);
    char *block = bs_heap_alloc(100), *large = bs_heap_alloc(BS_MIB), *meta = bs_meta_map(page);
    *block = *large = *meta = *closed = private[page] = private[3 * page] = shared[page] = 1;
    ck_assert_int_eq(mprotect(closed, page, PROT_NONE), 0);
    bool guarded = madvise(private + 3 * page, page, MADV_GUARD_INSTALL) == 0;
    (void)*(volatile char *)zero;
    take(NULL, 0, NULL, 0);
    ck_assert_ptr_null(find(block));
    ck_assert_ptr_null(find(large));
    ck_assert_ptr_null(find(meta));
    ck_assert_ptr_null(find(roots.range));
    ck_assert_ptr_null(find(closed));
    ck_assert_ptr_null(find(private));
    ck_assert_ptr_nonnull(find(private + page));
    ck_assert_ptr_null(find(private + 2 * page));
    ck_assert(!guarded || find(private + 3 * page) == NULL);
    ck_assert_ptr_null(find(shared));
    ck_assert_ptr_null(find(copied));
    ck_assert_ptr_nonnull(find(copied + page));
    ck_assert_ptr_null(find(copied + 2 * page));
    ck_assert_ptr_null(find(copied + 3 * page)); /* a copy, past the end */
    ck_assert_ptr_null(find(written));
    ck_assert_ptr_null(find(text));
    if (bs_os_pages_source() == BS_PAGES_SCAN)
        ck_assert_ptr_null(find(zero));
    (void)read_all();
}
END_TEST

static size_t resident_pages_of(const char *p, size_t n) {
    unsigned char vec[1024];
    size_t sum = 0;
    ck_assert_int_eq(mincore((void *)p, n * page, vec), 0);
    for (size_t i = 0; i < n; i++)
        sum += vec[i] & 1;
    return sum;
}

/* Every way to learn of pages gives the same, but for the last, which lists them all. */
START_TEST(reading_brings_nothing_into_memory) {
    bs_os_pages_use((enum bs_pages_source)_i);
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* else writing may bring huge pages */
    char *private = map(1000, PROT_READ | PROT_WRITE, PRIVATE);
    char *shared = map(1000, PROT_READ | PROT_WRITE, SHARED);
    char *copied = map_file(4 * (page = bs_os_page_size()), MAP_PRIVATE, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < 1000; i += 7)
    private[i * page] = shared[i * page] = 1;
    take_but_giants();
    for (size_t i = 0; i < 1000; i++) {
        ck_assert(find(private + i * page) != NULL || i % 7 != 0);
        ck_assert(find(shared + i * page) != NULL || i % 7 != 0);
    }
    ck_assert_ptr_nonnull(find(copied + page));
    ck_assert_ptr_null(find(copied + 3 * page));
    ck_assert(roots.is_blind == (_i == BS_PAGES_ALL) || _i == BS_PAGES_MINCORE);
    (void)read_all();
    if (!roots.is_blind) {
        ck_assert_uint_eq(resident_pages_of(private, 1000), 143);
        ck_assert_uint_eq(resident_pages_of(shared, 1000), 143);
    }
}
END_TEST

/* Pages of a file that are its own no more, and that nobody can write to any more. */
static char *map_protected(void) {
    char *p = map_file(4 * (page = bs_os_page_size()), MAP_PRIVATE, PROT_READ | PROT_WRITE);
    ck_assert_int_eq(mprotect(p, 4 * page, PROT_READ), 0);
    return p;
}

START_TEST(copies_are_listed_whatever_tells_of_pages) {
    bs_os_pages_use((enum bs_pages_source)_i);
    char *copied = map_protected(), *text = map_file(2 * page, MAP_PRIVATE, PROT_READ);
    take_but_giants();
    ck_assert_ptr_nonnull(find(copied + page));
    ck_assert_ptr_null(find(copied + 3 * page));
    ck_assert_ptr_null(find(text));
}
END_TEST

START_TEST(copies_are_listed_whatever_fails) {
    static const int errors[] = {EMFILE, EACCES, ENOENT};
    char *copied = map_protected();
    unsigned taken = 0;
    bool failed = true;
    take(NULL, 0, NULL, 0);
    for (unsigned n = 1; failed; n++) {
        bs_os_fail(n, errors[_i / 2], _i % 2 != 0);
        bool all = bs_roots_take(&roots, NULL, 0, NULL, 0) == BS_ROOTS_TAKEN;
        failed = bs_os_fail(0, 0, false) >= n;
        require(!all || find(copied + page) != NULL, "call %u failed", n);
        taken += all;
    }
    ck_assert_uint_ge(taken, 1);
}
END_TEST

/* A page of shared memory that is not in memory may be swapped out, and only smaps says of how many that is so. */
static unsigned calls_of_take(unsigned failing, bool *taken) {
    bs_os_fail(failing, EMFILE, false);
    *taken = bs_roots_take(&roots, NULL, 0, NULL, 0) == BS_ROOTS_TAKEN;
    return bs_os_fail(0, 0, false);
}
START_TEST(without_smaps_swapped_memory_is_not_known) {
    static struct bs_os_call_faults faults = {.number = SYS_sysinfo, .at = 1, .error = EPERM, .lasting = true};
    char *p = map(3, PROT_READ | PROT_WRITE, SHARED);
    bool taken;
    p[page] = 1;
    take(NULL, 0, NULL, 0);
    unsigned calls = calls_of_take(0, &taken);
    ck_assert(taken);
    bool is_used = bs_os_swap_is_used();
    bs_store(&bs_os_call_faults, &faults);
    unsigned more = calls_of_take(0, &taken);
    ck_assert(taken && find(p + page) != NULL && find(p) == NULL);
    if (is_used) {
        fprintf(stderr, "check_roots: the system's swap is used: a failing smaps is not tried\n");
        return;
    }
    ck_assert_uint_gt(more, calls);
    for (unsigned n = calls + 1; n <= more; n++) {
        (void)calls_of_take(n, &taken);
        require(!taken, "call %u failed", n);
    }
    bs_store(&bs_os_call_faults, (struct bs_os_call_faults *)NULL);
}
END_TEST

START_TEST(a_giant_that_cannot_be_seen_into) {
    size_t giant = (size_t)1 << 36;
    char *p = map(giant / bs_os_page_size(), PROT_READ | PROT_WRITE, PRIVATE | MAP_NORESERVE);
    p[giant / 2] = 1;
    take(NULL, 0, NULL, 0);
    ck_assert_ptr_nonnull(find(p + giant / 2));
    bs_os_pages_use(BS_PAGES_ALL);
    ck_assert_int_eq(bs_roots_take(&roots, NULL, 0, NULL, 0), BS_ROOTS_UNKNOWN);
}
END_TEST

START_TEST(memory_of_the_kernel_is_left_alone) {
    char line[256];
    uintptr_t start, stop;
    take(NULL, 0, NULL, 0);
    FILE *f = fopen("/proc/self/maps", "r");
    unsigned seen = 0;
    while (fgets(line, sizeof line, f) != NULL) {
        if (strstr(line, "[vvar") == NULL && strstr(line, "[vdso") == NULL)
            continue;
        ck_assert_int_eq(sscanf(line, "%lx-%lx", &start, &stop), 2);
        for (uintptr_t p = start; p < stop; p += page)
            ck_assert_ptr_null(find((void *)p));
        seen++;
    }
    fclose(f);
    ck_assert_uint_gt(seen, 0);
}
END_TEST

/* (The vdso finds no clock in the page of zeros, and asks the kernel.) */
START_TEST(where_a_device_was_there_may_be_memory) {
    char line[256];
    uintptr_t start = 0, stop;
    take(NULL, 0, NULL, 0);
    FILE *f = fopen("/proc/self/maps", "r");
    while (start == 0 && fgets(line, sizeof line, f) != NULL)
        if (strstr(line, "[vvar]") != NULL)
            ck_assert_int_eq(sscanf(line, "%lx-%lx", &start, &stop), 2);
    fclose(f);
    if (start == 0 || munmap((void *)start, stop - start) != 0)
        return;
    char *p = mmap((void *)start, page, PROT_READ | PROT_WRITE, PRIVATE | MAP_FIXED, -1, 0);
    ck_assert_ptr_eq(p, (void *)start);
    p[page - 1] = 1;
    ck_assert_int_eq(bs_roots_take(&roots, NULL, 0, NULL, 0), BS_ROOTS_TAKEN);
    bool listed = find(p) != NULL;
    ck_assert(listed);
}
END_TEST

/* --- stacks, ranges left out ------------------------------------------------------------------- */

START_TEST(the_dead_part_of_a_stack_is_not_listed) {
    size_t pages = 64;
    char *stack = map(pages, PROT_READ | PROT_WRITE, PRIVATE), here;
    char *other = map(pages, PROT_READ | PROT_WRITE, PRIVATE);
    memset(stack, 1, pages * page);
    memset(other, 1, pages * page);
    char *sp = stack + 40 * page + 1000, *sp2 = other + 10 * page;
    const struct bs_root_stack stacks[] = {{BS_STACK_MAPPING, (uintptr_t)&here},
                                           {0, (uintptr_t)sp2},
                                           {(uintptr_t)stack + page, (uintptr_t)sp}};
    take(stacks, 3, NULL, 0);
    ck_assert_ptr_nonnull(find(stack)); /* a neighbour's page in the same mapping */
    ck_assert_ptr_null(find(stack + page));
    ck_assert_ptr_null(find(sp - BS_RED_ZONE - 9));
    ck_assert_ptr_nonnull(find(sp - BS_RED_ZONE));
    ck_assert_ptr_nonnull(find(stack + pages * page - 1));
    ck_assert_ptr_nonnull(find(other)); /* not known where it begins */
    ck_assert_ptr_nonnull(find(&here));
    ck_assert_ptr_null(find((void *)((uintptr_t)&here - 2000)));
}
END_TEST

START_TEST(named_ranges_are_left_out_to_the_byte) {
    char *p = map(8, PROT_READ | PROT_WRITE, PRIVATE);
    memset(p, 1, 8 * page);
    uintptr_t a = (uintptr_t)p;
    const struct bs_range without[] = {{a + 5 * page, a + 8 * page},
                                       {a + 2 * page + 8, a + 2 * page + 64},
                                       {a + 2 * page + 16, a + 2 * page + 24},
                                       {a + 2 * page + 32, a + 3 * page + 8}};
    take(NULL, 0, without, 4);
    for (size_t at = 0; at < 8 * page; at += 8) {
        bool listed = at < 2 * page + 8 || (at >= 3 * page + 8 && at < 5 * page);
        require((find(p + at) != NULL) == listed, "byte %zu is %slisted", at, listed ? "not " : "");
    }
    size_t all = roots.n;
    bs_roots_drop(&roots);
    ck_assert(bs_roots_prepare(&roots, 2));
    ck_assert_int_eq(bs_roots_take(&roots, NULL, 0, without, 4), BS_ROOTS_NO_ROOM);
    while (bs_roots_take(&roots, NULL, 0, without, 4) == BS_ROOTS_NO_ROOM) {
        size_t needed = roots.needed;
        ck_assert_uint_gt(needed, roots.capacity);
        bs_roots_drop(&roots);
        ck_assert(bs_roots_prepare(&roots, needed));
    }
    ck_assert_uint_ge(roots.n + 2, all);
}
END_TEST

/* --- special mappings ---------------------------------------------------------------------------- */

START_TEST(children_do_not_have_all) {
    char *p = map(9, PROT_READ | PROT_WRITE, PRIVATE);
    memset(p, 1, 9 * page);
    ck_assert_int_eq(madvise(p + page, page, MADV_DONTFORK), 0);
    ck_assert_int_eq(madvise(p + 4 * page, page, MADV_WIPEONFORK), 0);
    ck_assert_int_eq(madvise(p + 7 * page, page, MADV_DONTDUMP), 0);
    take(NULL, 0, NULL, 0);
    ck_assert_uint_eq(flags_of(p), 0);
    ck_assert_uint_eq(flags_of(p + page), BS_ROOT_NO_FORK);
    ck_assert_uint_eq(flags_of(p + 4 * page), BS_ROOT_WIPED);
    ck_assert_uint_eq(flags_of(p + 7 * page), 0);
    pid_t child = fork();
    if (child == 0) {
        take(NULL, 0, NULL, 0);
        bool right = find(p) != NULL && find(p + page) == NULL;
        (void)read_all();
        _exit(right ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* userfaultfd: the kernel's <linux/userfaultfd.h> in what is needed of it. */
#define UFFD_API 0xaa
struct uffd_api {
    uint64_t api, features, ioctls;
};
struct uffd_register {
    uint64_t start, len, mode, ioctls;
};

START_TEST(a_userfaultfd_makes_nobody_wait) {
    bool writes = _i == 1; /* else reads of what is missing */
    struct uffd_api api = {.api = UFFD_API, .features = writes};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC); /* waits for faults of the kernel, too */
    if (fd < 0)
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* USER_MODE_ONLY */);
    if (fd < 0 || ioctl(fd, _IOWR(0xaa, 0x3f, struct uffd_api), &api) != 0) {
        fprintf(stderr, "check_roots: no userfaultfd here, not tried\n");
        return;
    }
    char *p = map(8, PROT_READ | PROT_WRITE, PRIVATE);
    p[2 * page] = 1;
    struct uffd_register reg = {.start = (uintptr_t)p, .len = 8 * page, .mode = writes ? 2 : 1};
    take(NULL, 0, NULL, 0);
    ck_assert(!roots.some_wait);
    ck_assert_int_eq(ioctl(fd, _IOWR(0xaa, 0x00, struct uffd_register), &reg), 0);
    alarm(100); /* nobody serves the descriptor: a read of a missing page waits for ever */
    take(NULL, 0, NULL, 0);
    ck_assert_ptr_nonnull(find(p + 2 * page));
    ck_assert_ptr_null(find(p + 3 * page));
    ck_assert(roots.some_wait);
    (void)read_all();
#if !BS_SANITIZED
    bs_os_pages_use(BS_PAGES_ALL);
    if (!writes) {
        ck_assert_int_eq(bs_roots_take(&roots, NULL, 0, NULL, 0), BS_ROOTS_UNKNOWN);
        ck_assert_ptr_null(find(p + 3 * page));
    }
#endif
    alarm(0);
}
END_TEST

START_TEST(any_number_of_mappings) {
    enum { N = 3000 };
    static char *p[N];
    char *all = map(2 * N, PROT_NONE, PRIVATE);
    for (size_t i = 0; i < N; i++) { /* each a mapping of its own, and a line of its own length */
        char name[80];
        p[i] = all + 2 * i * page;
        ck_assert_int_eq(mprotect(p[i], page, PROT_READ | PROT_WRITE), 0);
        *p[i] = 1;
        memset(name, 'a' + (char)(i % 26), sizeof name);
        name[i % 79] = '\0';
        (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p[i], page, name);
    }
    take(NULL, 0, NULL, 0);
    for (size_t i = 0; i < N; i++) {
        require(find(p[i]) != NULL, "mapping %zu is not listed", i);
        require(find(p[i] + page) == NULL, "the gap behind mapping %zu is listed", i);
    }
    ck_assert_uint_ge(roots.nmappings, 2 * N);
    for (size_t i = 1; i < roots.n; i++)
        ck_assert_uint_le(roots.range[i - 1].end, roots.range[i].start);
}
END_TEST

/* --- the kernel's words -------------------------------------------------------------------------- */

static bool has_word(uintptr_t word) {
    for (size_t i = 0; i < roots.n; i++)
        if (roots.flags[i] == BS_ROOT_WORDS)
            for (uintptr_t p = roots.range[i].start; p < roots.range[i].end; p += 8)
                if (*(uintptr_t *)p == word)
                    return true;
    return false;
}

/* All descriptors below the limit are taken but so many. */
static void leave_descriptors(unsigned n) {
    int fd = dup(0);
    ck_assert_int_ge(fd, 0);
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)fd + n;
    close(fd);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

START_TEST(words_that_only_the_kernel_has) {
    enum { N = 200 };
    int fd[2], set = epoll_create1(0), other = epoll_create1(0);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                             .sigev_signo = SIGUSR1,
                             .sigev_value.sival_ptr = (void *)0x123456789ab0};
    for (uintptr_t i = 0; i < N; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0x7f0000000000 + i * 16};
        ck_assert_int_eq(pipe(fd), 0);
        ck_assert_int_eq(epoll_ctl(i % 2 == 0 ? set : other, EPOLL_CTL_ADD, fd[0], &e), 0);
    }
    ck_assert_int_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    take(NULL, 0, NULL, 0);
    ck_assert(!has_word(0x123456789ab0));
    ck_assert(bs_roots_take_kernel(&roots));
    if (access("/proc/self/timers", R_OK) != 0)
        fprintf(stderr, "check_roots: the kernel does not print its timers\n");
    else
        ck_assert(has_word(0x123456789ab0));
    for (uintptr_t i = 0; i < N; i++)
        require(has_word(0x7f0000000000 + i * 16), "data %zu of epoll is not there", (size_t)i);
    ck_assert_uint_le(roots.nwords, N + 1);
    take(NULL, 0, NULL, 0);
    leave_descriptors(1); /* the folder can be read, what is in it cannot */
    ck_assert(!bs_roots_take_kernel(&roots));
    leave_descriptors(2);
    ck_assert(bs_roots_take_kernel(&roots));
}
END_TEST

static bool watch_a_pipe(void) {
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0x7f0000000000};
    int set = epoll_create1(0), fd[2];
    return pipe(fd) == 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &e) == 0;
}

START_TEST(no_word_is_lost_with_a_call) {
    static const long numbers[] = {SYS_readlinkat, SYS_statx, SYS_openat, SYS_read, SYS_getdents64};
    static struct bs_os_call_faults faults;
    ck_assert(watch_a_pipe());
    take(NULL, 0, NULL, 0);
    for (size_t i = 0; i < BS_ARRAY_LEN(numbers); i++)
        for (unsigned n = 1, made = 1; n <= made; n++) {
            ck_assert_int_eq(bs_roots_take(&roots, NULL, 0, NULL, 0), BS_ROOTS_TAKEN);
            faults = (struct bs_os_call_faults){numbers[i], n, ENOMEM, false, {0}};
            bs_store(&bs_os_call_faults, &faults);
            bool all = bs_roots_take_kernel(&roots);
            bs_store(&bs_os_call_faults, (struct bs_os_call_faults *)NULL);
            made = faults.made[numbers[i]];
            require(!all || has_word(0x7f0000000000), "call %u of number %ld failed", n, numbers[i]);
        }
}
END_TEST

/* The first thread has ended, and what its file says of that cannot be read. */
static void *look_for_word(void *arg) {
    struct bs_os_task task = {.gone = false};
    bool right = watch_a_pipe(), failed = true;
    (void)arg;
    while (bs_os_task(bs_os_pid(), 1, &task) == 0 && !task.gone)
        usleep(1000);
    for (unsigned n = 1; failed && right; n++) {
        right = bs_roots_take(&roots, NULL, 0, NULL, 0) == BS_ROOTS_TAKEN;
        bs_os_fail(n, ENOMEM, false);
        bool all = bs_roots_take_kernel(&roots);
        failed = bs_os_fail(0, 0, false) >= n;
        right &= all ? has_word(0x7f0000000000) : failed;
    }
    _exit(right ? 0 : 1);
}
START_TEST(no_word_is_lost_with_the_first_thread) {
    take(NULL, 0, NULL, 0);
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, look_for_word, NULL) != 0)
            _exit(2);
        syscall(SYS_exit, 0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* --- what cannot be read to its end ------------------------------------------------------------- */

enum { LINES = 400 };

/* As many lines of a text as there are, of LINES, where the nth read fails. */
static unsigned lines_if(unsigned nth, const char *path) {
    struct bs_lines lines;
    char line[64], expected[64];
    unsigned n = 0;
    ck_assert(bs_lines_open(&lines, path));
    bs_os_fail(nth, EIO, false);
    for (; bs_lines_next(&lines, line, sizeof line); n++) {
        snprintf(expected, sizeof expected, "%x-%x, line %u", n, n + 1000, n);
        ck_assert_str_eq(line, expected);
    }
    ck_assert(!bs_lines_next(&lines, line, sizeof line));
    bool failed = bs_os_fail(0, 0, false) >= nth;
    ck_assert_int_eq(lines.failed, failed);
    bs_lines_close(&lines);
    return n;
}

START_TEST(half_a_line_is_none) {
    char path[64];
    int fd = memfd_create("lines", 0);
    for (unsigned i = 0; i < LINES; i++)
        ck_assert_int_gt(dprintf(fd, "%x-%x, line %u\n", i, i + 1000, i), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    unsigned nth = 1, before = 0, n;
    for (; (n = lines_if(nth, path)) != LINES; nth++) {
        ck_assert_uint_ge(n, before);
        before = n;
    }
    ck_assert_uint_gt(nth, 5);
    close(fd);
}
END_TEST

/* While the program runs it may close what it does not know, and open another file by that number. */
START_TEST(another_files_end_is_none) {
    struct bs_lines lines;
    char line[64], text[LINES * 20] = "";
    int fd = memfd_create("lines", 0), other = memfd_create("other", 0);
    for (size_t i = 0, n = 0; i < LINES; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "line %zu\n", i);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    snprintf(line, sizeof line, "/proc/self/fd/%d", fd);
    ck_assert(bs_lines_open(&lines, line));
    ck_assert(bs_lines_next(&lines, line, sizeof line));
    ck_assert_int_eq(dup2(other, lines.fd), lines.fd);
    while (bs_lines_next(&lines, line, sizeof line))
        ;
    ck_assert(lines.failed);
    bs_lines_close(&lines);
    ck_assert_int_ge(fcntl(lines.fd, F_GETFD), 0); /* it is the program's */
    close(lines.fd);
    close(other);
    close(fd);
}
END_TEST

/* A header of which the beginning is lost names all memory below its end. */
START_TEST(half_of_the_flags_are_not_known) {
    take(NULL, 0, NULL, 0);
    unsigned nth = 1;
    for (;; nth++) {
        bs_os_fail(nth, EAGAIN, false);
        bool known = bs_roots_learn(&roots);
        if (bs_os_fail(0, 0, false) < nth)
            break;
        require(!known, "call %u failed", nth);
        ck_assert_int_eq(bs_roots_take(&roots, NULL, 0, NULL, 0), BS_ROOTS_TAKEN);
        require(find(&roots) != NULL, "call %u failed", nth);
    }
    ck_assert_uint_gt(nth, 5);
}
END_TEST

/* More of them than there is room for. */
START_TEST(all_flags_are_known) {
    enum { N = 64 };
    char *all = map(2 * N, PROT_READ | PROT_WRITE, PRIVATE);
    for (size_t i = 0; i < N; i++)
        ck_assert_int_eq(madvise(all + 2 * i * page, page, MADV_WIPEONFORK), 0);
    unsigned unknown = 0;
    bool failed = true;
    for (unsigned n = 1; failed; n++) {
        ck_assert(bs_roots_prepare(&roots, N / 2));
        bs_os_fail(n, ENOMEM, false);
        bool known = bs_roots_learn(&roots);
        failed = bs_os_fail(0, 0, false) >= n;
        require(failed || known, "nothing failed");
        require(!known || roots.nspecial >= N, "call %u failed: %zu", n, roots.nspecial);
        require(roots.nspecial <= roots.capacity, "call %u failed: %zu", n, roots.nspecial);
        unknown += !known;
        bs_roots_drop(&roots);
    }
    ck_assert_uint_gt(unknown, 5);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("roots");
    TCase *tc = add_case(suite, "mappings");
    tcase_add_test(tc, written_memory_is_listed);
    tcase_add_test(tc, nothing_else_is_listed);
    /* with a sanitizer's shadow of many TB the last way is not gone */
    tcase_add_loop_test(tc, reading_brings_nothing_into_memory, BS_PAGES_UNKNOWN,
                        BS_SANITIZED ? BS_PAGES_ALL : BS_PAGES_ALL + 1);
    tcase_add_loop_test(tc, copies_are_listed_whatever_tells_of_pages, BS_PAGES_UNKNOWN,
                        BS_SANITIZED ? BS_PAGES_ALL : BS_PAGES_ALL + 1);
    tcase_add_test(tc, a_giant_that_cannot_be_seen_into);
    tcase_add_test(tc, memory_of_the_kernel_is_left_alone);
    tcase_add_test(tc, the_dead_part_of_a_stack_is_not_listed);
    tcase_add_test(tc, named_ranges_are_left_out_to_the_byte);
    tc = add_case(suite, "special");
    tcase_add_test(tc, children_do_not_have_all);
    tcase_add_loop_test(tc, a_userfaultfd_makes_nobody_wait, 0, 2);
    tcase_add_test(tc, where_a_device_was_there_may_be_memory);
    tcase_add_test(tc, any_number_of_mappings);
    tcase_add_test(tc, words_that_only_the_kernel_has);
    tc = add_case(suite, "cut short");
    tcase_add_test(tc, half_a_line_is_none);
    tcase_add_test(tc, another_files_end_is_none);
    if (!BS_SANITIZED) /* each lesser way takes seconds for the shadow */
        tcase_add_loop_test(tc, copies_are_listed_whatever_fails, 0, 6);
    tcase_add_test(tc, without_smaps_swapped_memory_is_not_known);
    tcase_add_test(tc, no_word_is_lost_with_a_call);
    tcase_add_test(tc, no_word_is_lost_with_the_first_thread);
    tcase_add_test(tc, half_of_the_flags_are_not_known);
    tcase_add_test(tc, all_flags_are_known);
    return run_suite(suite);
}
