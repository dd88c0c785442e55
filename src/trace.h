/* SPDX-License-Identifier: MIT */
/*
 * trace.h - the engine that follows pointers: from ranges of words through the blocks they lead to,
 * with mark bits (settle.h), until nothing new is found.
 *
 * Every word that points at a byte of an allocated slot counts, whatever it was meant to be. Words
 * are aligned unless the rules say otherwise. Several workers may trace at once; a worker is any
 * thread, also one that libc does not know.
 *
 *   candidates   a FIFO queue of a few words a worker: between finding a word and looking it up lies
 *                the time in which what it leads to is fetched into the cache
 *   the rest     of a block whose words do not all fit into the queue is a range on the worker's
 *                stack, which is bounded: its depth is the depth of the graph, not its size
 *   overflow     a range for which there is no room is forgotten, and its region remembered: when
 *                all else is done, the marked blocks of such regions are read once more. Each such
 *                round marks something, so there is an end.
 *
 * It runs while no thread is inside besom and nothing is written to blocks and roots (the phase
 * MARKING of cycle.h, or a forked child that has its own copies of everything: the marks are
 * private there like the rest). It reads roots wherever they are: what is in memory is roots.c's
 * matter. Of large blocks it reads populated pages only, so none comes into memory by being read.
 *
 * Or, by one worker, in no cycle, while the program runs (rules.concurrent, `copy`), and then, when what was
 * written meanwhile is known (watch.h), while it stands: bs_trace_more, bs_trace_reread. Roots, and blocks of a
 * page or more, which the program may close or unmap, are copied by the kernel, which does not fault; smaller
 * blocks lie in memory that stays while their span is held (reader.h; who does not begin that has all copied).
 * What a span is may change under the reader, so each look at one is checked (bs_span_shape); a mark may come
 * to be another block's. The heap may grow: wherever its memory may come to lie, a word counts, and an arena
 * that is new gets tables when a word leads there. What makes the end right all the same: at the end each
 * marked block was read after its words were written for the last time, but for words that nobody has written
 * since it became this block.
 *
 * Who wants to know which word leads to what (owners.h) gives one root at a time to one worker: each word is followed to
 * the end before the next is read.
 *
 * No memory is taken between prepare and drop. No lock but a word that spins, around the list of
 * shared work, and the page heap's around the copy of a region's bits.
 */
#ifndef BS_TRACE_H
#define BS_TRACE_H

#include "os.h"
#include "owners.h"
#include "settle.h"

/* Does a pointer just past a block's end hold it? Where a slot is larger than what was asked for,
 * such a pointer points into it and always does. Where not, it is also the address of the next slot,
 * and mostly meant for that one. */
enum bs_past_end {
    BS_PAST_END_FREE,   /* where the next slot holds no block: costs little, for reports */
    BS_PAST_END_ALWAYS, /* a block is held by every pointer to the block behind it as well: where
                           memory is to be used again */
    BS_PAST_END_NEVER
};

struct bs_trace_rules {
    uintptr_t mask; /* the bits of a word that are an address: the others may be tags. 0: all are */
    enum bs_past_end past_end;
    bool unaligned; /* words at every byte: eight times the work */
    bool concurrent;   /* the program may run meanwhile: below */
    bool starts;    /* sets BS_SIDE_START where a pointer leads to a slot's first byte (sides.h makes
                       the tables): a marked slot without it has interior pointers only */
};

struct bs_trace_sums {
    size_t root_bytes; /* read */
    size_t candidates; /* words that point between `low` and what it reaches */
    size_t blocks, bytes; /* found, and what they hold */
    size_t read_bytes; /* of blocks */
    size_t forgotten;  /* ranges for which the stack had no room */
    size_t rounds;     /* of reading marked blocks again */
};

/* What a word leads to. */
enum bs_lead { BS_LEAD_NONE, BS_LEAD_OLD, BS_LEAD_NEW, BS_LEAD_NO_MEMORY };
/* Looks up p in s, the span that the page map names for it, and marks what it finds; *block is set
 * unless it is NONE. */
typedef enum bs_lead bs_trace_take(struct bs_span *s, uintptr_t p, struct bs_marked *block);
/* Of word w of the span, the slots that `take` has taken: what is read again after an overflow. */
typedef uint64_t bs_trace_taken(const struct bs_span *s, size_t w);

struct bs_tracer; /* a worker */

#define BS_TRACE_SHARED 256      /* ranges that wait for an idle worker, at most */
#define BS_TRACE_REGION_BITS 4096 /* of the map of regions to be read again; more regions share bits */

