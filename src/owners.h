/* SPDX-License-Identifier: MIT */
/*
 * owners.h - which words outside of the heap the program's memory hangs on: the owner of a block is the first word
 * that leads to it, through however many other blocks.
 *
 * First: variables are read before threads' stacks, each in the order of addresses, and all that a word leads to is
 * found before the next one is read (trace.h). So each block counts once, and what several variables lead to is the
 * first one's alone. All words of a stack are one owner, and so are those that the kernel holds or besom has copied.
 *
 *   (no stack, owner)  sum over its blocks: exact
 *   (stack, owner)     the same over sampled blocks from that stack, times what each stands for
 *   (stack, none)      sum of these over all owners
 *
 * Lies in memory that a copy of the process shares (scan.h), and a search without owners never touches it. One
 * searcher's; the lock of the sampled blocks for a look at each. It is NOT the memory that would go with the word: others may lead
 * to it too.
 */
#ifndef BS_OWNERS_H
#define BS_OWNERS_H

#include "base.h"

struct bs_stack;

enum bs_owner_kind {
    BS_OWNER_NONE,
    BS_OWNER_MEMORY, /* a word, such as a variable */
    BS_OWNER_STACK,  /* a thread's, with its thread-local variables: its lowest byte that counts */
    BS_OWNER_KERNEL  /* words that the kernel holds, or that besom has copied; at is 0 */
};
struct bs_owner {
    enum bs_owner_kind kind;
    uintptr_t at;
};
struct bs_owned {
    struct bs_stack *stack; /* NULL, and kind NONE: an empty place */
    struct bs_owner owner;
    uint64_t blocks, bytes, samples;
};

#define BS_OWNED 65536 /* places, a power of two */
#define BS_OWNERS_EACH (BS_OWNED / 2) /* words that are owners of their own; more of them count by the page that they lie on, */
#define BS_OWNERS_PAGE 4096
#define BS_OWNERS_FULL (BS_OWNED / 4 * 3) /* up to so many places in use: what comes then is not told */

struct bs_owners {
    struct bs_owner now;          /* whose blocks are being found */
    size_t n;                     /* places in use */
    struct bs_owned of[BS_OWNED]; /* hashed by both */
};

/* What is found from here on is that word's. */
void bs_owners_turn(struct bs_owners *o, struct bs_owner owner);
/* A block was found that begins at p. */
void bs_owners_found(struct bs_owners *o, uintptr_t p);
/* So much was found since bs_owners_turn. */
void bs_owners_sum(struct bs_owners *o, size_t blocks, size_t bytes);

/* For reports: entries with most bytes, at most max, the most first; how many. */
enum bs_owners_list {
    BS_OWNERS_WORDS, /* (no stack, owner) */
    BS_OWNERS_STACKS, /* (stack, none) */
    BS_OWNERS_OF_STACK /* (stack, owner) of the stack given */
};
size_t bs_owners_top(const struct bs_owners *o, enum bs_owners_list list, const struct bs_stack *stack,
                     const struct bs_owned **top, size_t max);

#endif
