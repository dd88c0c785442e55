/* SPDX-License-Identifier: MIT */
/*
 * check_os.c - the contract of os.h against the real kernel: memory states, moves, residency,
 * files, the helper thread, credentials, abort, and the failing of system calls on request.
 *
 * What must fault or abort runs in a forked child. Address space is compared through
 * /proc/self/maps: what besom reserves is PROT_NONE, which nothing else in the test maps meanwhile.
 */
#include "child.h"
#include "opt.h"
#include "os.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static size_t page_bytes; /* of the OS page */

static void find_page_size(void) {
    page_bytes = bs_os_page_size();
}

/* --- maps ------------------------------------------------------------------------------------- */

struct maps {
    size_t none_bytes; /* of all mappings without any access; 0 under a sanitizer, which has own */
    char perms[8];     /* of the mapping that holds the address asked for, or "" */
    uintptr_t start, end;
};

static struct maps read_maps(const void *address) {
    static char text[1 << 20];
    struct maps m = {0};
    int fd = open("/proc/self/maps", O_RDONLY);
    size_t len = 0;
    ssize_t n;
    while ((n = read(fd, text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)n;
    close(fd);
    text[len] = '\0';
    for (char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        uintptr_t start, end;
        char perms[8];
        ck_assert_int_eq(sscanf(line, "%lx-%lx %7s", &start, &end, perms), 3);
        if (strcmp(perms, "---p") == 0 && !BS_SANITIZED)
            m.none_bytes += end - start;
        if ((uintptr_t)address >= start && (uintptr_t)address < end) {
            m.start = start;
            m.end = end;
            memcpy(m.perms, perms, sizeof m.perms);
        }
    }
    return m;
}

/* --- children that touch memory --------------------------------------------------------------- */

static void read_byte(void *p) {
    signal(SIGSEGV, SIG_DFL); /* a sanitizer would report */
    (void)*(volatile char *)p;
}
static void write_byte(void *p) {
    signal(SIGSEGV, SIG_DFL);
    *(volatile char *)p = 1;
}
static bool faults(void (*access)(void *), void *p) {
    struct outcome o = child_run(access, p, 60);
    return WIFSIGNALED(o.status) && WTERMSIG(o.status) == SIGSEGV;
}

static bool is_zero(const char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (p[i] != 0)
            return false;
    return true;
}

/* --- memory ----------------------------------------------------------------------------------- */

START_TEST(page_size_is_the_kernels) {
    ck_assert_uint_eq(page_bytes, (size_t)sysconf(_SC_PAGESIZE));
}
END_TEST

START_TEST(reserve_aligns_and_keeps_no_more) {
    for (size_t align = page_bytes; align <= BS_GIB; align *= 4) {
        size_t bytes = 3 * page_bytes, before = read_maps(NULL).none_bytes;
        char *p = bs_os_reserve(0, bytes, align);
        ck_assert_ptr_nonnull(p);
        ck_assert_msg(((uintptr_t)p & (align - 1)) == 0, "%p is not aligned to %zu", (void *)p,
                      align);
        ck_assert_str_eq(read_maps(p).perms, "---p");
        ck_assert_str_eq(read_maps(p + bytes - 1).perms, "---p");
        size_t more = read_maps(NULL).none_bytes - before;
        ck_assert_msg(more == bytes || BS_SANITIZED, "align %zu: %zu bytes reserved for %zu",
                      align, more, bytes);
        bs_os_free(p, bytes);
        ck_assert_uint_eq(read_maps(NULL).none_bytes, before);
    }
}
END_TEST

START_TEST(reserve_takes_the_hint_or_another_place) {
    const uintptr_t hint = 0x1f0000000000 & ~(uintptr_t)(64 * BS_MIB - 1);
    size_t bytes = 64 * BS_MIB, before = read_maps(NULL).none_bytes;
    char *p = bs_os_reserve(hint, bytes, bytes);
    ck_assert(p == (void *)hint || BS_SANITIZED); /* which have places of their own */
    char *q = bs_os_reserve(hint, bytes, bytes); /* taken */
    ck_assert_ptr_nonnull(q);
    ck_assert_ptr_ne(q, p);
    ck_assert_uint_eq((uintptr_t)q % bytes, 0);
    ck_assert(read_maps(NULL).none_bytes == before + 2 * bytes || BS_SANITIZED);
    bs_os_free(p, bytes);
    bs_os_free(q, bytes);
    ck_assert_uint_eq(read_maps(NULL).none_bytes, before);
}
END_TEST

START_TEST(reserve_of_absurd_sizes_fails) {
    ck_assert_ptr_null(bs_os_reserve(0, SIZE_MAX - page_bytes + 1, page_bytes));
    ck_assert_ptr_null(bs_os_reserve(0, SIZE_MAX / 2 + 1, BS_GIB));
    ck_assert_ptr_null(bs_os_reserve(0, SIZE_MAX & ~(BS_GIB - 1), BS_GIB));
    ck_assert_ptr_null(bs_os_alloc((size_t)1 << 62));
}
END_TEST

START_TEST(states_of_memory) {
    size_t bytes = 8 * page_bytes;
    char *p = bs_os_reserve(0, bytes, page_bytes);
    ck_assert(faults(read_byte, p));
    ck_assert_int_eq(bs_os_map(p, bytes), 0);
    ck_assert_int_eq(bs_os_used(p, bytes), 0);
    ck_assert(is_zero(p, bytes));
    memset(p, 'x', bytes);
    ck_assert_int_eq(bs_os_unused(p + page_bytes, 2 * page_bytes), 0);
    ck_assert_int_eq(bs_os_used(p + page_bytes, 2 * page_bytes), 0);
    ck_assert_msg(is_zero(p + page_bytes, 2 * page_bytes), "given up pages kept their contents");
    ck_assert_int_eq(p[page_bytes - 1], 'x');
    ck_assert_int_eq(p[3 * page_bytes], 'x');
    ck_assert_int_eq(bs_os_decommit(p + page_bytes, page_bytes), 0);
    ck_assert(faults(read_byte, p + page_bytes));
    ck_assert(!faults(read_byte, p));
    ck_assert(!faults(write_byte, p + 2 * page_bytes));
    bs_os_free(p, bytes);
    ck_assert_str_eq(read_maps(p).perms, "");
    ck_assert_int_ne(bs_os_map(p, bytes), 0); /* None is not Reserved */
}
END_TEST

static char *odd;
static void unused_odd_address(void *arg) {
    (void)arg;
    (void)bs_os_unused(odd + 512, page_bytes);
}
static void unused_odd_length(void *arg) {
    (void)arg;
    (void)bs_os_unused(odd, page_bytes + 512);
}

START_TEST(unaligned_unused_is_fatal) {
    odd = bs_os_alloc(4 * page_bytes);
    struct outcome o = child_run(unused_odd_address, NULL, 60);
    ck_assert_msg(child_aborted(&o), "status %x: %s", o.status, o.err);
    o = child_run(unused_odd_length, NULL, 60);
    ck_assert_msg(child_aborted(&o), "status %x: %s", o.status, o.err);
    bs_os_free(odd, 4 * page_bytes);
}
END_TEST

START_TEST(readonly_zeros_open_in_parts) {
    size_t bytes = 64 * page_bytes;
    char *p = bs_os_alloc_readonly(bytes);
    ck_assert_ptr_nonnull(p);
    ck_assert(is_zero(p, bytes));
    ck_assert(faults(write_byte, p + 5 * page_bytes));
    ck_assert_int_eq(bs_os_writable(p + 5 * page_bytes, page_bytes), 0);
    ck_assert(!faults(write_byte, p + 5 * page_bytes));
    ck_assert(faults(write_byte, p + 6 * page_bytes));
    bs_os_free(p, bytes);
}
END_TEST

START_TEST(move_keeps_contents_and_leaves_zeros) {
    size_t bytes = 512 * page_bytes;
    char *from = bs_os_alloc(bytes), *to = bs_os_alloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        from[i] = (char)(i * 31 + i / page_bytes);
    memset(to, 'y', bytes);
    int err = bs_os_move(from, to, bytes);
    if (err == ENOSYS || err == EINVAL)
        return; /* a kernel before 5.7: the contract allows it */
    ck_assert_int_eq(err, 0);
    size_t same = 0; /* one assertion for all: libcheck writes a line for each */
    while (same < bytes && to[same] == (char)(same * 31 + same / page_bytes))
        same++;
    ck_assert_msg(same == bytes, "byte %zu changed", same);
    ck_assert_msg(is_zero(from, bytes), "the old place is not zero");
    memset(from, 'z', bytes); /* and is Ready */
    ck_assert_int_eq(to[0], 0);
    ck_assert_int_eq(bs_os_renew(to, bytes), 0);
    ck_assert_msg(is_zero(to, bytes), "a renewed mapping is not zero");
    to[bytes - 1] = 1;
    bs_os_free(from, bytes);
    bs_os_free(to, bytes);
}
END_TEST

/* Linux refuses what a userfaultfd watches, but not what lies before it in another mapping. */
START_TEST(a_refused_move_loses_nothing) {
    size_t bytes = 64 * page_bytes;
    for (size_t at = 0; at < 3; at++) {
        int watch = bs_os_watch_open(), pages = bs_os_pages_open();
        uintptr_t from = (uintptr_t)bs_os_alloc(bytes), to = (uintptr_t)bs_os_alloc(bytes), third = from + at * bytes / 4;
        if (watch < 0 || bs_os_watch(watch, pages, third, third + bytes / 4) != 0)
            return; /* a kernel before 6.7 */
        for (size_t i = 0; i < bytes / page_bytes; i += 2)
            memset((char *)from + i * page_bytes, (int)i + 1, page_bytes);
        const char *now = (char *)(bs_os_move((void *)from, (void *)to, bytes) == 0 ? to : from);
        for (size_t i = 0; i < bytes; i++)
            if (now[i] != (i / page_bytes % 2 == 0 ? (char)(i / page_bytes + 1) : 0))
                ck_abort_msg("watched from %zu quarters on: byte %zu is lost", at, i);
        ck_assert_int_eq(bs_os_renew((void *)to, bytes), 0);
        bs_os_free((void *)from, bytes);
        bs_os_free((void *)to, bytes);
        bs_os_close(watch);
        bs_os_close(pages);
    }
}
END_TEST

START_TEST(a_renewed_range_merges_again) {
    size_t bytes = 16 * page_bytes;
    char *p = bs_os_alloc(3 * bytes), *other = bs_os_alloc(bytes);
    memset(p, 1, 3 * bytes);
    memset(other, 1, bytes);
    if (bs_os_move(other, p + bytes, bytes) != 0)
        return;
    struct maps m = read_maps(p + bytes);
    ck_assert_msg(m.start != (uintptr_t)p, "a moved mapping merged, renewing shows nothing");
    ck_assert_int_eq(bs_os_renew(p + bytes, bytes), 0);
    m = read_maps(p + bytes);
    ck_assert_msg(m.start <= (uintptr_t)p && m.end >= (uintptr_t)p + 3 * bytes, "%lx-%lx is apart",
                  m.start, m.end);
    bs_os_free(p, 3 * bytes);
    bs_os_free(other, bytes);
}
END_TEST

START_TEST(residency_tells_touched_pages) {
    enum { PAGES = 64 };
    unsigned char vec[PAGES];
    char *p = bs_os_alloc(PAGES * page_bytes);
    bs_os_no_huge_pages(p, PAGES * page_bytes);
    for (size_t i = 0; i < PAGES; i += 3)
        p[i * page_bytes] = 1;
    ck_assert_int_eq(bs_os_residency(p, PAGES * page_bytes, vec), 0);
    for (size_t i = 0; i < PAGES; i++)
        ck_assert_msg((vec[i] & 1) == (i % 3 == 0), "page %zu: %d", i, vec[i]);
    bs_os_unused(p, PAGES * page_bytes);
    ck_assert_int_eq(bs_os_residency(p, PAGES * page_bytes, vec), 0);
    for (size_t i = 0; i < PAGES; i++)
        ck_assert_msg((vec[i] & 1) == 0, "page %zu still in memory", i);
    bs_os_free(p, PAGES * page_bytes);
    ck_assert_int_ne(bs_os_residency(p, PAGES * page_bytes, vec), 0);
}
END_TEST

/* Pages that are in no memory stay so, and do not look as if they were swapped out. */
START_TEST(watching_leaves_untouched_pages_alone) {
    enum { PAGES = 1024 };
    unsigned char vec[PAGES];
    struct bs_range part[PAGES];
    uintptr_t next;
    int watch = bs_os_watch_open(), pages = bs_os_pages_open();
    char *p = bs_os_alloc(PAGES * page_bytes);
    bs_os_no_huge_pages(p, PAGES * page_bytes);
    for (size_t i = 0; i < PAGES; i += 4)
        p[i * page_bytes] = 1;
    if (watch >= 0 && bs_os_watch(watch, pages, (uintptr_t)p, (uintptr_t)p + PAGES * page_bytes) == 0) {
        size_t n = 0;
        for (uintptr_t at = (uintptr_t)p; at < (uintptr_t)p + PAGES * page_bytes; at = next)
            n += bs_os_populated(pages, at, (uintptr_t)p + PAGES * page_bytes, 0, part + n, PAGES - n, &next);
        ck_assert_uint_eq(n, PAGES / 4);
        ck_assert_int_eq(bs_os_residency(p, PAGES * page_bytes, vec), 0);
        for (size_t i = 0; i < PAGES; i++)
            ck_assert_msg((vec[i] & 1) == (i % 4 == 0), "page %zu: %d", i, vec[i]);
        p[4 * page_bytes] = 2;
        p[(PAGES - 1) * page_bytes] = 2;
        n = bs_os_written(pages, (uintptr_t)p, (uintptr_t)p + PAGES * page_bytes, false, part, PAGES, &next);
        ck_assert_uint_eq(n, 2);
        ck_assert_uint_eq(part[0].start, (uintptr_t)p + 4 * page_bytes);
        ck_assert_uint_eq(part[1].start, (uintptr_t)p + (PAGES - 1) * page_bytes);
    }
    bs_os_free(p, PAGES * page_bytes);
    bs_os_close(pages);
    if (watch >= 0)
        bs_os_close(watch);
}
END_TEST

START_TEST(memory_that_may_be_gone_is_read) {
    char *p = bs_os_alloc(2 * page_bytes), copy[16];
    memset(p, 'a', 2 * page_bytes);
    bs_os_free(p + page_bytes, page_bytes);
    ck_assert_int_eq(bs_os_read_memory((uintptr_t)p, copy, sizeof copy), sizeof copy);
    ck_assert_int_eq(memcmp(copy, p, sizeof copy), 0);
    ck_assert_int_eq(bs_os_read_memory((uintptr_t)p + page_bytes - 5, copy, sizeof copy), 5);
    ck_assert_int_eq(bs_os_read_memory((uintptr_t)p + page_bytes, copy, sizeof copy), -EFAULT);
    bs_os_free(p, page_bytes);
}
END_TEST

/* The kernel says EFAULT for want of memory, too. Who believes that would pass over what is there. */
START_TEST(memory_that_is_there_is_never_gone) {
    static struct bs_os_call_faults faults = {.number = SYS_process_vm_readv, .at = 1, .error = EFAULT, .lasting = true};
    char *p = bs_os_alloc(2 * page_bytes), copy[16];
    memset(p, 'a', page_bytes);
    bs_os_free(p + page_bytes, page_bytes);
    bs_store(&bs_os_call_faults, &faults);
    long there = bs_os_read_memory((uintptr_t)p, copy, sizeof copy);
    long gone = bs_os_read_memory((uintptr_t)p + page_bytes, copy, sizeof copy);
    bs_os_fail(1, EMFILE, true);
    long not_said = bs_os_read_memory((uintptr_t)p, copy, sizeof copy);
    long gone_too = bs_os_read_memory((uintptr_t)p + page_bytes, copy, sizeof copy);
    bs_os_fail(0, 0, false);
    bs_store(&bs_os_call_faults, (struct bs_os_call_faults *)NULL);
    ck_assert_int_eq(there, sizeof copy);
    ck_assert_int_eq(memcmp(copy, p, sizeof copy), 0);
    ck_assert_int_eq(gone, -EFAULT);
    ck_assert_int_lt(not_said, 0);
    ck_assert_int_ne(not_said, -EFAULT);
    ck_assert_int_eq(gone_too, -EFAULT);
    bs_os_free(p, page_bytes);
}
END_TEST

/* --- process, time, files --------------------------------------------------------------------- */

static uint64_t libc_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

START_TEST(clocks) {
    uint64_t before = libc_ns(CLOCK_MONOTONIC), now = bs_os_now_ns(), after = libc_ns(CLOCK_MONOTONIC);
    ck_assert_msg(before <= now && now <= after, "%ju is not between %ju and %ju", (uintmax_t)now,
                  (uintmax_t)before, (uintmax_t)after);
    before = libc_ns(CLOCK_REALTIME);
    uint64_t wall = bs_os_wall_ns();
    after = libc_ns(CLOCK_REALTIME);
    ck_assert_msg(before <= wall && wall <= after, "wall clock: %ju is not between %ju and %ju",
                  (uintmax_t)wall, (uintmax_t)before, (uintmax_t)after);
    uint64_t cpu = bs_os_thread_cpu_ns();
    usleep(30000);
    uint64_t passed = bs_os_now_ns() - now;
    ck_assert_msg(passed >= 29000000u, "%ju ns for 30 ms", (uintmax_t)passed);
    ck_assert_msg(bs_os_thread_cpu_ns() - cpu < passed, "a sleeping thread used its CPU");
}
END_TEST

static void *note_tid(void *arg) {
    bs_store((int *)arg, bs_os_tid());
    return NULL;
}

START_TEST(processes_and_threads) {
    pthread_t thread;
    int tid = 0;
    ck_assert_int_eq(bs_os_pid(), getpid());
    ck_assert_int_eq(bs_os_tid(), (int)syscall(SYS_gettid));
    ck_assert(bs_os_thread_alive(bs_os_tid()));
    ck_assert(!bs_os_thread_alive(getppid())); /* it exists, but is no thread of ours */
    ck_assert_int_eq(pthread_create(&thread, NULL, note_tid, &tid), 0);
    pthread_join(thread, NULL);
    for (int i = 0; i < 60000 && bs_os_thread_alive(tid); i++)
        usleep(1000);
    ck_assert_msg(!bs_os_thread_alive(tid), "thread %d is gone and looks alive", tid);
}
END_TEST

/* What a handler has interrupted is found by the kernel's frame of the signal, and by that alone: a place in the text, or
 * one with the text near to its stack pointer. */
static char code[64];
static uintptr_t stack[4096], left[128]; /* with words that lead into the text */

static bool stack_is_clear(void) {
    for (size_t i = 0; i < BS_ARRAY_LEN(left); i++)
        left[i] = (uintptr_t)code + 8;
    return bs_os_stack_is_clear((uintptr_t)stack, stack + BS_ARRAY_LEN(stack), 0, (uintptr_t)code,
                                (uintptr_t)code + sizeof code);
}
static void put_frame(size_t at, uintptr_t sp, uintptr_t pc) {
#if defined(__x86_64__)
    const uintptr_t frame[] = {sp, pc, 0x246, 0x002b000000000033};
#else
    const uintptr_t frame[] = {sp, pc, 0x60001000, 0, 0x0000021046508001}; /* of vector registers */
#endif
    memcpy(&stack[at], frame, sizeof frame);
}

START_TEST(a_signals_frame_on_a_stack_is_seen) {
    /* the second at the end of a piece that is read at once, at each offset */
    for (size_t at = 1; at < 600; at += at < 240 ? 60 : 1) {
        memset(stack, 0, sizeof stack);
        ck_assert(stack_is_clear());
        put_frame(at, (uintptr_t)stack, 4);
        ck_assert(stack_is_clear());
        put_frame(at, (uintptr_t)left, 4);
        ck_assert(!stack_is_clear());
        put_frame(at, 0, (uintptr_t)code + 4);
        ck_assert(!stack_is_clear());
    }
}
END_TEST

START_TEST(numbers_on_a_stack_are_no_signals_frame) {
    for (size_t i = 0; i + 4 <= BS_ARRAY_LEN(stack); i += 4) {
        stack[i] = (uintptr_t)left;
        stack[i + 1] = i % 8 == 0 ? 0 : (uintptr_t)left;
        stack[i + 2] = i * 16;
        stack[i + 3] = i % 12 == 0 ? 0 : UINT64_C(1) << 32 | i;
    }
    ck_assert(stack_is_clear());
}
END_TEST

START_TEST(page_faults_are_counted) {
    uint64_t minor, major, later, ignored;
    bs_os_faults(&minor, &major);
    char *p = bs_os_alloc(64 * page_bytes);
    bs_os_no_huge_pages(p, 64 * page_bytes);
    memset(p, 1, 64 * page_bytes);
    bs_os_faults(&later, &ignored);
    ck_assert_msg(later - minor >= 32, "%ju faults for 64 new pages", (uintmax_t)(later - minor));
    bs_os_free(p, 64 * page_bytes);
}
END_TEST

START_TEST(name_random_secure) {
    char name[16], want[32] = "";
    FILE *f = fopen("/proc/self/comm", "r");
    ck_assert_ptr_nonnull(fgets(want, sizeof want, f));
    fclose(f);
    want[strcspn(want, "\n")] = '\0';
    bs_os_program_name(name);
    ck_assert_str_eq(name, want);
    ck_assert_uint_ne(bs_os_random(), 0);
    ck_assert_uint_eq(bs_os_random(), bs_os_random());
    ck_assert(!bs_os_secure());
}
END_TEST

START_TEST(files) {
    char path[] = "/tmp/check_os.XXXXXX", buf[16] = "";
    close(mkstemp(path));
    ck_assert_int_eq(bs_os_open_new(path), -EEXIST);
    unlink(path);
    int fd = bs_os_open_new(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(bs_os_write(fd, "one,", 4), 4);
    bs_os_close(fd);
    fd = bs_os_open_append(path);
    ck_assert_int_eq(bs_os_write(fd, "two", 3), 3);
    bs_os_close(fd);
    ck_assert_int_eq(bs_os_write(fd, "x", 1), -EBADF);
    fd = bs_os_open_read(path);
    ck_assert_int_eq(bs_os_read(fd, buf, sizeof buf), 7);
    ck_assert_str_eq(buf, "one,two");
    ck_assert_int_eq(bs_os_read(fd, buf, sizeof buf), 0);
    bs_os_close(fd);
    unlink(path);
    ck_assert_int_eq(bs_os_open_read(path), -ENOENT);
    ck_assert_int_eq(bs_os_open_append("/nowhere/at/all"), -ENOENT);
}
END_TEST

static void *read_slowly(void *arg) {
    char buf[1000];
    size_t total = 0;
    ssize_t n;
    while ((n = read(*(int *)arg, buf, sizeof buf)) > 0)
        total += (size_t)n;
    return (void *)total;
}

START_TEST(a_long_write_is_finished) {
    static char data[1 << 20];
    int fds[2];
    pthread_t reader;
    void *total;
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_slowly, &fds[0]), 0);
    ck_assert_int_eq(bs_os_write(fds[1], data, sizeof data), sizeof data);
    close(fds[1]);
    pthread_join(reader, &total);
    ck_assert_uint_eq((size_t)total, sizeof data);
}
END_TEST

START_TEST(errno_is_kept) {
    char c;
    errno = 4711;
    (void)bs_os_open_read("/nowhere/at/all");
    (void)bs_os_read(-1, &c, 1);
    (void)bs_os_write(-1, &c, 1);
    bs_os_close(-1);
    (void)bs_os_map((void *)page_bytes, page_bytes);
    (void)bs_os_move((void *)page_bytes, (void *)(page_bytes * 8), page_bytes);
    (void)bs_os_thread_alive(1);
    bs_os_wait(&(uint32_t){1}, 2, 1000);
#if !BS_SANITIZED
    (void)bs_os_reserve(0, SIZE_MAX / 2 + 1, page_bytes);
    (void)bs_os_alloc((size_t)1 << 62);
    bs_os_free((void *)1, 1);
#endif
    ck_assert_int_eq(errno, 4711);
}
END_TEST

/* --- waiting ---------------------------------------------------------------------------------- */

static void *wake_later(void *arg) {
    usleep(50000);
    bs_store((uint32_t *)arg, 1u);
    bs_os_wake(arg, 1);
    return NULL;
}

START_TEST(wait_and_wake) {
    uint32_t word = 0;
    pthread_t thread;
    uint64_t start = bs_os_now_ns();
    bs_os_wait(&word, 1, 0); /* other value: returns at once */
    bs_os_wait(&word, 0, 20000000u);
    uint64_t passed = bs_os_now_ns() - start;
    ck_assert_msg(passed >= 15000000u && passed < 10000000000u, "%ju ns", (uintmax_t)passed);
    ck_assert_int_eq(pthread_create(&thread, NULL, wake_later, &word), 0);
    while (bs_load(&word) == 0)
        bs_os_wait(&word, 0, 0);
    pthread_join(thread, NULL);
}
END_TEST

/* --- the helper thread ------------------------------------------------------------------------ */

static uint32_t helper_runs, helper_may_end;
static int helper_tid;

static void helper_body(void *arg) {
    bs_store(&helper_tid, bs_os_tid());
    bs_add(&helper_runs, *(uint32_t *)arg);
    while (bs_load(&helper_may_end) == 0)
        bs_os_wait(&helper_may_end, 0, 1000000u);
}

static void await_run(uint32_t n) {
    for (int i = 0; i < 60000 && bs_load(&helper_runs) < n; i++)
        usleep(1000);
    ck_assert_msg(bs_load(&helper_runs) == n, "%u runs, not %u", bs_load(&helper_runs), n);
}

/* Starts it, waiting for the end of the previous one. */
static int start_after_end(uint32_t *arg) {
    int err = EBUSY;
    for (int i = 0; i < 60000 && err == EBUSY; i++) {
        err = bs_os_helper_start(helper_body, arg);
        if (err == EBUSY)
            usleep(1000);
    }
    return err;
}

static volatile sig_atomic_t signal_tid;
static void note_signal_thread(int number) {
    (void)number;
    signal_tid = bs_os_tid();
}

START_TEST(one_helper_at_a_time) {
    static uint32_t one = 1;
    for (uint32_t round = 1; round <= 5; round++) {
        bs_store(&helper_may_end, 0u);
        ck_assert_int_eq(start_after_end(&one), 0);
        await_run(round);
        ck_assert_int_ne(bs_load(&helper_tid), bs_os_tid());
        ck_assert_int_eq(bs_os_helper_start(helper_body, &one), EBUSY);
        ck_assert(bs_os_thread_alive(bs_load(&helper_tid)));
        bs_store(&helper_may_end, 1u);
        for (int i = 0; i < 60000 && bs_os_thread_alive(bs_load(&helper_tid)); i++)
            usleep(1000);
    }
}
END_TEST

START_TEST(the_helper_takes_no_signal) {
    static uint32_t one = 1;
    bs_store(&helper_may_end, 0u);
    signal(SIGUSR1, note_signal_thread);
    ck_assert_int_eq(start_after_end(&one), 0);
    await_run(1);
#if !BS_SANITIZED /* there the helper is an ordinary thread */
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    kill(getpid(), SIGUSR1);
    usleep(50000);
    ck_assert_msg(signal_tid == 0, "a signal ran in thread %d", (int)signal_tid);
    sigprocmask(SIG_SETMASK, &old, NULL);
    ck_assert_int_eq(signal_tid, bs_os_tid());
#endif
    bs_store(&helper_may_end, 1u);
}
END_TEST

static void start_in_child(void *arg) {
    CHILD_CHECK(bs_os_helper_start(helper_body, arg) == EBUSY); /* it believes in the parent's */
    bs_os_helper_forget();
    bs_store(&helper_runs, 0u);
    CHILD_CHECK(bs_os_helper_start(helper_body, arg) == 0);
    for (int i = 0; i < 60000 && bs_load(&helper_runs) == 0; i++)
        usleep(1000);
    CHILD_CHECK(bs_load(&helper_runs) == 1);
}

START_TEST(a_forked_child_may_have_its_own) {
    static uint32_t one = 1;
    bs_store(&helper_may_end, 0u);
    ck_assert_int_eq(start_after_end(&one), 0);
    await_run(1);
    struct outcome o = child_run(start_in_child, &one, 60);
    bs_store(&helper_may_end, 1u);
    ck_assert_msg(child_ended_well(&o), "status %x: %s", o.status, o.err);
}
END_TEST

#if !BS_SANITIZED
static uint32_t opened_first; /* [atomic] the number that it got, + 1 */

static void separate_body(void *arg) {
    bs_os_helper_own_descriptors();
    int fd = bs_os_open_read("/dev/null");
    bs_os_write_stderr("more\n", 5, false);
    bs_os_write_stderr("last\n", 5, true);
    bs_os_close(fd);
    bs_store((uint32_t *)arg, (uint32_t)fd + 1);
}
static void start_separate(void *arg) {
    (void)arg;
    int before = open("/dev/null", O_RDONLY), lowest = dup(before);
    close(lowest);
    bs_store(&opened_first, 0u);
    CHILD_CHECK(bs_os_helper_start(separate_body, &opened_first) == 0);
    for (int i = 0; i < 60000 && bs_load(&opened_first) == 0; i++) {
        CHILD_CHECK(dup(before) == lowest);
        close(lowest);
        usleep(1000);
    }
    CHILD_CHECK(bs_load(&opened_first) == 1); /* descriptor 0 */
}
/* One that kills nobody, but who knows. */
static bool set_a_filter(void) {
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog program = {1, &allow};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}
static bool is_filtered(void) { /* whoever started us may have done it */
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 0;
}
static void say_to_socket(void *arg) {
    int ends[2], stderr_fd = dup(2);
    char text[64] = "";
    CHILD_CHECK(arg == NULL || set_a_filter());
    CHILD_CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0 && dup2(ends[0], 2) == 2);
    start_separate(NULL);
    dup2(stderr_fd, 2);
    if (!is_filtered()) /* a socket has no name */
        CHILD_CHECK(recv(ends[1], text, sizeof text - 1, MSG_DONTWAIT) == 5 && strcmp(text, "more\n") == 0);
    CHILD_CHECK(recv(ends[1], text, sizeof text - 1, MSG_DONTWAIT) == 5 && strcmp(text, "last\n") == 0);
    CHILD_CHECK(recv(ends[1], text, sizeof text - 1, MSG_DONTWAIT) == -1);
}
static void say_to_file(void *arg) {
    char path[] = "/tmp/check_os.XXXXXX", text[64] = "";
    int fd = mkstemp(path), stderr_fd = dup(2);
    (void)arg;
    unlink(path);
    CHILD_CHECK(write(fd, "first\n", 6) == 6 && dup2(fd, 2) == 2);
    start_separate(NULL);
    dup2(stderr_fd, 2);
    CHILD_CHECK(write(fd, "then\n", 5) == 5); /* over nothing: its place is behind what was said */
    CHILD_CHECK(pread(fd, text, sizeof text - 1, 0) == 21 && strcmp(text, "first\nmore\nlast\nthen\n") == 0);
}

