/* SPDX-License-Identifier: MIT */
/* settle.c - see settle.h. It takes no lock: the callers hold what the table there asks for. */
#include "settle.h"

#include "counter.h"
#include "freed.h"
#include "os.h"
#include "out.h"

struct bs_settling bs_settling;

/* --- ownership -------------------------------------------------------------------------------- */

bool bs_settle_own(struct bs_span *s) {
    uint32_t old = bs_load(&bs_sweepgen) - 2;
    if (bs_load(&s->sweepgen) != old) /* no locked instruction where there is nothing to have */
        return false;
    /* acquire: pairs with bs_settle_publish of the cycle before */
    return __atomic_compare_exchange_n(&s->sweepgen, &old, old + 1, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

void bs_settle_publish(struct bs_span *s) {
    bs_count(spans_swept, 1);
    bs_store_release(&s->sweepgen, bs_load(&bs_sweepgen));
}

/* Looks in a row before a thread that waits sleeps, and how long then: who is waited for may have lost its CPU to this
 * very thread, and yields mean nothing to one of higher priority (SCHED_FIFO). */
#define LOOKS 64
#define SLEEP_NS 20000u

static void breathe(unsigned looks) {
    if (looks < LOOKS)
        bs_os_yield();
    else
        bs_os_pause(SLEEP_NS);
}

bool bs_settle_keep(struct bs_span *s) {
    uint32_t gen = bs_load(&bs_sweepgen), seen = gen - 2;
    unsigned looks = 0;
    /* One step from gen - 2 to gen: a thread that fork loses in the middle leaves no owner. The
     * mark may stay: a word of a swept span is nobody's. */
    while (!__atomic_compare_exchange_n(&s->sweepgen, &seen, gen, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
        if (seen == gen)
            return bs_load(&s->alloc[0]) != 0;
        breathe(looks++); /* being swept: a few stores */
        seen = gen - 2;
    }
    return true;
}

/* --- the bits --------------------------------------------------------------------------------- */

/* Only words with bits are written: the others may lie on pages that nothing has touched. */
static void clear_word(const struct bs_span *s, enum bs_side side, size_t w, uint64_t bits) {
    uint64_t *word = bs_marks_word(s->base, side, w);
    if (word != NULL && (bs_load(word) & bits) != 0)
        (void)__atomic_fetch_and(word, ~bits, __ATOMIC_RELAXED);
}

struct verdict {
    uint64_t release, report;
};

static struct verdict judge(uint64_t candidates, uint64_t held, uint64_t mark) {
    uint64_t unreached = candidates & ~held & ~mark;
    switch (bs_settling.mode) {
    case BS_SWEEP_LEAKS:
        return (struct verdict){0, unreached};
    case BS_SWEEP_COLLECT:
        return (struct verdict){unreached, unreached};
    case BS_SWEEP_QUARANTINE:
        return (struct verdict){candidates & held & ~mark, candidates & held & mark};
    default:
        return (struct verdict){0, 0};
    }
}

static uintptr_t slot_address(const struct bs_span *s, size_t w, uint64_t bits) {
    size_t size = s->class != 0 ? bs_span_class(s)->size : 0;
    return s->base + (w * 64 + bs_ctz(bits)) * size;
}

/* The lowest slot that is marked but free, else 0. */
static uintptr_t find_damage(const struct bs_span *s) {
    for (size_t w = 0; w < bs_span_words(s); w++) {
        uint64_t wrong = bs_marks_bits(s->base, BS_SIDE_MARK, w) & ~s->alloc[w];
        if (BS_UNLIKELY(wrong != 0))
            return slot_address(s, w, wrong);
    }
    return 0;
}

static void settle_word(struct bs_span *s, size_t w, struct bs_found *found) {
    uint64_t held = bs_marks_bits(s->base, BS_SIDE_HELD, w), idle = bs_marks_bits(s->base, BS_SIDE_IDLE, w);
    struct verdict v = judge(s->alloc[w] & ~idle, held, bs_marks_bits(s->base, BS_SIDE_MARK, w));
    found->bits[w] = v.report;
    found->reported += bs_popcount(v.report);
    found->released += bs_popcount(v.release);
    if (v.release != 0)
        bs_store(&s->alloc[w], s->alloc[w] & ~v.release);
    clear_word(s, BS_SIDE_MARK, w, ~(uint64_t)0);
    clear_word(s, BS_SIDE_IDLE, w, ~(uint64_t)0);
    clear_word(s, BS_SIDE_HELD, w, v.release);
}

uintptr_t bs_settle_bits(struct bs_span *s, struct bs_found *found) {
    BS_ASSERT(bs_load(&s->sweepgen) + 1 == bs_load(&bs_sweepgen));
    BS_ASSERT(bs_load(&bs_settling.phase) == BS_SETTLE_SWEEPING);
    found->base = s->base;
    found->class = s->class;
    found->size = s->class != 0 ? bs_span_class(s)->size : bs_load(&s->npages) * BS_PAGE_SIZE;
    found->released = found->reported = 0;
    uintptr_t damage = find_damage(s);
    if (BS_UNLIKELY(damage != 0))
        return damage;
    for (size_t w = 0; w < bs_span_words(s); w++)
        settle_word(s, w, found);
    if (found->released != 0) {
        s->nalloc = (uint16_t)(s->nalloc - found->released);
        if (s->class != 0)
            bs_span_drop_flags(s, BS_SPAN_FRESH);
        bs_count(slots_swept, found->released);
    }
    BS_ASSERT(bs_span_is_valid(s));
    return 0;
}

void bs_settle_held(struct bs_span *s, struct bs_found *found) {
    BS_ASSERT(!bs_settling_is_open());
    found->base = s->base;
    found->class = s->class;
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
    bs_count(slots_swept, found->released);
    BS_ASSERT(bs_span_is_valid(s));
}

void bs_settle_empty(struct bs_span *s) {
    struct bs_found nothing;
    BS_ASSERT(s->nalloc == 0);
    if (!bs_settle_own(s))
        return;
    BS_CHECK(bs_settle_bits(s, &nothing) == 0); /* every freed slot lost its mark */
    bs_settle_publish(s);
}

void bs_settle_damaged(uintptr_t slot, unsigned class) {
    bs_fatal("sweep: slot %p (size class %u bytes) is marked but free: the bits of the heap are damaged",
             (void *)slot, bs_class_info[class].size);
}

void bs_settle_report(const struct bs_found *found) {
    if (found->reported != 0 && bs_settling.report != NULL)
        bs_settling.report(bs_settling.ctx, found);
}

/* --- one slot --------------------------------------------------------------------------------- */

bool bs_mark(uintptr_t p, struct bs_marked *block) {
    struct bs_span *s = bs_span_of(p);
    uint32_t slot;
    if (s == NULL || !bs_slot_of(s, p, &slot) || !bs_bit_test(s->alloc, slot))
        return false;
    BS_ASSERT(bs_load(&bs_settling.phase) == BS_SETTLE_MARKING && bs_span_is_unswept(s));
    if (!bs_marks_set(s->base, BS_SIDE_MARK, slot))
        return false;
    *block = bs_slot_block(s, slot);
    return true;
}

void bs_settle_spare(uintptr_t p) {
    struct bs_span *s = bs_span_of(p);
    uint32_t slot;
    if (s == NULL || !bs_slot_of(s, p, &slot) || !bs_bit_test(s->alloc, slot))
        return;
    (void)bs_marks_set(s->base, BS_SIDE_IDLE, slot);
    (void)bs_marks_set(s->base, BS_SIDE_MARK, slot);
}

void bs_settle_forget(struct bs_span *s, uintptr_t p) {
    uint32_t slot;
    if (bs_span_is_unswept(s) && bs_slot_of(s, p, &slot))
        clear_word(s, BS_SIDE_MARK, slot / 64, (uint64_t)1 << (slot % 64));
}

bool bs_settle_hold(struct bs_span *s, uintptr_t p) {
    uint32_t slot;
    if (!bs_slot_of(s, p, &slot) || !bs_marks_set(s->base, BS_SIDE_HELD, slot))
        return false;
    if (bs_span_is_unswept(s))
        (void)bs_marks_set(s->base, BS_SIDE_IDLE, slot);
    return true;
}
