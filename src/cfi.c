/* SPDX-License-Identifier: MIT */
/*
 * cfi.c - see cfi.h: .eh_frame_hdr's table, CIE and FDE, and the program that leads to a row. How a
 * row is applied is cfi_step.c.
 *
 * Every loop here ends with the bytes that it reads, each of which it reads once.
 */
#include "cfi.h"

#include "cfi_reader.h"

#include <string.h>

/* How pointers are written: DW_EH_PE_*. */
enum { PE_OMIT = 0xff, PE_FORMAT = 0x0f, PE_BASE = 0x70, PE_INDIRECT = 0x80 };
enum { PE_PCREL = 0x10, PE_DATAREL = 0x30 };

/* What an FDE shares with others. */
struct cie {
    uint64_t code_align;
    int64_t data_align;
    uintptr_t program, program_end;
    uint8_t pointers; /* encoding of addresses in its FDEs */
    bool augmented, signal_frame;
};

struct fde {
    struct cie cie;
    uintptr_t start, size; /* the instructions it speaks of */
    uintptr_t program, program_end;
};

/* A pointer in the encoding; `data` is what DATAREL counts from. */
static uint64_t get_pointer(struct bs_cfi_reader *r, unsigned encoding, uintptr_t data) {
    uintptr_t here = r->p;
    uint64_t x = 0;
    switch (encoding & PE_FORMAT) {
    case 0x00: x = bs_read(r, 8); break;
    case 0x01: x = bs_read_uleb(r); break;
    case 0x02: x = bs_read(r, 2); break;
    case 0x03: x = bs_read(r, 4); break;
    case 0x04: x = bs_read(r, 8); break;
    case 0x09: x = (uint64_t)bs_read_sleb(r); break;
    case 0x0a: x = (uint64_t)(int16_t)bs_read(r, 2); break;
    case 0x0b: x = (uint64_t)(int32_t)bs_read(r, 4); break;
    case 0x0c: x = bs_read(r, 8); break;
    default: r->bad = true;
    }
    switch (encoding & PE_BASE) {
    case 0: break;
    case PE_PCREL: x += here; break;
    case PE_DATAREL: x += data; break;
    default: r->bad = true;
    }
    if ((encoding & PE_INDIRECT) != 0)
        r->bad = true; /* personality routines only, whose value nobody asks for */
    return x;
}

/* --- the table -------------------------------------------------------------------------------- */

/* The FDE that may cover pc, by binary search in .eh_frame_hdr; 0: none. */
static uintptr_t search(struct bs_probe *m, uintptr_t hdr, uintptr_t pc) {
    struct bs_cfi_reader r = bs_cfi_reader_at(m, hdr, m->end);
    unsigned version = (unsigned)bs_read_byte(&r), frame = (unsigned)bs_read_byte(&r);
    unsigned count = (unsigned)bs_read_byte(&r), table = (unsigned)bs_read_byte(&r);
    if (r.bad || version != 1 || table != (PE_DATAREL | 0x0b))
        return 0;
    (void)get_pointer(&r, frame, hdr);
    uint64_t n = get_pointer(&r, count, hdr), low = 0;
    if (r.bad || n == 0 || n > (m->end - r.p) / 8)
        return 0;
    uintptr_t first = r.p;
    for (uint64_t high = n; high - low > 1;) { /* entry `low` begins at or before pc, if any does */
        uint64_t middle = low + (high - low) / 2;
        uint64_t start;
        if (!bs_probe_read(m, first + middle * 8, 4, &start))
            return 0;
        if (hdr + (uint64_t)(int32_t)start <= pc)
            low = middle;
        else
            high = middle;
    }
    r.p = first + low * 8 + 4;
    uintptr_t at = hdr + (uint64_t)(int32_t)bs_read(&r, 4);
    return r.bad ? 0 : at;
}

/* Cuts the reader to one entry of .eh_frame; its id word's place, or 0. */
static uintptr_t open_entry(struct bs_cfi_reader *r) {
    uint64_t length = bs_read(r, 4);
    if (r->bad || length < 4 || length >= 0xfffffff0 || length > r->end - r->p)
        return 0;
    bs_read_until(r, r->p + length);
    return r->p;
}

static bool read_augmentation(struct bs_cfi_reader *r, const char *text, struct cie *c) {
    uintptr_t data_end = 0;
    for (; *text != '\0'; text++) {
        switch (*text) {
        case 'z': {
            uint64_t length = bs_read_uleb(r);
            if (r->bad || length > r->end - r->p)
                return false;
            data_end = r->p + length;
            c->augmented = true;
            break;
        }
        case 'R': c->pointers = (uint8_t)bs_read_byte(r); break;
        case 'L': (void)bs_read_byte(r); break;
        case 'S': c->signal_frame = true; break;
        case 'B': break; /* aarch64: the key that signs return addresses */
        case 'G': break; /* aarch64: memory tags */
        case 'P': {
            unsigned encoding = (unsigned)bs_read_byte(r);
            (void)get_pointer(r, encoding & ~(unsigned)(PE_INDIRECT | PE_BASE), 0);
            break;
        }
        default: return false;
        }
    }
    if (c->augmented)
        r->p = data_end;
    return !r->bad;
}

