/* SPDX-License-Identifier: MIT */
/* clear.c - see clear.h. */
#include "clear.h"

#include "opt.h"
#include "os.h"
#include "tunables.h"

#include <string.h>

uintptr_t bs_clear_watched;

static uint32_t others;    /* [atomic] that could have been watched since */
static uint32_t used_part; /* [atomic] what the last one showed: so many 256ths of it were in memory, at least
                              one; 0: more than BS_CLEAR_SPARSE_PART allows, or none was seen */

enum { CHUNK = 1024 }; /* OS pages that the kernel is asked about at once */

/* Whether each of n pages is in memory. Where the kernel does not say: `unknown`. */
static void ask(uintptr_t p, size_t n, unsigned char *vec, bool unknown) {
    if (bs_os_residency((const void *)p, n * bs_os_page_size(), vec) != 0)
        memset(vec, unknown, n);
}

/* A block that lives long gives its place up in the end. */
static void watch(uintptr_t block) {
    if (bs_load(&bs_clear_watched) != 0 && bs_add(&others, 1) < BS_CLEAR_OTHERS)
        return;
    bs_store(&others, (uint32_t)0);
    bs_store(&bs_clear_watched, block);
}

void bs_clear_judge(uintptr_t block, size_t bytes) {
    unsigned char vec[CHUNK];
    size_t os_page = bs_os_page_size(), all = bytes / os_page, most = all / BS_CLEAR_SPARSE_PART, used = 0;
    uintptr_t p = bs_align_up(block, os_page), end = bs_align_down(block + bytes, os_page);
    bs_store(&bs_clear_watched, (uintptr_t)0);
    if (all == 0) /* also one that was cut to less than an OS page */
        return;
    for (; p < end && used <= most; p += sizeof vec * os_page) {
        size_t n = bs_min(sizeof vec, (end - p) / os_page);
        ask(p, n, vec, true);
        for (size_t i = 0; i < n; i++)
            used += vec[i] & 1;
    }
    bs_store(&used_part, used <= most ? (uint32_t)bs_max(1, used * 256 / all) : 0);
}

/* Where the part of a block ends that is likely to be used: what the last one used of itself, less a 16th of
 * that. What is kept here counts as used when this block is watched, and would else never become less. */
static uintptr_t likely_end(uintptr_t block, size_t bytes, uint32_t part) {
    return block + bytes / 256 * part / 16 * 15;
}

/* n OS pages that are all in memory, or all not. A page that the kernel calls absent may be swapped out. */
static bool clear_run(uintptr_t p, size_t n, bool present) {
    size_t bytes = n * bs_os_page_size();
    if (!present && n > BS_CLEAR_GAP_PAGES)
        return bs_os_unused((void *)p, bytes) == 0;
    memset((void *)p, 0, bytes);
    return true;
}

/* The OS pages [p, end) read as zeros: those in memory are cleared, the others stay without. */
static bool clear_present(uintptr_t p, uintptr_t end) {
    unsigned char vec[CHUNK];
    size_t os_page = bs_os_page_size(), n;
    for (; p < end; p += n * os_page) {
        n = bs_min(sizeof vec, (end - p) / os_page);
        ask(p, n, vec, false);
        for (size_t i = 0, next; i < n; i = next) {
            for (next = i + 1; next < n && ((vec[next] ^ vec[i]) & 1) == 0; next++)
                ;
            if (!clear_run(p + i * os_page, next - i, (vec[i] & 1) != 0))
                return false;
        }
    }
    return true;
}

/* True: [from, end), dirty, reads as zeros, and what lies behind `likely` has no memory any more, but for OS
 * pages that it shares. */
static bool empty(uintptr_t from, uintptr_t end, uintptr_t likely) {
    size_t os_page = bs_os_page_size();
    uintptr_t first = bs_align_up(from, os_page), last = bs_align_down(end, os_page);
    if (end - from < BS_CLEAR_EMPTY_BYTES || !bs_opt.scavenge || bs_opt.advice == BS_ADVICE_FREE)
        return false;
    uintptr_t kept = bs_min(bs_max(bs_align_down(likely, os_page), first), last);
    if (bs_os_unused((void *)kept, last - kept) != 0 || !clear_present(first, kept))
        return false;
    memset((void *)from, 0, first - from);
    memset((void *)last, 0, end - last);
    return true;
}

void bs_clear_block(uintptr_t block, size_t bytes, uintptr_t dirty_base, uintptr_t dirty_end) {
    uintptr_t end = bs_min(dirty_end, block + bytes);
    uint32_t part = bs_load(&used_part);
    if (end > dirty_base && (part == 0 || !empty(dirty_base, end, likely_end(block, bytes, part))))
        memset((void *)dirty_base, 0, end - dirty_base);
    else if (bytes >= BS_CLEAR_EMPTY_BYTES)
        watch(block);
}
