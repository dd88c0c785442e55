/* SPDX-License-Identifier: MIT */
/*
 * os_pages.c - which pages of the process hold something: the part of os.h that a scan asks.
 *
 * Four ways, the best that works is found by using it: the ioctl PAGEMAP_SCAN (Linux 6.7), reading
 * /proc/self/pagemap, mincore, and reading every page that can be read. A page counts if it is in
 * memory or swapped out. mincore does not tell a page that is swapped out from one that was never
 * used, so it is believed only where the machine has no swap; of shared memory, whose pages may be
 * there without being mapped here, it is asked first of all.
 *
 * A guard page (MADV_GUARD_INSTALL) looks like a swapped one to kernels before 6.15: those that are
 * not in memory are tried before they count.
 *
 * It decides nothing and takes no lock. It never reads the pages themselves.
 */
#define _GNU_SOURCE
#include "os.h"

#include "os_pagemap.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysinfo.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* Entries of /proc/self/pagemap. */
#define ENTRY_PRESENT ((uint64_t)1 << 63)
#define ENTRY_SWAPPED ((uint64_t)1 << 62)
#define ENTRY_FILE ((uint64_t)1 << 61)
#define ENTRY_GUARD ((uint64_t)1 << 58)

#define CHUNK_PAGES 512 /* asked at once by the least way */
#define CHUNK_ENTRIES 128 /* by the other one: 1 KiB of stack, which threads may have little of */
#define SCAN_PARTS 64

static uint32_t source;    /* [atomic] enum bs_pages_source: the one that answered last */
static uint32_t best;      /* [atomic] no better one is tried */
static bool guard_unknown; /* [atomic] this kernel has no such category */

enum bs_pages_source bs_os_pages_source(void) {
    return (enum bs_pages_source)bs_load(&source);
}

#if BS_FAULTS
void bs_os_pages_use(enum bs_pages_source s) {
    bs_store(&best, (uint32_t)s);
}
#endif

int bs_os_pages_open(void) {
    return bs_os_open_own("pagemap");
}

/* --- protection keys -------------------------------------------------------------------------- */

#if defined(__x86_64__)
static bool has_keys(void) {
    static uint32_t known; /* [atomic] 1: the system uses them, 2: it does not */
    unsigned a, b, c = 0, d;
    if (bs_load(&known) == 0)
        bs_store(&known, __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c >> 4 & 1) != 0 ? 1u : 2u);
    return bs_load(&known) == 1;
}

/* Two bits for each of 16 keys: no access, no writing. What is written to memory before and after stays there. */
static void set_rights(uint32_t rights) {
    __asm__ volatile(".byte 0x0f, 0x01, 0xef" : : "a"(rights), "c"(0), "d"(0) : "memory"); /* wrpkru */
}

uint32_t bs_os_keys_open(void) {
    uint32_t rights = 0, zero;
    if (!has_keys())
        return 0;
    __asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(rights), "=d"(zero) : "c"(0)); /* rdpkru */
    if (rights != 0)
        set_rights(0);
    return rights;
}
void bs_os_keys_back(uint32_t before) {
    if (before != 0)
        set_rights(before);
}
#else
uint32_t bs_os_keys_open(void) {
    return 0;
}
void bs_os_keys_back(uint32_t before) {
    (void)before;
}
#endif

/* --- parts ------------------------------------------------------------------------------------ */

struct parts {
    struct bs_range *part;
    size_t n, max;
};

/* False: no room for it. */
static bool add(struct parts *parts, uintptr_t start, uintptr_t end) {
    if (parts->n != 0 && parts->part[parts->n - 1].end == start) {
        parts->part[parts->n - 1].end = end;
        return true;
    }
    if (parts->n == parts->max)
        return false;
    parts->part[parts->n++] = (struct bs_range){start, end};
    return true;
}

