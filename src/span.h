/* SPDX-License-Identifier: MIT */
/*
 * span.h - a run of pages that holds slots of one size class, or one large block.
 *
 * The bitmaps live here, out of line: nothing is ever written into a free block. The span knows
 * how to give out slots and take them back; who may ask is the owner's business: small spans are
 * used under their class's central lock, a large span by whoever holds its block.
 *
 *   state   DEAD --make--> SMALL or LARGE --retire--> DEAD
 *           LARGE --rest--> DEAD --revive--> LARGE, or retired
 *
 *   nalloc == popcount(alloc) == live + cached + held slots of the span        (small)
 *   nalloc == 1                                                                  (large)
 *
 * Descriptors come from type-stable pools and are never unmapped, so a lock-free reader that
 * found a stale one in the page map reads sane memory; it must check state, then bounds
 * (bs_span_of does).
 */
#ifndef BS_SPAN_H
#define BS_SPAN_H

#include "bits.h"
#include "list.h"
#include "pagemap.h"
#include "sizeclass.h"

enum bs_span_state { BS_SPAN_DEAD, BS_SPAN_SMALL, BS_SPAN_LARGE };

enum {
    BS_SPAN_FRESH = 1, /* no slot was ever given back: free slots hold zeros */
    BS_SPAN_MOVED = 2, /* large: its mapping came by mremap and cannot merge with neighbours */
    BS_SPAN_LISTED = 4, /* small: on the list of its fullness group */
    BS_SPAN_SAMPLED = 16, /* large: the block is sampled */
    BS_SPAN_PARKED = 32,  /* large: its memory is closed, or was (park.h) */
    BS_SPAN_BORROWED = 8 /* small: the scavenger gives its holes back; nobody claims from it */
};

struct bs_span {
    struct bs_link link; /* [lock:central] its group's list, or [lock:waiting] the sweeper's */
    uintptr_t base;      /* [init] address of the first page */
    union {             /* [atomic] all three: a ledger looks at them while the span may become another one */
        size_t request; /* [block's owner] large: bytes asked for */
        struct {        /* small */
            uint16_t holes;   /* [lock:central] bit i: whole OS page i was given back to the OS */
            uint16_t touched; /* [lock:central] hole epoch in which slots last came or went */
        };
    };
    uint32_t npages;     /* [init]; large: changes as the block grows and shrinks */
    uint16_t nslots;     /* [init] */
    uint16_t nalloc;     /* [lock:central] slots that have left the span */
    union {
        struct {
            uint8_t class; /* [init] 0: large */
            uint8_t state; /* [atomic] enum bs_span_state, stored last (release) when made */
            uint8_t group; /* [lock:central] fullness group while listed */
            uint8_t flags; /* [lock:central], large: [block's owner] */
        };
        uint32_t place; /* [atomic] all four at a moment: bs_span_is_listed */
    };
    /* A bit a slot: it has left the span. [lock:central], but others look without it, at a slot that is theirs
     * (quarantine.c) or while the program runs (trace.c): so [atomic], and no bit is set that is not meant. */
    uint64_t alloc[];
};

BS_INLINE const struct bs_class_info *bs_span_class(const struct bs_span *s) {
    return &bs_class_info[s->class];
}
/* Stored as a whole, since others may look (bs_span_is_listed). */
BS_INLINE void bs_span_add_flags(struct bs_span *s, unsigned flags) {
    bs_store(&s->flags, (uint8_t)(s->flags | flags));
}
BS_INLINE void bs_span_drop_flags(struct bs_span *s, unsigned flags) {
    bs_store(&s->flags, (uint8_t)(s->flags & ~flags));
}
/* Is it on a list of that class? The caller has the class's lock, without which no span is listed or leaves such a list;
 * but s may be another's by now, of another class under another lock, or be made anew at this moment. So class and flag are
 * read as one: read one after the other, each could be of another life. */
BS_INLINE bool bs_span_is_listed(const struct bs_span *s, unsigned class) {
    struct {
        uint8_t class, state, group, flags;
    } now;
    uint32_t place = bs_load(&s->place);
    _Static_assert(sizeof now == sizeof place, "they share a word");
    __builtin_memcpy(&now, &place, sizeof now);
    return now.class == class && (now.flags & BS_SPAN_LISTED) != 0;
}
enum { BS_SPAN_WORDS_MAX = 16 }; /* of bits */
BS_INLINE size_t bs_span_words(const struct bs_span *s) {
    return ((size_t)bs_load(&s->nslots) + 63) / 64;
}
/* The bits of word w that stand for slots. */
BS_INLINE uint64_t bs_span_word_mask(const struct bs_span *s, size_t w) {
    return bs_low_bits((unsigned)bs_min(64, s->nslots - w * 64));
}
BS_INLINE bool bs_span_full(const struct bs_span *s) {
    return s->nalloc == s->nslots;
}
/* 0 (nearly empty) ... BS_GROUPS-1 (nearly full). */
BS_INLINE unsigned bs_span_fullness(const struct bs_span *s) {
    return (unsigned)s->nalloc * BS_GROUPS / ((unsigned)s->nslots + 1);
}
/* The same number as s->group: without a division, for it is asked at every release. */
BS_INLINE bool bs_span_keeps_group(const struct bs_span *s) {
    unsigned least = s->group * ((unsigned)s->nslots + 1);
    return (unsigned)s->nalloc * BS_GROUPS - least <= s->nslots; /* wraps if it is below */
}

