/* SPDX-License-Identifier: MIT */
/*
 * scan_unit.h - what the tests of whole scans share: a scan that must come to its verdict, sites that
 * leaks are known by, words that do not lead to a block, and words left on stacks.
 */
#ifndef BS_TESTS_SCAN_UNIT_H
#define BS_TESTS_SCAN_UNIT_H

#include "world_unit.h"

#include "heap.h"
#include "meta.h"
#include "opt.h"
#include "sample.h"
#include "scan.h"
#include "stacks.h"
#include "watch.h"

static struct bs_scan_rules rules;
static struct bs_scan_result got;
static struct bs_scan_verdict verdict, before;

static inline void note_result(void *ctx, const struct bs_scan_result *result) {
    require(ctx == &got, "the context");
    got = *result;
    if (result->verdict != NULL)
        verdict = *result->verdict;
    if (result->before != NULL)
        before = *result->before;
}
/* Is the kernel one that can watch memory? */
static inline bool can_watch(void) {
    static int can = -1;
    if (can < 0) {
        struct bs_watch watch;
        can = bs_watch_begin(&watch);
        bs_watch_end(&watch);
        if (!can)
            printf("skipped: this kernel does not tell what was written to; scans are made in a copy instead\n");
    }
    return can == 1;
}
static inline void must_scan(void) {
    require(bs_scan_run(&rules, note_result, &got), "no scan");
    require(got.end == BS_SCAN_DONE, "end %d, world %d, thread %d, error %d", got.end, got.world,
            got.culprit, got.error);
    require_uint_eq(got.in_place, rules.in_place_bytes != 0);
    require_uint_eq(got.concurrent, rules.concurrent != BS_SCAN_CONCURRENT_NEVER && can_watch());
}
/* The loop's number is the way of searching: all stand, in a copy, or (where the kernel can watch memory, else in
 * a copy once more) while the program runs. */
enum { IN_PLACE, BY_COPY, CONCURRENT, NSEARCHES };
static inline void setup(int search) {
    inside_text();
    rules = (struct bs_scan_rules){.in_place_bytes = search == IN_PLACE ? SIZE_MAX : 0,
                                   .finish_ns = LONG, /* a busy machine is no reason to give up */
                                   .concurrent = search == CONCURRENT ? BS_SCAN_CONCURRENT_ALWAYS : BS_SCAN_CONCURRENT_NEVER};
    bs_heap_free(bs_heap_alloc(10));
    bs_opt.sample = 1;
    bs_heap_start_sampling();
}

/* Bits of all but the address of a block, so that words of the test itself do not lead there. */
#define HIDE(p) (~(uintptr_t)(p))
#define SHOWN(x) ((void **)~(x))

/* Overwrites what dead frames, and registers, have left; from just below the caller's frame, where a
 * sanitizer would put a zone of its own. */
static void __attribute__((noinline, unused, no_sanitize("address"))) wipe(void) {
    volatile char junk[16384];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
    wipe_vectors();
}
#define SITE(name)                                                                                 \
    extern const char __start_in_##name[], __stop_in_##name[];                                     \
    static uintptr_t __attribute__((noinline, unused, section("in_" #name))) name(size_t size) {           \
        void *p = bs_heap_alloc_zero(size);                                                        \
        __asm__ volatile("" ::"r"(p) : "memory");                                                  \
        return HIDE(p);                                                                            \
    }
SITE(site_a)
SITE(site_b)

static inline bool is_of(const struct bs_stack *s, const char *from, const char *to) {
    struct bs_module m;
    bool loaded;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t number = BS_FRAME_MODULE(s->frame[i]);
        if (number == 0 || !bs_stacks_module(number, &m, &loaded))
            continue;
        const char *at = (const char *)(BS_FRAME_OFFSET(s->frame[i]) + m.bias);
        if (at >= from && at < to)
            return true;
    }
    return false;
}
static inline struct bs_leak_sums leaks_of(const char *from, const char *to) {
    struct bs_leak_sums sums = {0};
    for (size_t i = 0; i < BS_SCAN_STACKS; i++)
        if (verdict.stack[i].stack != NULL && is_of(verdict.stack[i].stack, from, to)) {
            sums.leaks += verdict.stack[i].sums.leaks;
            sums.blocks += verdict.stack[i].sums.blocks;
            sums.bytes += verdict.stack[i].sums.bytes;
            sums.indirect_blocks += verdict.stack[i].sums.indirect_blocks;
            sums.indirect_bytes += verdict.stack[i].sums.indirect_bytes;
        }
    return sums;
}
static inline uint64_t possible_of(const char *from, const char *to) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < BS_SCAN_STACKS; i++)
        if (verdict.stack[i].stack != NULL && is_of(verdict.stack[i].stack, from, to))
            bytes += verdict.stack[i].possible_bytes;
    return bytes;
}
#define POSSIBLE_OF(site) possible_of(__start_in_##site, __stop_in_##site)
#define LEAKS_OF(site) leaks_of(__start_in_##site, __stop_in_##site)

/* What dead frames have left on a stack. */
static void __attribute__((noinline, unused)) leave_words(uintptr_t hidden, unsigned depth) {
    void *volatile left[64];
    for (unsigned i = 0; i < 64; i++)
        left[i] = SHOWN(hidden);
    if (depth != 0)
        leave_words(hidden, depth - 1);
    (void)left[63];
}

#endif