static pthread_t first_thread;
static void *say_from_second(void *arg) {
    pthread_join(first_thread, NULL);
    start_separate(arg);
    _exit(0);
}
static void say_when_first_has_ended(void *arg) {
    pthread_t second;
    first_thread = pthread_self();
    CHILD_CHECK(pthread_create(&second, NULL, say_from_second, arg) == 0);
    pthread_exit(NULL);
}

static bool has_filters(void) { /* EFAULT: it would take one */
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1 && errno == EFAULT;
}

/* What it opens has no number here, and what it says arrives where the program's stderr goes. */
START_TEST(a_helper_may_have_its_own_descriptors) {
    if (syscall(436 /* close_range */, 100000, 100000, 0) != 0)
        return; /* before Linux 5.9 */
    struct outcome o = child_run(start_separate, NULL, 100);
    ck_assert_msg(child_ended_well(&o), "status %x: %s", o.status, o.err);
    ck_assert_str_eq(o.err, "more\nlast\n");
    o = child_run(say_when_first_has_ended, NULL, 100);
    ck_assert_msg(child_ended_well(&o), "without the first thread: status %x: %s", o.status, o.err);
    ck_assert_str_eq(o.err, "more\nlast\n");
    o = child_run(say_to_file, NULL, 100);
    ck_assert_msg(is_filtered() || child_ended_well(&o), "to a file: status %x: %s", o.status, o.err);
    o = child_run(say_to_socket, NULL, 100);
    ck_assert_msg(child_ended_well(&o), "to a socket: status %x: %s", o.status, o.err);
    if (!has_filters())
        return;
    o = child_run(say_to_socket, &page_bytes, 100);
    ck_assert_msg(child_ended_well(&o), "with a filter: status %x: %s", o.status, o.err);
}
END_TEST
#endif

