/* SPDX-License-Identifier: MIT */
/*
 * check_quarantine.c - what is freed is zeroed and not used again before a search found no pointer to it,
 * wherever the pointer lies; crimes are found at once; large blocks keep addresses, not memory; counts add
 * up. Programs under the library are in tests/preload/quarantine_*.c.
 */
#define _GNU_SOURCE
#include "world_unit.h"

#include "freed.h"
#include "heap.h"
#include "home_unit.h"
#include "hunt.h"
#include "large.h"
#include "opt.h"
#include "pageheap.h"
#include "reader.h"
#include "round.h"
#include "thread.h"
#include "waiting.h"
#include "watch.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define HIDE(p) (~(uintptr_t)(p))
#define SHOWN(x) ((void **)~(x))

static struct bs_hunt_result got;
static unsigned trims;

static bool note_trim(bool all) {
    trims++;
    return all;
}

/* The block at the heap's first address, to which words of besom's own point. */
static void *first;
/* The loop's number is the mode. */
static enum bs_hunt_mode mode;
static void setup(int number) {
    static const struct bs_heap_keeper keeper = {bs_quarantine_small, bs_quarantine_large,
                                                 bs_quarantine_resize, bs_quarantine_check,
                                                 note_trim, NULL};
    inside_text();
    mode = (enum bs_hunt_mode)number;
    first = bs_heap_alloc(10);
    bs_heap_set_keeper(&keeper);
}
#define MODES (BS_HUNT_PROBABILISTIC + 1)
static enum bs_hunt_mode mode_here(void) {
    int fd = bs_os_watch_open();
    if (fd >= 0)
        bs_os_close(fd);
    return fd < 0 && mode == BS_HUNT_CONCURRENT ? BS_HUNT_SOUND : mode;
}

/* Overwrites what dead frames, and registers, have left. */
static void __attribute__((noinline, no_sanitize("address"))) wipe(void) {
    volatile char junk[16384];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
    wipe_vectors();
}
static bool visited(uintptr_t hidden);
static uintptr_t kept[1000];
static size_t nkept, nagain;
static void note_kept(void *ctx, uintptr_t base, size_t size, bool again) {
    ck_assert_ptr_null(ctx);
    nagain += again;
    ck_assert_uint_ne(size, 0);
    kept[nkept++ % 1000] = HIDE(base);
}
static bool visited(uintptr_t hidden) {
    for (size_t i = 0; i < nkept; i++)
        if (kept[i] == hidden)
            return true;
    return false;
}
static void do_nothing(void) {
}
static void note_stopped(const struct bs_roots *roots) {
    ck_assert_uint_ne(roots->n, 0);
}
static struct bs_range no_memory(void) {
    return (struct bs_range){0, 0};
}
static const struct bs_hunt_guest guest = {do_nothing, note_stopped, no_memory,
                                           do_nothing, note_kept,    do_nothing};
static void must_hunt(void) {
    wipe();
    nkept = nagain = 0;
    ck_assert(bs_hunt_run(mode, 0, &guest, &got));
    require(got.end == BS_SCAN_DONE, "end %d, world %d, thread %d", got.end, got.world, got.culprit);
    ck_assert_int_eq(got.mode, mode_here());
    ck_assert_uint_eq(nkept, got.released.kept.blocks);
    ck_assert_uint_eq(nagain, got.released.again.blocks);
    ck_assert_uint_eq(got.held.blocks, got.released.gone.blocks + got.released.kept.blocks);
    ck_assert_uint_eq(got.held.bytes, got.released.gone.bytes + got.released.kept.bytes);
    ck_assert(bs_pageheap_is_valid());
}

static uintptr_t __attribute__((noinline)) make(size_t size) {
    void *p = bs_heap_alloc(size);
    memset(p, 0x5a, size);
    return HIDE(p);
}
static uintptr_t __attribute__((noinline)) make_freed(size_t size) {
    uintptr_t hidden = make(size);
    bs_heap_free(SHOWN(hidden));
    return hidden;
}
/* Functions of their own, so that no address is left in a test's registers. */
static bool __attribute__((noinline)) is_out(uintptr_t hidden) {
    struct bs_span *s = bs_span_of(~hidden);
    return s != NULL && s->base <= ~hidden && (s->class == 0 || bs_span_is_allocated(s, ~hidden));
}

static void __attribute__((noinline)) point(void **place, uintptr_t hidden, size_t offset) {
    *place = (char *)SHOWN(hidden) + offset;
}
static size_t __attribute__((noinline)) room(uintptr_t hidden) {
    struct bs_span *s = bs_span_of(~hidden);
    return s->class != 0 ? bs_span_class(s)->size : bs_large_usable(s);
}
static void __attribute__((noinline)) touch(uintptr_t hidden, size_t offset) {
    ((volatile char *)SHOWN(hidden))[offset] = 1;
}

static const size_t sizes[] = {8, 16, 48, 64, 100, 1024, 5000, 32768, 40000, 300000, 3 << 20};

START_TEST(a_freed_block_is_zero_and_stays) {
    for (setup(_i); _i < MODES; _i = MODES)
        for (size_t k = 0; k < BS_ARRAY_LEN(sizes); k++) {
            uintptr_t hidden = make_freed(sizes[k]);
            for (size_t i = 0; i < sizes[k]; i++)
                require(((char *)SHOWN(hidden))[i] == 0, "byte %zu of %zu", i, sizes[k]);
            for (unsigned i = 0; i < 3000; i++) {
                uintptr_t other = make(sizes[k]);
                require(other != hidden, "a block of %zu bytes is used again", sizes[k]);
                bs_heap_free(SHOWN(other));
                if (sizes[k] > 32768 && i > 20)
                    break;
            }
            ck_assert(is_out(hidden));
        }
}
END_TEST

