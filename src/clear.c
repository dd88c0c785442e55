/* SPDX-License-Identifier: MIT */
/* clear.c - see clear.h. */
#include "clear.h"

#include "opt.h"
#include "os.h"
#include "tunables.h"

#include <string.h>

uintptr_t bs_clear_watched;

static uint32_t others;  /* [atomic] that could have been watched since */
static bool are_sparse; /* [atomic] what the last one showed */

/* A block that lives long gives its place up in the end. */
static void watch(uintptr_t block) {
    if (bs_load(&bs_clear_watched) != 0 && bs_add(&others, 1) < BS_CLEAR_OTHERS)
        return;
    bs_store(&others, (uint32_t)0);
    bs_store(&bs_clear_watched, block);
}

void bs_clear_judge(uintptr_t block, size_t bytes) {
    unsigned char vec[1024];
    size_t os_page = bs_os_page_size(), most = bytes / os_page / BS_CLEAR_SPARSE_PART, used = 0;
    uintptr_t p = bs_align_up(block, os_page), end = bs_align_down(block + bytes, os_page);
    bs_store(&bs_clear_watched, (uintptr_t)0);
    if (bytes == 0)
        return;
    for (; p < end && used <= most; p += sizeof vec * os_page) {
        size_t n = bs_min(sizeof vec, (end - p) / os_page);
        if (bs_os_residency((const void *)p, n * os_page, vec) != 0)
            memset(vec, 1, n); /* the kernel does not say */
        for (size_t i = 0; i < n; i++)
            used += vec[i] & 1;
    }
    bs_store(&are_sparse, used <= most);
}

/* True: [from, end) reads as zeros and has no memory any more, but for OS pages that it shares. */
static bool empty(uintptr_t from, uintptr_t end) {
    size_t os_page = bs_os_page_size();
    uintptr_t first = bs_align_up(from, os_page), last = bs_align_down(end, os_page);
    if (end - from < BS_CLEAR_EMPTY_BYTES || !bs_load(&are_sparse) || !bs_opt.scavenge ||
        bs_opt.advice == BS_ADVICE_FREE || bs_os_unused((void *)first, last - first) != 0)
        return false;
    memset((void *)from, 0, first - from);
    memset((void *)last, 0, end - last);
    return true;
}

void bs_clear_block(uintptr_t block, size_t bytes, uintptr_t dirty_base, uintptr_t dirty_end) {
    uintptr_t end = bs_min(dirty_end, block + bytes);
    if (end > dirty_base && !empty(dirty_base, end))
        memset((void *)dirty_base, 0, end - dirty_base);
    else if (bytes >= BS_CLEAR_EMPTY_BYTES)
        watch(block);
}
