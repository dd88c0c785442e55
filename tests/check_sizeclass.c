/* SPDX-License-Identifier: MIT */
/*
 * check_sizeclass.c - every promise of the size classes by brute force: over all request sizes,
 * all alignments and every byte of every span; and that src/sizeclass.def is what the generator
 * prints today.
 *
 * The last test runs tools/gen_sizeclasses of the build tree; it takes top_builddir and
 * top_srcdir from the environment, as `make check` sets them.
 */
#include "sizeclass.h"

#include "home_unit.h"
#include "unit.h"

START_TEST(smallest_class_holds_the_size) {
    for (size_t size = 0; size <= BS_SMALL_MAX; size++) {
        unsigned c = bs_class_smallest(size), smallest = 1;
        while (bs_class_info[smallest].size < size)
            smallest++;
        require(c == smallest, "size %zu is in class %u, the smallest that holds it is %u", size, c,
                smallest);
    }
}
END_TEST

START_TEST(powers_of_two_serve_small_sizes_first) {
    for (size_t size = 0; size <= BS_SMALL_MAX; size++) {
        size_t expected = bs_class_info[bs_class_smallest(size)].size;
        if (size <= BS_ROUTE_FIRST_MAX)
            for (expected = BS_ROUTE_FIRST_MIN; expected < size;)
                expected *= 2;
        require(bs_class_info[bs_class_of(size)].size == expected, "%zu bytes are served by blocks of %u, not %zu", size,
                bs_class_info[bs_class_of(size)].size, expected);
    }
}
END_TEST

/* All sizes are served by their smallest class, but those of `class` by `to`. */
static void check_routed(unsigned class, unsigned to) {
    for (size_t size = 0; size <= BS_SMALL_MAX; size++) {
        unsigned smallest = bs_class_smallest(size), expected = smallest == class ? to : smallest;
        require(bs_class_of(size) == expected, "class %u by %u: size %zu is in class %u", class, to, size,
                bs_class_of(size));
    }
}

START_TEST(sizes_of_a_class_are_routed) {
    all_sizes_at_home();
    for (unsigned class = 1; class + 1 < BS_NCLASSES; class++) {
        bs_class_route(class, class + 1);
        check_routed(class, class + 1);
        bs_class_route(class, class);
        check_routed(class, class);
    }
}
END_TEST

START_TEST(waste_is_bounded) {
    for (unsigned c = 2; c < BS_NCLASSES; c++) {
        size_t size = bs_class_info[c].size, least = bs_class_info[c - 1].size + 1;
        require(size >= least, "class %u is not larger than the one before", c);
        if (size > 128)
            require((size - least) * 8 <= size, "class %u: a request of %zu loses %zu of %zu", c,
                    least, size - least, size);
        else
            require(size - least < 16, "class %u: steps of more than 16 bytes", c);
    }
    ck_assert_uint_eq(bs_class_info[BS_NCLASSES - 1].size, BS_SMALL_MAX);
}
END_TEST

START_TEST(alignment_is_the_abis) {
    ck_assert_uint_eq(bs_class_info[1].size, 8);
    for (size_t size = 0; size <= BS_SMALL_MAX; size++) {
        size_t have = bs_class_info[bs_class_of(size)].size;
        require(have % (size > 8 ? 16 : 8) == 0, "size %zu gets %zu bytes: not aligned", size,
                have);
    }
    for (size_t size = 8; size <= BS_SMALL_MAX; size *= 2)
        require(bs_class_info[bs_class_smallest(size)].size == size, "%zu is no class", size);
}
END_TEST

START_TEST(aligned_request_gets_aligned_slot_of_any_host) {
    for (size_t align = 1; align <= BS_PAGE_SIZE; align *= 2)
        for (size_t size = 0; size <= BS_ROUTE_FIRST_MAX; size++) {
            size_t have = bs_class_info[bs_class_of_aligned(align, size)].size;
            require(have >= size && have % align == 0, "align %zu, size %zu: blocks of %zu", align, size, have);
        }
}
END_TEST