/* --- credentials ------------------------------------------------------------------------------ */

static bool seen_equal, seen_changed, may_change, seen_rights, seen_none;

/* By system call, so that only this thread changes: libc would change all. */
static void *give_up_group(void *arg) {
    seen_equal = bs_os_same_credentials();
    may_change = syscall(SYS_setresgid, 65534, 65534, 65534) == 0;
    seen_changed = !bs_os_same_credentials();
    seen_rights = bs_os_has_capabilities();
    struct __user_cap_header_struct who = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}, {0}};
    ck_assert_int_eq(syscall(SYS_capset, &who, none), 0);
    seen_none = !bs_os_has_capabilities();
    return arg;
}

START_TEST(credentials_are_compared_with_the_first_threads) {
    pthread_t thread;
    ck_assert(bs_os_same_credentials());
    ck_assert_int_eq(pthread_create(&thread, NULL, give_up_group, NULL), 0);
    pthread_join(thread, NULL);
    ck_assert_msg(seen_equal, "equal credentials look different");
    ck_assert_msg(seen_changed == may_change, /* only root may change them */
                  may_change ? "a thread with another group looks equal" : "a change was invented");
    ck_assert_msg(seen_rights || !may_change, "a thread that may change its group has no capabilities");
    ck_assert_msg(seen_none, "a thread without capabilities has some");
    ck_assert(bs_os_same_credentials());
}
END_TEST

