/* SPDX-License-Identifier: MIT */
/*
 * stacks.h - the distinct stacks from which blocks were allocated, each once, as pairs of module and
 * offset that another program turns into names later; and the modules, by build-id.
 *
 * A stack that was seen before is found without a lock. New ones are added under one (BS_RANK_STACKS,
 * which may map metadata) and never removed; there are at most BS_STACKS_MAX of them, what comes then
 * is counted under `other`. A module that was unloaded stays known; another one in its place gets a
 * number of its own, the same one loaded again, wherever and however often, keeps its number.
 *
 * Usable inside malloc, in any thread: see unwind.h. It is NOT a symboliser: tools/symbolize.c is.
 */
#ifndef BS_STACKS_H
#define BS_STACKS_H

#include "unwind.h"

#define BS_BUILD_ID_MAX 32

struct bs_module {
    uint32_t number;             /* 1 ... */
    uint8_t id_bytes;            /* of its build-id; 0: it has none */
    uint8_t id[BS_BUILD_ID_MAX];
    const char *path;            /* as the loader has it */
    struct bs_place place;       /* [lock] where it was seen last */
    uintptr_t bias;              /* [lock] what its addresses differ by from those in its file */
};

struct bs_stack {
    uint32_t hash, n;
    /* [atomic] What is alive and what there was ever, as sample.h estimates it, and samples. */
    uint64_t live_bytes, live_blocks, live_samples;
    uint64_t bytes, blocks, samples;
    uint64_t frame[]; /* module's number << 48 | address in its file; 0 << 48 | address as it is */
};

#define BS_FRAME_MODULE(f) ((uint32_t)((f) >> 48))
#define BS_FRAME_OFFSET(f) ((f) & ((UINT64_C(1) << 48) - 1))

/* Makes the tables. False: no memory. Called once, while the process has one thread. */
bool bs_stacks_start(void);

/* The stack of the caller, from the first frame that is not besom's. Never NULL. */
BS_NOINLINE struct bs_stack *bs_stacks_take(void);

/* An address of any kind as a frame is written: that of a variable, too. Number 0: it is in no module. */
uint64_t bs_stacks_frame(uintptr_t address);

/* What there was no room for. */
BS_LOCAL extern struct bs_stack bs_stacks_other;

/* The stacks so far, in no order; and the modules by number. Any thread, no lock is held. */
typedef void bs_stack_visitor(void *ctx, struct bs_stack *stack);
void bs_stacks_each(bs_stack_visitor *visit, void *ctx);
size_t bs_stacks_count(void);
uint32_t bs_stacks_modules(void);
/* *loaded: it is still where it was seen last. False: there is no such module. */
bool bs_stacks_module(uint32_t number, struct bs_module *module, bool *loaded);
/* Build-id and path alone may be read, which never change; no lock. NULL: there is no such module. */
const struct bs_module *bs_stacks_known(uint32_t number);

void bs_stacks_lock(void);
void bs_stacks_unlock(void);
void bs_stacks_reset_lock(void);

#endif
