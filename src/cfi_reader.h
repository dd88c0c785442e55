/* SPDX-License-Identifier: MIT */
/*
 * cfi_reader.h - reads the bytes of .eh_frame one after the other, for cfi.c and cfi_step.c; nobody
 * else includes it. What is not there reads as 0 and makes the reader bad, for good.
 *
 * No lock, no allocation: the reader is its user's own.
 */
#ifndef BS_CFI_READER_H
#define BS_CFI_READER_H

#include "probe.h"

struct bs_cfi_reader {
    struct bs_probe *m;
    uintptr_t p, end; /* p goes forward only */
    uintptr_t known;  /* bytes from p to this one are there, if p is below */
    bool bad;
};

static inline struct bs_cfi_reader bs_cfi_reader_at(struct bs_probe *m, uintptr_t p, uintptr_t end) {
    return (struct bs_cfi_reader){m, p, end, 0, p < m->base || p > end || end > m->end};
}

/* There is nothing behind `end`, which is not above the one before. */
static inline void bs_read_until(struct bs_cfi_reader *r, uintptr_t end) {
    r->end = end;
    r->known = bs_min(r->known, end);
}

/* The next n bytes (1 ... 8), without a sign, where it is not known that they are there. */
static BS_NOINLINE uint64_t bs_read_unknown(struct bs_cfi_reader *r, size_t n) {
    uint64_t x = 0;
    if (r->bad || r->p > r->end || r->end - r->p < n || !bs_probe_read(r->m, r->p, n, &x))
        r->bad = true;
    r->p += n;
    r->known = r->bad ? 0 : bs_min(r->end, r->m->to);
    return x;
}

static inline uint64_t bs_read(struct bs_cfi_reader *r, size_t n) {
    if (BS_UNLIKELY(r->p > r->known || r->known - r->p < n))
        return bs_read_unknown(r, n);
    r->p += n;
    return bs_probe_load(r->p - n, n);
}
static inline uint64_t bs_read_byte(struct bs_cfi_reader *r) {
    return BS_LIKELY(r->p < r->known) ? bs_probe_load(r->p++, 1) : bs_read_unknown(r, 1);
}

static inline uint64_t bs_read_uleb(struct bs_cfi_reader *r) {
    uint64_t x = 0, byte = 0x80;
    for (unsigned shift = 0; (byte & 0x80) != 0 && !r->bad; shift += 7) {
        byte = bs_read_byte(r);
        if (shift < 64)
            x |= (byte & 0x7f) << shift;
    }
    return x;
}

static inline int64_t bs_read_sleb(struct bs_cfi_reader *r) {
    uint64_t x = 0, byte = 0x80;
    unsigned shift = 0;
    for (; (byte & 0x80) != 0 && !r->bad; shift += 7) {
        byte = bs_read_byte(r);
        if (shift < 64)
            x |= (byte & 0x7f) << shift;
    }
    if (shift < 64 && (byte & 0x40) != 0)
        x |= UINT64_MAX << shift;
    return (int64_t)x;
}

#endif
