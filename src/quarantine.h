/* SPDX-License-Identifier: MIT */
/*
 * quarantine.h - blocks that the program has freed and that are not handed out again before a search of
 * its memory (hunt.h) has found no pointer to them: what a use after free finds is zeros, never another
 * block. heap.c sends every free here (struct bs_heap_keeper); only libbesom-scan.so has it.
 *
 *   live --free: zeroed--> fresh --a search begins--> held --it finds no pointer--> free slot
 *                                                       ^------it finds one------'
 *
 * A block's state is a byte beside it (freed.h), set as long as it is here, and the side bit BS_SIDE_HELD
 * (marks.h), which makes it held; its alloc bit stays set, so to the span it is a slot that is out. Any
 * thread sets bytes, without a lock. Held bits are set and cleared, and bytes cleared, by the thread that
 * searches alone: so a search judges only blocks that were freed before it began, and nobody else ever
 * touches what it judges.
 *
 * Freeing a block that is fresh or held is a double free, using it in realloc or malloc_usable_size a use
 * after free: fatal at once; only of two threads that free the same block at the same moment both may come
 * through, and it is one block that is here then. Blocks are zeroed before their byte is set, so whoever sees
 * the byte sees no pointers in the block; of blocks above BS_QUARANTINE_CLEAR_BYTES the memory goes back to
 * the OS and only the addresses stay.
 *
 * It is NOT about when to search (warden.h) or how. No lock of its own. The tables of an arena are made
 * when the first block in it is freed, and stay mapped; their memory beside pages that nobody uses may go (bs_quarantine_trim).
 */
#ifndef BS_QUARANTINE_H
#define BS_QUARANTINE_H

#include "span.h"

/* The keeper's functions of heap.h. */
bool bs_quarantine_small(void *p, unsigned class);
void bs_quarantine_large(struct bs_span *s);
void *bs_quarantine_resize(struct bs_span *s, size_t size);
void bs_quarantine_check(const void *p, const char *verb);

/* --- how much --------------------------------------------------------------------------------- */

/* Bytes freed since the last search began, as far as threads have told: each tells of
 * BS_QUARANTINE_TELL_BYTES at once, sooner as long as it has freed little. Of blocks that hold no memory
 * a part counts. [atomic] */
BS_LOCAL extern size_t bs_quarantine_fresh;
/* What does not count of all blocks that are in quarantine. [atomic] */
BS_LOCAL extern size_t bs_quarantine_aside;
/* Called by the thread that has told, outside of all locks, with the number above. Set once, before
 * threads exist; NULL: nobody. */
void bs_quarantine_set_hook(void (*hook)(size_t fresh_bytes));

struct bs_quarantine_sums {
    uint64_t blocks, bytes; /* slots, and what they hold */
};

/* --- for the search ----------------------------------------------------------------------------- */

/* What is fresh becomes held, and the count begins anew. Threads may go on freeing. False: no memory for
 * the marks; nothing has changed. `sums`: what is held now, older blocks too. */
bool bs_quarantine_turn(struct bs_quarantine_sums *sums);
/* Held slots without a mark are free from now on, and no mark is left. */
struct bs_quarantine_released {
    struct bs_quarantine_sums gone, kept, again; /* again: of those kept, what the last search kept as well */
    uint64_t large_bytes; /* part of gone: addresses, not memory */
    uint64_t kept_aside;  /* part of kept: does not count */
};
/* Called for each block that stays, under no lock. `again`: it stayed the last time, too. */
typedef void bs_quarantine_visitor(void *ctx, uintptr_t base, size_t size, bool again);
void bs_quarantine_release(struct bs_quarantine_released *r, bs_quarantine_visitor *visit, void *ctx);

/* Gives the memory of tables back that is for free pages of the heap; how many bytes. In a round, while no search is under
 * way. (Not with OS pages above 32 KiB.) */
size_t bs_quarantine_trim(void);
#if BS_FAULTS
extern void (*bs_quarantine_trims)(void); /* a test's: before memory is given back */
#endif

#endif
