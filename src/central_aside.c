/* SPDX-License-Identifier: MIT */
/*
 * central_aside.c - see central.h: what comes to a class's spans from beside, not from a thread that
 * wants or returns slots: the scavenger of holes, sweeps, and blocks that go into quarantine.
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
    s->holes |= given;
    c->holes += bs_popcount(given);
    bs_span_count_holes(bs_popcount(given), 0);
    bool superfluous = settle_locked(c, s);
    bs_lock_release(&c->lock);
    if (superfluous)
        bs_waiting_add(s->class, &s, 1);
}

/* --- sweeping --------------------------------------------------------------------------------- */

bool bs_central_sweep(struct bs_span *s, unsigned class, struct bs_found *found, bool *swept) {
    struct bs_central *c = &bs_centrals[class];
    bool left = false;
    bs_lock_acquire(&c->lock);
    /* Owning it under its class's lock says that it is in service: settle.h. */
    *swept = bs_load(&s->class) == class && bs_settle_own(s);
    if (*swept) {
        uintptr_t damage = bs_settle_bits(s, found);
        if (BS_UNLIKELY(damage != 0)) {
            bs_lock_release(&c->lock);
            bs_settle_damaged(damage, class);
        }
        count_swept_locked(c, s, found);
        bs_settle_publish(s);
        left = found->released != 0 && settle_locked(c, s);
    }
    bs_lock_release(&c->lock);
    return left;
}

enum bs_free_result bs_central_hold(struct bs_span *s, uintptr_t p) {
    struct bs_central *c = &bs_centrals[s->class];
    enum bs_free_result result = BS_FREED;
    bs_lock_acquire(&c->lock);
    const struct bs_class_info *info = bs_span_class(s);
    if ((p - s->base) % info->size != 0)
        result = BS_FREE_INTERIOR;
    else if (!bs_span_is_allocated(s, p) || !bs_settle_hold(s, p))
        result = BS_FREE_TWICE;
    bs_lock_release(&c->lock);
    return result;
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
    c->slots_out += n;
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
    c->slots_out -= n;
    touch(s);
    bool left = n != 0 && settle_locked(c, s);
    bs_lock_release(&c->lock);
    return left;
}

/* --- quarantine ------------------------------------------------------------------------------- */

/* Held slots are nobody's but the caller's: no generation is needed to tell them from others. */
bool bs_central_release_held(struct bs_span *s, struct bs_found *found) {
    struct bs_central *c = &bs_centrals[s->class];
    bs_lock_acquire(&c->lock);
    bs_settle_held(s, found);
    count_swept_locked(c, s, found);
    bool left = found->released != 0 && settle_locked(c, s);
    bs_lock_release(&c->lock);
    return left;
}
