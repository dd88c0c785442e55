/* SPDX-License-Identifier: MIT */
/*
 * pageheap.h - the owner of every page that is not in a span.
 *
 * Two bitmaps a region of 4 MiB: allocated, and (for free pages) released: without physical
 * memory, reading as zeros. Allocation is address-ordered first fit over a radix tree of
 * summaries; freeing is clearing bits, which is coalescing. The zeroed watermark of other
 * allocators is the released bit: new memory enters free *and released* and was never written.
 *
 *   in spans + free dirty + free released == mapped            (pages, invariant 5)
 *
 * Pages that are free but being given back by the scavenger are marked allocated meanwhile and
 * counted as dirty.
 *
 * Thread-safe: one lock (BS_RANK_PAGE_HEAP), under which no system call is made. What needs the
 * kernel (growing, giving back) is grow.c and scavenge.c.
 */
#ifndef BS_PAGEHEAP_H
#define BS_PAGEHEAP_H

#include "pagesum.h"

/* Pages taken from the heap. */
struct bs_pages {
    uintptr_t base;
    size_t npages;
    size_t nreleased; /* how many of them were released */
    size_t nfresh;    /* how many of those were never in use: nobody gave them back */
    size_t nclosed;   /* how many are inaccessible: bs_os_used has to open them */
    size_t nzero;     /* how many read as zeros: the released ones, with advice:free the fresh ones */
    /* Every page that may be not zero lies in [dirty_base, dirty_end): both 0 if nzero==npages. */
    uintptr_t dirty_base, dirty_end;
};

/* A run of pages to free, or on its way to the OS. */
struct bs_run {
    uintptr_t base;
    size_t npages;
    size_t ndirty;  /* set by take_dirty: how many of them have memory */
    size_t nclosed; /* the same: how many of them are inaccessible */
};

/* What the OS did with a run. */
enum bs_fate {
    BS_RUN_KEPT,     /* it refused */
    BS_RUN_RELEASED, /* no memory behind it */
    BS_RUN_CLOSED,   /* that, and inaccessible (decommit:hard) */
};

/* Read without the lock: each value is right, two of them may be of different moments. */
struct bs_pageheap_counts {
    size_t mapped_pages;   /* accessible */
    size_t span_pages;     /* in spans */
    size_t dirty_pages;    /* free, with physical memory as far as we know */
    size_t released_pages; /* free, without */
    size_t peak_pages;     /* highest span_pages since the scavenger last asked */
    uint64_t activity;     /* allocations and frees of pages, ever */
    uint64_t grown;        /* times the heap grew */
    size_t closed_runs;    /* runs of inaccessible free pages */
};

/* Takes npages, aligned to align_pages (a power of two), out of the lowest run of at least
 * npages + align_pages - 1: any such run holds an aligned one. (A shorter run that happens to be
 * aligned is passed over.) False: no such run. */
bool bs_pageheap_alloc(size_t npages, size_t align_pages, struct bs_pages *out);
/* The same; false also if some of these pages have no memory (released). */
bool bs_pageheap_alloc_warm(size_t npages, size_t align_pages, struct bs_pages *out);
/* Gives a run back, and then does that, under one hold of the lock. */
bool bs_pageheap_swap_warm(const struct bs_run *old, size_t npages, size_t align_pages,
                           struct bs_pages *out);
/* Are all of these pages free at this moment? (0 pages are.) */
bool bs_pageheap_is_free(uintptr_t base, size_t npages);
/* Takes exactly these pages if all are free (growth in place). */
bool bs_pageheap_alloc_at(uintptr_t base, size_t npages, struct bs_pages *out);
/* Gives runs back, all under one hold of the lock. */
void bs_pageheap_free(const struct bs_run *runs, size_t nruns);
/* Pages that cannot be accessed as they are: who takes them has to make them ready. With decommit:hard
 * they could not be opened and count as dirty; else they are mapped anew then, and so are released. */
void bs_pageheap_free_closed(uintptr_t base, size_t npages);
/* The same for pages that have just been given back to the OS: they become released. */
void bs_pageheap_free_released(uintptr_t base, size_t npages);

