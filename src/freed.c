/* SPDX-License-Identifier: MIT */
/* freed.c - see freed.h. No lock but that of the metadata. */
#include "freed.h"

#include "bits.h"
#include "meta.h"

bool bs_freed_make(uintptr_t p) {
    struct bs_freed *none = NULL;
    if (bs_freed_table(p) != NULL)
        return true;
    struct bs_freed *table = bs_meta_map_sparse(sizeof *table, sizeof table->slot[0]);
    if (table == NULL)
        return false;
    /* another thread may have been first: its table counts */
    if (!__atomic_compare_exchange_n(&bs_pagemap_arena(p)->freed, &none, table, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        bs_meta_unmap_sparse(table, sizeof *table, sizeof table->slot[0]);
    return true;
}

/* Eight bytes that are 0 or 1 to eight bits, the first the lowest. */
static uint64_t bits_of_8(uint64_t bytes) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    bytes = __builtin_bswap64(bytes);
#endif
    return bytes * 0x0102040810204080u >> 56;
}

uint64_t bs_freed_bits(uintptr_t base, size_t w) {
    typedef uint64_t __attribute__((may_alias)) word;
    struct bs_freed *table = bs_freed_table(base);
    uint64_t bits = 0;
    if (table == NULL)
        return 0;
    const word *bytes = (const word *)(const void *)bs_freed_bytes(table, base, w);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t eight = bs_load_acquire(&bytes[i]); /* pairs with who frees: it is zeroed */
        bits |= eight != 0 ? bits_of_8(eight) << 8 * i : 0;
    }
    return bits;
}

/* Eight neighbours that go together are nobody else's either: one store. */
void bs_freed_clear(uintptr_t base, size_t w, uint64_t bits) {
    typedef uint64_t __attribute__((may_alias)) word;
    if (bits == 0)
        return;
    uint8_t *bytes = bs_freed_bytes(bs_freed_table(base), base, w);
    for (unsigned i = 0; i < 64; i += 8) {
        uint64_t eight = bits >> i & 0xff;
        if (eight == 0xff) {
            bs_store((word *)(void *)(bytes + i), (uint64_t)0);
            continue;
        }
        for (; eight != 0; eight &= eight - 1)
            bs_store(&bytes[i + bs_ctz(eight)], (uint8_t)0);
    }
}