START_TEST(aligned_request_gets_smallest_class) {
    all_sizes_at_home();
    for (size_t align = 1; align <= 2 * BS_PAGE_SIZE; align *= 2) {
        unsigned expected = 1;
        for (size_t size = 0; size <= BS_SMALL_MAX + 2; size++) {
            while (expected < BS_NCLASSES && (bs_class_info[expected].size < size ||
                                              bs_class_info[expected].size % align != 0))
                expected++;
            bool none = align > BS_PAGE_SIZE || expected == BS_NCLASSES;
            unsigned got = bs_class_of_aligned(align, size);
            require(got == (none ? 0 : expected), "align %zu, size %zu: class %u, expected %u",
                    align, size, got, none ? 0 : expected);
        }
        /* what is small and aligned to a page at most is never sent to the large blocks */
        require(align > BS_PAGE_SIZE || bs_class_of_aligned(align, BS_SMALL_MAX) != 0,
                "align %zu has no class", align);
    }
    for (size_t align = BS_PAGE_SIZE * 2; align != 0; align *= 2)
        require(bs_class_of_aligned(align, 1) == 0, "align %zu has a class", align);
    ck_assert_uint_eq(bs_class_of_aligned(16, SIZE_MAX), 0);
}
END_TEST

START_TEST(spans_hold_their_slots) {
    for (unsigned c = 1; c < BS_NCLASSES; c++) {
        const struct bs_class_info *info = &bs_class_info[c];
        size_t bytes = info->npages * BS_PAGE_SIZE, used = (size_t)info->nslots * info->size;
        require(info->nslots >= 1 && used <= bytes, "class %u: %zu bytes of slots in a span of %zu",
                c, used, bytes);
        require(bytes - used < info->size, "class %u: room for one more slot", c);
        require((bytes - used) * 8 <= bytes, "class %u: a tail of %zu in %zu", c, bytes - used,
                bytes);
        /* the bitmap of a span has 16 words at most (central.h) */
        require(info->nslots <= 1024, "class %u: %u slots", c, info->nslots);
    }
}
END_TEST

START_TEST(index_is_right_for_every_byte) {
    for (unsigned c = 1; c < BS_NCLASSES; c++) {
        const struct bs_class_info *info = &bs_class_info[c];
        for (uint32_t offset = 0; offset < info->npages * BS_PAGE_SIZE; offset++) {
            uint32_t slot = bs_class_slot(info, offset);
            require(slot == offset / info->size, "class %u: offset %u is in slot %u, not %u", c,
                    offset, offset / info->size, slot);
        }
    }
}
END_TEST

/* 0 where both read the same to the end, else the first differing line. */
static unsigned first_difference(FILE *a, FILE *b) {
    char line_a[4096], line_b[4096];
    for (unsigned line = 1;; line++) {
        char *x = fgets(line_a, sizeof line_a, a), *y = fgets(line_b, sizeof line_b, b);
        if (x == NULL && y == NULL)
            return 0;
        if (x == NULL || y == NULL || strcmp(x, y) != 0)
            return line;
    }
}

START_TEST(table_is_the_generators) {
    const char *build = getenv("top_builddir"), *src = getenv("top_srcdir");
    char command[1024], path[1024];
    ck_assert_msg(build != NULL && src != NULL,
                  "set top_builddir and top_srcdir, or run `make check`");
    snprintf(command, sizeof command, "'%s/tools/gen_sizeclasses'", build);
    snprintf(path, sizeof path, "%s/src/sizeclass.def", src);
    FILE *committed = fopen(path, "r"), *generated = popen(command, "r");
    ck_assert_msg(committed != NULL, "%s cannot be read", path);
    ck_assert_ptr_nonnull(generated);
    unsigned line = first_difference(committed, generated);
    ck_assert_int_eq(pclose(generated), 0);
    fclose(committed);
    ck_assert_msg(line == 0,
                  "%s differs from the generator's output in line %u: "
                  "run `make -C tools sizeclass-def`",
                  path, line);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sizeclass");
    TCase *tc = add_case(suite, "sizeclass");
    tcase_add_test(tc, smallest_class_holds_the_size);
    tcase_add_test(tc, powers_of_two_serve_small_sizes_first);
    tcase_add_test(tc, sizes_of_a_class_are_routed);
    tcase_add_test(tc, waste_is_bounded);
    tcase_add_test(tc, alignment_is_the_abis);
    tcase_add_test(tc, aligned_request_gets_aligned_slot_of_any_host);
    tcase_add_test(tc, aligned_request_gets_smallest_class);
    tcase_add_test(tc, spans_hold_their_slots);
    tcase_add_test(tc, index_is_right_for_every_byte);
    tcase_add_test(tc, table_is_the_generators);
    return run_suite(suite);
}
