/* SPDX-License-Identifier: MIT */
/*
 * linear.c - see linear.h. A worker takes pieces, 64 KiB of roots or 512 KiB of the heap, under a
 * word that spins; the sieves are its own. Marks are set atomically.
 */
#include "linear.h"

#include "bits.h"
#include "meta.h"
#include "pageheap.h"
#include "ranges.h"
#include "reader.h"

#include <errno.h>

#define ROOT_PIECE (64 * BS_KIB)
#define HEAP_PIECE (512 * BS_KIB) /* so that who comes to help finds something in a small heap, too */
#define PARTS 32
/* From so many on, words are read in two streams: half of them each, far enough from each other. */
#define PAIR_WORDS (16 * BS_KIB / sizeof(uintptr_t))
#define AHEAD 12 /* of the candidates one is fetched while another is looked up */
/* Beyond so many bytes from the first to the last byte of the heap there is no map of pages. */
#define MAP_MAX ((size_t)1 << 42)

struct worker {
    struct bs_linear *l;
    int fd; /* pages, as the thread's table of descriptors has it */
    struct bs_linear_sums sums;
    struct bs_sieve sieve; /* with candidates */
};

/* --- the slot --------------------------------------------------------------------------------- */

static bool is_close(const struct bs_linear *l, uintptr_t p) {
    return p - l->low < l->reach &&
           (l->pages == NULL || bs_bit_test(l->pages, (p - l->low) >> BS_PAGE_SHIFT));
}

static void mark_slot(struct worker *w, const struct bs_span *s, uintptr_t base, uint32_t slot) {
    uint64_t held = bs_marks_bits(base, BS_SIDE_HELD, slot / 64) & bs_load(&s->alloc[slot / 64]);
    if ((held >> (slot % 64) & 1) != 0)
        w->sums.marked += bs_marks_set(base, BS_SIDE_MARK, slot);
}

/* p is an address in the heap: the slot there, and the one that ends there. (While the program runs a span without a
 * held slot may become another one: then nothing is found.) */
static void look(struct worker *w, uintptr_t p, bool past_end) {
    const struct bs_span *s = is_close(w->l, p) ? bs_span_of(p) : NULL;
    struct bs_shape shape;
    uint32_t slot = 0;
    bool in_slot = s != NULL && bs_span_shape(s, &shape) && bs_shape_slot(&shape, p, &slot);
    if (s != NULL)
        w->sums.close++;
    if (in_slot)
        mark_slot(w, s, shape.base, slot);
    if (!past_end || (in_slot && shape.base + slot * shape.size != p))
        return;
    if (in_slot && slot != 0)
        mark_slot(w, s, shape.base, slot - 1);
    else
        look(w, p - 1, false);
}

/* What `look` will ask of the candidate comes into the cache. */
static void fetch(uintptr_t p) {
    const struct bs_span *s = bs_pagemap_span(p);
    if (s == NULL)
        return;
    __builtin_prefetch(s);
    __builtin_prefetch(bs_marks_word(p, BS_SIDE_HELD, 0));
}

static void look_at_all(struct worker *w) {
    bool past_end = w->l->rules.past_end != BS_PAST_END_NEVER;
    uintptr_t *candidate = w->sieve.found;
    size_t n = 0;
    w->sums.candidates += w->sieve.n;
    for (size_t i = 0; i < w->sieve.n; i++) {
        uintptr_t p = candidate[i];
        candidate[n] = p;
        n += is_close(w->l, p) || (past_end && p % BS_PAGE_SIZE == 0);
    }
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n)
            fetch(candidate[i + AHEAD]);
        look(w, candidate[i], past_end);
    }
    w->sieve.n = 0;
}

/* --- the words -------------------------------------------------------------------------------- */

static void sift_one(struct worker *w, uintptr_t p, size_t n) {
    while (n != 0) {
        size_t seen = bs_sieve_words(&w->sieve, w->l->sieve, p, n);
        if (w->sieve.n >= BS_SIEVE_BATCH)
            look_at_all(w);
        p += seen * sizeof(uintptr_t);
        n -= seen;
    }
}

/* n words at p and n at q in step; how many were seen, the last few are not. */
static size_t sift_pair(struct worker *w, uintptr_t p, uintptr_t q, size_t n) {
    size_t seen = 0, more;
    do {
        size_t done = seen * sizeof(uintptr_t);
        more = bs_sieve_pair(&w->sieve, w->l->sieve, p + done, q + done, n - seen);
        if (w->sieve.n >= BS_SIEVE_BATCH)
            look_at_all(w);
        seen += more;
    } while (more != 0);
    return seen;
}