START_TEST(without_a_pointer_it_goes) {
    setup(_i);
    for (unsigned turn = 0; turn < 5; turn++) {
        uintptr_t hidden[BS_ARRAY_LEN(sizes)];
        for (size_t k = 0; k < BS_ARRAY_LEN(sizes); k++)
            hidden[k] = make_freed(sizes[k]);
        must_hunt();
        ck_assert_uint_eq(got.released.gone.blocks, BS_ARRAY_LEN(sizes));
        ck_assert_uint_eq(got.released.kept.blocks, 0);
        ck_assert_uint_ge(got.released.large_bytes, 40000 + 300000 + (3 << 20));
        for (size_t k = 0; k < BS_ARRAY_LEN(sizes); k++)
            require(!is_out(hidden[k]), "%zu bytes", sizes[k]);
        must_hunt();
        ck_assert_uint_eq(got.held.blocks, 0);
    }
}
END_TEST

static void *global[4];
static __thread void *local;

START_TEST(a_pointer_holds_it) {
    setup(_i);
    void **mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void **live = bs_heap_alloc(48), **large = bs_heap_alloc(100000), **freed = bs_heap_alloc(48);
    void **places[] = {global, &local, mapped + 100, live + 2, large + 9000};
    uintptr_t unheld = make_freed(64), through_freed;
    for (size_t k = 0; k < BS_ARRAY_LEN(sizes); k++)
        for (size_t i = 0; i < BS_ARRAY_LEN(places); i++)
            for (unsigned way = 0; way < 3; way++) {
                uintptr_t hidden = make_freed(sizes[k]);
                point(places[i], hidden, way == 0 ? 0 : way == 1 ? sizes[k] / 2 : room(hidden));
                must_hunt();
                require(visited(hidden) && is_out(hidden), "held: %zu bytes, place %zu, way %u", sizes[k], i, way);
                *places[i] = NULL;
                must_hunt();
                require(!is_out(hidden) && !visited(hidden), "gone: %zu bytes, place %zu, way %u", sizes[k],
                        i, way);
            }
    /* (without a stop it is not known where the stack ends) */
    ck_assert(!is_out(unheld) || mode == BS_HUNT_PROBABILISTIC);
    through_freed = make_freed(64);
    bs_heap_free(freed);
    point(freed, through_freed, 0); /* a use after free: what is held holds nothing */
    must_hunt();
    ck_assert(!is_out(through_freed));
    bs_heap_free(live);
    bs_heap_free(large);
    munmap(mapped, 4096);
}
END_TEST

/* --- threads ------------------------------------------------------------------------------------ */

static uintptr_t in_thread;
static sem_t looked;
static void *hold_on_stack(void *arg) {
    void *volatile mine = SHOWN(in_thread);
    sem_post(&ready);
    sem_wait(&looked);
    ck_assert_ptr_eq(mine, SHOWN(in_thread));
    mine = NULL;
    (void)mine;
    return arg;
}
START_TEST(a_thread_holds_it) {
    pthread_t thread;
    setup(_i);
    sem_init(&ready, 0, 0);
    sem_init(&looked, 0, 0);
    in_thread = make_freed(64);
    ck_assert_int_eq(pthread_create(&thread, NULL, hold_on_stack, NULL), 0);
    sem_wait(&ready);
    for (unsigned i = 0; i < 5; i++) {
        must_hunt();
        ck_assert(is_out(in_thread) && visited(in_thread));
        ck_assert(got.threads >= 1 || mode == BS_HUNT_PROBABILISTIC);
    }
    sem_post(&looked);
    pthread_join(thread, NULL);
}
END_TEST

/* --- in a copy ---------------------------------------------------------------------------------- */

/* Makes the heap too large to be searched while all stand. */
static void *make_large(void) {
    void *p = bs_heap_alloc(12 << 20);
    return memset(p, 0x5a, 12 << 20);
}
START_TEST(a_copy_finds_what_is_there) {
    setup(BS_HUNT_SOUND);
    void **shared = bs_os_alloc_shared(4096), **live = bs_heap_alloc(48), **large = make_large();
    void **places[] = {global, &local, live + 2, large + 900000, shared + 100};
    for (size_t k = 0; k < BS_ARRAY_LEN(sizes); k++)
        for (size_t i = 0; i < BS_ARRAY_LEN(places); i++) {
            uintptr_t hidden = make_freed(sizes[k]), unheld = make_freed(sizes[k]);
            point(places[i], hidden, sizes[k] / 2);
            must_hunt();
            ck_assert(got.in_copy);
            ck_assert_uint_gt(got.read.heap_bytes, 12 << 20);
            require(is_out(hidden) && !is_out(unheld), "%zu bytes, place %zu", sizes[k], i);
            *places[i] = NULL;
            must_hunt();
            require(!is_out(hidden), "gone: %zu bytes, place %zu", sizes[k], i);
        }
    bs_os_free(shared, 4096);
}
END_TEST

/* What the program has taken out of its forked children is out of the copy as well. */
START_TEST(a_block_that_no_copy_would_have_is_read) {
    static const int advice[] = {MADV_WIPEONFORK, MADV_DONTFORK};
    setup(BS_HUNT_SOUND);
    char *large = make_large();
    size_t os_page = bs_os_page_size();
    void **place = (void **)(void *)(bs_align_up((uintptr_t)large, os_page) + 100 * os_page);
    for (size_t k = 0; k < BS_ARRAY_LEN(advice); k++) {
        if (madvise(place, os_page, advice[k]) != 0)
            continue;
        uintptr_t hidden = make_freed(64), unheld = make_freed(64);
        point(place, hidden, 0);
        must_hunt();
        require(is_out(hidden) && !is_out(unheld), "advice %d", advice[k]);
        *place = NULL;
        must_hunt();
        ck_assert(!is_out(hidden));
        ck_assert_int_eq(madvise(place, os_page, k == 0 ? MADV_KEEPONFORK : MADV_DOFORK), 0);
    }
    must_hunt();
    must_hunt();
    ck_assert(got.in_copy);
}
END_TEST

