/* SPDX-License-Identifier: MIT */
/*
 * workload_comb.c - the worst heap for who gives pages back: every other 8 KiB is live, over GIB
 * GiB of address space, so that a call to the kernel can free 8 KiB at most and a careless one
 * makes two mappings of one.
 *
 *   comb-blocks GIB SECONDS   blocks of 8 KiB; those at odd multiples of 8 KiB are freed
 *   comb-pages GIB SECONDS    blocks of 8 KiB aligned to 16 KiB are the teeth, and small blocks
 *                             that filled the gaps are freed: for besom, each gap is a free page
 *                             of the page heap
 *
 * Only what is freed is written to, and a word in every eighth tooth: nearly half of the GiB are
 * not touched. Then operations are timed one by one, median and 99th percentile: a tooth is
 * replaced (one page), a block of 40 to 200 KiB is replaced (a run that no gap holds). Once before
 * the sleep and once after.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

#include <stdio.h>
#include <time.h>

enum { TOOTH = 8192, GAP_BLOCK = 1024, TIMED = 10001, LARGE = 200 };

struct heap {
    void **tooth;
    size_t nteeth;
    size_t align; /* of a tooth */
};

static void *take_tooth(const struct heap *heap) {
    return bs_bench_need(aligned_alloc(heap->align, TOOTH), TOOTH);
}

/* --- timing ----------------------------------------------------------------------------------- */

static uint32_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec); /* wraps as it may */
}

static void sift(uint32_t *a, size_t root, size_t n) {
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        child += child + 1 < n && a[child] < a[child + 1];
        if (a[root] >= a[child])
            return;
        uint32_t x = a[root];
        a[root] = a[child];
        a[child] = x;
    }
}

/* Not qsort: glibc's asks malloc for memory. */
static void sort(uint32_t *a, size_t n) {
    for (size_t i = n / 2; i-- > 0;)
        sift(a, i, n);
    for (size_t end = n; end-- > 1;) {
        uint32_t x = a[0];
        a[0] = a[end];
        a[end] = x;
        sift(a, 0, end);
    }
}

static void print_times(const char *when, const char *what, uint32_t *ns) {
    sort(ns, TIMED);
    printf("%s_%s_ns %u\n%s_%s_p99_ns %u\n", when, what, ns[TIMED / 2], when, what,
           ns[TIMED / 100 * 99]);
}

static void time_operations(struct heap *heap, void **large, const char *when) {
    static uint32_t give[TIMED], take[TIMED];

    for (size_t i = 0; i < TIMED; i++) {
        size_t k = bs_bench_next(&bs_workload_rng) % heap->nteeth;
        uint32_t start = now_ns();
        free(heap->tooth[k]);
        uint32_t middle = now_ns();
        heap->tooth[k] = take_tooth(heap);
        take[i] = now_ns() - middle;
        give[i] = middle - start;
    }
    print_times(when, "free_tooth", give);
    print_times(when, "take_tooth", take);
    for (size_t i = 0; i < TIMED; i++) {
        uint64_t draw = bs_bench_next(&bs_workload_rng);
        size_t k = draw % LARGE, size = (40 + (draw >> 32) % 160) * BS_BENCH_KIB;
        uint32_t start = now_ns();
        free(large[k]);
        uint32_t middle = now_ns();
        large[k] = malloc(size);
        take[i] = now_ns() - middle;
        give[i] = middle - start;
        bs_bench_need(large[k], size);
    }
    print_times(when, "free_large", give);
    print_times(when, "take_large", take);
}

/* --- the heaps -------------------------------------------------------------------------------- */

/* Blocks that happen to begin at an odd multiple of 8 KiB become the gaps. */
static void comb_of_blocks(struct heap *heap, size_t n) {
    void **block = heap->tooth;
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        block[i] = bs_bench_need(malloc(TOOTH), TOOTH);
        if ((uintptr_t)block[i] / TOOTH % 2 == 1)
            memset(block[i], 1, TOOTH);
        else if (i % 16 == 0)
            *(char *)block[i] = 1;
    }
    for (size_t i = 0; i < n; i++) {
        if ((uintptr_t)block[i] / TOOTH % 2 == 1)
            free(block[i]);
        else
            block[kept++] = block[i];
    }
    heap->nteeth = kept;
    heap->align = 16;
}

static void comb_of_pages(struct heap *heap, size_t n) {
    size_t ngaps = n / 2 * (TOOTH / GAP_BLOCK);
    void **gap = bs_bench_table(ngaps * sizeof *gap);

    heap->nteeth = n / 2;
    heap->align = 2 * TOOTH;
    for (size_t i = 0; i < heap->nteeth; i++) {
        heap->tooth[i] = take_tooth(heap);
        if (i % 8 == 0)
            *(char *)heap->tooth[i] = 1;
    }
    for (size_t i = 0; i < ngaps; i++)
        gap[i] = bs_workload_block(GAP_BLOCK);
    for (size_t i = 0; i < ngaps; i++)
        free(gap[i]);
}

static void run_comb(const unsigned *numbers, bool of_pages) {
    size_t n = (size_t)numbers[0] * 1024 * BS_BENCH_MIB / TOOTH;
    struct heap heap = {.tooth = bs_bench_table(n * sizeof(void *))};
    void *large[LARGE] = {NULL};

    if (of_pages)
        comb_of_pages(&heap, n);
    else
        comb_of_blocks(&heap, n);
    printf("teeth %zu\n", heap.nteeth);
    time_operations(&heap, large, "before");
    bs_workload_idle(numbers[1]);
    time_operations(&heap, large, "after");
}

static void comb_blocks(const unsigned *numbers) {
    run_comb(numbers, false);
}

static void comb_pages(const unsigned *numbers) {
    run_comb(numbers, true);
}

const struct bs_workload bs_workload_comb[] = {
    {"comb-blocks", "GIB SECONDS", comb_blocks},
    {"comb-pages", "GIB SECONDS", comb_pages},
    {NULL, NULL, NULL},
};
