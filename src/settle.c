/* SPDX-License-Identifier: MIT */
/* settle.c - see settle.h. */
#include "settle.h"

#include "counter.h"
#include "freed.h"

bool bs_marking;

/* Only words with bits are written: the others may lie on pages that nothing has touched. */
static void clear_word(const struct bs_span *s, enum bs_side side, size_t w, uint64_t bits) {
    uint64_t *word = bs_marks_word(s->base, side, w);
    if (word != NULL && (bs_load(word) & bits) != 0)
        (void)__atomic_fetch_and(word, ~bits, __ATOMIC_RELAXED);
}

void bs_settle_held(struct bs_span *s, struct bs_found *found) {
    BS_ASSERT(!bs_marking);
    found->base = s->base;
    found->size = s->class != 0 ? bs_span_class(s)->size : bs_load(&s->npages) * BS_PAGE_SIZE;
    found->released = found->reported = 0;
    for (size_t w = 0; w < bs_span_words(s); w++) {
        uint64_t held = bs_marks_bits(s->base, BS_SIDE_HELD, w),
                 mark = bs_marks_bits(s->base, BS_SIDE_MARK, w), released = held & ~mark;
        BS_ASSERT((held & ~s->alloc[w]) == 0);
        found->bits[w] = held & mark;
        found->reported += bs_popcount(held & mark);
        found->released += bs_popcount(released);
        if (released != 0)
            bs_store(&s->alloc[w], s->alloc[w] & ~released);
        clear_word(s, BS_SIDE_MARK, w, ~(uint64_t)0);
        clear_word(s, BS_SIDE_HELD, w, released);
        bs_freed_clear(s->base, w, released); /* last: who frees it again finds no block */
    }
    if (found->released == 0)
        return;
    s->nalloc = (uint16_t)(s->nalloc - found->released);
    if (s->class != 0)
        bs_span_drop_flags(s, BS_SPAN_FRESH);
    bs_count(slots_released, found->released);
    BS_ASSERT(bs_span_is_valid(s));
}

void bs_settle_spare(uintptr_t p) {
    struct bs_span *s = bs_span_of(p);
    uint32_t slot;
    if (s == NULL || !bs_slot_of(s, p, &slot) || !bs_bit_test(s->alloc, slot))
        return;
    (void)bs_marks_set(s->base, BS_SIDE_IDLE, slot);
    (void)bs_marks_set(s->base, BS_SIDE_MARK, slot);
}
