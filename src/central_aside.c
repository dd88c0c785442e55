/* SPDX-License-Identifier: MIT */
/*
 * central_aside.c - see central.h: what comes to a class's spans from beside, not from a thread that
 * wants or returns slots: the scavenger of holes, collections, and blocks that go into quarantine.
 */
#include "central_internal.h"

#include "waiting.h"

/* --- holes ------------------------------------------------------------------------------------ */

void bs_central_next_epoch(void) {
    bs_store(&bs_hole_epoch, (uint16_t)(bs_hole_epoch + 1));
}

static enum bs_borrow borrow_locked(struct bs_central *c, struct bs_span *s, bool force,
                                    uint16_t *pages) {
    *pages = bs_span_free_os_pages(s, bs_os_page_size()) & (uint16_t)~s->holes;
    if (*pages == 0)
        return BS_BORROW_NONE;
    if (!force && (uint16_t)(bs_load(&bs_hole_epoch) - s->touched) < 2)
        return BS_BORROW_LATER;
    unlist_locked(c, s);
    if (s->nalloc == 0)
        c->nempty--;
    bs_span_add_flags(s, BS_SPAN_BORROWED);
    return BS_BORROWED;
}

enum bs_borrow bs_central_borrow(uintptr_t p, bool force, struct bs_span **span, uint16_t *pages) {
    struct bs_span *s = bs_span_of(p);
    unsigned class = s != NULL ? bs_load(&s->class) : 0;
    enum bs_borrow result = BS_BORROW_NONE;
    if (class == 0)
        return BS_BORROW_NONE;
    struct bs_central *c = &bs_centrals[class];
    bs_lock_acquire(&c->lock);
    /* A listed span of this class that holds p: whatever happened since the look-up, it is one. Others are full, or on their
     * way to the page heap. */
    if (bs_span_is_listed(s, class) && bs_span_of(p) == s)
        result = borrow_locked(c, s, force, pages);
    bs_lock_release(&c->lock);
    *span = s;
    return result;
}

void bs_central_give_back(struct bs_span *s, uint16_t given) {
    struct bs_central *c = &bs_centrals[s->class];
    bs_lock_acquire(&c->lock);
    bs_span_drop_flags(s, BS_SPAN_BORROWED);
    bs_store(&s->holes, (uint16_t)(s->holes | given));
    c->holes += bs_popcount(given);
    bs_span_count_holes(bs_popcount(given), 0);
    bool superfluous = settle_locked(c, s);
    bs_lock_release(&c->lock);
    if (superfluous)
        bs_waiting_add(s->class, &s, 1);
}

/* --- collection ------------------------------------------------------------------------------- */

void bs_central_reserve(struct bs_span *s, const uint64_t *bits) {
    struct bs_central *c = &bs_centrals[s->class];
    unsigned n = 0;
    bs_lock_acquire(&c->lock);
    for (size_t w = 0; w < bs_span_words(s); w++) {
        BS_CHECK((s->alloc[w] & bits[w]) == 0);
        if (bits[w] != 0)
            bs_store(&s->alloc[w], s->alloc[w] | bits[w]);
        n += bs_popcount(bits[w]);
    }
    s->nalloc = (uint16_t)(s->nalloc + n);
    bs_store(&c->slots_out, c->slots_out + n);
    fill_holes_locked(c, s);
    relist_locked(c, s);
    bs_lock_release(&c->lock);
}

bool bs_central_release_bits(struct bs_span *s, const uint64_t *bits) {
    struct bs_central *c = &bs_centrals[s->class];
    unsigned n = 0;
    bs_lock_acquire(&c->lock);
    for (size_t w = 0; w < bs_span_words(s); w++) {
        n += bs_popcount(s->alloc[w] & bits[w]);
        if (bits[w] != 0)
            bs_store(&s->alloc[w], s->alloc[w] & ~bits[w]);
    }
    s->nalloc = (uint16_t)(s->nalloc - n);
    bs_span_drop_flags(s, BS_SPAN_FRESH);
    bs_store(&c->slots_out, c->slots_out - n);
    touch(s);
    bool left = n != 0 && settle_locked(c, s);
    bs_lock_release(&c->lock);
    return left;
}

/* --- quarantine ------------------------------------------------------------------------------- */

bool bs_central_release_held(struct bs_span *s, struct bs_found *found) {
    struct bs_central *c = &bs_centrals[s->class];
    bs_lock_acquire(&c->lock);
    bs_settle_held(s, found);
    if (found->released != 0) {
        bs_store(&c->slots_out, c->slots_out - found->released);
        touch(s);
    }
    bool left = found->released != 0 && settle_locked(c, s);
    bs_lock_release(&c->lock);
    return left;
}
