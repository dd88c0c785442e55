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

struct bs_probe {
    uintptr_t base, end; /* nothing outside is read */
    uintptr_t known[2];  /* pages (of 4096 bytes) that were found readable last; 0: none */
};

BS_INLINE struct bs_probe bs_probe_of(uintptr_t base, uintptr_t end) {
    return (struct bs_probe){base, end, {0, 0}};
}

/* n: 1 ... 8 bytes at p. False: they are not all there, *out is 0. */
bool bs_probe_read(struct bs_probe *m, uintptr_t p, size_t n, uint64_t *out);

#endif
