/* SPDX-License-Identifier: MIT */
/*
 * roots.h - where pointers into the heap may lie outside of it: the populated pages of the process's
 * mappings, as ranges for an engine of a scan, and the words that only the kernel holds.
 *
 * Mappings are taken, not layouts: a stack's mapping has the thread's control block and thread-local
 * variables in it, ld.so's memory those of the first thread. Taken are
 *
 *   private      what can be read: pages that somebody has written to. Of a file's pages only copies, also where
 *                they were protected since; none past the end of the file. (Where the kernel does not tell copies
 *                from a file's own pages, all of mappings that can be written, or have copies in them.)
 *   shared       what has no file of its own (anonymous, System V, memfd, /dev/shm, /dev/hugepages), also where it
 *                can be read only; rings of io_uring and aio. Not shared files.
 *
 * less besom's own (heap, metadata), what the caller names, the kernel's (vvar, vdso), mappings of
 * devices, guard pages, and the dead part of stacks: below SP - 128, where the caller knows that it is
 * dead. Nothing comes into memory by being listed or by being read afterwards.
 *
 * A userfaultfd is no reason to leave a range out: only pages that are there are listed, and reading those waits
 * for nobody. Where the kernel does not say what is there, and some wait for a handler, nothing is known; and of
 * shared memory with one only what is mapped here counts, since a page that another mapping has may have to be
 * waited for (minor faults), by a thread that stands. Flags of mappings (smaps) are read before the program is
 * stopped, since the kernel walks all page tables for them; the mappings themselves afterwards.
 *
 * Not seen: what has been mapped without the right to read, shared files, memory of devices.
 *
 * bs_roots_take runs while no thread is inside besom, and the process's threads stand still (or in a
 * forked child). It takes no memory, and only locks that nobody holds then.
 */
#ifndef BS_ROOTS_H
#define BS_ROOTS_H

#include "os.h"

/* What is below a stack pointer, less what a function without a frame may have put there. */
#define BS_RED_ZONE 128

struct bs_root_stack {
    uintptr_t low; /* the stack's lowest byte; 0: not known; BS_STACK_MAPPING: its mapping's (these come first) */
    uintptr_t sp;  /* of the thread while it is on that stack */
};
#define BS_STACK_MAPPING ((uintptr_t)1)

enum {
    BS_ROOT_SHARED = 1,  /* others may write to it at any time, a forked child sees what they do */
    BS_ROOT_NO_FORK = 2, /* MADV_DONTFORK: a forked child does not have it */
    BS_ROOT_WIPED = 4,   /* MADV_WIPEONFORK: it reads as zeros there */
    BS_ROOT_WORDS = 8,   /* words of the kernel's, in memory of this module */
    BS_ROOT_CODE = 16,   /* executable: machine code has pointers at odd addresses */
    BS_ROOT_HEAP = 32,   /* of the heap, since it was written to (hunt.h) */
    BS_ROOT_FILE = 64    /* private pages of a file, which go when another process cuts it short */
};

struct bs_roots {
    struct bs_range *range; /* [take] in address order but for the words, which come last */
    uint8_t *flags;         /* of each */
    size_t n;
    size_t bytes;      /* of all ranges */
    size_t needed;     /* how large `capacity` has to be, if NO_ROOM */
    size_t nmappings;  /* that the process has */
    size_t nwords;     /* of the kernel's */
    bool is_blind;     /* the kernel does not say which pages hold something: all were listed */
    bool knows_copies; /* it says which pages of private files were written to */
    bool has_gaps;     /* [take] pages of shared memory are not there: swapped out, or never used */

    size_t capacity; /* [prepare] of each of the tables */
    struct bs_range *own;
    size_t nown, next_own;
    struct bs_range *whole;  /* [scan_words] ranges with BS_ROOT_FILE that words were made of: what they were */
    struct bs_range *closed; /* [take] parts of the heap that cannot be read: by mprotect, in address order */
    size_t nclosed;
    struct bs_special *special; /* [learn] mappings with flags that matter */
    size_t nspecial, next_special;
    struct bs_range *forked; /* [learn] what a copy would have */
    size_t nforked, next_forked;
    bool some_unforked; /* [learn] the program has memory that it would not */
    bool some_wait;     /* [learn] and some whose pages a handler brings in, or lets be written to */
    uintptr_t *words;
    size_t mapped_bytes;
    int pages;
};

enum bs_roots_result {
    BS_ROOTS_TAKEN,
    BS_ROOTS_NO_ROOM, /* prepare again, with room for `needed` */
    BS_ROOTS_UNKNOWN  /* the kernel does not say, or so little that it would take too long: no scan */
};

/* Room for so many ranges. False: no memory. */
bool bs_roots_prepare(struct bs_roots *r, size_t capacity);
void bs_roots_drop(struct bs_roots *r);
/* Reads the flags of mappings, while the program runs; makes more room where there are more of those that matter.
 * False: the kernel does not say all, or there is no memory; devices are known by their names only then, and nothing
 * of fork. */
bool bs_roots_learn(struct bs_roots *r);
/* Lists the ranges. `without`: the scan's own buffers, stacks of threads that are gone: not listed. */
enum bs_roots_result bs_roots_take(struct bs_roots *r, const struct bs_root_stack *stack, size_t nstacks,
                                   const struct bs_range *without, size_t nwithout);
/* Adds what only the kernel holds: data of epoll, values of timers. In the process itself: a forked
 * child has no timers, and older kernels do not tell of them. False: it could not be read, or there is
 * no room. */
bool bs_roots_take_kernel(struct bs_roots *r);

/* For roots_kernel.c: a range, in the order of calls. */
void bs_roots_add(struct bs_roots *r, uintptr_t start, uintptr_t end, unsigned flags);

/* After bs_roots_take, around a clone, while all stand: memory that is marked MADV_DONTFORK comes into the copy
 * as well, and its ranges lose BS_ROOT_NO_FORK; then it is marked again. Where that cannot be, ranges keep
 * the flag. False: a part of the heap would not be in the copy as it is here, and there must be none. */
bool bs_roots_open(struct bs_roots *r);
void bs_roots_close(struct bs_roots *r);
/* In the copy: no memory reads as zeros that was not known for it when ranges were listed. (What is missing ends who reads
 * it.) False: some does, of which words were not kept, or it cannot be known. */
bool bs_roots_copy_has_all(struct bs_roots *r);

#endif
