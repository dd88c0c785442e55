/* SPDX-License-Identifier: MIT */
/* central.c - see central.h: slots out and back. What comes from beside is central_aside.c. */
#include "central_internal.h"

#include "counter.h"
#include "grow.h"
#include "limit.h"
#include "opt.h"
#include "os.h"
#include "out.h"
#include "thp.h"
#include "waiting.h"

struct bs_central bs_centrals[BS_NCLASSES] = {
#define BS_SIZE_CLASS(index, size, npages, nslots, magic) \
    [index] = {.lock = BS_LOCK_INIT(BS_RANK_CENTRAL)},
#include "sizeclass.def"
#undef BS_SIZE_CLASS
};

uint16_t bs_hole_epoch;

/* --- empty spans ---------------------------------------------------------------------------- */

void bs_central_give_up_empty(void) {
    /* two threads that make a span at once may leave more than one */
    for (unsigned class = 1; class < BS_NCLASSES;) {
        struct bs_central *c = &bs_centrals[class];
        struct bs_span *empty = NULL;
        bs_lock_acquire(&c->lock);
        /* nearly empty spans share group 0 with it: look through a bounded part of the list */
        struct bs_link *l = c->nempty != 0 ? c->group[0].next : &c->group[0];
        for (unsigned i = 0; i < 1024 && l != &c->group[0] && empty == NULL; i++, l = l->next)
            if (span_at(l)->nalloc == 0)
                empty = span_at(l);
        if (empty != NULL) {
            c->nempty--;
            leave_locked(c, empty);
        }
        bs_lock_release(&c->lock);
        if (empty == NULL)
            class++;
        else
            bs_waiting_add(class, &empty, 1);
    }
}

/* --- pages ------------------------------------------------------------------------------------ */

bool bs_central_make_ready(const struct bs_pages *pages) {
    size_t bytes = pages->npages * BS_PAGE_SIZE;
    if (pages->nreleased == 0 && pages->nclosed == 0)
        return true;
    /* with decommit:soft only pages that a failed mremap has left unmapped are closed */
    bool lost = pages->nclosed != 0 && bs_opt.decommit != BS_DECOMMIT_HARD;
    int error = lost ? bs_thp_renew(pages->base, bytes) : bs_os_used((void *)pages->base, bytes);
    if (error != 0) {
        bs_pageheap_free_closed(pages->base, pages->npages);
        return false;
    }
    bs_thp_reused(pages->base, bytes);
    return true;
}

static struct {
    void (*give)(void); /* [atomic] of tcache.c, which lies above */
    size_t grown_bytes; /* [atomic] pages taken that had no memory, since it was called */
} spare;

void bs_central_set_spare(void (*give)(void)) {
    if (bs_load(&spare.give) != give)
        bs_store(&spare.give, give);
}

static bool spare_is_due(size_t npages) {
    size_t bytes = bs_load(&spare.grown_bytes) + npages * BS_PAGE_SIZE;
    return npages <= BS_SPARE_PAGES && bytes >= BS_SPARE_BYTES &&
           bytes >= bs_pageheap_used_bytes() / BS_SPARE_PART && bs_load(&spare.give) != NULL;
}

/* What lies unused in this thread's cache becomes other spans. */
static void use_spare(void) {
    bs_store(&spare.grown_bytes, (size_t)0);
    bs_load(&spare.give)();
    while (bs_waiting_return(BS_EMPTY_WAITING_MAX) == BS_EMPTY_WAITING_MAX)
        ;
}

/* Pages without memory were taken, which costs page faults. So empty spans wait no longer: the next who
 * takes pages finds theirs, which have memory. */
static void note_growth(size_t nreleased) {
    bs_limit_took(nreleased * BS_PAGE_SIZE);
    bs_add(&spare.grown_bytes, nreleased * BS_PAGE_SIZE);
    if (bs_waiting_count() != 0)
        (void)bs_waiting_return(BS_EMPTY_WAITING_MAX);
}

/* At a hard limit. What this thread holds unused may be what is missing: it has freed that, and asks for as much. */
static BS_COLD bool make_room(size_t npages) {
    void (*give)(void) = bs_load(&spare.give);
    do {
        if (bs_waiting_return(BS_EMPTY_WAITING_MAX) != 0)
            continue;
        if (give == NULL)
            return false;
        give();
        give = NULL;
    } while (!bs_limit_has_room(npages));
    return true;
}

bool bs_central_has_room(size_t npages) {
    return BS_LIKELY(bs_limit_has_room(npages)) || make_room(npages);
}

