/* SPDX-License-Identifier: MIT */
/*
 * linear.h - the engine that reads all live words once, in order, and marks the held slots that any of
 * them points to: for quarantine, which asks "does anything still point to it" and not "can it be
 * reached". What garbage points to is kept as well; in exchange there is no order, no stack, and
 * nearly no access but to memory in sequence.
 *
 * Read are the roots, and of the heap the allocated slots that are neither held nor idle; of large
 * blocks populated pages only. A word counts if it points at any byte of a held slot, and, unless the
 * rules say never, just past the end of one.
 *
 * The heap's blocks may also be read while the program runs (hunt.h): what is read then is of some moment
 * each, spans come and go, and the marks say no more than that. Small blocks are read in spans that are held
 * (reader.h; who does not begin that has all copied); what is longer the program may close at any moment (mprotect).
 *
 * Three sieves: the heap's bounds (sieve.h), a bit for each page on which a held slot lies, and the slot
 * itself. Any number of workers at once. When it may
 * run: as trace.h; with bs_cycle_spare_caches before. No memory is taken between begin and end.
 */
#ifndef BS_LINEAR_H
#define BS_LINEAR_H

#include "sieve.h"
#include "trace.h"

struct bs_linear_sums {
    size_t root_bytes, heap_bytes; /* read */
    size_t candidates;             /* words that point into the heap */
    size_t close;                  /* of them, to a page with a held slot */
    size_t marked;                 /* slots */
};

struct bs_linear {
    struct bs_trace_rules rules;
    const struct bs_range *roots;
    size_t nroots;
    uintptr_t low;
    size_t reach;    /* last possible candidate less low */
    uint64_t *pages; /* a bit a page from low on; NULL: the heap is too wide, all pages count */
    size_t pages_bytes;
    int fd;
    enum bs_sieve_way sieve; /* [begin] the best; a test may say another */
    const struct bs_range *closed; /* what cannot be read is passed over; in address order */
    size_t nclosed;
    char *copy;      /* BS_LINEAR_COPY_BYTES: what the program may close at any moment is copied there, by
                        one worker; NULL: all stand, and `closed` is known */
    bool unread;     /* the kernel refuses to copy: there may be more marks */
    uint32_t busy_word BS_PADDED; /* [atomic] spins; protects the rest: */
    size_t root;
    uintptr_t root_pos;
    size_t region, next; /* of the heap, from low on (addresses would hold blocks, if this is read as a root):
                            the last piece's region, and where none was taken yet */
    struct bs_linear_sums sums;
};

/* Makes the map of pages. False: no memory. rules NULL: the default ones. */
bool bs_linear_begin(struct bs_linear *l, const struct bs_trace_rules *rules,
                     const struct bs_range *roots, size_t nroots);
/* Between works: the heap's blocks were read; these ranges are to be read as well, and the heap no more. */
void bs_linear_more(struct bs_linear *l, const struct bs_range *roots, size_t nroots);
/* Work of one worker, until there is none. */
void bs_linear_work(struct bs_linear *l);
/* The same for who searches while all stand; the helper, whom it calls, may come and work along, with a
 * descriptor of its own, and is gone when this returns. True: it came, and has used so much CPU time. */
bool bs_linear_work_in_company(struct bs_linear *l, uint64_t *cpu_ns);
/* The helper, when it was called: works along, if anybody waits for that. True: it did. */
bool bs_linear_join(void);
/* How the helper is called. Before threads exist; NULL: it is not. */
void bs_linear_set_call(void (*call)(void));
/* After all workers have returned. */
void bs_linear_end(struct bs_linear *l, struct bs_linear_sums *sums);

#endif