/* Marked after flags were read, and before all stand. */
static void **marked_late;
static struct bs_range mark_late(void) {
    if (marked_late != NULL)
        (void)madvise(marked_late, 4096, MADV_WIPEONFORK);
    return (struct bs_range){0, 0};
}
START_TEST(what_a_copy_has_not_any_more_is_noticed) {
    struct bs_hunt_guest late = guest;
    late.memory = mark_late;
    setup(BS_HUNT_SOUND);
    void **mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)make_large();
    uintptr_t hidden = make_freed(64);
    point(mapped, hidden, 0);
    must_hunt();
    ck_assert(is_out(hidden) && got.in_copy);
    marked_late = mapped;
    wipe();
    ck_assert(bs_hunt_run(mode, 0, &late, &got));
    ck_assert(got.in_copy && got.end == BS_SCAN_NO_ROOTS && is_out(hidden));
    must_hunt(); /* in place, since the last copy came to nothing */
    must_hunt();
    ck_assert(got.in_copy && is_out(hidden));
    *mapped = NULL;
    must_hunt();
    ck_assert(!is_out(hidden));
    munmap(mapped, 4096);
}
END_TEST

/* Where the heap cannot be watched the default searches a copy, too. */
START_TEST(a_copy_instead_knows_what_it_lacks) {
    setup(BS_HUNT_CONCURRENT);
    bs_opt.decommit = BS_DECOMMIT_HARD;
    void **mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)make_large();
    for (unsigned i = 0; i < 2; i++) {
        uintptr_t hidden = make_freed(64);
        point(mapped, hidden, 0);
        wipe();
        ck_assert(bs_hunt_run(mode, 0, &guest, &got));
        require(got.end == BS_SCAN_DONE && got.mode == BS_HUNT_SOUND && got.in_copy, "end %d", got.end);
        require(is_out(hidden), "search %u", i);
        *mapped = NULL;
        if (madvise(mapped, 4096, MADV_WIPEONFORK) != 0)
            break;
    }
    munmap(mapped, 4096);
}
END_TEST

START_TEST(roots_that_grow_are_read_in_place_once) {
    enum { BYTES = 12 << 20 };
    setup(BS_HUNT_SOUND);
    uintptr_t hidden = make_freed(64);
    must_hunt();
    void **mapped = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(mapped, 0x5a, BYTES);
    (void)madvise(mapped, BYTES, MADV_WIPEONFORK);
    hidden = make_freed(64);
    point(mapped, hidden, 0);
    must_hunt();
    ck_assert(is_out(hidden) && !got.in_copy);
    must_hunt();
    ck_assert(is_out(hidden) && got.in_copy);
    munmap(mapped, BYTES);
}
END_TEST

/* Each by its own address, also beyond the first 64 of a span; and counted in bytes. */
START_TEST(what_is_kept_is_told_one_by_one) {
    enum { N = 300 };
    static uintptr_t hidden[N];
    setup(_i);
    void **mapped = mmap(NULL, N * sizeof *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < N; i++) {
        hidden[i] = make_freed(64);
        point(mapped + i, hidden[i], 0);
    }
    for (unsigned again = 0; again < 2; again++) {
        must_hunt();
        for (unsigned i = 0; i < N; i++)
            require(visited(hidden[i]), "hunt %u: block %u was not told", again, i);
        ck_assert_uint_ge(got.released.kept.blocks, N);
        ck_assert_uint_ge(got.released.kept.bytes, N * room(hidden[0]));
        if (again != 0) {
            ck_assert_uint_ge(got.released.again.blocks, N);
            ck_assert_uint_ge(got.released.again.bytes, N * room(hidden[0]));
        }
        ck_assert_uint_le(got.released.again.bytes, got.released.kept.bytes);
    }
    munmap(mapped, N * sizeof *mapped);
}
END_TEST

START_TEST(without_a_copy_all_stand) {
    setup(BS_HUNT_SOUND);
    unsigned in_place = 0, in_copy = 0;
    (void)make_large();
    bool failed = true;
    for (unsigned n = 1; failed && n <= 1000; n++) {
        uintptr_t hidden = make_freed(64);
        point(global, hidden, 0);
        (void)make_freed(64);
        wipe();
        bs_os_fail(n, EAGAIN, false);
        ck_assert(bs_hunt_run(mode, 0, &guest, &got));
        failed = bs_os_fail(0, 0, false) >= n;
        require(is_out(hidden), "call %u failed: %u", n, (unsigned)got.end);
        in_copy += got.end == BS_SCAN_DONE && got.in_copy;
        in_place += got.end == BS_SCAN_DONE && !got.in_copy;
        global[0] = NULL;
        must_hunt(); /* perhaps in place, since the last copy failed */
        must_hunt();
        ck_assert(got.in_copy && !is_out(hidden));
    }
    require(in_place >= 2 && in_copy >= 2, "%u in place, %u in a copy", in_place, in_copy);
}
END_TEST

/* --- what is not read ----------------------------------------------------------------------------- */

START_TEST(the_kernel_holds_it) {
    int set = epoll_create1(EPOLL_CLOEXEC), fd[2];
    setup(_i);
    ck_assert_int_eq(pipe(fd), 0);
    uintptr_t hidden = make_freed(64);
    struct epoll_event event = {.data.u64 = ~hidden};
    ck_assert_int_eq(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &event), 0);
    event.data.u64 = 0;
    must_hunt();
    ck_assert(is_out(hidden) && visited(hidden));
    ck_assert_int_eq(epoll_ctl(set, EPOLL_CTL_MOD, fd[0], &event), 0);
    must_hunt();
    ck_assert(!is_out(hidden));
}
END_TEST