enum { MANY = 100 }; /* the kernel's text of them is longer than what is wanted of a program with a few */

static void *give_up_one_of_many(void *arg) {
    gid_t some[MANY];
    for (unsigned i = 0; i < MANY; i++)
        some[i] = 1000000 + i;
    bool may = syscall(SYS_setgroups, MANY, some) == 0;
    bool is_seen = !bs_os_same_credentials();
    _exit(!may ? 2 : is_seen ? 0 : 1);
    return arg;
}
static void start_with_many(void *arg) {
    gid_t some[MANY];
    for (unsigned i = 0; i < MANY; i++)
        some[i] = 1000000 + i;
    some[MANY - 1] = 2000000;
    if (syscall(SYS_setgroups, MANY, some) != 0 || !bs_os_same_credentials())
        _exit(2);
    pthread_t thread;
    pthread_create(&thread, NULL, give_up_one_of_many, arg);
    pause();
}

START_TEST(one_group_of_many_is_compared) {
    struct outcome o = child_run(start_with_many, NULL, 100);
    ck_assert_msg(o.status == 2 << 8 /* may not */ || child_ended_well(&o), "status %x: %s", o.status, o.err);
}
END_TEST

/* --- abort ------------------------------------------------------------------------------------ */

static void say_handled(int number) {
    (void)number;
    (void)bs_os_write(2, "handled\n", 8);
}
static void abort_with_handler(void *arg) {
    (void)arg;
    signal(SIGABRT, say_handled);
    bs_os_abort();
}
static void abort_ignored(void *arg) {
    (void)arg;
    signal(SIGABRT, SIG_IGN);
    bs_os_abort();
}
static void abort_blocked(void *arg) {
    sigset_t all;
    (void)arg;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGABRT, say_handled);
    bs_os_abort();
}
static void *abort_thread(void *arg) {
    (void)arg;
    bs_os_abort();
}
static void abort_in_thread(void *arg) {
    pthread_t thread;
    (void)arg;
    signal(SIGABRT, say_handled);
    CHILD_CHECK(pthread_create(&thread, NULL, abort_thread, NULL) == 0);
    pthread_join(thread, NULL);
}

