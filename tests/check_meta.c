/* SPDX-License-Identifier: MIT */
/*
 * check_meta.c - metadata: alignment, zeros, pools that are LIFO and type-stable, the table of
 * mappings, and a kernel that gives no memory.
 */
#include "meta.h"

#include "os.h"
#include "unit.h"

#include <pthread.h>

static bool owns(uintptr_t address) {
    return bs_meta_mapped_within(address, address + 1) == 1;
}

static bool is_zero(const void *p, size_t bytes) {
    const unsigned char *c = p;
    for (size_t i = 0; i < bytes; i++)
        if (c[i] != 0)
            return false;
    return true;
}

START_TEST(objects_are_apart_aligned_and_zero) {
    const size_t size[] = {16, 48, 64, 128, 1000, 1024, 40000, 1 << 20};
    for (size_t i = 0; i < BS_ARRAY_LEN(size); i++) {
        struct bs_meta_pool pool = BS_META_POOL_INIT(size[i]);
        size_t bytes = pool.bytes, align = bytes % BS_CACHE_LINE == 0 ? BS_CACHE_LINE : 16;
        unsigned char *object[50];
        require(bytes >= size[i] && bytes % 16 == 0, "a pool of %zu has objects of %zu", size[i],
                bytes);
        for (size_t k = 0; k < 50; k++) {
            object[k] = bs_meta_pool_alloc(&pool);
            require(object[k] != NULL, "no memory");
            require((uintptr_t)object[k] % align == 0, "object of %zu not aligned", bytes);
            require(is_zero(object[k], bytes), "object %zu of %zu bytes is not zero", k, bytes);
            memset(object[k], (int)k + 1, bytes);
        }
        ck_assert_uint_eq(pool.in_use, 50);
        for (size_t k = 0; k < 50; k++)
            require(object[k][0] == k + 1 && object[k][bytes - 1] == k + 1, "objects overlap");
    }
}
END_TEST

START_TEST(the_first_mapping_holds_what_it_was_made_for) {
    const size_t bytes = 256 * BS_KIB;
    uintptr_t p = (uintptr_t)bs_meta_alloc(bytes);
    ck_assert_uint_ne(p, 0);
    ck_assert_uint_eq(bs_meta_mapped_within(p, p + bytes), bytes);
}
END_TEST

START_TEST(given_back_is_used_again) {
    struct bs_meta_pool a = BS_META_POOL_INIT(48), b = BS_META_POOL_INIT(48);
    uint64_t *x = bs_meta_pool_alloc(&a), *y = bs_meta_pool_alloc(&a);
    x[3] = 42;
    bs_meta_pool_free(&a, x);
    bs_meta_pool_free(&a, y);
    ck_assert_uint_eq(a.in_use, 0);
    void *other = bs_meta_pool_alloc(&b); /* type-stable: never another pool's */
    ck_assert(other != x && other != y);
    ck_assert_ptr_eq(bs_meta_pool_alloc(&a), y); /* LIFO */
    ck_assert_ptr_eq(bs_meta_pool_alloc(&a), x);
    ck_assert_uint_eq(x[3], 42); /* readers may still look: only the first word was used */
    ck_assert_uint_eq(a.in_use, 2);
}
END_TEST

START_TEST(plain_memory) {
    unsigned char *last = NULL;
    for (size_t bytes = 1; bytes < 8 * BS_MIB; bytes = bytes * 2 + 1) {
        unsigned char *p = bs_meta_alloc(bytes);
        require(p != NULL && (uintptr_t)p % BS_CACHE_LINE == 0, "%zu bytes at %p", bytes, p);
        require(is_zero(p, bytes), "%zu bytes are not zero", bytes);
        require(owns((uintptr_t)p) && owns((uintptr_t)p + bytes - 1), "not owned");
        memset(p, 0xff, bytes);
        require(last == NULL || last[0] == 0xff, "overlap");
        last = p;
    }
}
END_TEST