static bool read_cie(struct bs_probe *m, uintptr_t at, struct cie *c) {
    struct bs_cfi_reader r = bs_cfi_reader_at(m, at, m->end);
    char augmentation[8];
    size_t n = 0;
    memset(c, 0, sizeof *c);
    if (open_entry(&r) == 0 || bs_read(&r, 4) != 0)
        return false;
    uint64_t version = bs_read_byte(&r);
    if (version != 1 && version != 3)
        return false;
    do {
        if (n == sizeof augmentation)
            return false;
        augmentation[n] = (char)bs_read_byte(&r);
    } while (augmentation[n++] != '\0');
    c->code_align = bs_read_uleb(&r);
    c->data_align = bs_read_sleb(&r);
    uint64_t ra = version == 1 ? bs_read_byte(&r) : bs_read_uleb(&r);
    if (r.bad || ra != BS_CFI_RA || !read_augmentation(&r, augmentation, c))
        return false;
    c->program = r.p;
    c->program_end = r.end;
    return true;
}

static bool read_fde(struct bs_probe *m, uintptr_t at, struct fde *f) {
    struct bs_cfi_reader r = bs_cfi_reader_at(m, at, m->end);
    uintptr_t id = open_entry(&r);
    uint64_t back = bs_read(&r, 4);
    if (id == 0 || r.bad || back == 0 || back > id - m->base || !read_cie(m, id - back, &f->cie))
        return false;
    f->start = get_pointer(&r, f->cie.pointers, 0);
    f->size = get_pointer(&r, f->cie.pointers & PE_FORMAT, 0);
    if (f->cie.augmented) {
        uint64_t length = bs_read_uleb(&r);
        if (r.bad || length > r.end - r.p)
            return false;
        r.p += length;
    }
    f->program = r.p;
    f->program_end = r.end;
    return !r.bad;
}

/* --- the program ------------------------------------------------------------------------------ */

#define SAVED_ROWS 4 /* remembered at once; compilers use one */

struct machine {
    struct bs_probe *m;
    struct cie *cie;
    uintptr_t loc, pc;
    struct bs_cfi_row row, initial, saved[SAVED_ROWS];
    unsigned nsaved;
    bool bad;
};

static void set(struct machine *k, uint64_t reg, enum bs_cfi_how how, int64_t value) {
    if (value != (int32_t)value)
        k->bad = true;
    else if (reg < BS_CFI_NREGS) /* vector registers are of no use here */
        k->row.reg[reg] = (struct bs_cfi_rule){(int32_t)value, (uint8_t)how, 0};
}

static void set_cfa(struct machine *k, uint64_t reg, int64_t offset) {
    if (reg >= BS_CFI_NREGS || offset != (int32_t)offset)
        k->bad = true;
    k->row.cfa = (struct bs_cfi_rule){(int32_t)offset, BS_CFI_IS, (uint8_t)reg};
}

/* An expression's place, and past it. */
static int64_t skip_block(struct machine *k, struct bs_cfi_reader *r) {
    uintptr_t at = r->p;
    uint64_t length = bs_read_uleb(r);
    if (r->bad || length > r->end - r->p)
        k->bad = true;
    else
        r->p += length;
    return (int64_t)(at - k->m->base);
}

static int64_t scaled(struct machine *k, int64_t x) {
    int64_t y;
    if (__builtin_mul_overflow(x, k->cie->data_align, &y))
        k->bad = true;
    return y;
}

static void advance(struct machine *k, uint64_t delta) {
    uint64_t bytes;
    if (__builtin_mul_overflow(delta, k->cie->code_align, &bytes))
        k->bad = true;
    else
        k->loc += bytes;
}

static void restore(struct machine *k, uint64_t reg) {
    if (reg < BS_CFI_NREGS)
        k->row.reg[reg] = k->initial.reg[reg];
}

static void remember(struct machine *k) {
    if (k->nsaved == SAVED_ROWS)
        k->bad = true;
    else
        k->saved[k->nsaved++] = k->row;
}
static void recall(struct machine *k) {
    if (k->nsaved == 0)
        k->bad = true;
    else
        k->row = k->saved[--k->nsaved];
}