START_TEST(abort_runs_the_handler_and_ends_the_process) {
    static const struct {
        void (*fn)(void *);
        const char *name, *said;
    } ways[] = {{abort_with_handler, "handler", "handled\n"},
                {abort_ignored, "ignored", ""},
                {abort_blocked, "blocked", "handled\n"},
                {abort_in_thread, "thread", "handled\n"}};
    for (size_t i = 0; i < BS_ARRAY_LEN(ways); i++) {
        struct outcome o = child_run(ways[i].fn, NULL, 60);
        ck_assert_msg(child_aborted(&o), "%s: status %x", ways[i].name, o.status);
        ck_assert_str_eq(o.err, ways[i].said);
    }
}
END_TEST

/* --- faults ----------------------------------------------------------------------------------- */

#if BS_FAULTS
/* One refusal ends MADV_FREE for good: the range is given up by MADV_DONTNEED, and later ones too. */
START_TEST(a_refused_lazy_free_is_the_last) {
    char *p = bs_os_alloc(2 * page_bytes);
    bs_opt.advice = BS_ADVICE_FREE;
    (void)bs_os_fail(0, 0, false);
    memset(p, 'x', 2 * page_bytes);
    ck_assert_int_eq(bs_os_unused(p, page_bytes), 0);
    ck_assert_uint_eq(bs_os_fail(1, EINVAL, false), 1); /* MADV_FREE alone, and now it is refused */
    ck_assert_int_eq(bs_os_unused(p, page_bytes), 0);
    ck_assert_msg(is_zero(p, page_bytes), "neither advice was given");
    ck_assert_uint_eq(bs_os_fail(0, 0, false), 2);
    ck_assert_int_eq(bs_os_unused(p + page_bytes, page_bytes), 0);
    ck_assert_msg(is_zero(p + page_bytes, page_bytes), "it was asked again");
    ck_assert_uint_eq(bs_os_fail(0, 0, false), 1);
    bs_os_free(p, 2 * page_bytes);
}
END_TEST