bool bs_central_take_pages(size_t npages, size_t align_pages, struct bs_pages *out) {
    if (!bs_central_has_room(npages) && !bs_limit_allows(npages))
        return false;
    /* what waits or is spare goes first where pages without memory would be taken: its pages have some */
    bool due = spare_is_due(npages), warm = due || bs_waiting_count() != 0;
    for (;;) {
        uint64_t grown = bs_pageheap_grown();
        if (warm ? bs_pageheap_alloc_warm(npages, align_pages, out)
                 : bs_pageheap_alloc(npages, align_pages, out)) {
            if (out->nreleased != 0)
                note_growth(out->nreleased);
            return bs_central_make_ready(out);
        }
        if (due) { /* once, and then warm again */
            due = false;
            use_spare();
            continue;
        }
        if (bs_waiting_return(BS_EMPTY_WAITING_MAX) != 0 || warm) {
            warm = false;
            continue;
        }
        if (!bs_grow(npages + align_pages - 1, grown))
            return false;
    }
}

bool bs_central_swap_pages(const struct bs_run *old, size_t npages, size_t align_pages,
                           struct bs_pages *out) {
    if (BS_LIKELY(bs_limit_has_room(npages))) {
        if (BS_LIKELY(bs_pageheap_swap_warm(old, npages, align_pages, out)))
            return bs_central_make_ready(out); /* with decommit:hard some may be closed */
    } else {
        bs_pageheap_free(old, 1);
    }
    return bs_central_take_pages(npages, align_pages, out);
}

static struct bs_span *new_span(unsigned class) {
    struct bs_pages pages;
    struct bs_span *waiting_one = bs_waiting_take_back(class);
    if (waiting_one != NULL)
        return waiting_one;
    size_t npages = bs_class_info[class].npages;
    if (!bs_central_take_pages(npages, 1, &pages))
        return NULL;
    struct bs_run run = {.base = pages.base, .npages = npages};
    struct bs_span *s = bs_span_make_small(class, pages.base, pages.nzero == npages);
    if (s == NULL)
        bs_pageheap_free(&run, 1);
    return s;
}

/* --- refill ----------------------------------------------------------------------------------- */

/* The run becomes blocks, below those that are there, the lowest on top: what was claimed first is handed out
 * first. False: no room. */
static bool push_run(struct bs_refill *r, size_t size) {
    uint64_t mask = r->run_mask;
    unsigned n = bs_popcount(mask);
    if (n > r->max_blocks - r->nblocks)
        return false;
    void **place = r->blocks + (r->max_blocks - r->nblocks);
    r->nblocks += n;
    if (mask == ~(uint64_t)0) {
        char *p = r->run_base;
        for (void **end = place - 64; place != end; p += size)
            *--place = p;
    } else {
        for (; mask != 0; mask &= mask - 1)
            *--place = r->run_base + bs_ctz(mask) * size;
    }
    return true;
}

#define LINE_BYTES 64

/* The free slots of word w that lie on lines without a slot that is out; 0 if the class's lines are not
 * made of whole slots. */
static uint64_t free_lines(const struct bs_span *s, size_t w) {
    size_t n = LINE_BYTES / bs_span_class(s)->size;
    uint64_t avail = ~s->alloc[w] & bs_span_word_mask(s, w), first = 0, lines = avail;
    if (n < 2 || n * bs_span_class(s)->size != LINE_BYTES)
        return 0;
    for (size_t bit = 0; bit < 64; bit += n)
        first |= (uint64_t)1 << bit;
    for (size_t i = 1; i < n; i++)
        lines &= avail >> i;
    lines &= first;
    return lines * bs_low_bits((unsigned)n);
}

/* The run of a thread's first refill: other threads shall not write beside its blocks. False: the span has
 * no such slots. */
static BS_NOINLINE bool claim_lines(struct bs_span *s, unsigned want, unsigned *got,
                                    struct bs_refill *r) {
    for (size_t w = 0; w < bs_span_words(s); w++) {
        uint64_t lines = free_lines(s, w);
        if (lines == 0)
            continue;
        r->run_mask = bs_span_claim(s, w, lines, want);
        r->run_base = (char *)(s->base + w * 64 * bs_span_class(s)->size);
        r->run_zero = (s->flags & BS_SPAN_FRESH) != 0;
        *got = bs_popcount(r->run_mask);
        return true;
    }
    return false;
}

/* Claims from one span until `want` slots are there; how many words were looked at. */
static unsigned claim_span(struct bs_span *s, unsigned want, unsigned *got, struct bs_refill *r) {
    unsigned looked = 0;
    if (BS_UNLIKELY(r->whole_lines) && *got == 0 && claim_lines(s, want, got, r))
        return BS_REFILL_MAX_WORDS; /* it is enough */
    for (size_t w = 0; w < bs_span_words(s) && *got < want; w++) {
        if (s->alloc[w] == bs_span_word_mask(s, w))
            continue;
        looked++;
        if (r->run_mask != 0 && !push_run(r, bs_span_class(s)->size))
            return BS_REFILL_MAX_WORDS; /* it is enough */
        r->run_mask = bs_span_claim(s, w, ~(uint64_t)0, want - *got);
        r->run_base = (char *)(s->base + w * 64 * bs_span_class(s)->size);
        r->run_zero = (s->flags & BS_SPAN_FRESH) != 0;
        *got += bs_popcount(r->run_mask);
    }
    return looked;
}