/* Adds what of the range can be read, page by page. Where it stopped for want of room. */
static uintptr_t add_readable(struct parts *parts, uintptr_t start, uintptr_t end) {
    size_t os_page = bs_os_page_size();
    for (; start < end; start += os_page)
        if (bs_os_readable(start) && !add(parts, start, start + os_page))
            break;
    return start;
}

/* --- PAGEMAP_SCAN ----------------------------------------------------------------------------- */

static long scan(int fd, uintptr_t start, uintptr_t end, unsigned flags, struct scan_part *vec,
                 size_t nvec, uint64_t *walk_end) {
    uint64_t without = CATEGORY_ZERO;
    if ((flags & BS_PAGES_CHANGED) != 0)
        without |= CATEGORY_FILE;
    if (!bs_load(&guard_unknown))
        without |= CATEGORY_GUARD;
    struct scan_arg arg = {.size = sizeof arg,
                           .start = start,
                           .end = end,
                           .vec = (uintptr_t)vec,
                           .vec_len = nvec,
                           .inverted = without,
                           .all_of = without,
                           .any_of = CATEGORY_PRESENT | CATEGORY_SWAPPED,
                           .returned = CATEGORY_PRESENT};
    long n = bs_sys3(SYS_ioctl, fd, PAGEMAP_SCAN, &arg);
    *walk_end = arg.walk_end;
    if (n == -EINVAL && !bs_load(&guard_unknown)) {
        bs_store(&guard_unknown, true);
        return scan(fd, start, end, flags, vec, nvec, walk_end);
    }
    return n;
}

/* Where it stopped; start: the kernel cannot. */
static uintptr_t ask_scan(int fd, uintptr_t start, uintptr_t end, unsigned flags,
                          struct parts *parts) {
    struct scan_part vec[SCAN_PARTS];
    while (start < end) {
        uint64_t walk_end = end;
        long n = scan(fd, start, end, flags, vec, SCAN_PARTS, &walk_end);
        if (n < 0)
            return start;
        for (long i = 0; i < n; i++) {
            bool present = (vec[i].categories & CATEGORY_PRESENT) != 0;
            uintptr_t stopped =
                present ? (add(parts, vec[i].start, vec[i].end) ? vec[i].end : vec[i].start)
                        : add_readable(parts, vec[i].start, vec[i].end);
            if (stopped != vec[i].end)
                return stopped;
        }
        start = n == 0 || walk_end <= start ? end : walk_end;
    }
    return end;
}

/* --- a move that was refused ------------------------------------------------------------------- */

static bool is_zero(const void *page, size_t bytes) {
    const uint64_t *word = page;
    for (size_t i = 0; i < bytes / sizeof *word; i++)
        if (word[i] != 0)
            return false;
    return true;
}

/* Since Linux 6.17 a range of several mappings is moved one after the other, up to one that is refused: a userfaultfd
 * watches it, but not those before, or there may be no more mappings. `to` read as zeros, so what it holds was moved. It may
 * have holes by now. */
void bs_os_move_back(void *from, const void *to, size_t bytes) {
    size_t os_page = bs_os_page_size();
    for (size_t at = 0; at < bytes; at += os_page) {
        const char *page = (const char *)to + at;
        if (bs_os_readable((uintptr_t)page) && !is_zero(page, os_page))
            memcpy((char *)from + at, page, os_page);
    }
}

/* --- the lesser ways -------------------------------------------------------------------------- */

static uintptr_t ask_map(int fd, uintptr_t start, uintptr_t end, unsigned flags,
                         struct parts *parts) {
    uint64_t entry[CHUNK_ENTRIES];
    size_t os_page = bs_os_page_size();
    uint64_t without = ENTRY_GUARD | ((flags & BS_PAGES_CHANGED) != 0 ? ENTRY_FILE : 0);
    while (start < end) {
        size_t n = bs_min((end - start) / os_page, CHUNK_ENTRIES);
        long got = bs_sys4(SYS_pread64, fd, entry, n * 8, start / os_page * 8);
        if (got < 8)
            return start;
        for (size_t i = 0; i < (size_t)got / 8; i++, start += os_page) {
            if ((entry[i] & (ENTRY_PRESENT | ENTRY_SWAPPED)) == 0 || (entry[i] & without) != 0)
                continue;
            if ((entry[i] & ENTRY_PRESENT) == 0 && !bs_os_readable(start))
                continue;
            if (!add(parts, start, start + os_page))
                return start;
        }
    }
    return end;
}

