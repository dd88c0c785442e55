/* SPDX-License-Identifier: MIT */
/*
 * vector.h - huge pages for a large block that grows by realloc and is filled before each time, as vectors and
 * buffers that are appended to are.
 *
 * What such a block grows by is likely to be filled as well, so it gets HUGEPAGE where the kernel waits for
 * advice: one fault for 2 MiB instead of 512. It costs the huge page that is being filled, a 16th of a block of 32 MiB
 * on average; a block that was not filled, or is short, gets none. The policy is here; thp.h knows the
 * kernel's setting, how many huge pages lie ready, and what they cost when they were tried.
 *
 * Thread-safe for the block's owner; takes the lock of thp.c.
 */
#ifndef BS_VECTOR_H
#define BS_VECTOR_H

#include "span.h"

/* Where a block of so many bytes that has grown is to begin, in bytes: its huge pages move whole then. */
BS_INLINE size_t bs_vector_align(size_t bytes) {
    return bytes >= BS_THP_VECTOR_BYTES ? BS_HUGE_SIZE : BS_PAGE_SIZE;
}
/* The block had `old` bytes, and has what s says. Its new bytes were not written to yet. */
void bs_vector_grew(const struct bs_span *s, size_t old);
/* A block that grew so has several mappings, and moving it by page tables wants one. True: it is one now, and has to
 * be mapped anew when it ends, as if it had been moved. */
bool bs_vector_unify(const struct bs_span *s);

#endif
