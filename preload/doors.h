/* SPDX-License-Identifier: MIT */
/*
 * doors.h - what entry.c and new.c share of their slow doors: that of free, and aligned blocks. Each
 * form of malloc and new has one of its own, because what happens without memory is its own.
 *
 * A slow door is also where calls are recorded (record.h): the fast paths know nothing of it.
 */
#ifndef BS_DOORS_H
#define BS_DOORS_H

#include "heap.h"
#include "record.h"

/* p: any pointer. In entry.c. */
BS_LOCAL void bs_door_free(void *p);

/* p, which the call has made, as it is: the call is written down where that is wanted. */
static inline void *bs_door_recorded(enum bs_record_op op, void *p, size_t size, size_t align) {
    if (bs_record_is_on())
        bs_record_made(op, p, size, align);
    return p;
}
/* align: a power of two. What a cache cannot serve is in entry.c. */
BS_LOCAL void *bs_door_alloc_aligned_slow(size_t align, size_t size);
static inline void *bs_door_alloc_aligned(size_t align, size_t size) {
    void *p;
    if (BS_LIKELY(bs_heap_alloc_aligned_cached(align, size, &p)))
        return p;
    return bs_door_alloc_aligned_slow(align, size);
}

#endif
