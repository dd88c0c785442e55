/* SPDX-License-Identifier: MIT */
/* sizeclass.c - the tables of sizeclass.h. */
#include "sizeclass.h"

const struct bs_class_info bs_class_info[BS_NCLASSES] = {
#define BS_SIZE_CLASS(index, size, npages, nslots, magic) [index] = {size, magic, npages, nslots},
#include "sizeclass.def"
#undef BS_SIZE_CLASS
};

_Static_assert(BS_ROUTE_FIRST_MIN == 32 && BS_ROUTE_FIRST_MAX == 2048, "as below");

/* What serves the sizes of a class in the beginning. */
#define FIRST(class)                                            \
    ((class) <= BS_CLASS_OF_SIZE_32     ? BS_CLASS_OF_SIZE_32   \
     : (class) <= BS_CLASS_OF_SIZE_64   ? BS_CLASS_OF_SIZE_64   \
     : (class) <= BS_CLASS_OF_SIZE_128  ? BS_CLASS_OF_SIZE_128  \
     : (class) <= BS_CLASS_OF_SIZE_256  ? BS_CLASS_OF_SIZE_256  \
     : (class) <= BS_CLASS_OF_SIZE_512  ? BS_CLASS_OF_SIZE_512  \
     : (class) <= BS_CLASS_OF_SIZE_1024 ? BS_CLASS_OF_SIZE_1024 \
     : (class) <= BS_CLASS_OF_SIZE_2048 ? BS_CLASS_OF_SIZE_2048 \
                                        : (class))
#define EIGHT_TIMES(x) x, x, x, x, x, x, x, x

uint8_t bs_class_by_byte[] = {
#define BS_CLASS_BY_8(class) EIGHT_TIMES(FIRST(class)),
#include "sizeclass.def"
#undef BS_CLASS_BY_8
};

const uint8_t bs_smallest_by_8[] = {
#define BS_CLASS_BY_8(class) class,
#include "sizeclass.def"
#undef BS_CLASS_BY_8
};

uint8_t bs_class_by_128[] = {
#define BS_CLASS_BY_128(class) FIRST(class),
#include "sizeclass.def"
#undef BS_CLASS_BY_128
};

const uint8_t bs_smallest_by_128[] = {
#define BS_CLASS_BY_128(class) class,
#include "sizeclass.def"
#undef BS_CLASS_BY_128
};

static void route_tiny(unsigned class, unsigned to) {
    size_t first = class == 1 ? 0 : bs_class_info[class - 1].size + 8; /* class 1 serves size 0, too */
    for (size_t i = first; i < bs_class_info[class].size + 8; i++)
        bs_store(&bs_class_by_byte[i], (uint8_t)to);
}

static void route_medium(unsigned class, unsigned to) {
    size_t first = (bs_class_info[class - 1].size - BS_TINY_MAX) / 128 + 1;
    size_t last = (bs_class_info[class].size - BS_TINY_MAX) / 128;
    for (size_t i = first; i <= last; i++)
        bs_store(&bs_class_by_128[i], (uint8_t)to);
}

void bs_class_route(unsigned class, unsigned to) {
    if (bs_class_info[class].size <= BS_TINY_MAX)
        route_tiny(class, to);
    else
        route_medium(class, to);
}