static void sift(struct worker *w, uintptr_t p, size_t n) {
    if (n >= PAIR_WORDS) {
        size_t half = n / 2, seen = sift_pair(w, p, p + half * sizeof(uintptr_t), half);
        sift_one(w, p + seen * sizeof(uintptr_t), half - seen);
        p += (half + seen) * sizeof(uintptr_t);
        n -= half + seen;
    }
    sift_one(w, p, n);
}

/* Words that begin in [start, end) and end at `limit` at the latest. */
static void read_open(struct worker *w, uintptr_t start, uintptr_t end, uintptr_t limit) {
    size_t turns = w->l->rules.unaligned ? sizeof(uintptr_t) : 1;
    if (turns == 1)
        start = bs_align_up(start, sizeof(uintptr_t));
    for (size_t i = 0; i < turns && start + i < end && limit - start - i >= sizeof(uintptr_t);
         i++) {
        size_t most = (limit - start - i) / sizeof(uintptr_t);
        size_t n = bs_min(most, (end - start - i + sizeof(uintptr_t) - 1) / sizeof(uintptr_t));
        sift(w, start + i, n);
    }
}

/* The same, less what cannot be read. */
static void read_range(struct worker *w, uintptr_t start, uintptr_t end, uintptr_t limit) {
    const struct bs_linear *l = w->l;
    for (size_t i = bs_ranges_find(l->closed, l->nclosed, start); i < l->nclosed && l->closed[i].start < end; i++) {
        if (start < l->closed[i].start)
            read_open(w, start, l->closed[i].start, l->closed[i].start);
        start = l->closed[i].end;
    }
    if (start < end)
        read_open(w, start, end, limit);
}

/* The same while the program runs: the kernel copies, and does not fault. */
static void read_copy(struct worker *w, uintptr_t start, uintptr_t end) {
    struct bs_linear *l = w->l;
    for (uintptr_t p = start; p < end;) {
        long got = bs_os_read_memory(p, l->copy, bs_min(end - p, BS_LINEAR_COPY_BYTES));
        size_t n = got > 0 ? (size_t)got : 0;
        read_open(w, (uintptr_t)l->copy, (uintptr_t)l->copy + n, (uintptr_t)l->copy + n);
        l->unread |= got < 0 && got != -EFAULT;
        p = n != 0 ? p + n : bs_align_up(p + 1, bs_os_page_size());
    }
}

/* --- the heap --------------------------------------------------------------------------------- */

/* Of the span that begins at base. */
static uint64_t live_slots(const struct bs_span *s, uintptr_t base, size_t w) {
    return bs_load(&s->alloc[w]) & ~(bs_marks_bits(base, BS_SIDE_HELD, w) | bs_marks_bits(base, BS_SIDE_IDLE, w));
}

/* `stays`: nobody takes it away meanwhile. */
static void read_heap(struct worker *w, uintptr_t start, uintptr_t end, bool stays) {
    w->sums.heap_bytes += end - start;
    if (!stays)
        read_copy(w, start, end);
    else
        read_range(w, start, end, end);
}

/* Neighbours together: a pointer may not cross blocks, but a run of full slots reads fastest. `held`: while the program
 * runs, by reader.h; a page that is one small block's alone is the program's to close all the same. */
static void read_slots(struct worker *w, const struct bs_span *s, uintptr_t base, bool held) {
    struct bs_shape shape;
    if (!bs_span_shape(s, &shape) || shape.class == 0 || shape.base != base)
        return;
    bool stays = w->l->copy == NULL || (held && shape.size < bs_os_page_size());
    for (size_t word = 0; word * 64 < shape.nslots; word++) {
        uint64_t live = live_slots(s, base, word) & bs_low_bits((unsigned)bs_min(64, shape.nslots - word * 64));
        while (live != 0) {
            unsigned n, first = bs_take_run(&live, &n);
            uintptr_t start = base + (word * 64 + first) * shape.size;
            if (stays)
                bs_reader_looked(s);
            read_heap(w, start, start + n * shape.size, stays);
        }
    }
}

/* The span may be another one by now. */
static void read_small(struct worker *w, const struct bs_span *s, uintptr_t base) {
    if (w->l->copy == NULL) {
        read_slots(w, s, base, false);
        return;
    }
    read_slots(w, s, base, bs_reader_hold(s));
    bs_reader_let_go();
}

static void read_large(struct worker *w, uintptr_t start, uintptr_t end) {
    struct bs_range part[PARTS];
    while (start < end)
        for (size_t n = bs_os_populated(w->fd, start, end, 0, part, PARTS, &start), i = 0; i < n;
             i++)
            read_heap(w, part[i].start, part[i].end, w->l->copy == NULL);
}