/* The kernel refuses to copy, and now and then to open the file that would do instead. */
START_TEST(what_cannot_be_copied_holds_all) {
    static struct bs_os_call_faults refused = {.number = SYS_process_vm_readv, .at = 1, .error = EPERM, .lasting = true};
    setup(_i);
    void **large = bs_heap_alloc(100000);
    unsigned done = 0;
    bool failed = true;
    memset(large, 0, 100000);
    for (unsigned n = 2; failed && n <= 1000; n++) {
        uintptr_t hidden = make_freed(64), other = make_freed(64);
        point(global, hidden, 0);
        point(large, other, 0);
        wipe();
        bs_store(&bs_os_call_faults, &refused);
        bs_os_fail(n / 2, EMFILE, n % 2 == 0);
        ck_assert(bs_hunt_run(mode, 0, &guest, &got));
        failed = bs_os_fail(0, 0, false) >= n / 2;
        bs_store(&bs_os_call_faults, (struct bs_os_call_faults *)NULL);
        require(is_out(hidden) && is_out(other), "call %u failed: %u", n / 2, (unsigned)got.end);
        done += got.end == BS_SCAN_DONE;
        global[0] = large[0] = NULL;
    }
    ck_assert_uint_ge(done, 1);
    must_hunt();
}
END_TEST

/* The program closes what it does not know, and opens a file by the same number: by that no page holds anything. */
static int of_zeros;
static void take_descriptors(const struct bs_span *s) {
    char name[32], path[64];
    (void)s;
    bs_reader.looked = NULL; /* once: later all may stand */
    for (int fd = 3; fd < 64; fd++) {
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(name, path, sizeof path - 1);
        path[n < 0 ? 0 : n] = '\0';
        if (strstr(path, "/pagemap") != NULL)
            (void)dup2(of_zeros, fd);
    }
}
static bool visit_all(void *ctx, uintptr_t start, uintptr_t end) {
    *(size_t *)ctx += end - start;
    return true;
}
static bool take_and_go_on(void *ctx, uintptr_t start, uintptr_t end) {
    *(size_t *)ctx += end - start;
    take_descriptors(NULL);
    return true;
}
START_TEST(another_file_knows_nothing_of_pages) {
    setup(BS_HUNT_PROBABILISTIC);
    void **large = bs_heap_alloc(1 << 20);
    memset(large, 0, 1 << 20);
    (void)make(64); /* besom's own words may name the first of a span */
    uintptr_t hidden = make_freed(64);
    point(large + 90000, hidden, 0);
    of_zeros = memfd_create("zeros", 0);
    ck_assert_int_eq(ftruncate(of_zeros, (off_t)1 << 40), 0);
    wipe();
    bs_reader.looked = take_descriptors;
    ck_assert(bs_hunt_run(mode, 0, &guest, &got));
    ck_assert_ptr_null(bs_reader.looked);
    ck_assert(is_out(hidden));
    must_hunt();
    ck_assert(is_out(hidden));
}
END_TEST

START_TEST(another_file_knows_nothing_of_writes) {
    struct bs_watch watch;
    size_t bytes = 0;
    setup(0);
    bs_round_enter();
    if (bs_watch_begin(&watch)) {
        (void)make_large();
        of_zeros = memfd_create("zeros", 0);
        ck_assert_int_eq(ftruncate(of_zeros, (off_t)1 << 40), 0);
        ck_assert(bs_watch_written(&watch, false, visit_all, &bytes));
        ck_assert_uint_ge(bytes, 12 << 20);
        bytes = 0;
        ck_assert(!bs_watch_written(&watch, true, take_and_go_on, &bytes));
    }
    bs_watch_end(&watch);
    bs_round_leave();
}
END_TEST

/* --- resizing ----------------------------------------------------------------------------------- */

/* ("The helper" comes at once, and reads all.) */
static void comes_at_once(void) {
    (void)bs_linear_join();
}
START_TEST(of_much_the_helper_reads_a_part) {
    setup(BS_HUNT_STOPPED);
    bs_linear_set_call(comes_at_once);
    for (unsigned turn = 0; turn < 2; turn++) {
        uintptr_t hidden = make_freed(64), other = make_freed(64);
        point(global, hidden, 0);
        must_hunt();
        ck_assert_int_eq(got.helped, turn == 1);
        ck_assert(is_out(hidden) && !is_out(other));
        global[0] = NULL;
        (void)make(BS_QUARANTINE_COMPANY_BYTES);
    }
}
END_TEST

START_TEST(resized_blocks_leave_nothing_behind) {
    static const size_t from[] = {100, 40000, 40000, 400000, 3 << 20, 9 << 20},
                        to[] = {5000, 50, 200000, 36000, 5 << 20, 1 << 20};
    setup(_i);
    for (size_t k = 0; k < BS_ARRAY_LEN(from); k++) {
        uintptr_t old = make(from[k]), wall = make(9000), new;
        ck_assert(bs_heap_usable(SHOWN(old)) >= from[k]);
        new = HIDE(bs_heap_realloc(SHOWN(old), to[k]));
        for (size_t i = 0; i < bs_min(from[k], to[k]); i++)
            require(((char *)SHOWN(new))[i] == 0x5a, "byte %zu of %zu to %zu", i, from[k], to[k]);
        global[0] = SHOWN(old) + from[k] / 16; /* the middle */
        must_hunt();
        require(is_out(old), "%zu to %zu", from[k], to[k]);
        for (unsigned i = 0; i < 50; i++) {
            uintptr_t p = make(bs_min(to[k], from[k]));
            size_t size = bs_heap_usable(SHOWN(p));
            require(~p + size <= (uintptr_t)global[0] || ~p > (uintptr_t)global[0], "used again");
            bs_heap_free(SHOWN(p));
        }
        global[0] = NULL;
        bs_heap_free(SHOWN(new));
        bs_heap_free(SHOWN(wall));
        must_hunt();
    }
}
END_TEST