bool bs_os_has_swap(void) {
    struct sysinfo info = {.totalswap = 1};
    return bs_sys1(SYS_sysinfo, &info) != 0 || info.totalswap != 0;
}
bool bs_os_swap_is_used(void) {
    struct sysinfo info = {.totalswap = 1};
    return bs_sys1(SYS_sysinfo, &info) != 0 || info.freeswap != info.totalswap;
}

void bs_os_residency_less_swapped(int fd, const void *addr, size_t bytes, unsigned char *vec) {
    uint64_t entry[CHUNK_ENTRIES / 2];
    size_t first = (uintptr_t)addr / bs_os_page_size(), all = bytes / bs_os_page_size();
    for (size_t at = 0, n; at < all; at += n) {
        long got = bs_sys4(SYS_pread64, fd, entry, bs_min(all - at, BS_ARRAY_LEN(entry)) * 8, (first + at) * 8);
        if (got < 8)
            return;
        n = (size_t)got / 8;
        for (size_t i = 0; i < n; i++)
            if ((entry[i] & ENTRY_SWAPPED) != 0)
                vec[at + i] &= (unsigned char)~1u;
    }
}

static uintptr_t ask_mincore(uintptr_t start, uintptr_t end, struct parts *parts) {
    unsigned char vec[CHUNK_PAGES];
    size_t os_page = bs_os_page_size();
    while (start < end) {
        size_t n = bs_min((end - start) / os_page, CHUNK_PAGES);
        if (n == 0 || bs_sys3(SYS_mincore, start, n * os_page, vec) != 0)
            return start;
        for (size_t i = 0; i < n; i++, start += os_page)
            if ((vec[i] & 1) != 0 && !add(parts, start, start + os_page))
                return start;
    }
    return end;
}

/* Of memory that is not shared, the ways in turn until one gets on. */
static uintptr_t ask(enum bs_pages_source how, int fd, uintptr_t start, uintptr_t end,
                     unsigned flags, struct parts *parts) {
    bool shared = (flags & BS_PAGES_SHARED) != 0;
    switch (how) {
    case BS_PAGES_SCAN:
        return fd < 0 || shared ? start : ask_scan(fd, start, end, flags, parts);
    case BS_PAGES_MAP:
        return fd < 0 || shared ? start : ask_map(fd, start, end, flags, parts);
    case BS_PAGES_MINCORE:
        return !shared && bs_os_has_swap() ? start : ask_mincore(start, end, parts);
    default:
        return add_readable(parts, start, end);
    }
}

size_t bs_os_populated(int fd, uintptr_t start, uintptr_t end, unsigned flags,
                       struct bs_range *part, size_t max, uintptr_t *next) {
    struct parts parts = {.part = part, .max = max};
    uint32_t how = bs_load(&best);
    uintptr_t at = bs_align_down(start, bs_os_page_size()), last = bs_align_up(end, bs_os_page_size());
    for (how = how == BS_PAGES_UNKNOWN ? BS_PAGES_SCAN : how; how <= BS_PAGES_ALL; how++) {
        at = ask((enum bs_pages_source)how, fd, at, last, flags, &parts);
        if (at >= last || parts.n == max)
            break;
    }
    *next = bs_min(at, end);
    if (parts.n != 0) {
        part[0].start = bs_max(part[0].start, start);
        part[parts.n - 1].end = bs_min(part[parts.n - 1].end, end);
    }
    bs_store(&source, how);
    return parts.n;
}