/* A new span over pages that the caller took from the page heap, published in the page map. NULL
 * without memory for the descriptor: the caller gives the pages back. `fresh`: pages are zero. */
struct bs_span *bs_span_make_small(unsigned class, uintptr_t base, bool fresh);
struct bs_span *bs_span_make_large(uintptr_t base, size_t npages, size_t request);
/* A large span whose block is gone, and that shall be used again as it is: DEAD, and the page map leads
 * to it still. Its owner is who keeps it; nobody else takes its pages meanwhile. */
void bs_span_rest(struct bs_span *s);
/* That span holds a block again. */
void bs_span_revive(struct bs_span *s, size_t request);
/* A resting span is forgotten by the page map, so that its pages can be given away; then its descriptor becomes a span of
 * other pages, as bs_span_make_large makes one, or (bs_span_discard) goes. */
void bs_span_forget(struct bs_span *s);
void bs_span_remake(struct bs_span *s, uintptr_t base, size_t npages, size_t request);
void bs_span_discard(struct bs_span *s);
/* The span leaves the page map's class bytes and its descriptor goes back to its pool: nobody may
 * touch it afterwards. All alloc bits must be clear (large: the block is gone). */
void bs_span_retire(struct bs_span *s);
/* The same in two steps, for several: DEAD, and nobody reads their pages (reader.h); then each descriptor goes. No
 * lock of rank page heap or higher. */
void bs_span_bury(struct bs_span *const *spans, size_t n);
void bs_span_drop(struct bs_span *s);

/* True if the span, which may be gone, lives and its pages hold p. */
BS_INLINE bool bs_span_holds(const struct bs_span *s, uintptr_t p) {
    return s != NULL && bs_load_acquire(&s->state) != BS_SPAN_DEAD &&
           p - bs_load(&s->base) < (size_t)bs_load(&s->npages) * BS_PAGE_SIZE;
}
/* The live span whose pages hold p, or NULL: any word may be asked. While the span lives that is its
 * answer whatever others do: what bs_pagemap_span names for its pages is this span. */
struct bs_span *bs_span_of(uintptr_t p);
/* The live span that begins at p, or NULL. */
BS_INLINE struct bs_span *bs_span_at(uintptr_t p) {
    struct bs_span *s = bs_span_of(p);
    return s != NULL && bs_load(&s->base) == p ? s : NULL;
}
/* The one that begins at this page of the region at base, whose alloc bits say which pages are in use. */
BS_INLINE struct bs_span *bs_span_in_region(const uint64_t *alloc, uintptr_t base, size_t page) {
    return bs_bit_test(alloc, page) ? bs_span_at(base + page * BS_PAGE_SIZE) : NULL;
}

/* What a span is at this moment, for who reads while others may make another one of its descriptor. */
struct bs_shape {
    uintptr_t base;
    size_t bytes;    /* of its pages */
    size_t size;     /* of a slot */
    uint32_t nslots;
    unsigned class;  /* 0: large */
};
/* False: it is gone, or changes. What is said true of is one span, though it may be gone by now: of its class
 * and its base each is read again after the other, and a span's pages follow from these, or (large) are
 * those that some block there had. */
BS_INLINE bool bs_span_shape(const struct bs_span *s, struct bs_shape *shape) {
    bool alive = bs_load_acquire(&s->state) != BS_SPAN_DEAD;
    unsigned class = bs_load_acquire(&s->class);
    uintptr_t base = bs_load_acquire(&s->base);
    size_t npages = class != 0 ? bs_class_info[class].npages : bs_load_acquire(&s->npages);
    shape->class = class;
    shape->base = base;
    shape->bytes = npages * BS_PAGE_SIZE;
    shape->size = class != 0 ? bs_class_info[class].size : shape->bytes;
    shape->nslots = class != 0 ? bs_class_info[class].nslots : 1;
    return alive && bs_load_acquire(&s->class) == class && bs_load_acquire(&s->base) == base &&
           bs_load(&s->state) != BS_SPAN_DEAD;
}
/* The slot that byte p lies in; false: none does. */
BS_INLINE bool bs_shape_slot(const struct bs_shape *shape, uintptr_t p, uint32_t *slot) {
    if (p - shape->base >= shape->bytes)
        return false;
    *slot = shape->class != 0 ? bs_class_slot(&bs_class_info[shape->class], (uint32_t)(p - shape->base)) : 0;
    return *slot < shape->nslots;
}