/* One of the instructions that say where a register is. */
static bool save_rule(struct machine *k, struct bs_cfi_reader *r, unsigned op) {
    uint64_t reg = bs_read_uleb(r);
    switch (op) {
    case 0x05: set(k, reg, BS_CFI_AT, scaled(k, (int64_t)bs_read_uleb(r))); return true;
    case 0x06: restore(k, reg); return true;
    case 0x07: set(k, reg, BS_CFI_UNDEFINED, 0); return true;
    case 0x08: set(k, reg, BS_CFI_SAME, 0); return true;
    case 0x09: {
        uint64_t other = bs_read_uleb(r);
        if (reg < BS_CFI_NREGS && other < BS_CFI_NREGS)
            k->row.reg[reg] = (struct bs_cfi_rule){0, BS_CFI_IN, (uint8_t)other};
        return true;
    }
    case 0x10: set(k, reg, BS_CFI_AT_EXPR, skip_block(k, r)); return true;
    case 0x11: set(k, reg, BS_CFI_AT, scaled(k, bs_read_sleb(r))); return true;
    case 0x14: set(k, reg, BS_CFI_IS, scaled(k, (int64_t)bs_read_uleb(r))); return true;
    case 0x15: set(k, reg, BS_CFI_IS, scaled(k, bs_read_sleb(r))); return true;
    case 0x16: set(k, reg, BS_CFI_IS_EXPR, skip_block(k, r)); return true;
    default: return false;
    }
}

static bool cfa_rule(struct machine *k, struct bs_cfi_reader *r, unsigned op) {
    uint64_t reg = k->row.cfa.reg;
    switch (op) {
    case 0x0c: reg = bs_read_uleb(r); set_cfa(k, reg, (int64_t)bs_read_uleb(r)); return true;
    case 0x0d: set_cfa(k, bs_read_uleb(r), k->row.cfa.value); return true;
    case 0x0e: set_cfa(k, reg, (int64_t)bs_read_uleb(r)); return true;
    case 0x0f:
        k->row.cfa = (struct bs_cfi_rule){(int32_t)skip_block(k, r), BS_CFI_IS_EXPR, 0};
        return true;
    case 0x12: reg = bs_read_uleb(r); set_cfa(k, reg, scaled(k, bs_read_sleb(r))); return true;
    case 0x13: set_cfa(k, reg, scaled(k, bs_read_sleb(r))); return true;
    default: return false;
    }
}

static void instruction(struct machine *k, struct bs_cfi_reader *r) {
    unsigned op = (unsigned)bs_read_byte(r), low = op & 0x3f;
    switch (op >> 6) {
    case 1: advance(k, low); return;
    case 2: set(k, low, BS_CFI_AT, scaled(k, (int64_t)bs_read_uleb(r))); return;
    case 3: restore(k, low); return;
    default: break;
    }
    switch (op) {
    case 0x00: return;
    case 0x01: k->loc = get_pointer(r, k->cie->pointers, 0); return;
    case 0x02: advance(k, bs_read_byte(r)); return;
    case 0x03: advance(k, bs_read(r, 2)); return;
    case 0x04: advance(k, bs_read(r, 4)); return;
    case 0x0a: remember(k); return;
    case 0x0b: recall(k); return;
    case 0x2d:
        return; /* aarch64: whether the return address is signed; the sign is cut off always */
    case 0x2e: (void)bs_read_uleb(r); return; /* bytes of arguments on the stack */
    default: break;
    }
    if (!(op >= 0x0c && op <= 0x13 && op != 0x10 && op != 0x11 ? cfa_rule(k, r, op)
                                                              : save_rule(k, r, op)))
        k->bad = true;
}

/* Runs the program as far as pc. */
static bool run(struct machine *k, uintptr_t from, uintptr_t to) {
    struct bs_cfi_reader r = bs_cfi_reader_at(k->m, from, to);
    while (r.p < r.end && k->loc <= k->pc && !r.bad && !k->bad)
        instruction(k, &r);
    return !r.bad && !k->bad;
}

bool bs_cfi_find(struct bs_probe *m, uintptr_t eh_frame_hdr, uintptr_t pc, struct bs_cfi_row *row) {
    struct fde f;
    uintptr_t at = search(m, eh_frame_hdr, pc);
    if (at < m->base || at >= m->end || !read_fde(m, at, &f) || pc - f.start >= f.size)
        return false;
    struct machine k = {.m = m, .cie = &f.cie, .pc = pc};
    if (!run(&k, f.cie.program, f.cie.program_end))
        return false;
    k.initial = k.row;
    k.nsaved = 0;
    k.loc = f.start;
    if (!run(&k, f.program, f.program_end))
        return false;
    *row = k.row;
    row->signal_frame = f.cie.signal_frame;
    return true;
}
