/* SPDX-License-Identifier: MIT */
/* sample.c - see sample.h. */
#include "sample.h"

#include "lock.h"
#include "meta.h"
#include "numbers.h"
#include "opt.h"
#include "os.h"
#include "out.h"
#include "sampler.h"
#include "stacks.h"

static struct {
    struct bs_lock lock;
    struct bs_numbers table; /* [lock] from a block's address to its struct bs_sampled */
    uint64_t lost;           /* [atomic] */
} samples = {.lock = BS_LOCK_INIT(BS_RANK_SAMPLE)};

static struct bs_meta_pool pool = BS_META_POOL_INIT(sizeof(struct bs_sampled));

BS_ALWAYS bool bs_sample_start(void) {
    if (bs_opt.sample == 0)
        return false;
    if (!bs_stacks_start()) {
        bs_warn("no memory for the table of stacks; nothing is sampled");
        return false;
    }
    bs_store(&bs_sample_interval, bs_opt.sample);
    return true;
}

/* Takes what was known of the block out of its stack's sums. */
static void forget(struct bs_sampled *s) {
    bs_sub(&s->stack->live_bytes, s->bytes);
    bs_sub(&s->stack->live_blocks, s->blocks);
    bs_sub(&s->stack->live_samples, 1);
    bs_meta_pool_free(&pool, s);
}

static struct bs_sampled *take(const void *p) {
    bs_lock_acquire(&samples.lock);
    uint64_t number = bs_numbers_take(&samples.table, (uintptr_t)p);
    bs_lock_release(&samples.lock);
    return number != BS_NUMBERS_NONE ? (struct bs_sampled *)(uintptr_t)number : NULL;
}

static bool put(const void *p, struct bs_sampled *s) {
    bs_lock_acquire(&samples.lock);
    bool ok = bs_numbers_put(&samples.table, (uintptr_t)p, (uintptr_t)s);
    bs_lock_release(&samples.lock);
    return ok;
}

BS_NOINLINE bool bs_sample_made(const void *p, size_t size, size_t room) {
    uint64_t weight = bs_sampler_weight_256ths(bs_load(&bs_sample_interval), room);
    struct bs_stack *stack = bs_stacks_take();
    struct bs_sampled made = {stack, size, (uint64_t)size * weight / 256, (weight + 128) / 256,
                              bs_os_now_ns()};
    bs_add(&stack->bytes, made.bytes);
    bs_add(&stack->blocks, made.blocks);
    bs_add(&stack->samples, 1);
    struct bs_sampled *old = take(p); /* it went away without a word */
    if (BS_UNLIKELY(old != NULL))
        forget(old);
    struct bs_sampled *s = bs_meta_pool_alloc(&pool);
    if (s == NULL) {
        bs_add(&samples.lost, 1);
        return false;
    }
    *s = made;
    /* Before others can find it: who takes it out subtracts. */
    bs_add(&stack->live_bytes, made.bytes);
    bs_add(&stack->live_blocks, made.blocks);
    bs_add(&stack->live_samples, 1);
    if (put(p, s))
        return true;
    forget(s);
    bs_add(&samples.lost, 1);
    return false;
}

bool bs_sample_take(const void *p, struct bs_sampled *out) {
    struct bs_sampled *s = take(p);
    if (s == NULL)
        return false;
    *out = *s;
    forget(s);
    return true;
}
bool bs_sample_freed(const void *p) {
    struct bs_sampled known;
    return bs_sample_take(p, &known);
}

bool bs_sample_find(const void *p, struct bs_sampled *out) {
    bs_lock_acquire(&samples.lock);
    uint64_t number = bs_numbers_get(&samples.table, (uintptr_t)p);
    if (number != BS_NUMBERS_NONE)
        *out = *(struct bs_sampled *)(uintptr_t)number;
    bs_lock_release(&samples.lock);
    return number != BS_NUMBERS_NONE;
}

bool bs_sample_part(size_t *place, struct bs_sampled_at out[BS_SAMPLE_PART], size_t *n) {
    *n = 0;
    bs_lock_acquire(&samples.lock);
    size_t end = bs_min(*place + BS_SAMPLE_PART, samples.table.cap);
    bool more = *place < end;
    for (; *place < end; ++*place) {
        const struct bs_number *at = &samples.table.slot[*place];
        if (at->key == 0)
            continue;
        const struct bs_sampled *s = (const struct bs_sampled *)(uintptr_t)at->number;
        out[(*n)++] = (struct bs_sampled_at){at->key, s->stack, s->blocks};
    }
    bs_lock_release(&samples.lock);
    return more;
}

size_t bs_sample_count(void) {
    bs_lock_acquire(&samples.lock);
    size_t n = samples.table.n;
    bs_lock_release(&samples.lock);
    return n;
}
uint64_t bs_sample_lost(void) {
    return bs_load(&samples.lost);
}

void bs_sample_lock(void) {
    bs_lock_acquire(&samples.lock);
}
void bs_sample_unlock(void) {
    bs_lock_release(&samples.lock);
}
void bs_sample_reset_lock(void) {
    bs_lock_reset(&samples.lock);
}
