/* SPDX-License-Identifier: MIT */
/* bygone.c - see bygone.h. */
#include "bygone.h"

#include "marks.h"
#include "meta.h"
#include "numbers.h"
#include "os.h"
#include "sample.h"
#include "settle.h"
#include "stacks.h"
#include "tunables.h"

static struct bs_numbers table; /* [lock:sample] from a block's address to its struct bs_bygone */
static struct bs_meta_pool pool = BS_META_POOL_INIT(sizeof(struct bs_bygone));

static struct bs_bygone *find_locked(uintptr_t p) {
    uint64_t number = bs_numbers_get(&table, p);
    return number != BS_NUMBERS_NONE ? (struct bs_bygone *)(uintptr_t)number : NULL;
}

/* Without room nothing is known of it. */
static void put_locked(uintptr_t p, const struct bs_bygone *freed) {
    struct bs_bygone *f = find_locked(p);
    if (f == NULL) {
        if (table.n >= BS_BYGONE_MAX || (f = bs_meta_pool_alloc(&pool)) == NULL)
            return;
        if (!bs_numbers_put(&table, p, (uintptr_t)f)) {
            bs_meta_pool_free(&pool, f);
            return;
        }
    }
    *f = *freed;
}

static void drop_locked(uintptr_t p) {
    uint64_t number = bs_numbers_take(&table, p);
    if (number != BS_NUMBERS_NONE)
        bs_meta_pool_free(&pool, (struct bs_bygone *)(uintptr_t)number);
}

bool bs_bygone_note(const void *p) {
    struct bs_sampled made;
    if (!bs_sample_take(p, &made))
        return false;
    const struct bs_bygone freed = {bs_stacks_take(), made.stack,     made.size, made.bytes,
                                   made.blocks,      bs_os_now_ns(), false,     0};
    bs_sample_lock();
    put_locked((uintptr_t)p, &freed);
    bs_sample_unlock();
    return true;
}

void bs_bygone_forget(const void *p) {
    bs_sample_lock();
    drop_locked((uintptr_t)p);
    bs_sample_unlock();
}

bool bs_bygone_keep(uintptr_t p, struct bs_bygone *out) {
    bs_sample_lock();
    struct bs_bygone *f = find_locked(p);
    if (f != NULL) {
        *out = *f;
        f->kept = true;
    }
    bs_sample_unlock();
    return f != NULL;
}

void bs_bygone_looked(uintptr_t p) {
    bs_sample_lock();
    struct bs_bygone *f = find_locked(p);
    if (f != NULL)
        f->looks++;
    bs_sample_unlock();
}

/* The block at p is held, and nothing was found that points to it. */
static bool is_going(uintptr_t p) {
    const struct bs_span *s = bs_span_of(p);
    uint32_t slot;
    if (s == NULL || !bs_slot_of(s, p, &slot))
        return false;
    uint64_t going = bs_marks_bits(s->base, BS_SIDE_HELD, slot / 64) &
                     ~bs_marks_bits(s->base, BS_SIDE_MARK, slot / 64);
    return (going >> (slot % 64) & 1) != 0;
}

/* What follows an entry that goes may move into its place, which is looked at again. */
void bs_bygone_settle(void) {
    bs_sample_lock();
    for (size_t i = 0; i < table.cap; i++)
        while (table.slot[i].key != 0 && is_going(table.slot[i].key))
            drop_locked(table.slot[i].key);
    bs_sample_unlock();
}

void bs_bygone_each(bs_bygone_visitor *visit, void *ctx) {
    bs_sample_lock();
    for (size_t i = 0; i < table.cap; i++)
        if (table.slot[i].key != 0 &&
            !visit(ctx, table.slot[i].key, (struct bs_bygone *)(uintptr_t)table.slot[i].number))
            break;
    bs_sample_unlock();
}

size_t bs_bygone_count(void) {
    bs_sample_lock();
    size_t n = table.n;
    bs_sample_unlock();
    return n;
}