/* What of a part of a span's pages is in slots that are out, by a copy of its bits (bs_central_copy_bits). */
struct bs_slots_out {
    size_t bytes;
    unsigned slots; /* that lie in the part, or reach into it */
};
/* Of [from, to), which lies in the span. */
struct bs_slots_out bs_shape_slots_out(const struct bs_shape *s, const uint64_t *bits, uintptr_t from, uintptr_t to);

/* Claims at most max slots of word w that are free and in `of`: their bits, now set in alloc. */
uint64_t bs_span_claim(struct bs_span *s, size_t w, uint64_t of, unsigned max);

/* The slot that begins at p, which lies in the small span; false: none does. */
BS_INLINE bool bs_span_slot_at(const struct bs_span *s, uintptr_t p, uint32_t *slot) {
    const struct bs_class_info *c = bs_span_class(s);
    uint32_t offset = (uint32_t)(p - s->base);
    *slot = bs_class_slot(c, offset);
    return BS_LIKELY(*slot * c->size == offset && *slot < c->nslots);
}

enum bs_free_result { BS_FREED, BS_FREE_INTERIOR, BS_FREE_TWICE };

/* Where the alloc bits of some blocks are: found without a lock, cleared under it. */
struct bs_slots {
    uint64_t mask; /* of the word's bits: one for each block */
    uint8_t word;
};
/* How many of the n >= 1 blocks follow each other in steps of `step` bytes, the first included. */
unsigned bs_span_count_steps(void *const *blocks, unsigned n, intptr_t step);

/* Where the first of n blocks is, `offset` bytes into a span of class c, and those behind it that can
 * be cleared with it: blocks that were made one after the other are neighbours, and are often freed in
 * this order or the opposite one. How many; 0: the first is no block (BS_FREE_INTERIOR). */
BS_INLINE unsigned bs_span_place(const struct bs_class_info *c, size_t offset, void *const *blocks,
                                 unsigned n, struct bs_slots *at) {
    uint32_t slot = bs_class_slot(c, (uint32_t)offset);
    if (BS_UNLIKELY(slot * c->size != offset || slot >= c->nslots))
        return 0;
    unsigned bit = slot % 64, count = 1;
    uint64_t mask = (uint64_t)1 << bit;
    if (n > 1) {
        intptr_t size = (intptr_t)c->size, step = (intptr_t)blocks[1] - (intptr_t)blocks[0];
        if (BS_UNLIKELY(step == size)) {
            unsigned most = (unsigned)bs_min(64 - bit, c->nslots - slot);
            count = bs_span_count_steps(blocks, n < most ? n : most, step);
            mask = bs_low_bits(count) << bit;
        } else if (BS_UNLIKELY(step == -size)) {
            count = bs_span_count_steps(blocks, n < bit + 1 ? n : bit + 1, step);
            mask = bs_low_bits(count) << (bit + 1 - count);
        }
    }
    *at = (struct bs_slots){mask, (uint8_t)(slot / 64)};
    return count;
}
/* Clears the alloc bits of `count` blocks at that place. False: one was clear already (BS_FREE_TWICE);
 * nothing is changed. */
BS_INLINE bool bs_span_clear(struct bs_span *s, struct bs_slots at, unsigned count) {
    uint64_t *word = &s->alloc[at.word];
    if (BS_UNLIKELY((*word & at.mask) != at.mask))
        return false;
    bs_store(word, *word & ~at.mask);
    s->nalloc = (uint16_t)(s->nalloc - count);
    return true;
}
/* True if p is the start of a slot that has left the span. */
bool bs_span_is_allocated(const struct bs_span *s, uintptr_t p);

/* The whole OS pages inside a small span, from the first aligned one, that no slot which has left
 * the span touches: bit i is page i. An OS page longer than the span has none. */
uint16_t bs_span_free_os_pages(const struct bs_span *s, size_t os_page);
/* Address of OS page 0 of that numbering. */
BS_INLINE uintptr_t bs_span_os_page_base(const struct bs_span *s, size_t os_page) {
    return bs_align_up(s->base, os_page);
}

/* OS pages given back inside all spans, also those that wait; cheap. Whoever changes `holes` says
 * so. */
void bs_span_count_holes(size_t more, size_t fewer);
size_t bs_span_holes(void);

/* Bytes of all large spans, also those that wait; cheap. Whoever changes the pages of one says so; making
 * and retiring does. */
void bs_span_count_large(size_t more, size_t fewer);
size_t bs_span_large_bytes(void);

/* Debug: the conservation law above, and bits beyond nslots clear. */
bool bs_span_is_valid(const struct bs_span *s);

#endif
