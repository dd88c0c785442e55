/* SPDX-License-Identifier: MIT */
/*
 * collect.h - scan:collect: memory of blocks that nothing leads to is used again, after it was watched.
 *
 *   counted    lost in so many scans in a row, these some time apart and every thread stopped in each
 *   closed     one batch at a time: their memory cannot be accessed, and is as it was (park.h)
 *   reclaimed  after the grace time, if one more scan at least came to the same verdict
 *
 * A block is doomed only if all blocks that lead to it are, so a component goes as a whole; and only if
 * no byte of it shares an OS page with a block that is not, so nobody can come to it unseen. Who comes
 * (touch, free, realloc) brings it back with all of its pages: those blocks are roots from then on, and
 * blocks from their stacks, and those of their size whose stack is not known, are left alone for ever.
 *
 * Only memory comes back: no destructor runs.
 *
 * Runs in the helper, after a scan (scan.h): in a round, with the threads stopped once more for the
 * moments in which memory is closed. What it says is what blocks were found to be; it is NOT a proof: a
 * pointer that a program hides (XOR, compression, on disk) and does not use in all that time leads to
 * memory that is somebody else's then. doc/DESIGN.md has the argument.
 */
#ifndef BS_COLLECT_H
#define BS_COLLECT_H

#include "scan.h"

struct bs_collect_rules {
    unsigned scans;      /* 2 ... 8 */
    uint64_t spacing_ns; /* between two that count, at least */
    uint64_t age_ns;     /* of a block whose age is known */
    uint64_t grace_ns;
};

enum bs_collect_what {
    BS_COLLECT_CLOSED,    /* watched from now on */
    BS_COLLECT_RECLAIMED,
    BS_COLLECT_REVIVED,   /* the program touched one, with all blocks on its pages */
    BS_COLLECT_FREED,     /* the same; it was freed or resized */
    BS_COLLECT_REACHED    /* something leads there again, or to their neighbours */
};
/* Blocks from one stack; of one size class where it is not known. */
struct bs_collect_note {
    enum bs_collect_what what;
    unsigned class;         /* 0: large */
    struct bs_stack *stack; /* NULL: not known */
    uint64_t blocks, bytes; /* all of them, no estimate */
};
#define BS_COLLECT_NOTES 512
struct bs_collect_report {
    const char *why_not; /* NULL; or why nothing is collected any more, or this time */
    size_t n;
    struct bs_collect_note note[BS_COLLECT_NOTES];
};

/* What stands before the program's handlers of SIGSEGV (preload/shim_fault.h). */
struct bs_collect_faults {
    bool (*start)(void);    /* from now on faults come to bs_park_touch first; false: they cannot */
    bool (*are_ours)(void); /* they still do. Any thread */
};
/* Before threads exist. False: no memory, or faults cannot be seen. */
bool bs_collect_start(const struct bs_collect_rules *rules, const struct bs_collect_faults *faults);
/* Before a scan: the guest for its rules. */
const struct bs_scan_guest *bs_collect_guest(void);
/* In the scan's reporter: counts, closes, opens, gives away. What was done; valid until the next call. */
const struct bs_collect_report *bs_collect_after(const struct bs_scan_result *result);
/* In a forked child, with all locks free: nothing was ever counted; what is closed stays so until it is
 * touched, or the child's own helper comes. */
void bs_collect_forked(void);

#endif
