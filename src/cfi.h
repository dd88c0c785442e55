/* SPDX-License-Identifier: MIT */
/*
 * cfi.h - what .eh_frame says of one instruction: where its frame begins and where the caller's
 * registers are. The subset that compilers, the C library and the vDSO emit; what lies outside it,
 * damaged tables included, is "not known", never a fault and never a loop.
 *
 * It is NOT the walker (unwind.h), and knows no other place to look than the module it is given.
 * No lock, no allocation.
 */
#ifndef BS_CFI_H
#define BS_CFI_H

#include "probe.h"

/* Registers by their DWARF numbers. */
#if defined(__x86_64__)
enum { BS_CFI_FP = 6, BS_CFI_SP = 7, BS_CFI_RA = 16, BS_CFI_NREGS = 17 };
#else
enum { BS_CFI_FP = 29, BS_CFI_RA = 30, BS_CFI_SP = 31, BS_CFI_NREGS = 32 };
#endif

enum bs_cfi_how {
    BS_CFI_SAME,      /* as it is */
    BS_CFI_UNDEFINED, /* lost; of the return address: there is no caller */
    BS_CFI_AT,        /* in memory, at CFA + value */
    BS_CFI_IS,        /* CFA + value; of the CFA: register reg + value */
    BS_CFI_IN,        /* in register reg */
    BS_CFI_AT_EXPR,   /* in memory, where the expression says */
    BS_CFI_IS_EXPR    /* what the expression says */
};

struct bs_cfi_rule {
    int32_t value; /* an expression: where in the module its length stands */
    uint8_t how, reg;
};

struct bs_cfi_row {
    struct bs_cfi_rule cfa;
    struct bs_cfi_rule reg[BS_CFI_NREGS];
    bool signal_frame; /* the caller was interrupted, it did not call */
};

struct bs_cfi_regs {
    uint64_t value[BS_CFI_NREGS];
    uint32_t known; /* bit r: value[r] is register r's */
};

/* The row for the instruction at pc. eh_frame_hdr lies in the module, whose memory `m` reads. */
bool bs_cfi_find(struct bs_probe *m, uintptr_t eh_frame_hdr, uintptr_t pc, struct bs_cfi_row *row);

/* From a frame's registers to its caller's, by the row; `stack` reads the stack. False: it cannot be
 * known, or there is no caller. */
bool bs_cfi_step(struct bs_probe *m, struct bs_probe *stack, const struct bs_cfi_row *row,
                 struct bs_cfi_regs *regs);

#endif
