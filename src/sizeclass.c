/* SPDX-License-Identifier: MIT */
/* sizeclass.c - the tables of sizeclass.h. */
#include "sizeclass.h"

const struct bs_class_info bs_class_info[BS_NCLASSES] = {
#define BS_SIZE_CLASS(index, size, npages, nslots, magic) [index] = {size, magic, npages, nslots},
#include "sizeclass.def"
#undef BS_SIZE_CLASS
};

const uint8_t bs_class_by_byte[] = {
#define BS_CLASS_BY_8(class) class, class, class, class, class, class, class, class,
#include "sizeclass.def"
#undef BS_CLASS_BY_8
};

uint8_t bs_class_by_128[] = {
#define BS_CLASS_BY_128(class) class,
#include "sizeclass.def"
#undef BS_CLASS_BY_128
};

const uint8_t bs_smallest_by_128[] = {
#define BS_CLASS_BY_128(class) class,
#include "sizeclass.def"
#undef BS_CLASS_BY_128
};

void bs_class_route(unsigned class, unsigned to) {
    size_t first = (bs_class_info[class - 1].size - BS_TINY_MAX) / 128 + 1;
    size_t last = (bs_class_info[class].size - BS_TINY_MAX) / 128;
    for (size_t i = first; i <= last; i++)
        bs_store(&bs_class_by_128[i], (uint8_t)to);
}
