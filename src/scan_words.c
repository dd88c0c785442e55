/* SPDX-License-Identifier: MIT */
/*
 * scan_words.c - words that a scan keeps beside the ranges of roots: stack pointers and the like, what
 * a copy of the process would not have, and pointers at odd addresses in machine code. They are a root of
 * their own at the end. No locks.
 */
#include "scan_internal.h"

#include "pageheap.h"
#include "span.h"

#include <errno.h>

/* It lay at that address; 0: nowhere. */
static void add_word_of(struct bs_scan_work *w, uintptr_t x, uintptr_t at) {
    if (w->nwords < BS_SCAN_WORDS) {
        w->word[w->nwords] = x;
        if (w->rules.owners)
            w->from[w->nwords] = at;
    }
    w->nwords++;
}
void bs_scan_add_word(struct bs_scan_work *w, uintptr_t x) {
    add_word_of(w, x, 0);
}

struct bounds {
    uintptr_t low, high;
};
static bool visit_bounds(void *ctx, uintptr_t base, const uint64_t *alloc,
                         const uint64_t *released) {
    struct bounds *b = ctx;
    (void)alloc, (void)released;
    b->low = b->low == 0 ? base : b->low;
    b->high = base + BS_REGION_SIZE;
    return true;
}

static void add_if_in_heap(struct bs_scan_work *w, uintptr_t x, uintptr_t at) {
    if (bs_span_of(x) != NULL || bs_span_of(x - 1) != NULL)
        add_word_of(w, x, at);
}

static void copy_aligned(struct bs_scan_work *w, const struct bounds *b, uintptr_t p, uintptr_t end) {
    struct bs_sieve *sieve = &w->sieve;
    enum bs_sieve_way way = bs_sieve_best();
    sieve->low = b->low;
    sieve->reach = b->high - b->low;
    sieve->mask = ~(uintptr_t)0;
    while (p + sizeof(uintptr_t) <= end && w->nwords <= BS_SCAN_WORDS) {
        sieve->n = 0;
        p += bs_sieve_words(sieve, way, p, (end - p) / sizeof(uintptr_t)) * sizeof(uintptr_t);
        for (size_t i = 0; i < sieve->n; i++)
            add_if_in_heap(w, sieve->found[i], 0);
    }
}

/* The words in [p, end), which lie `moved` bytes further on, that may lead to a block, also as its end. (Of what the sieve
 * finds nobody knows where it was.) */
BS_UNCHECKED static void copy_words(struct bs_scan_work *w, const struct bounds *b, uintptr_t p,
                                    uintptr_t end, uintptr_t moved, size_t step) {
    if (step == sizeof(uintptr_t) && !w->rules.owners) {
        copy_aligned(w, b, p, end);
        return;
    }
    for (; p + sizeof(uintptr_t) <= end && w->nwords <= BS_SCAN_WORDS; p += step) {
        uintptr_t x = *(const bs_any_word *)p;
        if (x - b->low <= b->high - b->low)
            add_if_in_heap(w, x, p + moved);
    }
}

/* Other processes may cut the file of shared memory, and of private pages, short at any moment, and who touches what
 * was cut off is killed by SIGBUS; where the kernel copies, it is not there. (Private pages that were written to
 * go, too.) */
static void copy_file(struct bs_scan_work *w, const struct bounds *b, uintptr_t p, uintptr_t end,
                      size_t step) {
    char *part = (char *)w->part;
    while (p + sizeof(uintptr_t) <= end) {
        long got = bs_os_read_memory(p, part, bs_min(end - p, sizeof w->part));
        if (got < 0 && got != -EFAULT) { /* it copies nothing here */
            copy_words(w, b, p, end, 0, step);
            return;
        }
        if (got < (long)sizeof(uintptr_t)) {
            p = bs_align_up(p + sizeof(uintptr_t), bs_os_page_size());
            continue;
        }
        copy_words(w, b, (uintptr_t)part, (uintptr_t)part + (size_t)got, p - (uintptr_t)part, step);
        p += ((size_t)got - sizeof(uintptr_t)) / step * step + step;
    }
}

static void copy(struct bs_scan_work *w, unsigned flags, bool instead) {
    struct bounds b = {0, 0};
    bs_pageheap_each_region(visit_bounds, &b);
    for (size_t i = 0; i < w->roots.n; i++) {
        struct bs_range *r = &w->roots.range[i];
        if ((w->roots.flags[i] & flags) == 0)
            continue;
        size_t step = (w->roots.flags[i] & BS_ROOT_CODE) != 0 ? 1 : sizeof(uintptr_t);
        bool may_go = (w->roots.flags[i] & (BS_ROOT_SHARED | BS_ROOT_FILE)) != 0;
        uintptr_t start = bs_align_up(r->start, step);
        if (may_go)
            copy_file(w, &b, start, r->end, step);
        else
            copy_words(w, &b, start, r->end, 0, step);
        if (instead && r->start < r->end)
            w->roots.whole[i] = *r;
        if (instead)
            r->end = r->start;
    }
}

void bs_scan_copy_unstable(struct bs_scan_work *w) {
    copy(w, BS_ROOT_SHARED | BS_ROOT_NO_FORK | BS_ROOT_WIPED, true);
}

static bool add_words(struct bs_scan_work *w, size_t from, unsigned flags) {
    if (w->nwords > BS_SCAN_WORDS)
        return false;
    bs_roots_add(&w->roots, (uintptr_t)(w->word + from), (uintptr_t)(w->word + w->nwords), flags);
    return true;
}

/* Who asks where a word lies finds those of files where they were. */
bool bs_scan_finish_words(struct bs_scan_work *w) {
    copy(w, BS_ROOT_SHARED, true); /* a copy has none of it any more */
    if (!add_words(w, 0, BS_ROOT_WORDS))
        return false;
    size_t others = w->nwords;
    copy(w, BS_ROOT_FILE, true);
    copy(w, BS_ROOT_CODE, false);
    return add_words(w, others, BS_ROOT_WORDS | BS_ROOT_FILE);
}

bool bs_scan_add_own_words(struct bs_scan_work *w) {
    return add_words(w, 0, BS_ROOT_WORDS);
}
