/* SPDX-License-Identifier: MIT */
/*
 * os_watch.c - which pages were written to since a moment: the part of os.h for searches that read while
 * the program runs.
 *
 * A userfaultfd in asynchronous write-protect mode (Linux 6.7): the kernel lifts the protection of a page
 * by itself at the first write, whoever writes, and PAGEMAP_SCAN tells which pages have none. Nobody waits,
 * no system call fails. Pages that come into memory afterwards have none either, so they count as written.
 * What the kernel was not asked to watch (memory mapped since) it refuses to tell of, and that is all
 * taken as written. (Soft-dirty bits are no way: where the kernel is built without them, clearing them
 * succeeds and no page is ever dirty.)
 *
 * Direct I/O, and devices that were given a page before the moment, write past page tables: not seen.
 *
 * It decides nothing and takes no lock.
 */
#define _GNU_SOURCE
#include "os.h"

#include "os_pagemap.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* The kernel's <linux/userfaultfd.h> and <linux/fs.h>, of which the C library's copies may be older. */
#define USER_MODE_ONLY 1
#define FEATURES (((uint64_t)1 << 0) | ((uint64_t)1 << 15)) /* write-protect faults, asynchronous */
struct uffd_api {
    uint64_t api, features, ioctls;
};
struct uffd_register {
    uint64_t start, len, mode, ioctls;
};
#define UFFD_API 0xAA
#define UFFDIO_API _IOWR(0xAA, 0x3F, struct uffd_api)
#define UFFDIO_REGISTER _IOWR(0xAA, 0x00, struct uffd_register)
#define MODE_WP 2

#define PROTECT_MATCHING 1
#define MUST_BE_WATCHED 2

#define SCAN_PARTS 64

int bs_os_watch_open(void) {
    long fd = bs_sys1(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
    if (fd < 0)
        return (int)fd;
    struct uffd_api api = {.api = UFFD_API, .features = FEATURES};
    long error = bs_sys3(SYS_ioctl, fd, UFFDIO_API, &api);
    if (error == 0)
        return (int)fd;
    bs_os_close((int)fd);
    return (int)error;
}

uint64_t bs_os_identity(int fd) {
    struct stat st;
    if (fd < 0 || bs_sys2(SYS_fstat, fd, &st) != 0)
        return 0;
    return ((uint64_t)st.st_dev << 40) ^ (uint64_t)st.st_ino ^ (uint64_t)st.st_mode << 52 ^ 1;
}

bool bs_os_close_same(int fd, uint64_t identity) {
    if (bs_os_identity(fd) != identity)
        return false;
    if (fd >= 0)
        bs_os_close(fd);
    return true;
}

static long scan(int pages, uintptr_t start, uintptr_t end, uint64_t flags, struct scan_part *vec,
                 size_t nvec, uint64_t *walk_end) {
    struct scan_arg arg = {.size = sizeof arg,
                           .flags = flags | MUST_BE_WATCHED,
                           .start = start,
                           .end = end,
                           .vec = (uintptr_t)vec,
                           .vec_len = nvec,
                           .all_of = CATEGORY_WRITTEN,
                           .any_of = CATEGORY_PRESENT | CATEGORY_SWAPPED,
                           .returned = CATEGORY_WRITTEN};
    long n = bs_sys3(SYS_ioctl, pages, PAGEMAP_SCAN, &arg);
    *walk_end = arg.walk_end;
    return n;
}

int bs_os_watch(int watch, int pages, uintptr_t start, uintptr_t end) {
    struct uffd_register r = {.start = start, .len = end - start, .mode = MODE_WP};
    struct scan_part vec[SCAN_PARTS];
    long n = bs_sys3(SYS_ioctl, watch, UFFDIO_REGISTER, &r);
    /* Without a list of what it found the kernel marks pages that are in no memory as well. Those look swapped out
     * then, whoever tries them gets a page of zeros, and mincore says that they are there. */
    for (uint64_t walk_end = end; n >= 0 && start < end; start = walk_end > start ? walk_end : end)
        n = scan(pages, start, end, PROTECT_MATCHING, vec, SCAN_PARTS, &walk_end);
    return n < 0 ? (int)-n : 0;
}

size_t bs_os_written(int pages, uintptr_t start, uintptr_t end, bool again, struct bs_range *part,
                     size_t max, uintptr_t *next) {
    struct scan_part vec[SCAN_PARTS];
    uint64_t walk_end = end;
    long n = scan(pages, start, end, again ? PROTECT_MATCHING : 0, vec, bs_min(max, SCAN_PARTS), &walk_end);
    if (n < 0)
        return bs_os_populated(pages, start, end, 0, part, max, next);
    for (long i = 0; i < n; i++)
        part[i] = (struct bs_range){vec[i].start, vec[i].end};
    *next = n == 0 || walk_end <= start ? end : walk_end;
    return (size_t)n;
}
