/* SPDX-License-Identifier: MIT */
/* ranges.h - looking for an address in a list of ranges in address order. Data of the caller's; no lock. */
#ifndef BS_RANGES_H
#define BS_RANGES_H

#include "os.h"

/* The first range that ends behind p; n: there is none. */
BS_INLINE size_t bs_ranges_find(const struct bs_range *range, size_t n, uintptr_t p) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (range[middle].end > p)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

#endif
