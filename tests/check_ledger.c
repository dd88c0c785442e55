/* SPDX-License-Identifier: MIT */
/*
 * check_ledger.c - known heaps against the ledger: each category within a stated tolerance, the
 * law of the sum, and the floor computed once more from the blocks' addresses alone.
 *
 * Each test runs in a process of its own (libcheck forks), whose system malloc is not besom's: what
 * the test keeps for itself counts as outside. Huge pages are kept out of the heap where residency
 * is compared, so that "touched" means "in memory".
 */
#include "heap.h"
#include "home_unit.h"
#include "ledger.h"
#include "meta.h"
#include "opt.h"
#include "os.h"
#include "quarantine.h"
#include "reader.h"
#include "round.h"
#include "scavenge.h"
#include "sides.h"
#include "span.h"
#include "smaps.h"
#include "sweep.h"
#include "thread.h"

#include <check.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static size_t os_page;
static struct bs_ledger ledger;

static void setup(void) {
    os_page = bs_os_page_size();
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}

static void take(void) {
    ck_assert(bs_ledger_take(&ledger));
}

static void assert_near(const char *name, uint64_t got, uint64_t want, uint64_t tolerance) {
    ck_assert_msg(got + tolerance >= want && got <= want + tolerance,
                  "%s is %ju bytes, not %ju +- %ju", name, (uintmax_t)got, (uintmax_t)want,
                  (uintmax_t)tolerance);
}

static void assert_between(const char *name, uint64_t got, uint64_t low, uint64_t high, uint64_t tolerance) {
    ck_assert_msg(got + tolerance >= low && got <= high + tolerance, "%s is %ju bytes, not %ju to %ju +- %ju", name,
                  (uintmax_t)got, (uintmax_t)low, (uintmax_t)high, (uintmax_t)tolerance);
}

static void assert_adds_up(void) {
    int64_t parts = (int64_t)(ledger.live + ledger.rounding + ledger.leaked + ledger.cached + ledger.held +
                              ledger.span_free + ledger.pinned + ledger.heap_dirty + ledger.metadata + ledger.outside);
    int64_t bound = (int64_t)(ledger.rss / 100 + 256 * BS_KIB);
    ck_assert_msg((int64_t)ledger.rss == parts + ledger.remainder, "rss %ju, parts %jd, rest %jd",
                  (uintmax_t)ledger.rss, (intmax_t)parts, (intmax_t)ledger.remainder);
    ck_assert_msg(ledger.remainder <= bound && ledger.remainder >= -bound,
                  "the remainder is %jd bytes, at most %jd is promised", (intmax_t)ledger.remainder,
                  (intmax_t)bound);
    ck_assert_uint_le(ledger.floor, ledger.rss + (uint64_t)bound);
}

/* --- blocks of known sizes -------------------------------------------------------------------- */

#define MAX_BLOCKS 200000
static struct {
    uintptr_t p;
    size_t size;
} block[MAX_BLOCKS];
static size_t nblocks;

static uint64_t seed = 88172645463325252u;
static size_t random_below(size_t n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % n;
}

static void keep_new(size_t size) {
    void *p = bs_heap_alloc(size);
    ck_assert_ptr_nonnull(p);
    memset(p, 0x33, size);
    block[nblocks].p = (uintptr_t)p;
    block[nblocks++].size = size;
}
static void drop(size_t i) {
    bs_heap_free((void *)block[i].p);
    block[i] = block[--nblocks];
}
static void drain(void) {
    bs_tcache_drain(bs_tcache_self());
}

static size_t sum_of_sizes(void) {
    size_t bytes = 0;
    for (size_t i = 0; i < nblocks; i++)
        bytes += block[i].size;
    return bytes;
}
static size_t sum_of_usable(void) {
    size_t bytes = 0;
    for (size_t i = 0; i < nblocks; i++)
        bytes += bs_heap_usable((void *)block[i].p);
    return bytes;
}

/* A mix of small and large sizes, about `total` bytes, of which a random half is freed again. */
static void fill_and_free_half(size_t total) {
    for (size_t bytes = 0; bytes < total && nblocks < MAX_BLOCKS;) {
        size_t size = random_below(200) == 0 ? 32769 + random_below(400000) : 1 + random_below(2000);
        keep_new(size);
        bytes += size;
    }
    for (size_t n = nblocks / 2; n != 0; n--)
        drop(random_below(nblocks));
}

