/* SPDX-License-Identifier: MIT */
/* cfi_step.c - see cfi.h: a row applied to a frame's registers, expressions included. */
#include "cfi.h"

#include "cfi_reader.h"

#define EXPR_DEPTH 16
#define EXPR_STEPS 64

struct stack {
    uint64_t x[EXPR_DEPTH];
    unsigned n;
    bool bad;
};

static void push(struct stack *s, uint64_t x) {
    if (s->n == EXPR_DEPTH)
        s->bad = true;
    else
        s->x[s->n++] = x;
}
static uint64_t pop(struct stack *s) {
    if (s->n == 0) {
        s->bad = true;
        return 0;
    }
    return s->x[--s->n];
}
static uint64_t peek(struct stack *s, unsigned below) {
    if (s->n <= below) {
        s->bad = true;
        return 0;
    }
    return s->x[s->n - 1 - below];
}

static uint64_t reg_value(const struct bs_cfi_regs *regs, uint64_t reg, bool *bad) {
    if (reg >= BS_CFI_NREGS || (regs->known >> reg & 1) == 0) {
        *bad = true;
        return 0;
    }
    return regs->value[reg];
}

static void binary(struct stack *s, unsigned op) {
    uint64_t b = pop(s), a = pop(s);
    int64_t sa = (int64_t)a, sb = (int64_t)b;
    switch (op) {
    case 0x1a: push(s, a & b); break;
    case 0x1c: push(s, a - b); break;
    case 0x1e: push(s, a * b); break;
    case 0x21: push(s, a | b); break;
    case 0x22: push(s, a + b); break;
    case 0x24: push(s, b < 64 ? a << b : 0); break;
    case 0x25: push(s, b < 64 ? a >> b : 0); break;
    case 0x26: push(s, (uint64_t)(sa >> (b < 64 ? b : 63))); break;
    case 0x27: push(s, a ^ b); break;
    case 0x29: push(s, sa == sb); break;
    case 0x2a: push(s, sa >= sb); break;
    case 0x2b: push(s, sa > sb); break;
    case 0x2c: push(s, sa <= sb); break;
    case 0x2d: push(s, sa < sb); break;
    case 0x2e: push(s, sa != sb); break;
    default: s->bad = true;
    }
}

static bool constant(struct stack *s, struct bs_cfi_reader *r, unsigned op) {
    switch (op) {
    case 0x08: push(s, bs_read_byte(r)); return true;
    case 0x09: push(s, (uint64_t)(int8_t)bs_read_byte(r)); return true;
    case 0x0a: push(s, bs_read(r, 2)); return true;
    case 0x0b: push(s, (uint64_t)(int16_t)bs_read(r, 2)); return true;
    case 0x0c: push(s, bs_read(r, 4)); return true;
    case 0x0d: push(s, (uint64_t)(int32_t)bs_read(r, 4)); return true;
    case 0x0e: case 0x0f: push(s, bs_read(r, 8)); return true;
    case 0x10: push(s, bs_read_uleb(r)); return true;
    case 0x11: push(s, (uint64_t)bs_read_sleb(r)); return true;
    default: return false;
    }
}

static void operate(struct stack *s, struct bs_cfi_reader *r, struct bs_probe *memory,
                    const struct bs_cfi_regs *regs, unsigned op) {
    uint64_t x;
    if (op >= 0x30 && op <= 0x4f) {
        push(s, op - 0x30);
    } else if (op >= 0x70 && op <= 0x8f) {
        x = reg_value(regs, op - 0x70, &s->bad);
        push(s, x + (uint64_t)bs_read_sleb(r));
    } else if (constant(s, r, op)) {
        return;
    } else {
        switch (op) {
        case 0x06:
            if (!bs_probe_read(memory, pop(s), 8, &x))
                s->bad = true;
            push(s, x);
            break;
        case 0x12: push(s, peek(s, 0)); break;
        case 0x13: (void)pop(s); break;
        case 0x14: push(s, peek(s, 1)); break;
        case 0x1f: push(s, 0 - pop(s)); break;
        case 0x20: push(s, ~pop(s)); break;
        case 0x23: x = pop(s); push(s, x + bs_read_uleb(r)); break;
        case 0x96: break;
        default: binary(s, op);
        }
    }
}

/* What the expression at `at` comes to; `cfa` is what it begins with, if it is one for a register. */
static bool evaluate(struct bs_probe *m, struct bs_probe *memory, const struct bs_cfi_regs *regs,
                     int32_t at, const uint64_t *cfa, uint64_t *out) {
    struct bs_cfi_reader r = bs_cfi_reader_at(m, m->base + (uint32_t)at, m->end);
    struct stack s = {.n = 0};
    uint64_t length = bs_read_uleb(&r);
    if (r.bad || length > r.end - r.p)
        return false;
    bs_read_until(&r, r.p + length);
    if (cfa != NULL)
        push(&s, *cfa);
    for (unsigned step = 0; r.p < r.end; step++) {
        operate(&s, &r, memory, regs, (unsigned)bs_read_byte(&r));
        if (s.bad || r.bad || step == EXPR_STEPS)
            return false;
    }
    *out = pop(&s);
    return !s.bad;
}

bool bs_cfi_step(struct bs_probe *m, struct bs_probe *stack, const struct bs_cfi_row *row,
                 struct bs_cfi_regs *regs) {
    struct bs_cfi_regs old = *regs;
    uint64_t cfa = 0, x;
    bool bad = false;
    if (row->cfa.how == BS_CFI_IS_EXPR)
        bad = !evaluate(m, stack, &old, row->cfa.value, NULL, &cfa);
    else if (row->cfa.how == BS_CFI_IS)
        cfa = reg_value(&old, row->cfa.reg, &bad) + (uint64_t)(int64_t)row->cfa.value;
    else
        bad = true;
    if (bad || row->reg[BS_CFI_RA].how == BS_CFI_UNDEFINED)
        return false;
    regs->value[BS_CFI_SP] = cfa;
    regs->known |= UINT32_C(1) << BS_CFI_SP;
    for (unsigned i = 0; i < BS_CFI_NREGS; i++) {
        const struct bs_cfi_rule *rule = &row->reg[i];
        uint64_t at_cfa = cfa + (uint64_t)(int64_t)rule->value;
        bool ok = true;
        switch (rule->how) {
        case BS_CFI_SAME:
#if defined(__x86_64__)
            ok = i != BS_CFI_RA; /* a call always stores it */
#endif
            if (ok)
                continue;
            break;
        case BS_CFI_AT: ok = bs_probe_read(stack, at_cfa, 8, &x); break;
        case BS_CFI_IS: x = at_cfa; break;
        case BS_CFI_IN: x = old.value[rule->reg]; ok = (old.known >> rule->reg & 1) != 0; break;
        case BS_CFI_AT_EXPR:
            ok = evaluate(m, stack, &old, rule->value, &cfa, &x) && bs_probe_read(stack, x, 8, &x);
            break;
        case BS_CFI_IS_EXPR: ok = evaluate(m, stack, &old, rule->value, &cfa, &x); break;
        default: ok = false;
        }
        regs->value[i] = ok ? x : 0;
        regs->known = ok ? regs->known | UINT32_C(1) << i : regs->known & ~(UINT32_C(1) << i);
    }
    return (regs->known >> BS_CFI_RA & 1) != 0;
}
