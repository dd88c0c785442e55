/* SPDX-License-Identifier: MIT */
/*
 * sizeclass.h - the size classes: request size -> class, class -> block size and span shape.
 *
 * All of it is data from sizeclass.def, and constant but for what says which class serves a size: not the smallest that holds
 * it in the beginning, and then as route.h says. Class 0 means "not a small block" everywhere.
 */
#ifndef BS_SIZECLASS_H
#define BS_SIZECLASS_H

#include "tunables.h"

enum {
#define BS_SIZE_CLASS(index, size, npages, nslots, magic) BS_CLASS_OF_SIZE_##size = index,
#include "sizeclass.def"
#undef BS_SIZE_CLASS
    BS_CLASS_END,
    BS_NCLASSES = BS_CLASS_END /* classes are 1 ... BS_NCLASSES-1 */
};

struct bs_class_info {
    uint32_t size;   /* bytes of a slot */
    uint32_t magic;  /* ceil(2^32 / size) */
    uint16_t npages; /* pages of a span */
    uint16_t nslots; /* slots of a span */
};

BS_LOCAL extern const struct bs_class_info bs_class_info[BS_NCLASSES];

/* Up to here a request indexes a table with an entry a byte: two instructions less than one in
 * steps of 8, and the lines of it that a program uses are as few as the sizes it asks for. Above,
 * the steps are of 128. An entry stands for size 0 at 7: the generator's steps of 8, spelled out. */
#define BS_TINY_MAX ((size_t)1024)
BS_LOCAL extern uint8_t bs_class_by_byte[BS_TINY_MAX + 8]; /* [atomic] */
BS_LOCAL extern const uint8_t bs_smallest_by_8[BS_TINY_MAX / 8 + 1];
BS_LOCAL extern uint8_t bs_class_by_128[(BS_SMALL_MAX - BS_TINY_MAX) / 128 + 1]; /* [atomic] */
BS_LOCAL extern const uint8_t bs_smallest_by_128[(BS_SMALL_MAX - BS_TINY_MAX) / 128 + 1];

/* size <= BS_TINY_MAX; 0 is served as 1. */
BS_INLINE uint8_t bs_class_of_tiny(size_t size) {
    return bs_load(&bs_class_by_byte[size + 7]);
}
/* BS_TINY_MAX < size <= BS_SMALL_MAX */
BS_INLINE uint8_t bs_class_of_medium(size_t size) {
    return bs_load(&bs_class_by_128[(size - BS_TINY_MAX + 127) / 128]);
}
/* The class that serves so many bytes now. size <= BS_SMALL_MAX */
BS_INLINE uint8_t bs_class_of(size_t size) {
    if (BS_LIKELY(size <= BS_TINY_MAX))
        return bs_class_of_tiny(size);
    return bs_class_of_medium(size);
}
/* The smallest one that holds them. */
BS_INLINE uint8_t bs_class_smallest(size_t size) {
    if (BS_LIKELY(size <= BS_TINY_MAX))
        return bs_smallest_by_8[(size + 7) / 8];
    return bs_smallest_by_128[(size - BS_TINY_MAX + 127) / 128];
}
/* From now on `to` serves the sizes whose smallest class is this one: itself, or one that is larger, and a power of two if
 * this one's slots are of BS_TINY_MAX bytes at most. */
void bs_class_route(unsigned class, unsigned to);

/* A class whose blocks hold size bytes and are aligned to align (a power of two) in a
 * page-aligned span; 0 if there is none (align above a page, or size above BS_SMALL_MAX). It is the smallest class
 * of the size rounded up to a multiple of align: the steps of the classes are such that this is a multiple,
 * too (tests/check_sizeclass.c tries all), as is the power of two that may serve a tiny size instead. */
BS_INLINE uint8_t bs_class_of_aligned(size_t align, size_t size) {
    if (BS_UNLIKELY(align > BS_PAGE_SIZE || size > BS_SMALL_MAX))
        return 0;
    size = bs_align_up(size + (size == 0), align);
    return BS_LIKELY(size <= BS_TINY_MAX) ? bs_class_of_tiny(size) : bs_class_smallest(size);
}

/* The slot that byte `offset` of a span of this class lies in. */
BS_INLINE uint32_t bs_class_slot(const struct bs_class_info *c, uint32_t offset) {
    return (uint32_t)(((uint64_t)offset * c->magic) >> 32);
}

#endif
