/* SPDX-License-Identifier: MIT */
/*
 * gen_sizeclasses.c - makes src/sizeclass.def: the size classes, their spans and the index tables.
 *
 *     gen_sizeclasses > src/sizeclass.def
 *
 * Rules (tests/check_sizeclass.c verifies each by brute force, and that the file in the tree is
 * what this program prints):
 *   - 8, then every multiple of 16 to 128 (the ABI's alignment), then eight steps per doubling to
 *     32 KiB: the bytes lost to rounding up are at most 1/8 of the class above 128 bytes.
 *   - A power of two is a class, so memalign(a) for a <= page finds an aligned slot.
 *   - A span has MIN_SLOTS slots, or half of what MAX_SPAN_PAGES can hold if that is less, and
 *     is the shortest whose tail is at most 1/16 of it; where none is, the one with the least
 *     tail, 1/8 at most. Few pages make a span empty often; many slots spread its cost.
 *   - Neighbours with the same span length and slot count are one class (the larger), unless
 *     that broke the first rule.
 *   - offset / size is (offset * magic) >> 32 for every offset in the span.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
    PAGE = 8192,
    SMALL_MAX = 32768,
    MIN_SLOTS = 8,
    MAX_SPAN_PAGES = 8,
    MAX_CLASSES = 100,
    TABLE_SPLIT = 1024, /* below: a step of 8 bytes per table entry, above: of 128 */
};

struct size_class {
    unsigned size, npages, nslots;
    uint32_t magic;
};

static struct size_class classes[MAX_CLASSES];
static unsigned nclasses = 1; /* class 0 means: not a small block */

static unsigned next_size(unsigned size) {
    if (size < 16)
        return 16;
    if (size < 128)
        return size + 16;
    unsigned power = 128;
    while (power * 2 <= size)
        power *= 2;
    return size + power / 8;
}

static void choose_span(struct size_class *c) {
    unsigned best = 0, best_tail = 0, half = MAX_SPAN_PAGES * PAGE / c->size / 2;
    unsigned least = half < 1 ? 1 : half < MIN_SLOTS ? half : MIN_SLOTS;
    for (unsigned npages = 1; npages <= MAX_SPAN_PAGES; npages++) {
        unsigned bytes = npages * PAGE, nslots = bytes / c->size, tail = bytes % c->size;
        if (nslots < least)
            continue;
        if (best == 0 || (uint64_t)tail * best < (uint64_t)best_tail * npages) {
            best = npages;
            best_tail = tail;
        }
        if (tail * 16 <= bytes)
            break;
    }
    c->npages = best;
    c->nslots = best * PAGE / c->size;
}

/* Rounding the least request above `below` up to `size` loses at most 1/8 of size. */
static bool waste_is_small(unsigned below, unsigned size) {
    return (size - (below + 1)) * 8 <= size;
}

static void make_classes(void) {
    for (unsigned size = 8; size <= SMALL_MAX; size = next_size(size)) {
        struct size_class c = {.size = size};
        choose_span(&c);
        struct size_class *last = &classes[nclasses - 1];
        bool power_of_two = (last->size & (last->size - 1)) == 0;
        if (nclasses > 2 && !power_of_two && last->npages == c.npages &&
            last->nslots == c.nslots && waste_is_small(last[-1].size, c.size))
            nclasses--;
        c.magic = (uint32_t)(((uint64_t)1 << 32) / c.size + ((((uint64_t)1 << 32) % c.size) != 0));
        classes[nclasses++] = c;
    }
}

static unsigned class_of(unsigned size) {
    unsigned c = 1;
    while (classes[c].size < size)
        c++;
    return c;
}

static void print_table(const char *macro, unsigned first, unsigned last, unsigned step) {
    unsigned column = 0;
    for (unsigned size = first; size <= last; size += step)
        printf("%s(%u)%s", macro, class_of(size), ++column % 6 == 0 ? "\n" : " ");
    printf("%s", column % 6 == 0 ? "" : "\n");
}

int main(void) {
    make_classes();
    printf("/* SPDX-License-Identifier: MIT */\n"
           "/*\n"
           " * sizeclass.def - made by tools/gen_sizeclasses.c; do not edit, see there.\n"
           " *   BS_SIZE_CLASS(index, block bytes, pages of a span, slots of a span, magic)\n"
           " *   BS_CLASS_BY_8(class)    for request sizes 0, 8, 16 ... 1024 (rounded up)\n"
           " *   BS_CLASS_BY_128(class)  for request sizes 1024, 1152 ... 32768 (rounded up)\n"
           " */\n"
           "#ifdef BS_SIZE_CLASS\n");
    for (unsigned c = 1; c < nclasses; c++)
        printf("BS_SIZE_CLASS(%u, %u, %u, %u, %uu)\n", c, classes[c].size, classes[c].npages,
               classes[c].nslots, classes[c].magic);
    printf("#endif\n#ifdef BS_CLASS_BY_8\n");
    print_table("BS_CLASS_BY_8", 0, TABLE_SPLIT, 8);
    printf("#endif\n#ifdef BS_CLASS_BY_128\n");
    print_table("BS_CLASS_BY_128", TABLE_SPLIT, SMALL_MAX, 128);
    printf("#endif\n");
    return 0;
}
