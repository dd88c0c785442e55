/* SPDX-License-Identifier: MIT */
/*
 * probe.h - reads memory that may not be there: a stack whose end is not known, the tables of a
 * module that may be damaged. Bounded by a range, and every page is asked of the kernel before its
 * first byte is read, so no content whatever makes it fault.
 *
 * It is NOT safe against a page that another thread unmaps between question and read: what is read
 * is the caller's own stack, and modules whose code is on it.
 *
 * No lock, no allocation, no errno.
 */
#ifndef BS_PROBE_H
#define BS_PROBE_H

#include "base.h"

#define BS_PROBE_PAGE ((uintptr_t)4096) /* the smallest there is: a larger OS page is asked several times */

struct bs_probe {
    uintptr_t base, end; /* nothing outside is read */
    uintptr_t from, to;  /* of that, bytes on pages in a row that were found readable last */
    uintptr_t other;     /* a page that was found readable before these; 0: none */
};

BS_INLINE struct bs_probe bs_probe_of(uintptr_t base, uintptr_t end) {
    return (struct bs_probe){base, end, 0, 0, 0};
}

/* From now on nothing outside of these is read. */
BS_INLINE void bs_probe_bound(struct bs_probe *m, uintptr_t base, uintptr_t end) {
    m->base = base;
    m->end = end;
    m->from = bs_max(m->from, base);
    m->to = bs_min(m->to, end);
}

/* The page of p is there, whoever says so. */
BS_INLINE void bs_probe_know(struct bs_probe *m, uintptr_t p) {
    m->from = bs_max(bs_align_down(p, BS_PROBE_PAGE), m->base);
    m->to = bs_min(bs_align_down(p, BS_PROBE_PAGE) + BS_PROBE_PAGE, m->end);
}

/* At any address. */
union bs_probe_word {
    uint8_t one;
    uint16_t two;
    uint32_t four;
    uint64_t eight;
} __attribute__((packed, may_alias));

/* Other frames' memory: what a sanitizer thinks of it does not matter. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static inline uint64_t bs_probe_load(uintptr_t p,
                                                                                                    size_t n) {
    const volatile union bs_probe_word *word = (const volatile union bs_probe_word *)p;
    uint64_t x = 0;
    switch (n) {
    case 1: return word->one;
    case 2: return word->two;
    case 4: return word->four;
    case 8: return word->eight;
    default:
        for (size_t i = 0; i < n; i++)
            x |= (uint64_t)((const volatile uint8_t *)p)[i] << (8 * i);
        return x;
    }
}

/* The same for bytes that are on no page that is known. */
bool bs_probe_read_elsewhere(struct bs_probe *m, uintptr_t p, size_t n, uint64_t *out);

/* n: 1 ... 8 bytes at p. False: they are not all there, *out is 0. */
static inline bool bs_probe_read(struct bs_probe *m, uintptr_t p, size_t n, uint64_t *out) {
    if (BS_LIKELY(p >= m->from && p < m->to && m->to - p >= n)) {
        *out = bs_probe_load(p, n);
        return true;
    }
    return bs_probe_read_elsewhere(m, p, n, out);
}

#endif