START_TEST(the_nth_call_fails) {
    void *p[6];
    (void)bs_os_fail(3, ENOMEM, false);
    for (int i = 0; i < 5; i++)
        p[i] = bs_os_alloc(page_bytes);
    ck_assert_uint_eq(bs_os_fail(2, EACCES, true), 5);
    for (int i = 0; i < 5; i++)
        ck_assert_msg((p[i] == NULL) == (i == 2), "call %d: %p", i + 1, p[i]);
    ck_assert_int_eq(bs_os_unused(p[0], page_bytes), 0);
    ck_assert_int_eq(bs_os_unused(p[0], page_bytes), EACCES);
    ck_assert_int_eq(bs_os_map(p[0], page_bytes), EACCES);
    ck_assert_int_eq(bs_os_open_read("/dev/null"), -EACCES);
    ck_assert_uint_eq(bs_os_fail(0, 0, false), 4);
    ck_assert_int_eq(bs_os_unused(p[0], page_bytes), 0);
    for (int i = 0; i < 5; i++)
        if (p[i] != NULL)
            bs_os_free(p[i], page_bytes);
}
END_TEST
#endif

static TCase *memory_tests(void) {
    TCase *tc = tcase_create("memory");
    tcase_add_test(tc, page_size_is_the_kernels);
    tcase_add_test(tc, reserve_aligns_and_keeps_no_more);
    tcase_add_test(tc, reserve_takes_the_hint_or_another_place);
    tcase_add_test(tc, reserve_of_absurd_sizes_fails);
    tcase_add_test(tc, states_of_memory);
    tcase_add_test(tc, unaligned_unused_is_fatal);
    tcase_add_test(tc, readonly_zeros_open_in_parts);
    tcase_add_test(tc, move_keeps_contents_and_leaves_zeros);
    tcase_add_test(tc, a_refused_move_loses_nothing);
    tcase_add_test(tc, a_renewed_range_merges_again);
    tcase_add_test(tc, residency_tells_touched_pages);
    tcase_add_test(tc, watching_leaves_untouched_pages_alone);
    tcase_add_test(tc, memory_that_may_be_gone_is_read);
    tcase_add_test(tc, memory_that_is_there_is_never_gone);
#if BS_FAULTS
    tcase_add_test(tc, a_refused_lazy_free_is_the_last);
    tcase_add_test(tc, the_nth_call_fails);
#endif
    return tc;
}