/* --- large blocks ------------------------------------------------------------------------------- */

static size_t __attribute__((noinline)) resident(uintptr_t hidden, size_t bytes) {
    static unsigned char vec[65536];
    size_t n = 0;
    ck_assert_int_eq(bs_os_residency(SHOWN(hidden), bytes, vec), 0);
    for (size_t i = 0; i < bytes / bs_os_page_size(); i++)
        n += vec[i] & 1;
    return n;
}
START_TEST(large_blocks_keep_addresses_alone) {
    setup(_i);
    uintptr_t hidden = make(8 << 20);
    ck_assert_uint_eq(resident(hidden, 8 << 20), (8 << 20) / bs_os_page_size());
    bs_heap_free(SHOWN(hidden));
    ck_assert_uint_eq(resident(hidden, 8 << 20), 0);
    touch(hidden, 4 << 20); /* a use after free */
    must_hunt();
    ck_assert(!is_out(hidden));
    for (unsigned i = 0; i < 4; i++) { /* what calloc takes for zeros are zeros */
        char *p = bs_heap_alloc_zero(8 << 20);
        for (size_t k = 0; k < 8 << 20; k += 4096)
            require(p[k] == 0, "byte %zu of %p", k, (void *)p);
    }
}
END_TEST

/* Whatever is asked of the number is answered so. */
#define ANSWER(number, errno_)                                \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),      \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (errno_))

/* The kernel says that nothing is in memory, and not that it has no swap. */
START_TEST(what_is_swapped_out_is_cleared) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ANSWER(SYS_mincore, 0), ANSWER(SYS_sysinfo, EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {BS_ARRAY_LEN(filter), filter};
    setup(0);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return;
    uintptr_t hidden = make_freed(40000);
    for (size_t i = 0; i < 40000; i++)
        require(((char *)SHOWN(hidden))[i] == 0, "byte %zu", i);
}
END_TEST

static void __attribute__((noinline)) must_be_zero(uintptr_t hidden, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 8)
        require(((char *)SHOWN(hidden))[i] == 0, "byte %zu of %zu", i, bytes);
}
START_TEST(blocks_need_not_be_whole_os_pages) {
    bs_os_page_size_is(65536);
    if (!BS_SANITIZED) /* which has mappings that are too long to be read whole */
        bs_os_pages_use(BS_PAGES_ALL); /* the entries of pagemap are of the kernel's own pages */
    setup(_i);
    for (size_t k = 0; k < BS_ARRAY_LEN(sizes); k++)
        for (size_t extra = 0; extra < 65536; extra += BS_PAGE_SIZE) {
            size_t size = sizes[k] + (sizes[k] > BS_SMALL_MAX ? extra : 0);
            uintptr_t before = make(size), hidden = make(size), behind = make(size);
            size_t all = room(hidden);
            bs_heap_free(SHOWN(hidden));
            must_be_zero(hidden, all);
            must_hunt();
            /* a sanitizer's runtime has words of its own that name blocks, in OS pages as long as these */
            ck_assert(!is_out(hidden) || mode == BS_HUNT_PROBABILISTIC || BS_SANITIZED);
            for (size_t i = 0; i < size; i++)
                require(((char *)SHOWN(before))[i] == 0x5a && ((char *)SHOWN(behind))[i] == 0x5a,
                        "neighbour's byte %zu of %zu", i, size);
            bs_heap_free(SHOWN(before));
            bs_heap_free(SHOWN(behind));
            char *zero = bs_heap_alloc_zero(size);
            for (size_t i = 0; i < size; i++)
                require(zero[i] == 0, "calloc's byte %zu of %zu", i, size);
            bs_heap_free(zero);
        }
}
END_TEST

/* --- crimes ------------------------------------------------------------------------------------- */

static void free_twice(void *p) {
    bs_heap_free(p);
    bs_heap_free(p);
}
static void free_again_after_search(void *p) {
    bs_thread_forked(); /* expect_abort has forked without telling */
    global[1] = p;
    bs_heap_free(p);
    must_hunt();
    bs_heap_free(p);
}
static void __attribute__((noinline)) free_hidden(uintptr_t hidden) {
    bs_heap_free(SHOWN(hidden));
    __asm__ volatile("" ::: "memory"); /* no jump: the frame is wiped */
}
static void free_what_is_gone(void *hidden) {
    bs_thread_forked();
    free_hidden((uintptr_t)hidden);
    must_hunt();
    ck_assert(!is_out((uintptr_t)hidden));
    free_hidden((uintptr_t)hidden);
}
static void free_inside(void *p) {
    bs_heap_free((char *)p + 8);
}
static void use_size(void *p) {
    bs_heap_free(p);
    (void)bs_heap_usable(p);
}
static void use_realloc(void *p) {
    bs_heap_free(p);
    (void)bs_heap_realloc(p, 200);
}
/* A thread may free the first block of an arena after a search has looked for arenas with such blocks, and
 * before it makes them held: their marks need a place. */
START_TEST(where_blocks_are_fresh_there_is_a_place_for_marks) {
    setup(0);
    void *p = bs_heap_alloc(100);
    ck_assert_ptr_null(bs_freed_table((uintptr_t)p));
    bs_heap_free(p);
    ck_assert_ptr_nonnull(bs_freed_table((uintptr_t)p));
    ck_assert_ptr_nonnull(bs_marks_table((uintptr_t)p, BS_SIDE_MARK));
}
END_TEST

START_TEST(crimes_are_found_at_once) {
    setup(0);
    for (size_t k = 2; k < BS_ARRAY_LEN(sizes); k++) {
        void *p = bs_heap_alloc(sizes[k]);
        expect_abort(free_twice, p, "double free of");
        expect_abort(free_again_after_search, p, "double free of");
        expect_abort(free_inside, p, "invalid free of");
        expect_abort(use_size, p, "use after free: malloc_usable_size of");
        expect_abort(use_realloc, p, "use after free: realloc of");
    }
}
END_TEST