/* Of a large block the part in this piece. Where it ends. */
static uintptr_t read_span(struct worker *w, const struct bs_span *s, uintptr_t p, uintptr_t end) {
    struct bs_shape shape;
    if (!bs_span_shape(s, &shape))
        return p;
    if (shape.class == 0) {
        uintptr_t stop = bs_min(end, shape.base + shape.bytes);
        /* the first word of the next piece may begin here */
        uintptr_t from = w->l->rules.unaligned ? bs_max(p - bs_os_page_size(), shape.base) : p;
        if (live_slots(s, shape.base, 0) != 0)
            read_large(w, from, stop);
        return stop;
    }
    read_small(w, s, p);
    return p + BS_PAGE_SIZE;
}

/* Of the region at base. A span of small blocks belongs to the piece in which it begins. */
static void read_piece(struct worker *w, uintptr_t base, uintptr_t p, const uint64_t *alloc) {
    for (uintptr_t end = p + HEAP_PIECE; p < end;) {
        struct bs_span *s = bs_bit_test(alloc, (p - base) / BS_PAGE_SIZE) ? bs_span_of(p) : NULL;
        /* (while the program runs, s may be another span by now, and end before p) */
        p = bs_max(p + BS_PAGE_SIZE, s != NULL ? read_span(w, s, p, end) : 0);
    }
}

/* --- pieces ----------------------------------------------------------------------------------- */

static void lock(struct bs_linear *l) {
    /* acquire, release: no worker takes a piece that another one has */
    while (__atomic_exchange_n(&l->busy_word, 1, __ATOMIC_ACQUIRE) != 0)
        bs_os_yield();
}
static void unlock(struct bs_linear *l) {
    bs_store_release(&l->busy_word, 0u);
}

static bool take_root(struct bs_linear *l, struct bs_range *piece, uintptr_t *limit) {
    while (l->root < l->nroots) {
        const struct bs_range *root = &l->roots[l->root];
        piece->start = l->root_pos != 0 ? l->root_pos : root->start;
        piece->end = root->end - piece->start > ROOT_PIECE ? piece->start + ROOT_PIECE : root->end;
        *limit = root->end;
        l->root_pos = piece->end < root->end ? piece->end : 0;
        l->root += piece->end == root->end;
        if (piece->start < piece->end)
            return true;
    }
    return false;
}

struct piece {
    struct bs_linear *l;
    uintptr_t base, start; /* of its region, and its own; 0: none */
    uint64_t alloc[BS_REGION_WORDS];
};

static bool take_piece(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    struct piece *piece = ctx;
    struct bs_linear *l = piece->l;
    uintptr_t start = bs_max(base, l->low + l->next);
    (void)released;
    if (start >= base + BS_REGION_SIZE)
        return true;
    piece->base = base;
    piece->start = start;
    l->region = base - l->low;
    l->next = start + HEAP_PIECE - l->low;
    for (size_t i = 0; i < BS_REGION_WORDS; i++)
        piece->alloc[i] = alloc[i];
    return false;
}

static bool next_root(struct worker *w) {
    struct bs_range piece;
    uintptr_t limit;
    lock(w->l);
    bool found = take_root(w->l, &piece, &limit);
    unlock(w->l);
    if (found) {
        w->sums.root_bytes += piece.end - piece.start;
        if (w->l->copy != NULL)
            read_copy(w, piece.start, piece.end);
        else
            read_range(w, piece.start, piece.end, limit);
    }
    return found;
}

static bool next_piece(struct worker *w) {
    struct piece piece = {.l = w->l};
    lock(w->l);
    if (w->l->next != SIZE_MAX)
        bs_pageheap_each_region_from(w->l->low + w->l->region, take_piece, &piece);
    unlock(w->l);
    if (piece.base != 0)
        read_piece(w, piece.base, piece.start, piece.alloc);
    return piece.base != 0;
}

static void work(struct bs_linear *l, int fd) {
    struct worker w;
    w.l = l;
    w.fd = fd;
    w.sums = (struct bs_linear_sums){0, 0, 0, 0, 0};
    w.sieve.low = l->low;
    w.sieve.reach = l->reach;
    w.sieve.mask = l->rules.mask;
    w.sieve.n = 0;
    while (next_root(&w) || next_piece(&w))
        ;
    look_at_all(&w);
    lock(l);
    l->sums.root_bytes += w.sums.root_bytes;
    l->sums.heap_bytes += w.sums.heap_bytes;
    l->sums.candidates += w.sums.candidates;
    l->sums.close += w.sums.close;
    l->sums.marked += w.sums.marked;
    unlock(l);
}

