/* SPDX-License-Identifier: MIT */
/*
 * glibc.c - glibc's questions and knobs: mallopt, mallinfo, mallinfo2, malloc_trim, malloc_stats,
 * malloc_info, answered from besom's counters. They may use stdio, unlike everything else: their
 * interface is a FILE or stderr.
 *
 * The mapping of words: hblkhd = large blocks, as glibc's that have a mapping of their own; arena = the accessible heap
 * without these, uordblks = what the program holds of it, fordblks = the rest; keepcost = what malloc_trim could give
 * back. Programs add uordblks and hblkhd for what is in use (as glibc's malloc_stats does).
 */
#include "heap.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

/* Android's parameters of mallopt, which programs that know both systems use. */
#ifndef M_PURGE
#define M_PURGE (-101)
#endif
#ifndef M_PURGE_ALL
#define M_PURGE_ALL (-104)
#endif

BS_EXPORT int malloc_trim(size_t pad) {
    return bs_heap_trim(pad) ? 1 : 0;
}

/* 1: the parameter means something to besom, or is harmless; 0: unknown or out of range. */
BS_EXPORT int mallopt(int param, int value) {
    switch (param) {
    case M_TRIM_THRESHOLD: /* free bytes that are not worth returning; -1: return nothing */
        if (value < -1)
            return 0;
        bs_heap_set_keep(value == -1 ? SIZE_MAX : (size_t)value);
        return 1;
    case M_PURGE: /* give back what is free, now; the value means nothing */
    case M_PURGE_ALL:
        (void)bs_heap_trim(0);
        return 1;
    case M_PERTURB: /* bytes to fill freed and, inverted, new blocks with */
        bs_heap_set_fill((unsigned)value);
        return 1;
    case M_CHECK_ACTION: /* besom stops at a double free whatever is asked */
    case M_MXFAST:       /* the rest tunes structures that besom does not have */
    case M_TOP_PAD:
    case M_MMAP_THRESHOLD:
    case M_MMAP_MAX:
    case M_ARENA_TEST:
    case M_ARENA_MAX:
        return value >= 0;
    default:
        return 0;
    }
}

BS_EXPORT struct mallinfo2 mallinfo2(void) {
    struct bs_heap_totals t = bs_heap_totals();
    return (struct mallinfo2){
        .arena = t.mapped - t.large,
        .ordblks = t.spans,
        .hblkhd = t.large,
        .uordblks = t.allocated - t.large,
        .fordblks = t.mapped - t.allocated, /* arena == uordblks + fordblks */
        .keepcost = t.dirty,
    };
}

static int clamp(size_t x) {
    return x > INT_MAX ? INT_MAX : (int)x;
}

/* The old form counts in int: what does not fit is shown as the largest int, not wrapped. */
BS_EXPORT struct mallinfo mallinfo(void) {
    struct mallinfo2 m = mallinfo2();
    return (struct mallinfo){
        .arena = clamp(m.arena),
        .ordblks = clamp(m.ordblks),
        .hblkhd = clamp(m.hblkhd),
        .uordblks = clamp(m.uordblks),
        .fordblks = clamp(m.fordblks),
        .keepcost = clamp(m.keepcost),
    };
}

BS_EXPORT void malloc_stats(void) {
    struct bs_heap_totals t = bs_heap_totals();
    fprintf(stderr, "besom malloc statistics (bytes)\n");
    fprintf(stderr, "heap accessible  = %14zu\n", t.mapped);
    fprintf(stderr, "in use bytes     = %14zu\n", t.allocated);
    fprintf(stderr, "  large blocks   = %14zu\n", t.large);
    fprintf(stderr, "thread caches    = %14zu\n", t.cached);
    fprintf(stderr, "free in spans    = %14zu\n", t.free_span);
    fprintf(stderr, "free pages       = %14zu\n", t.dirty);
    fprintf(stderr, "given back       = %14zu\n", t.released);
    fprintf(stderr, "metadata         = %14zu\n", t.metadata);
}

static void class_element(FILE *out, unsigned class) {
    const struct bs_class_info *c = &bs_class_info[class];
    struct bs_central_counts counts = bs_central_counts(class);
    if (counts.spans != 0)
        fprintf(out, "<size class=\"%u\" bytes=\"%u\" spans=\"%zu\" slots=\"%zu\" out=\"%zu\"/>\n",
                class, c->size, counts.spans, counts.spans * c->nslots, counts.slots_out);
}

BS_EXPORT int malloc_info(int options, FILE *out) {
    if (options != 0) {
        errno = EINVAL;
        return -1;
    }
    struct bs_heap_totals t = bs_heap_totals();
    fprintf(out, "<malloc version=\"besom-1\">\n<sizes>\n");
    for (unsigned class = 1; class < BS_NCLASSES; class++)
        class_element(out, class);
    fprintf(out, "</sizes>\n");
    fprintf(out, "<total type=\"live\" size=\"%zu\"/>\n", t.allocated);
    fprintf(out, "<total type=\"large\" size=\"%zu\"/>\n", t.large);
    fprintf(out, "<total type=\"cached\" count=\"%zu\" size=\"%zu\"/>\n", t.caches,
            t.cached);
    fprintf(out, "<total type=\"rest\" size=\"%zu\"/>\n", t.free_span + t.dirty);
    fprintf(out, "<system type=\"current\" size=\"%zu\"/>\n", t.mapped - t.released + t.metadata);
    fprintf(out, "<aspace type=\"total\" size=\"%zu\"/>\n", t.mapped);
    fprintf(out, "</malloc>\n");
    return 0;
}