/* The slot is free by now, and nobody's. */
START_TEST(a_second_free_is_found_after_the_block_is_gone) {
    setup(0);
    for (size_t k = 2; k < BS_ARRAY_LEN(sizes) && sizes[k] <= BS_SMALL_MAX; k++) {
        uintptr_t hidden = make(sizes[k]), neighbour = make(sizes[k]);
        wipe(); /* what the next frame, with the child's, lies on */
        expect_abort(free_what_is_gone, (void *)hidden, "double free of");
        bs_heap_free(SHOWN(hidden));
        bs_heap_free(SHOWN(neighbour));
    }
}
END_TEST

#if BS_FAULTS
START_TEST(without_memory_for_its_bits_nobody_gets_it) {
    setup(0);
    uintptr_t hidden = make(100);
    ck_assert_ptr_null(bs_freed_table(~hidden));
    bs_os_fail(1, ENOMEM, true);
    bs_heap_free(SHOWN(hidden));
    bs_os_fail(0, 0, false);
    ck_assert_uint_eq(bs_counted(quarantine_lost), 1);
    must_hunt();
    ck_assert_uint_eq(got.held.blocks, 0);
    ck_assert(is_out(hidden));
    uintptr_t other = make_freed(100);
    ck_assert_uint_eq(bs_counted(quarantine_lost), 1);
    must_hunt();
    ck_assert(!is_out(other));
}
END_TEST
#endif

/* --- how much ----------------------------------------------------------------------------------- */

static size_t told, calls;
static void note_told(size_t fresh) {
    told = fresh;
    calls++;
}
START_TEST(freed_bytes_are_told) {
    setup(0);
    bs_quarantine_set_hook(note_told);
    for (unsigned i = 0; i < 4096; i++)
        (void)make_freed(1024);
    ck_assert_uint_eq(told, 4 * BS_MIB);
    /* and at the first, and each time that it was twice as much */
    ck_assert_uint_le(calls, 4 * BS_MIB / BS_QUARANTINE_TELL_BYTES + 6);
    ck_assert(!bs_hunt_run(mode, 5 * BS_MIB, NULL, &got));
    must_hunt();
    ck_assert_uint_eq(bs_quarantine_fresh, 0);
    ck_assert_uint_eq(got.held.bytes, 4 * BS_MIB);
    ck_assert_uint_eq(got.released.gone.blocks, 4096);
    (void)bs_heap_trim(0);
    ck_assert_uint_eq(trims, 1);
    ck_assert_uint_eq(bs_central_counts(bs_class_of(1024)).slots_out, 0);
    told = 0;
    for (unsigned i = 0; i < 1024; i++) /* who has told much keeps no more back */
        (void)make_freed(1024);
    ck_assert_uint_gt(told + BS_QUARANTINE_TELL_BYTES, BS_MIB);
}
END_TEST

/* Of a large block that lies there without its memory little counts. */
START_TEST(large_blocks_count_in_part) {
    setup(0);
    uintptr_t small = make(40000), hidden = make(3 << 20);
    size_t bytes = room(hidden), part = bytes / BS_QUARANTINE_LARGE_PART, fresh = room(small);
    ck_assert_uint_eq(bs_quarantine_aside, 0);
    free_hidden(small);
    ck_assert_uint_eq(bs_quarantine_aside, 0);
    ck_assert_uint_eq(bs_quarantine_fresh, fresh);
    free_hidden(hidden);
    ck_assert_uint_eq(bs_quarantine_aside, bytes - part);
    ck_assert_uint_eq(bs_quarantine_fresh, fresh + part);
    point(&global[0], hidden, 8); /* its beginning is the end of the other one */
    for (unsigned i = 0; i < 2; i++) {
        must_hunt();
        ck_assert(is_out(hidden) && !is_out(small));
        ck_assert_uint_eq(got.released.kept_aside, bytes - part);
        ck_assert_uint_eq(bs_quarantine_aside, bytes - part);
        ck_assert_uint_eq(bs_quarantine_fresh, 0);
    }
    global[0] = NULL;
    must_hunt();
    ck_assert(!is_out(hidden));
    ck_assert_uint_eq(got.released.kept_aside, 0);
    ck_assert_uint_eq(bs_quarantine_aside, 0);
}
END_TEST

static bool __attribute__((noinline)) has_memory(uintptr_t hidden) {
    unsigned char vec[64];
    bool any = false;
    size_t os_page = bs_os_page_size(), n = room(hidden) / os_page;
    ck_assert_int_eq(bs_os_residency(SHOWN(hidden), n * os_page, vec), 0);
    for (size_t i = 0; i < n; i++)
        any |= (vec[i] & 1) != 0;
    return any;
}

/* A short one, which is cleared in its place, gives its memory back when a search has kept it; what is used all the same
 * is not taken away each time. */
START_TEST(what_is_kept_gives_its_memory_back_once) {
    setup(0);
    uintptr_t hidden = make(48 * 1024);
    free_hidden(hidden);
    ck_assert(has_memory(hidden));
    point(&global[0], hidden, 0);
    must_hunt();
    ck_assert(!has_memory(hidden));
    touch(hidden, 100);
    must_hunt();
    ck_assert(is_out(hidden) && has_memory(hidden));
    global[0] = NULL;
    must_hunt();
    ck_assert(!is_out(hidden));
}
END_TEST