void bs_linear_work(struct bs_linear *l) {
    work(l, l->fd);
}

/* --- with the helper ---------------------------------------------------------------------------- */

/* ALONE --who searches--> OFFERED --the helper--> JOINED --the helper, no piece is left--> LEFT; who searches
 * makes it ALONE again, from LEFT or, if nobody came, from OFFERED. */
enum { ALONE, OFFERED, JOINED, LEFT };
static struct {
    uint32_t state;         /* [atomic] */
    struct bs_linear *work; /* [OFFERED, JOINED] */
    uint64_t cpu_ns;        /* the helper's [JOINED, LEFT] */
    void (*call)(void);     /* [init] */
} company;

void bs_linear_set_call(void (*call)(void)) {
    company.call = call;
}

bool bs_linear_work_in_company(struct bs_linear *l, uint64_t *cpu_ns) {
    uint32_t state = OFFERED;
    *cpu_ns = 0;
    company.work = l;
    bs_store_release(&company.state, (uint32_t)OFFERED); /* pairs with bs_linear_join */
    if (company.call != NULL)
        company.call();
    work(l, l->fd);
    if (__atomic_compare_exchange_n(&company.state, &state, (uint32_t)ALONE, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED))
        return false;
    while (bs_load_acquire(&company.state) != LEFT) /* it has a piece at most */
        bs_os_yield();
    *cpu_ns = company.cpu_ns;
    bs_store(&company.state, (uint32_t)ALONE);
    return true;
}

bool bs_linear_join(void) {
    uint32_t state = OFFERED;
    if (bs_load(&company.state) != OFFERED ||
        !__atomic_compare_exchange_n(&company.state, &state, (uint32_t)JOINED, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return false;
    uint64_t cpu = bs_os_thread_cpu_ns();
    uint32_t keys = bs_os_keys_open();
    int fd = bs_os_pages_open();
    work(company.work, fd);
    if (fd >= 0)
        bs_os_close(fd);
    bs_os_keys_back(keys);
    company.cpu_ns = bs_os_thread_cpu_ns() - cpu;
    bs_store_release(&company.state, (uint32_t)LEFT); /* and its marks */
    return true;
}

/* --- begin, end ------------------------------------------------------------------------------- */

static bool note_bounds(void *ctx, uintptr_t base, const uint64_t *alloc,
                        const uint64_t *released) {
    struct bs_linear *l = ctx;
    (void)alloc, (void)released;
    if (l->low == 0)
        l->low = base;
    l->reach = base + BS_REGION_SIZE - l->low;
    return true;
}

static bool note_held(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    struct bs_linear *l = ctx;
    (void)released;
    for (size_t page = 0; page < BS_REGION_PAGES; page++) {
        uintptr_t p = base + page * BS_PAGE_SIZE;
        struct bs_span *s = bs_span_in_region(alloc, base, page);
        if (s != NULL && bs_has_held_slot(s, p))
            bs_range_set(l->pages, (p - l->low) >> BS_PAGE_SHIFT, bs_load(&s->npages));
    }
    return true;
}

bool bs_linear_begin(struct bs_linear *l, const struct bs_trace_rules *rules,
                     const struct bs_range *roots, size_t nroots) {
    *l = (struct bs_linear){.roots = roots, .nroots = nroots, .fd = -1, .sieve = bs_sieve_best()};
    if (rules != NULL)
        l->rules = *rules;
    if (l->rules.mask == 0)
        l->rules.mask = ~(uintptr_t)0;
    bs_pageheap_each_region(note_bounds, l);
    if (l->reach != 0 && l->reach <= MAP_MAX) {
        l->pages_bytes = l->reach / BS_PAGE_SIZE / 8 + sizeof *l->pages;
        l->pages = bs_meta_map(l->pages_bytes);
        if (l->pages == NULL)
            return false;
        bs_pageheap_each_region(note_held, l);
    }
    l->fd = bs_os_pages_open();
    return true;
}

void bs_linear_more(struct bs_linear *l, const struct bs_range *roots, size_t nroots) {
    l->roots = roots;
    l->nroots = nroots;
    l->root = 0;
    l->root_pos = 0;
    l->next = SIZE_MAX; /* all is done */
}

void bs_linear_end(struct bs_linear *l, struct bs_linear_sums *sums) {
    *sums = l->sums;
    if (l->pages != NULL)
        bs_meta_unmap(l->pages, l->pages_bytes);
    if (l->fd >= 0)
        bs_os_close(l->fd);
}