static int compare_pages(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

/* Bytes of pages in memory, each of so many, that hold a part of a block: from addresses alone. */
static size_t pages_with_blocks(size_t unit) {
    size_t n = 0, bytes = 0, max = 0;
    for (size_t i = 0; i < nblocks; i++)
        max += bs_heap_usable((void *)block[i].p) / unit + 2;
    uintptr_t *page = calloc(max, sizeof *page);
    for (size_t i = 0; i < nblocks; i++) {
        uintptr_t end = block[i].p + bs_heap_usable((void *)block[i].p);
        for (uintptr_t p = bs_align_down(block[i].p, unit); p < end; p += unit)
            page[n++] = p;
    }
    qsort(page, n, sizeof *page, compare_pages);
    for (size_t i = 0; i < n; i++) {
        unsigned char in_memory;
        if (i != 0 && page[i] == page[i - 1])
            continue;
        ck_assert_int_eq(bs_os_residency((void *)bs_align_down(page[i], os_page), os_page, &in_memory), 0);
        bytes += in_memory & 1 ? unit : 0;
    }
    free(page);
    return bytes;
}

/* Where an OS page is longer than a span's pages the neighbours that a block holds with it are not told as held: between
 * the two. Else both are the same. */
struct held {
    size_t least, most;
};
static struct held held_pages(void) {
    return (struct held){pages_with_blocks(bs_min(os_page, BS_PAGE_SIZE)), pages_with_blocks(os_page)};
}

/* --- tests ------------------------------------------------------------------------------------ */

START_TEST(smaps_says_what_the_kernel_says) {
    struct bs_smaps maps;
    char text[256] = "";
    /* Before Linux 6.2 each thread adds to statm after 64 faults alone, of up to 16 pages of a file each. */
    void *touched = mmap(NULL, 128 * os_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(touched != MAP_FAILED);
    memset(touched, 1, 128 * os_page);
    ck_assert(bs_smaps_read(&maps));
    int fd = bs_os_open_read("/proc/self/statm");
    ck_assert_int_gt(bs_os_read(fd, text, sizeof text - 1), 0);
    bs_os_close(fd);
    uint64_t resident = strtoull(strchr(text, ' '), NULL, 10) * os_page;
    /* statm counts per CPU and lazily */
    assert_near("rss", maps.rss, resident, maps.rss / 50 + BS_MIB);
    ck_assert_uint_gt(maps.mappings, 10);
    void *p = mmap(NULL, 10 * BS_MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 1, 10 * BS_MIB);
    struct bs_smaps after;
    ck_assert(bs_smaps_read(&after));
    assert_near("growth", after.rss - maps.rss, 10 * BS_MIB, 256 * BS_KIB);
    ck_assert_uint_eq(after.heap, maps.heap);
}
END_TEST

/* Thread stacks are such neighbours: on Linux 6.7 and later they ask for no huge pages, as besom's tables do. */
START_TEST(neighbours_of_metadata_are_outside) {
    const size_t bytes = 4 * BS_MIB;
    char *table = bs_meta_map(bytes);
    ck_assert_ptr_nonnull(table);
    memset(table, 1, bytes);
    take();
    struct bs_ledger before = ledger;
    char *low = mmap(table - bytes, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    char *high = mmap(table + bytes, os_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    ck_assert_msg(low == table - bytes, "there is something below the table");
    if (high != MAP_FAILED) /* there may be something above */
        memset(high, 1, os_page);
    ck_assert_int_eq(madvise(low, bytes, MADV_NOHUGEPAGE), 0);
    memset(low, 1, bytes / 2);
    take();
    assert_near("metadata", ledger.metadata, before.metadata, 64 * BS_KIB);
    assert_near("outside", ledger.outside, before.outside + bytes / 2, 128 * BS_KIB);
    assert_adds_up();
}
END_TEST

START_TEST(an_empty_heap) {
    take();
    assert_adds_up();
    ck_assert_uint_eq(ledger.live + ledger.cached + ledger.span_free + ledger.heap_dirty, 0);
    ck_assert_uint_gt(ledger.outside, BS_MIB / 2);
    ck_assert_uint_eq(ledger.floor, ledger.outside + ledger.metadata);
}
END_TEST

/* Blocks of exactly a class's size: no rounding, and live is known to the byte. */
START_TEST(live_blocks_of_one_size) {
    for (int i = 0; i < 40000; i++)
        keep_new(256);
    drain();
    take();
    assert_adds_up();
    assert_near("live", ledger.live, 40000 * 256, 4096);
    ck_assert_uint_eq(ledger.rounding, 0);
    ck_assert_uint_eq(ledger.cached, 0);
    ck_assert_uint_eq(ledger.allocated, 40000 * 256);
    assert_near("span_free + pinned", ledger.span_free + ledger.pinned, 0, 64 * BS_KIB);
}
END_TEST

START_TEST(rounding_is_told_from_live) {
    size_t size = bs_class_info[bs_class_of(1100)].size;
    ck_assert_uint_gt(size, 1100);
    for (int i = 0; i < 20000; i++)
        keep_new(1100);
    drain();
    take();
    assert_adds_up();
    assert_near("live", ledger.live, 20000 * 1100, 20000 * 1100 / 100);
    assert_near("rounding", ledger.rounding, 20000 * (size - 1100), 20000 * 1100 / 100);
}
END_TEST

/* As a scan would say. */
static void call_lost(const void *p) {
    const struct bs_span *s = bs_span_of((uintptr_t)p);
    uint32_t slot = 0;
    ck_assert(s->class == 0 || bs_span_slot_at(s, (uintptr_t)p, &slot));
    ck_assert(bs_marks_set(s->base, BS_SIDE_LOST, slot));
}

START_TEST(lost_blocks_are_not_live) {
    struct bs_sides lost;
    char *large = bs_heap_alloc(1000000);
    memset(large, 1, bs_heap_usable(large));
    for (int i = 0; i < 40000; i++)
        keep_new(256);
    drain();
    take();
    uint64_t live = ledger.live;
    ck_assert_uint_eq(ledger.leaked, 0);
    ck_assert(bs_sides_make(&lost, BS_SIDE_LOST));
    bs_opt.scan = BS_SCAN_MODE_LEAK;
    for (int i = 0; i < 40000; i += 4)
        call_lost((void *)block[i].p);
    take();
    assert_adds_up();
    assert_near("leaked", ledger.leaked, 10000 * 256, 4096);
    assert_near("live", ledger.live, live - 10000 * 256, 4096);
    ck_assert_uint_eq(ledger.rounding, bs_heap_usable(large) - 1000000);
    call_lost(large);
    take();
    assert_adds_up();
    ck_assert_uint_eq(ledger.rounding, 0); /* a lost block is that as a whole */
    assert_near("leaked", ledger.leaked, 10000 * 256 + 1000000, 16384);
    assert_near("live", ledger.live, live - 10000 * 256 - 1000000, 16384);
    bs_sides_drop(&lost);
    take();
    ck_assert_uint_eq(ledger.leaked, 0);
}
END_TEST

/* A bit of the last scan stays where the block was freed since. */
START_TEST(lost_blocks_may_be_freed) {
    struct bs_sides lost;
    for (int i = 0; i < 40; i++)
        keep_new(2048);
    drain();
    ck_assert(bs_sides_make(&lost, BS_SIDE_LOST));
    bs_opt.scan = BS_SCAN_MODE_LEAK;
    for (int i = 0; i < 40; i++)
        call_lost((void *)block[i].p);
    for (int i = 0; i < 10; i++)
        drop(0);
    size_t cached = bs_tcache_bytes(bs_tcache_self());
    ck_assert_uint_ge(cached, 2048);
    take();
    assert_adds_up();
    assert_near("cached", ledger.cached, cached, 2048);
    ck_assert_uint_eq(ledger.leaked + ledger.cached, 40 * 2048);
    ck_assert_uint_eq(ledger.live + ledger.rounding, 0);
    bs_sides_drop(&lost);
}
END_TEST

START_TEST(what_the_cache_holds) {
    for (int i = 0; i < 4000; i++)
        keep_new(512);
    drain();
    while (nblocks > 3900)
        drop(nblocks - 1);
    take();
    assert_adds_up();
    size_t cached = bs_tcache_bytes(bs_tcache_self());
    ck_assert_uint_ge(cached, 4 * 512); /* else the test shows nothing */
    assert_near("cached", ledger.cached, cached, 8 * 512);
    assert_near("live", ledger.live, 3900 * 512, 8 * 512);
    drain();
    take();
    assert_adds_up();
    ck_assert_uint_eq(ledger.cached, 0);
    assert_near("live", ledger.live, 3900 * 512, 4096);
}
END_TEST

/* As frees do under the quarantine. */
static void hold(size_t i) {
    (void)bs_quarantine_small((void *)block[i].p, bs_class_of(block[i].size));
    block[i] = block[--nblocks];
}

START_TEST(blocks_in_quarantine_are_held) {
    enum { N = 4000, NHELD = 3000 };
    struct bs_quarantine_sums sums;
    for (int i = 0; i < N; i++)
        keep_new(512);
    char *large = bs_heap_alloc(40000);
    memset(large, 1, 40000);
    drain();
    while (nblocks > N - 50)
        drop(nblocks - 1);
    size_t cached = bs_tcache_bytes(bs_tcache_self());
    ck_assert_uint_ge(cached, 4 * 512);
    for (int i = 0; i < NHELD; i++)
        hold(0);
    bs_quarantine_large(bs_span_of((uintptr_t)large));
    for (int round = 0; round < 2; round++) { /* freed since the last search began, and before */
        take();
        assert_adds_up();
        assert_near("held", ledger.held, NHELD * 512 + bs_align_up(40000, BS_PAGE_SIZE), 4096);
        assert_near("cached", ledger.cached, cached, 8 * 512);
        assert_near("live", ledger.live, nblocks * 512, 8 * 512);
        ck_assert_uint_eq(ledger.rounding, 0);
        ck_assert(bs_quarantine_turn(&sums));
    }
}
END_TEST

/* What the cache holds is as much in memory as the blocks of its class are, and those that are held are another matter:
 * they were cleared. */
START_TEST(held_blocks_tell_nothing_of_cached_ones) {
    size_t size = bs_class_info[bs_class_of(16384)].size;
    for (int i = 0; i < 600; i++) {
        block[nblocks].p = (uintptr_t)bs_heap_alloc(size); /* not touched */
        block[nblocks++].size = size;
    }
    drain();
    while (nblocks > 550)
        drop(nblocks - 1);
    ck_assert_uint_ge(bs_tcache_bytes(bs_tcache_self()), size);
    for (int i = 0; i < 300; i++)
        hold(0);
    for (size_t i = 0; i < nblocks / 2; i++)
        memset((void *)block[i].p, 1, size);
    take();
    assert_adds_up();
    assert_near("held", ledger.held, 300 * size, 300 * 2 * os_page);
    uint64_t cached = bs_tcache_bytes(bs_tcache_self());
    assert_between("cached", ledger.cached, cached / 3, cached / 2, size / 8);
}
END_TEST

static uint32_t thread_holds, thread_may_end;
static void *hold_a_cache(void *arg) {
    void *p[100];
    for (int i = 0; i < 100; i++)
        p[i] = memset(bs_heap_alloc(1024), 1, 1024);
    for (int i = 0; i < 100; i++)
        bs_heap_free(p[i]);
    bs_store((size_t *)arg, bs_tcache_bytes(bs_tcache_self()));
    bs_store_release(&thread_holds, 1u);
    while (bs_load_acquire(&thread_may_end) == 0)
        usleep(1000);
    return NULL;
}

START_TEST(another_threads_cache_counts) {
    pthread_t thread;
    size_t cached = 0;
    ck_assert_int_eq(pthread_create(&thread, NULL, hold_a_cache, &cached), 0);
    while (bs_load_acquire(&thread_holds) == 0)
        usleep(1000);
    take();
    bs_store_release(&thread_may_end, 1u);
    pthread_join(thread, NULL);
    assert_adds_up();
    ck_assert_uint_ge(cached, 8 * 1024);
    assert_near("cached", ledger.cached, cached, cached / 4);
}
END_TEST

/* Every 64th block of 64 bytes lives: most of the memory is pinned or free in spans. */
START_TEST(free_slots_pinned_or_returnable) {
    for (int i = 0; i < 100000; i++)
        keep_new(64);
    size_t slots_a_page = os_page / 64;
    for (size_t i = nblocks; i-- > 0;)
        if (block[i].p / 64 % slots_a_page != 0 || block[i].p / os_page % 4 == 1)
            drop(i);
    drain();
    while (bs_sweep(SIZE_MAX, 10).returned != 0)
        ;
    struct held held = held_pages();
    take();
    assert_adds_up();
    assert_near("live", ledger.live + ledger.rounding, nblocks * 64, 4096);
    uint64_t others = ledger.outside + ledger.metadata;
    assert_between("pinned", ledger.pinned, held.least - nblocks * 64, held.most - nblocks * 64, 16 * BS_KIB);
    assert_between("floor", ledger.floor, others + held.least, others + held.most, 4096);
    if (os_page <= BS_PAGE_SIZE) /* else no OS page inside such a span is without a block */
        ck_assert_msg(ledger.span_free >= held.most / 6, "%ju bytes free in spans, %zu held",
                      (uintmax_t)ledger.span_free, held.most);
}
END_TEST

/* The kernel may fill a huge page, with OS pages in it that were given back: free ones, and holes of spans. */
START_TEST(what_is_in_memory_again_is_overfill) {
    enum { FREE = 5, HOLES = 7 };
    unsigned char in_memory;
    size_t nholes = 0;
    char *large = bs_heap_alloc(4 * BS_MIB);
    memset(large, 1, 4 * BS_MIB);
    for (int i = 0; i < 20000; i++)
        keep_new(1024);
    bs_heap_free(large);
    for (size_t i = nblocks; i-- > 0;)
        if (block[i].p / os_page % 16 != 0)
            bs_heap_free((void *)block[i].p);
    (void)bs_heap_trim(0);
    take();
    assert_adds_up();
    ck_assert_uint_eq(ledger.thp_overfill, 0);
    uint64_t dirty = ledger.heap_dirty;
    for (int i = 0; i < FREE; i++)
        large[(2 * i + 1) * os_page] = 1;
    for (size_t i = 0; i < nblocks && nholes < HOLES && os_page <= BS_PAGE_SIZE; i++) {
        uintptr_t page = bs_align_down(block[i].p, os_page);
        struct bs_span *s = bs_span_of(page);
        if (s == NULL || s->class == 0 || s->holes == 0)
            continue;
        ck_assert_int_eq(bs_os_residency((void *)page, os_page, &in_memory), 0);
        if ((in_memory & 1) == 0)
            nholes += *(char *)page = 1;
    }
    ck_assert_uint_eq(nholes, os_page <= BS_PAGE_SIZE ? HOLES : 0);
    take();
    assert_adds_up();
    ck_assert_uint_eq(ledger.thp_overfill, (FREE + nholes) * os_page);
    ck_assert_uint_eq(ledger.heap_dirty, dirty + FREE * os_page);
}
END_TEST

START_TEST(large_blocks_touched_in_part) {
    size_t touched = 0;
    char *p[10];
    for (size_t i = 0; i < 10; i++) {
        p[i] = bs_heap_alloc(256 * os_page);
        memset(p[i], 1, (i + 1) * 10 * os_page);
        touched += (i + 1) * 10 * os_page;
    }
    take();
    assert_adds_up();
    ck_assert_uint_eq(ledger.live, touched);
    ck_assert_uint_eq(ledger.rounding, 0);
    ck_assert_uint_eq(ledger.allocated, 2560 * os_page);
    char *odd = bs_heap_alloc(100 * os_page + 1); /* a page but for a byte is rounding */
    memset(odd, 1, bs_heap_usable(odd));
    take();
    assert_adds_up();
    ck_assert_uint_eq(ledger.live, touched + 100 * os_page + 1);
    ck_assert_uint_eq(ledger.rounding, bs_heap_usable(odd) - 100 * os_page - 1);
    for (size_t i = 0; i < 10; i++)
        bs_heap_free(p[i]);
    take();
    assert_adds_up();
    assert_near("heap_dirty", ledger.heap_dirty, touched, 16 * os_page);
    size_t released = ledger.released;
    ck_assert_uint_ne(bs_scavenge_to(0), 0);
    take();
    assert_adds_up();
    ck_assert_uint_le(ledger.heap_dirty, os_page - bs_min(os_page, BS_PAGE_SIZE)); /* beside a block */
    ck_assert_uint_ge(ledger.released, released + 2560 * os_page);
}
END_TEST

START_TEST(a_mixed_heap) {
    fill_and_free_half(60 * BS_MIB);
    drain();
    struct held held = held_pages();
    size_t sizes = sum_of_sizes(), usable = sum_of_usable();
    take();
    assert_adds_up();
    assert_near("live + rounding", ledger.live + ledger.rounding, usable, usable / 50 + 65536);
    assert_near("live", ledger.live, sizes, sizes / 50 + 65536);
    assert_near("allocated", ledger.allocated, usable, usable / 50);
    assert_between("floor", ledger.floor, ledger.outside + ledger.metadata + held.least,
                   ledger.outside + ledger.metadata + held.most, held.most / 200);
    (void)bs_heap_trim(0);
    uint64_t floor = ledger.floor;
    take();
    assert_adds_up();
    assert_near("floor after trim", ledger.floor, floor, floor / 50);
    assert_near("live after trim", ledger.live, sizes, sizes / 50 + 65536);
    ck_assert_uint_le(ledger.heap_dirty, held.most - held.least); /* what shares its OS page with a block stays */
}
END_TEST

/* Moved blocks have mappings of their own. */
START_TEST(blocks_moved_by_page_tables) {
    for (int i = 0; i < 20; i++) {
        char *p = bs_heap_alloc(2 * BS_MIB);
        memset(p, 1, 2 * BS_MIB);
        void *behind = bs_heap_alloc(100000);
        ck_assert_ptr_nonnull(behind);
        block[nblocks].p = (uintptr_t)bs_heap_realloc(p, 3 * BS_MIB);
        ck_assert_uint_ne(block[nblocks].p, 0);
        block[nblocks++].size = 3 * BS_MIB;
    }
    take();
    assert_adds_up();
    assert_near("live", ledger.live, 20 * 2 * BS_MIB, 16 * os_page);
    assert_near("allocated", ledger.allocated, 20 * (3 * BS_MIB + 106496), 64 * BS_KIB);
}
END_TEST

/* The kernel writes pages to the swap and keeps them in its cache, where mincore calls them in memory. */
START_TEST(what_is_swapped_out_is_not_resident) {
    fill_and_free_half(24 * BS_MIB);
    take();
    uint64_t live = ledger.live;
    for (size_t i = 0; i < nblocks; i++) {
        uintptr_t from = bs_align_down(block[i].p, os_page), end = bs_align_up(block[i].p + block[i].size, os_page);
        (void)madvise((void *)from, end - from, MADV_PAGEOUT);
    }
    if (!bs_os_swap_is_used()) {
        fprintf(stderr, "skipped: the system has no swap\n");
        return;
    }
    take();
    assert_adds_up();
    ck_assert_uint_lt(ledger.live, live / 2);
    for (size_t i = 0; i < nblocks; i++)
        ck_assert_int_eq(*(char *)block[i].p, 0x33);
    take();
    assert_adds_up();
}
END_TEST

START_TEST(taking_it_changes_nothing) {
    fill_and_free_half(8 * BS_MIB);
    take();
    struct bs_ledger first = ledger;
    for (int i = 0; i < 20; i++)
        take();
    assert_near("rss", ledger.rss, first.rss, 128 * BS_KIB);
    ck_assert_uint_eq(ledger.live, first.live);
    ck_assert_uint_eq(ledger.cached, first.cached);
    ck_assert_uint_eq(ledger.metadata, first.metadata);
}
END_TEST

/* --- beside a search ------------------------------------------------------------------------------ */

static struct {
    sem_t is_in, may_leave;
    int seconds; /* and so long at most */
    bool left;   /* [atomic] */
} search;

static void *be_in_a_round(void *arg) {
    struct timespec until;
    bs_round_enter();
    sem_post(&search.is_in);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += search.seconds;
    (void)sem_timedwait(&search.may_leave, &until);
    __atomic_store_n(&search.left, true, __ATOMIC_RELEASE);
    bs_round_leave();
    return arg;
}
/* Whether it was over when the ledger was there. */
static bool waits_for_search(unsigned scan, int seconds) {
    pthread_t thread;
    search.seconds = seconds;
    search.left = false;
    sem_init(&search.is_in, 0, 0);
    sem_init(&search.may_leave, 0, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, be_in_a_round, NULL), 0);
    sem_wait(&search.is_in);
    bs_opt.scan = scan;
    take();
    bs_opt.scan = BS_SCAN_MODE_OFF;
    bool waited = __atomic_load_n(&search.left, __ATOMIC_ACQUIRE);
    sem_post(&search.may_leave);
    pthread_join(thread, NULL);
    return waited;
}
/* A search of the quarantine takes as long as its heap is large, and who writes the last report is about to end. A scan
 * has tables that go when it ends. */
START_TEST(a_search_of_the_quarantine_is_not_waited_for) {
    fill_and_free_half(4 * BS_MIB);
    ck_assert(!waits_for_search(BS_SCAN_MODE_QUARANTINE, 30));
    assert_adds_up();
    ck_assert(waits_for_search(BS_SCAN_MODE_LEAK, 1));
    assert_adds_up();
}
END_TEST

#if BS_FAULTS
/* Threads go on while it is taken: between the look that finds a span and its reading the span is gone, and its descriptor
 * is that of another one, in a region that was visited. */
static struct {
    struct bs_span *span;
    char *below, *block;
} goes;
static void let_it_go(const struct bs_span *s) {
    if (s != goes.span)
        return;
    bs_reader.looked = NULL;
    bs_heap_free(goes.below);
    bs_heap_free(goes.block);
    goes.below = bs_heap_alloc(BS_MIB);
    ck_assert_ptr_eq(bs_span_of((uintptr_t)goes.below), s);
    ck_assert_uint_lt((uintptr_t)goes.below, (uintptr_t)goes.block);
}
START_TEST(spans_may_go_meanwhile) {
    goes.below = memset(bs_heap_alloc(BS_MIB), 1, BS_MIB);
    char *between = memset(bs_heap_alloc(8 * BS_MIB), 1, 8 * BS_MIB);
    goes.block = memset(bs_heap_alloc(BS_MIB), 1, BS_MIB);
    goes.span = bs_span_of((uintptr_t)goes.block);
    bs_reader.looked = let_it_go;
    take();
    ck_assert_ptr_null(bs_reader.looked);
    assert_adds_up();
    ck_assert_uint_eq(ledger.live, 10 * BS_MIB); /* each as it was when it was looked at */
    bs_heap_free(between);
    bs_heap_free(goes.below);
}
END_TEST

START_TEST(without_proc_the_heaps_part_is_there) {
    fill_and_free_half(4 * BS_MIB);
    take();
    uint64_t live = ledger.live;
    bool complete = true, unseen = ledger.unseen;
    ck_assert(!unseen);
    for (unsigned n = 1; complete; n++) { /* the opening of smaps is one of the first calls */
        ck_assert_uint_lt(n, 100);
        (void)bs_os_fail(n, 13, false);
        complete = bs_ledger_take(&ledger);
        (void)bs_os_fail(0, 0, false);
        ck_assert(!complete || ledger.rss != 0);
        unseen |= ledger.unseen;
    }
    ck_assert(unseen); /* before: the kernel did not say what is in memory */
    ck_assert_uint_eq(ledger.rss, 0);
    ck_assert_uint_eq(ledger.outside, 0);
    ck_assert_uint_eq(ledger.live, live);
    take();
    ck_assert_uint_eq(ledger.live, live);
    assert_adds_up();
}
END_TEST
#endif

int main(void) {
    all_sizes_at_home();
    Suite *suite = suite_create("ledger");
    TCase *tc = tcase_create("ledger");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, smaps_says_what_the_kernel_says);
    tcase_add_test(tc, neighbours_of_metadata_are_outside);
    tcase_add_test(tc, an_empty_heap);
    tcase_add_test(tc, live_blocks_of_one_size);
    tcase_add_test(tc, rounding_is_told_from_live);
    tcase_add_test(tc, lost_blocks_are_not_live);
    tcase_add_test(tc, lost_blocks_may_be_freed);
    tcase_add_test(tc, what_the_cache_holds);
    tcase_add_test(tc, blocks_in_quarantine_are_held);
    tcase_add_test(tc, held_blocks_tell_nothing_of_cached_ones);
    tcase_add_test(tc, another_threads_cache_counts);
    tcase_add_test(tc, free_slots_pinned_or_returnable);
    tcase_add_test(tc, what_is_in_memory_again_is_overfill);
    tcase_add_test(tc, large_blocks_touched_in_part);
    tcase_add_test(tc, a_mixed_heap);
    tcase_add_test(tc, blocks_moved_by_page_tables);
    tcase_add_test(tc, what_is_swapped_out_is_not_resident);
    tcase_add_test(tc, taking_it_changes_nothing);
    tcase_add_test(tc, a_search_of_the_quarantine_is_not_waited_for);
#if BS_FAULTS
    tcase_add_test(tc, spans_may_go_meanwhile);
    tcase_add_test(tc, without_proc_the_heaps_part_is_there);
#endif
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