/* Spans that a search has emptied wait for a block of their class, however few there are of each. */
START_TEST(emptied_spans_wait_for_their_class) {
    static const size_t each[] = {100, 1000, 5000, 20000};
    static uintptr_t hidden[BS_ARRAY_LEN(each)][300];
    setup(0);
    for (size_t k = 0; k < BS_ARRAY_LEN(each); k++)
        for (size_t i = 0; i < 300; i++)
            hidden[k][i] = make(each[k]);
    for (size_t k = 0; k < BS_ARRAY_LEN(each); k++)
        for (size_t i = 0; i < 300; i++)
            free_hidden(hidden[k][i]);
    bs_tcache_drain_own();
    must_hunt();
    ck_assert_uint_eq(got.released.gone.blocks, 300 * BS_ARRAY_LEN(each));
    for (size_t k = 0; k < BS_ARRAY_LEN(each); k++) {
        unsigned class = bs_class_of(each[k]);
        struct bs_span *s = bs_waiting_take_back(class);
        require(s != NULL, "%zu bytes: no span waits", each[k]);
        for (; s != NULL; s = bs_waiting_take_back(class))
            require(s->class == class, "a span of class %u waits for class %u", s->class, class);
    }
}
END_TEST

/* Threads that free less than what is worth a word, and end. */
static void *free_little(void *arg) {
    (void)make_freed(1024);
    (void)make_freed(4096);
    (void)make_freed(512);
    return arg;
}
START_TEST(threads_that_are_gone_have_told) {
    enum { N = 100 };
    setup(0);
    for (unsigned i = 0; i < N; i++) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, free_little, NULL), 0);
        pthread_join(thread, NULL);
    }
    ck_assert_uint_ge(bs_quarantine_fresh, N * (1024 + 4096 + 512) / 2);
}
END_TEST

static uint64_t next_random(uint64_t *x) {
    *x = *x * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *x >> 32 | *x << 32;
}

/* The bytes beside slots, eight of which may go by one store. */
START_TEST(bytes_are_as_bits_say) {
    setup(0);
    uintptr_t base = bs_align_down((uintptr_t)first, BS_PAGE_SIZE);
    uint64_t seed = 1;
    ck_assert(bs_freed_make(base));
    uint8_t *bytes = bs_freed_bytes(bs_freed_table(base), base, 3);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t there = next_random(&seed) | next_random(&seed) | (i % 2 != 0 ? 0xff00ff00ff0000ff : 0);
        uint64_t gone = i % 3 != 0 ? next_random(&seed) & there : there & ~(uint64_t)i;
        for (unsigned k = 0; k < 64; k++)
            bytes[k] = there >> k & 1;
        require(bs_freed_bits(base, 3) == there, "%lx, not %lx", bs_freed_bits(base, 3), there);
        bs_freed_clear(base, 3, gone);
        require(bs_freed_bits(base, 3) == (there & ~gone), "%lx less %lx: %lx", there, gone, bs_freed_bits(base, 3));
    }
    bs_freed_clear(base, 3, ~(uint64_t)0);
    ck_assert_uint_eq(bs_freed_bits(base, 3), 0);
    ck_assert_uint_eq(bs_freed_bits(base, 2), 0);
}
END_TEST

/* --- the tables' memory ------------------------------------------------------------------------- */

struct tables {
    uintptr_t arena;
    size_t resident;
};
static size_t resident_of(const void *table, size_t bytes) {
    static unsigned char vec[sizeof(struct bs_freed) / 4096];
    size_t n = 0, os_page = bs_os_page_size();
    if (table == NULL || bs_os_residency(table, bytes, vec) != 0)
        return 0;
    for (size_t i = 0; i < bytes / os_page; i++)
        n += vec[i] & 1;
    return n * os_page;
}
static bool add_tables(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    static const enum bs_side sides[] = {BS_SIDE_HELD, BS_SIDE_MARK, BS_SIDE_KEPT};
    struct tables *t = ctx;
    (void)alloc, (void)released;
    if (t->arena == bs_align_down(base, BS_ARENA_SIZE))
        return true;
    t->arena = bs_align_down(base, BS_ARENA_SIZE);
    t->resident += resident_of(bs_freed_table(base), sizeof(struct bs_freed));
    for (size_t i = 0; i < BS_ARRAY_LEN(sides); i++)
        t->resident += resident_of(bs_marks_table(base, sides[i]), sizeof(struct bs_marks));
    return true;
}
static size_t table_bytes(void) {
    struct tables t = {0, 0};
    bs_pageheap_each_region(add_tables, &t);
    return t.resident;
}
static size_t trim_tables(void) {
    (void)bs_heap_trim(0);
    bs_round_enter();
    struct bs_pageheap_counts before = bs_pageheap_counts();
    size_t bytes = bs_quarantine_trim();
    struct bs_pageheap_counts after = bs_pageheap_counts();
    bs_round_leave();
    ck_assert(bs_pageheap_is_valid());
    if (before.activity == after.activity) { /* nobody has used a page meanwhile: all are back as they were */
        ck_assert_uint_eq(after.dirty_pages, before.dirty_pages);
        ck_assert_uint_eq(after.released_pages, before.released_pages);
        ck_assert_uint_eq(after.span_pages, before.span_pages);
    }
    return bytes;
}
static const size_t in_tables[] = {16, 64, 500, 8000, 40000, 300000};

/* A heap that was large once has the tables of a small one, and what is held in it is held. */
START_TEST(tables_shrink_with_the_heap) {
    enum { N = 40000, BYTES = 16 * BS_MIB };
    static uintptr_t all[N];
    size_t size = in_tables[_i], n = bs_min(N, BYTES / size), most, left, given;
    setup(BS_HUNT_SOUND);
    global[0] = SHOWN(make_freed(size));
    must_hunt();
    size_t few = table_bytes();
    for (size_t i = 0; i < n; i++)
        all[i] = make(size);
    for (size_t i = 0; i < n; i++)
        bs_heap_free(SHOWN(all[i]));
    must_hunt();
    must_hunt(); /* what was in a register */
    most = table_bytes();
    given = trim_tables();
    left = table_bytes();
    ck_assert_uint_le(left + given, most + 64 * BS_KIB);
    /* 64 pages of the heap share an OS page of bytes, in each of the planes that their slots take; of bits, a region */
    require(left <= few + 128 * BS_KIB, "%zu KiB of %zu at most are left, with few blocks it was %zu; %zu given", left / 1024,
            most / 1024, few / 1024, given / 1024);
    ck_assert(is_out(HIDE(global[0])));
    ck_assert_uint_eq(trim_tables(), 0);
    for (size_t i = 0; i < n; i++) /* the same pages again */
        (void)make_freed(size);
    must_hunt();
    ck_assert_uint_ge(got.held.blocks, n);
    ck_assert(visited(HIDE(global[0])));
}
END_TEST

