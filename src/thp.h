/* SPDX-License-Identifier: MIT */
/*
 * thp.h - transparent huge pages of the heap: what the kernel is told about them, by the option thp.
 *
 *   system   nothing
 *   never    NOHUGEPAGE for all of the heap
 *   edge     before pages go back, NOHUGEPAGE on the huge pages that an unaligned start and an
 *            unaligned end lie in, the whole ones between stay as they are; HUGEPAGE where such a one
 *            is wholly used again. (The Go runtime's rule from 1.5 to 1.20.)
 *   auto     the same only where the kernel might make a huge page, so that khugepaged cannot fill
 *            what was given back; HUGEPAGE when the huge page was dense for a while, from the
 *            background only (density.h), and for what a large heap grows by where the kernel makes
 *            none of itself
 *
 * The kernel keeps the advice with its mappings, so each border between differently advised huge pages
 * costs one. They are counted, and advice that would exceed BS_THP_BORDERS_MAX is not given:
 *
 *   borders == number of neighbouring huge pages, both in the heap, of different state
 *
 * It is NOT a policy of when and what: scavenge.c, holes.c and density.c. Where the huge page is not
 * 2 MiB (OS pages of 16 and 64 KiB) all of this is off: it would be larger than a region.
 *
 * Thread-safe; one lock (BS_RANK_THP), held across the advice. Never under the page heap's lock.
 */
#ifndef BS_THP_H
#define BS_THP_H

#include "os.h"
#include "pagemap.h"

enum bs_thp_state {
    BS_THP_PLAIN,  /* no advice: the system's setting counts */
    BS_THP_SMALL,  /* NOHUGEPAGE */
    BS_THP_HUGE,   /* HUGEPAGE */
    BS_THP_DENSE,  /* NOHUGEPAGE, and found dense by density.c once */
};

/* Gives [base, base+bytes) of the heap back (bs_os_unused), after the advice that the option asks
 * for. 0 or an errno value of bs_os_unused; advice that fails is no failure. */
int bs_thp_unused(uintptr_t base, size_t bytes);
/* A region was made accessible; `first`: the heap's first, which stays without huge pages, so that a
 * small program does not get 2 MiB of memory with its first block. */
void bs_thp_mapped(uintptr_t base, size_t bytes, bool first);
/* A large heap grew by the region [base, base+bytes), which will be filled by blocks of moderate length. With
 * auto, where the kernel waits for advice: HUGEPAGE, while so many huge pages lie ready in the kernel
 * that no fault has to wait for one to be made. True: it was advised. */
bool bs_thp_grown(uintptr_t base, size_t bytes);
/* Might one be advised at all? Lock-free, and without a call: who asks the kernel for what lies before asks this first. */
bool bs_thp_may_advise(void);
/* All but one in `part` OS pages of [start, end), at most BS_THP_FILLED_PAGES, are in memory. Where the kernel does not
 * say, no. */
bool bs_thp_is_filled(uintptr_t start, uintptr_t end, size_t part);
/* The same as bs_thp_grown for the whole huge pages in [base, base+bytes), whatever they were advised before, by which a block
 * grew that is filled from its beginning on. The first is tried (bs_thp_try) before the others are asked for. */
void bs_thp_extended(uintptr_t base, size_t bytes);
/* All of a block that was extended so, to its last byte, so that it can be moved as one. Until it is mapped anew the
 * huge pages that it covers in part have two advices, as with a moved one. */
bool bs_thp_unify(uintptr_t base, size_t bytes);
/* True: growth would have asked for huge pages, but nobody has asked the kernel yet (bs_thp_refresh). */
bool bs_thp_is_unasked(void);
/* Its first huge page, then, without a lock: how long it takes decides whether the next region is advised. The page is
 * about to be used anyway. */
void bs_thp_try(uintptr_t base);
/* That was so long, in ns. */
void bs_thp_took(uint64_t ns);
/* Pages without memory are used, by a block or a span. With edge, HUGEPAGE for the whole huge pages in
 * them; with auto, where the kernel waits for advice, NOHUGEPAGE for those that were advised: blocks so
 * long may be used sparsely. */
void bs_thp_reused(uintptr_t base, size_t bytes);
/* The range was mapped anew, so its advice is gone. Huge pages that lie in it whole are plain from now
 * on; parts of others are advised as the rest of them. */
void bs_thp_renewed(uintptr_t base, size_t bytes);
/* Maps a range of the heap anew, with the name that its neighbours have, or it would not merge with them. bs_os_renew's
 * errors. */
BS_INLINE int bs_thp_renew(uintptr_t base, size_t bytes) {
    int error = bs_os_renew((void *)base, bytes);
    if (error != 0)
        return error;
    bs_os_name((void *)base, bytes, BS_HEAP_NAME);
    bs_thp_renewed(base, bytes);
    return 0;
}
/* True if all of the block has the same advice, so that mremap can move it as one mapping; a kernel that
 * cannot may have unmapped the destination by then. `moved`: the block came here by mremap. */
bool bs_thp_is_uniform(uintptr_t base, size_t bytes, bool moved);
/* It was moved, and its advice with it; huge pages that it covers in part keep their state. */
void bs_thp_moved(uintptr_t from, uintptr_t to, size_t bytes);

/* True if the option is auto and the heap may have huge pages: then density.c has to look. */
bool bs_thp_is_managed(void);
/* auto: could the kernel have a huge page here, or make one? Lock-free; a stale answer costs one
 * advice more or less. */
bool bs_thp_may_be_huge(uintptr_t base);
/* auto: what density.c does with the huge page at base. Each is true if the state changed. */
enum bs_thp_state bs_thp_state_of(uintptr_t base);
bool bs_thp_note_dense(uintptr_t base);
bool bs_thp_note_sparse(uintptr_t base);
bool bs_thp_restore(uintptr_t base);

/* Asks the kernel for its settings again, when that was long ago. Background only: opens files. */
void bs_thp_refresh(uint64_t now_ns);
/* For tests: mappings that the advice costs at present. */
size_t bs_thp_borders(void);

#if BS_FAULTS
/* For tests: from now on the kernel's setting is this, whatever it is, and so many huge pages may be
 * asked for. */
void bs_thp_pretend(enum bs_thp_kernel kernel, size_t ready);
/* And one that is tried takes so long. */
void bs_thp_pretend_to_take(uint64_t ns);
#endif

void bs_thp_lock(void);
void bs_thp_unlock(void);
void bs_thp_reset_lock(void);

#endif