/* The same for a listed span, which then goes where its fullness says. */
static inline unsigned claim_listed_locked(struct bs_central *c, struct bs_span *s, unsigned want,
                                           unsigned *got, struct bs_refill *r) {
    unsigned before = s->nalloc;
    unsigned looked = claim_span(s, want, got, r);
    if (before == 0 && s->nalloc != 0)
        c->nempty--;
    bs_store(&c->slots_out, c->slots_out + (s->nalloc - before));
    touch(s);
    fill_holes_locked(c, s);
    relist_locked(c, s);
    return looked;
}

static bool claim_locked(struct bs_central *c, unsigned want, struct bs_refill *r) {
    unsigned got = 0, looked = 0;
    while (got < want && looked < BS_REFILL_MAX_WORDS) {
        struct bs_span *s = fullest_locked(c);
        if (s == NULL)
            break;
        looked += claim_listed_locked(c, s, want, &got, r);
    }
    return got != 0;
}

bool bs_central_refill(unsigned class, unsigned want, struct bs_refill *r) {
    struct bs_central *c = &bs_centrals[class];
    r->run_mask = 0;
    r->nblocks = 0;
    bs_count(refills, 1);
    bs_lock_acquire(&c->lock);
    while (!claim_locked(c, want, r)) {
        bs_lock_release(&c->lock);
        struct bs_span *s = new_span(class);
        if (s == NULL)
            return false;
        bs_lock_acquire(&c->lock);
        bs_store(&c->spans, c->spans + 1);
        c->nempty++;
        c->holes += bs_popcount(s->holes); /* one that waited for the sweeper may have some */
        list_locked(c, s);
    }
    bs_lock_release(&c->lock);
    return true;
}

/* --- release ---------------------------------------------------------------------------------- */

static BS_COLD _Noreturn void report(enum bs_free_result why, const void *block, unsigned class) {
    bs_fatal("%s of %p (size class %u bytes)",
             why == BS_FREE_TWICE ? "double free" : "invalid free", block,
             bs_class_info[class].size);
}

/* The class byte said the page belongs to this class, so the page map leads to a span of it; another class
 * means that its span went away while a stale pointer to it sat in a magazine. */
static inline struct bs_span *span_of_block(uintptr_t p, unsigned class) {
    struct bs_span *s = bs_pagemap_entry_of_small(p);
    if (BS_UNLIKELY(s == NULL || bs_load_acquire(&s->state) != BS_SPAN_SMALL || s->class != class))
        report(BS_FREE_TWICE, (void *)p, class);
    return s;
}

/* Pieces of one hold of the lock: blocks that are freed in the order they were made are few of them. */
#define RELEASE_BATCH 64
/* So many blocks ahead the span's line is asked for, where blocks are no neighbours: it is in no near cache when a
 * million of them are freed in any order. */
#define LOOK_AHEAD 8

/* Blocks that lie side by side in a word of one span. */
struct piece {
    struct bs_span *span;
    struct bs_slots at;
    uint32_t end; /* of their numbers in the batch */
};

/* Outside the lock: where the blocks are, so that the spans' lines are on the way and little is left to
 * do under it. A span found live here stays live: our block is in it. How many pieces, of the first blocks. */
static BS_NOINLINE unsigned find_pieces(unsigned class, void *const *blocks, unsigned n,
                                        struct piece *pieces) {
    const struct bs_class_info info = bs_class_info[class]; /* its fields in registers */
    const size_t bytes = info.npages * BS_PAGE_SIZE;
    struct piece *piece = pieces;
    struct bs_span *s = NULL;
    uintptr_t base = 0; /* no block lies so low */
    for (unsigned i = 0; i < n && piece != pieces + RELEASE_BATCH; piece++) {
        uintptr_t p = (uintptr_t)blocks[i];
        if (i + LOOK_AHEAD < n)
            __builtin_prefetch(bs_pagemap_entry_of_small((uintptr_t)blocks[i + LOOK_AHEAD]), 1);
        if (p - base >= bytes) {
            s = span_of_block(p, class);
            base = s->base;
            if (BS_UNLIKELY(p - base >= bytes)) /* as another class: its span is elsewhere now */
                report(BS_FREE_TWICE, (void *)p, class);
        }
        unsigned count = bs_span_place(&info, p - base, blocks + i, n - i, &piece->at);
        if (BS_UNLIKELY(count == 0))
            report(BS_FREE_INTERIOR, (void *)p, class);
        __builtin_prefetch(&s->alloc[piece->at.word], 1);
        piece->span = s;
        piece->end = i += count;
    }
    return (unsigned)(piece - pieces);
}