START_TEST(mappings_come_and_go) {
    size_t before = bs_meta_mapped_bytes();
    for (unsigned round = 0; round < 2000; round++) { /* more than the table has entries */
        char *p = bs_meta_map(3 * 4096 + 5);
        ck_assert_ptr_nonnull(p);
        require((uintptr_t)p % bs_os_page_size() == 0 && is_zero(p, 3 * 4096 + 5), "bad mapping");
        require(owns((uintptr_t)p + 3 * 4096 + 4), "round %u: not owned", round);
        size_t bytes = bs_align_up(3 * 4096 + 5, bs_os_page_size());
        require(bs_meta_mapped_bytes() == before + bytes, "round %u: %zu mapped", round,
                bs_meta_mapped_bytes());
        p[0] = 1;
        bs_meta_unmap(p, 3 * 4096 + 5);
        require(!owns((uintptr_t)p), "owned after unmap");
    }
    ck_assert_uint_eq(bs_meta_mapped_bytes(), before);
    ck_assert(!owns(0));
    ck_assert(!owns((uintptr_t)&before));
    ck_assert(!owns(UINTPTR_MAX));
}
END_TEST

START_TEST(mappings_of_others_are_counted) {
    char *p = bs_os_alloc(1 * BS_MIB);
    size_t before = bs_meta_mapped_bytes();
    bs_meta_note_mapping(p, 1 * BS_MIB);
    ck_assert_uint_eq(bs_meta_mapped_bytes(), before + 1 * BS_MIB);
    ck_assert(owns((uintptr_t)p + 5));
    size_t resident = bs_meta_resident_bytes();
    memset(p, 1, 512 * BS_KIB);
    size_t grown = bs_meta_resident_bytes() - resident; /* a huge page may hold all of it */
    ck_assert_msg(grown >= 512 * BS_KIB && grown <= 1 * BS_MIB, "%zu more bytes in memory", grown);
    ck_assert_uint_le(bs_meta_resident_bytes(), bs_meta_mapped_bytes());
}
END_TEST

START_TEST(metadata_is_not_touched_ahead) {
    char *p = bs_meta_map(16 * BS_MIB);
    size_t before = bs_meta_resident_bytes();
    p[5 * BS_MIB] = 1;
    ck_assert_uint_le(bs_meta_resident_bytes() - before, bs_os_page_size());
}
END_TEST

#if BS_FAULTS
START_TEST(no_memory) {
    struct bs_meta_pool pool = BS_META_POOL_INIT(1024);
    void *p = bs_meta_pool_alloc(&pool);
    bs_os_fail(1, 12 /* ENOMEM */, true);
    ck_assert_ptr_null(bs_meta_map(4096));
    ck_assert_ptr_null(bs_meta_alloc(8 * BS_MIB));
    size_t n = 0;
    void *last = NULL, *q;
    while ((q = bs_meta_pool_alloc(&pool)) != NULL && n < 100000) {
        last = q;
        n++;
    }
    ck_assert_ptr_null(q);
    ck_assert_uint_eq(pool.in_use, n + 1);
    bs_meta_pool_free(&pool, last); /* what comes back is still given */
    ck_assert_ptr_eq(bs_meta_pool_alloc(&pool), last);
    bs_os_fail(0, 0, false);
    ck_assert_ptr_nonnull(bs_meta_pool_alloc(&pool));
    bs_meta_pool_free(&pool, p);
}
END_TEST
#endif

static struct bs_meta_pool shared = BS_META_POOL_INIT(96);

static void *use_pool(void *arg) {
    uint64_t mine = (uint64_t)(uintptr_t)arg, *object[32] = {NULL};
    for (unsigned i = 0; i < 20000 / UNIT_SLOWNESS; i++) {
        uint64_t **o = &object[i % 32];
        if (*o != NULL) {
            require((*o)[1] == mine && (*o)[11] == mine, "an object of two threads");
            bs_meta_pool_free(&shared, *o);
        }
        *o = bs_meta_pool_alloc(&shared);
        require(*o != NULL, "no memory");
        (*o)[1] = (*o)[11] = mine;
    }
    return NULL;
}

START_TEST(pools_are_thread_safe) {
    pthread_t thread[4];
    for (uintptr_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, use_pool, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    ck_assert_uint_eq(shared.in_use, 4 * 32);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("meta");
    TCase *tc = add_case(suite, "meta");
    tcase_add_test(tc, objects_are_apart_aligned_and_zero);
    tcase_add_test(tc, the_first_mapping_holds_what_it_was_made_for);
    tcase_add_test(tc, given_back_is_used_again);
    tcase_add_test(tc, plain_memory);
    tcase_add_test(tc, mappings_come_and_go);
    tcase_add_test(tc, mappings_of_others_are_counted);
    tcase_add_test(tc, metadata_is_not_touched_ahead);
#if BS_FAULTS
    tcase_add_test(tc, no_memory);
#endif
    tcase_add_test(tc, pools_are_thread_safe);
    return run_suite(suite);
}