struct bs_trace {
    struct bs_trace_rules rules; /* [begin] as all up to the next remark */
    bs_trace_take *take;
    bs_trace_taken *taken;
    uintptr_t low;   /* the heap's first byte; while the program runs: that it may ever have */
    size_t reach;    /* last possible candidate less low */
    int pages;       /* descriptor for bs_os_populated, or negative */
    uint64_t pages_identity; /* of it: the program may close it, and open another */
    const struct bs_range *roots;
    size_t nroots;
    struct bs_tracer *worker; /* [prepare] */
    unsigned nworkers;
    size_t mapped_bytes;

    struct bs_owners *owners; /* after begin: who leads to what is noted, by worker 0 alone; NULL: it is not, */
    struct bs_owner owner;    /* whose these roots are; MEMORY: each word is an owner, */
    const uintptr_t *from;    /* or, where they are copies, of that address each; 0: the KERNEL's. NULL: no copies */
    const struct bs_range *closed; /* after begin: what cannot be read is passed over; in address order */
    size_t nclosed;
    char *copy;           /* the same: BS_TRACE_COPY_BYTES for what may go away; NULL: nothing may */
    uint64_t deadline_ns; /* the same: cancelled then; 0: never */
    bool gives_way;       /* the same: cancelled when a thread waits for the round */
    const uint32_t *quit; /* the same: [atomic] cancelled when it is not 0; NULL: never */
    uint32_t cancelled; /* [atomic] */
    uint32_t nidle;     /* [atomic] workers that wait; written under the word below */
    uint32_t busy_word BS_PADDED; /* [atomic] spins; protects the rest: */
    uint32_t changes;   /* [atomic] of the rest; who waits, waits for the next */
    uint32_t nbusy;     /* workers that may still find something */
    bool done;
    size_t root;        /* the next piece of roots begins in this one, */
    uintptr_t root_pos; /* here; 0: at its beginning */
    uintptr_t region;   /* regions up to this one are done in this round; 0: none */
    bool again;         /* a round is under way */
    size_t rounds;
    size_t nshared;
    struct bs_range shared[BS_TRACE_SHARED];
    uint64_t forgot[BS_TRACE_REGION_BITS / 64]; /* [atomic] regions with forgotten ranges */
    uint64_t reread[BS_TRACE_REGION_BITS / 64]; /* those of the round that is under way */
};

/* Makes room for so many workers whose stacks hold so many ranges. False: no memory. */
bool bs_trace_prepare(struct bs_trace *t, unsigned nworkers, size_t stack_ranges);
void bs_trace_drop(struct bs_trace *t);

/* Sets out, from words in these ranges, which stay where they are until the end. Once prepared, any
 * number of traces may follow each other. In a forked child the descriptor is opened anew: begin
 * there. rules NULL: the default ones. */
void bs_trace_begin(struct bs_trace *t, const struct bs_trace_rules *rules,
                    const struct bs_range *roots, size_t nroots);
/* Work of one worker, until there is none for any. Each number below nworkers is taken once; those
 * that come late or never are not waited for. */
void bs_trace_work(struct bs_trace *t, unsigned worker);
/* Between works: all that there was is done; these are to be read as well. */
void bs_trace_more(struct bs_trace *t, const struct bs_range *roots, size_t nroots);
/* Between works, one worker's: of the marked blocks the words in [start, end), and what they lead to. */
void bs_trace_reread(struct bs_trace *t, uintptr_t start, uintptr_t end);
/* False: the program has closed the descriptor meanwhile, and what was said of pages may be anything. */
bool bs_trace_sees_pages(const struct bs_trace *t);
/* The workers stop soon. The marks are not complete then. Any thread. */
void bs_trace_cancel(struct bs_trace *t);
/* After all workers have returned, whatever has become of it. False: cancelled, or the descriptor was not its own
 * any more, and nothing follows from the marks. */
bool bs_trace_end(struct bs_trace *t, struct bs_trace_sums *sums);

/* For leaks.c, between begin and end: what one block leads to, by worker 0 alone, with other ideas of
 * taking. The block itself is not taken. */
void bs_trace_use(struct bs_trace *t, bs_trace_take *take, bs_trace_taken *taken);
void bs_trace_flood(struct bs_trace *t, const struct bs_marked *block);
/* Of all workers, so far; others than worker 0 have returned. */
struct bs_trace_sums bs_trace_so_far(const struct bs_trace *t);

#endif