/* One of the piece's blocks is free already. */
static BS_COLD _Noreturn void report_twice(const struct piece *piece, void *const *blocks,
                                           unsigned i, unsigned class) {
    while (i + 1u < piece->end && bs_span_is_allocated(piece->span, (uintptr_t)blocks[i]))
        i++;
    report(BS_FREE_TWICE, blocks[i], class);
}

/* How many blocks it was. */
static unsigned release_batch(struct bs_central *c, unsigned class, void *const *blocks, unsigned n) {
    struct piece pieces[RELEASE_BATCH];
    struct bs_span *empty[RELEASE_BATCH];
    unsigned nempty = 0, npieces = find_pieces(class, blocks, n, pieces);
    bs_lock_acquire(&c->lock);
    for (unsigned k = 0, i = 0; k < npieces; i = pieces[k++].end) {
        struct bs_span *s = pieces[k].span;
        if (BS_UNLIKELY(!bs_span_clear(s, pieces[k].at, pieces[k].end - i))) {
            bs_lock_release(&c->lock); /* a handler of SIGABRT may allocate */
            report_twice(&pieces[k], blocks, i, class);
        }
        if (k + 1 < npieces && pieces[k + 1].span == s)
            continue;
        touch(s);
        if (BS_LIKELY(stays_listed(s)))
            continue;
        bs_span_drop_flags(s, BS_SPAN_FRESH);
        if (settle_locked(c, s))
            empty[nempty++] = s;
    }
    unsigned done = pieces[npieces - 1].end;
    bs_store(&c->slots_out, c->slots_out - done);
    bs_lock_release(&c->lock);
    if (nempty != 0) {
        bs_waiting_add(class, empty, nempty);
        if (bs_waiting_small_count() > BS_EMPTY_WAITING_MAX) /* no sweeper keeps up, or there is none */
            bs_waiting_return(RELEASE_BATCH);
    }
    return done;
}

void bs_central_release(unsigned class, void *const *blocks, unsigned n) {
    bs_count(flushes, 1);
    for (unsigned done = 0; done < n;)
        done += release_batch(&bs_centrals[class], class, blocks + done, n - done);
}

/* --- questions, fork -------------------------------------------------------------------------- */

size_t bs_central_spans(unsigned class) {
    return bs_load(&bs_centrals[class].spans);
}

struct bs_central_counts bs_central_glance(unsigned class) {
    const struct bs_central *c = &bs_centrals[class];
    return (struct bs_central_counts){.spans = bs_load(&c->spans), .slots_out = bs_load(&c->slots_out)};
}

struct bs_central_counts bs_central_counts(unsigned class) {
    struct bs_central *c = &bs_centrals[class];
    bs_lock_acquire(&c->lock);
    struct bs_central_counts counts = {c->spans, c->slots_out, c->holes};
    bs_lock_release(&c->lock);
    return counts;
}

bool bs_central_is_allocated(struct bs_span *s, uintptr_t p) {
    struct bs_central *c = &bs_centrals[s->class];
    bs_lock_acquire(&c->lock);
    bool allocated = bs_span_is_allocated(s, p);
    bs_lock_release(&c->lock);
    return allocated;
}

void bs_central_copy_bits(struct bs_span *s, unsigned class, uint64_t bits[BS_SPAN_WORDS_MAX], uint16_t *holes) {
    struct bs_central *c = &bs_centrals[class];
    bs_lock_acquire(&c->lock);
    if (bs_load(&s->class) == class) { /* one that waits may become another one all the same */
        for (size_t w = 0; w < bs_span_words(s); w++)
            bits[w] = bs_load(&s->alloc[w]);
        *holes = bs_load(&s->holes);
    }
    bs_lock_release(&c->lock);
}

void bs_central_lock_all(void) {
    for (unsigned class = 1; class < BS_NCLASSES; class++)
        bs_lock_acquire(&bs_centrals[class].lock);
    bs_waiting_lock();
}
void bs_central_unlock_all(void) {
    bs_waiting_unlock();
    for (unsigned class = BS_NCLASSES; class-- > 1;)
        bs_lock_release(&bs_centrals[class].lock);
}
void bs_central_reset_locks(void) {
    bs_waiting_reset_lock();
    for (unsigned class = 1; class < BS_NCLASSES; class++)
        bs_lock_reset(&bs_centrals[class].lock);
}