/* For grow.c, under the grow lock: makes room for and adds [base, base+bytes), free and released.
 * Whole regions. reserve makes what is needed for that, whether the page map knows the arenas or not, and may fail
 * for want of metadata; prepare cannot after it, nor insert after that. */
bool bs_pageheap_reserve(uintptr_t base, size_t bytes);
bool bs_pageheap_prepare(uintptr_t base, size_t bytes);
void bs_pageheap_insert(uintptr_t base, size_t bytes);

/* What the scavenger looks for, from the top of the heap downward. */
struct bs_dirty_search {
    uintptr_t below;  /* regions above this address are done; UINTPTR_MAX at first, then kept here */
    size_t max_pages; /* longest run wanted */
    uint32_t epoch;   /* of the caller; 0: no region rests */
    bool huge;        /* only wholly free aligned 2 MiB */
};

/* For scavenge.c: takes (marks allocated) the highest run of free dirty pages, in whole OS pages.
 * A huge page that the kernel may have made is not split in the epoch in which the search first met
 * it with free pages (bs_thp_may_be_huge).
 * A dense region (BS_DENSE_PAGES in use) rests: it is passed over in the epoch in which it was first
 * found so and in the next one, since its few free pages are the likeliest to be wanted again and
 * cost it its huge pages. False: there is none. After advising, bs_pageheap_scavenged says whether
 * the OS took them. */
bool bs_pageheap_take_dirty(struct bs_dirty_search *search, struct bs_run *out);
void bs_pageheap_scavenged(const struct bs_run *run, enum bs_fate fate);
/* Runs of inaccessible free pages; cheap. */
size_t bs_pageheap_closed_runs(void);

/* For quarantine_trim.c: free pages of one region that are nobody's for a moment, and come back as they were. */
struct bs_loan {
    uintptr_t base;       /* of the region */
    size_t first, npages; /* in it; multiples of 64 */
    uint64_t released[BS_REGION_WORDS], fresh[BS_REGION_WORDS], closed[BS_REGION_WORDS]; /* as they were */
};
/* False: some are in use. */
bool bs_pageheap_borrow(uintptr_t region, size_t first, size_t npages, struct bs_loan *loan);
void bs_pageheap_return(const struct bs_loan *loan);

/* For density.c: the kernel has put memory behind free pages that were given back or never used, by a
 * huge page. Those of the huge page at base with a bit set in `resident` are dirty now, if they are
 * still free and released; how many. */
size_t bs_pageheap_note_resident(uintptr_t base, const uint64_t resident[BS_HUGE_PAGES / 64]);

struct bs_pageheap_counts bs_pageheap_counts(void);
/* span_pages' peak since the last call; the next period starts with the present value. */
size_t bs_pageheap_take_peak(void);
/* Times the heap grew, for bs_grow: read before the search that may fail. */
uint64_t bs_pageheap_grown(void);
/* Allocations and frees of pages, ever; cheap. */
uint64_t bs_pageheap_activity(void);
/* Free dirty bytes, cheap: for "is there work" questions on slow paths. */
size_t bs_pageheap_dirty_bytes(void);
/* Bytes in spans and free dirty: what the heap uses of memory, cheap as well. */
size_t bs_pageheap_used_bytes(void);

/* Calls visit for every accessible region in address order, without the lock: bits may change
 * meanwhile. alloc and released: BS_REGION_WORDS words each. A visitor that returns false ends
 * the walk. For the ledger and the scavenger of holes. */
typedef bool bs_region_visitor(void *ctx, uintptr_t base, const uint64_t *alloc,
                               const uint64_t *released);
void bs_pageheap_each_region(bs_region_visitor *visit, void *ctx);
/* The same from the region on that `from`, an address in the heap, lies in; 0: from the first. */
void bs_pageheap_each_region_from(uintptr_t from, bs_region_visitor *visit, void *ctx);

/* Debug and tests: invariants 3 and 5 over everything. */
bool bs_pageheap_is_valid(void);

void bs_pageheap_lock(void);
void bs_pageheap_unlock(void);
void bs_pageheap_reset_lock(void);
/* In a forked child, where nobody else is. */
bool bs_pageheap_is_locked(void);

#endif