static TCase *process_tests(void) {
    TCase *tc = tcase_create("process");
    tcase_add_test(tc, clocks);
    tcase_add_test(tc, processes_and_threads);
    tcase_add_test(tc, a_signals_frame_on_a_stack_is_seen);
    tcase_add_test(tc, numbers_on_a_stack_are_no_signals_frame);
    tcase_add_test(tc, page_faults_are_counted);
    tcase_add_test(tc, name_random_secure);
    tcase_add_test(tc, files);
    tcase_add_test(tc, a_long_write_is_finished);
    tcase_add_test(tc, errno_is_kept);
    tcase_add_test(tc, wait_and_wake);
    tcase_add_test(tc, one_helper_at_a_time);
    tcase_add_test(tc, the_helper_takes_no_signal);
    tcase_add_test(tc, a_forked_child_may_have_its_own);
#if !BS_SANITIZED
    tcase_add_test(tc, a_helper_may_have_its_own_descriptors);
#endif
    tcase_add_test(tc, credentials_are_compared_with_the_first_threads);
    tcase_add_test(tc, one_group_of_many_is_compared);
    tcase_add_test(tc, abort_runs_the_handler_and_ends_the_process);
    return tc;
}

int main(void) {
    Suite *suite = suite_create("os");
    TCase *tcs[] = {memory_tests(), process_tests()};
    for (size_t i = 0; i < BS_ARRAY_LEN(tcs); i++) {
        tcase_set_timeout(tcs[i], 60);
        tcase_add_unchecked_fixture(tcs[i], find_page_size, NULL);
        suite_add_tcase(suite, tcs[i]);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