#if BS_FAULTS
static uintptr_t meanwhile[500];
static void use_pages(void) {
    bs_quarantine_trims = NULL;
    for (size_t i = 0; i < BS_ARRAY_LEN(meanwhile); i++)
        meanwhile[i] = make(8000);
    for (size_t i = 0; i < BS_ARRAY_LEN(meanwhile); i++)
        bs_heap_free(SHOWN(meanwhile[i]));
}
/* A free whose byte goes with an OS page of the table would be a block that is nobody's for ever. */
START_TEST(no_free_is_lost_by_trimming) {
    static uintptr_t all[2000];
    setup(BS_HUNT_SOUND);
    for (size_t i = 0; i < BS_ARRAY_LEN(all); i++)
        all[i] = make(8000);
    for (size_t i = 0; i < BS_ARRAY_LEN(all); i++)
        bs_heap_free(SHOWN(all[i]));
    must_hunt();
    must_hunt();
    bs_quarantine_trims = use_pages;
    ck_assert_uint_ne(trim_tables(), 0);
    ck_assert(bs_quarantine_trims == NULL);
    for (size_t i = 0; i < BS_ARRAY_LEN(meanwhile); i++) {
        const struct bs_span *s = bs_span_of(~meanwhile[i]);
        uint32_t slot = bs_class_slot(bs_span_class(s), (uint32_t)(~meanwhile[i] - s->base));
        require((bs_freed_bits(s->base, slot / 64) >> slot % 64 & 1) != 0, "block %zu of class %u is lost", i, s->class);
    }
}
END_TEST
#endif

int main(void) {
    all_sizes_at_home();
    Suite *suite = suite_create("quarantine");
    TCase *tc = add_case(suite, "quarantine");
    add_loop_but_tsan(tc, a_freed_block_is_zero_and_stays, 0, MODES, UNIT_ALONE);
    add_loop_but_tsan(tc, without_a_pointer_it_goes, 0, MODES, UNIT_ALONE);
    add_loop_but_tsan(tc, a_pointer_holds_it, 0, MODES, UNIT_ALONE);
    tcase_add_loop_test(tc, a_thread_holds_it, 0, MODES);
    if (!BS_SANITIZED) { /* whose runtime has words of its own that name blocks */
        tcase_add_test(tc, a_copy_finds_what_is_there);
        tcase_add_test(tc, a_copy_instead_knows_what_it_lacks);
        tcase_add_test(tc, a_block_that_no_copy_would_have_is_read);
        tcase_add_test(tc, what_a_copy_has_not_any_more_is_noticed);
        tcase_add_test(tc, roots_that_grow_are_read_in_place_once);
        tcase_add_test(tc, of_much_the_helper_reads_a_part);
    }
    add_loop_but_tsan(tc, what_is_kept_is_told_one_by_one, 0, MODES, UNIT_ALONE);
    add_but_tsan(tc, without_a_copy_all_stand, UNIT_ALONE);
    add_loop_but_tsan(tc, the_kernel_holds_it, 0, MODES, UNIT_ALONE);
    if (!BS_SANITIZED) /* without a list of pages each of the shadow is asked for */
        tcase_add_loop_test(tc, what_cannot_be_copied_holds_all, 0, MODES);
    add_but_tsan(tc, another_file_knows_nothing_of_pages, UNIT_ALONE);
    add_but_tsan(tc, another_file_knows_nothing_of_writes, UNIT_ALONE);
    add_loop_but_tsan(tc, resized_blocks_leave_nothing_behind, 0, MODES, UNIT_ALONE);
    add_loop_but_tsan(tc, large_blocks_keep_addresses_alone, 0, MODES, UNIT_ALONE);
    add_but_tsan(tc, what_is_swapped_out_is_cleared, UNIT_ALONE);
    add_loop_but_tsan(tc, blocks_need_not_be_whole_os_pages, 0, MODES, UNIT_ALONE);
    add_but_tsan(tc, where_blocks_are_fresh_there_is_a_place_for_marks, UNIT_ALONE);
    add_but_tsan(tc, a_second_free_is_found_after_the_block_is_gone, UNIT_ALONE);
#if BS_FAULTS
    add_but_tsan(tc, without_memory_for_its_bits_nobody_gets_it, UNIT_ALONE);
#endif
    add_but_tsan(tc, large_blocks_count_in_part, UNIT_ALONE);
    add_but_tsan(tc, what_is_kept_gives_its_memory_back_once, UNIT_ALONE);
    add_but_tsan(tc, emptied_spans_wait_for_their_class, UNIT_ALONE);
    add_but_tsan(tc, crimes_are_found_at_once, UNIT_ALONE);
    add_but_tsan(tc, freed_bytes_are_told, UNIT_ALONE);
    tcase_add_test(tc, threads_that_are_gone_have_told);
    tcase_add_test(tc, bytes_are_as_bits_say);
    if (!BS_SANITIZED) { /* whose tables are of other mappings */
        tcase_add_loop_test(tc, tables_shrink_with_the_heap, 0, BS_ARRAY_LEN(in_tables));
#if BS_FAULTS
        tcase_add_test(tc, no_free_is_lost_by_trimming);
#endif
    }
    return run_suite(suite);
}
