/* SPDX-License-Identifier: MIT */
/* tcache_gate.c - see tcache_gate.h. Takes the central locks, through tcache.c, and metadata's for the gates of a cache. */
#include "tcache_gate.h"

#include "meta.h"
#include "os.h"

#include <string.h>

/* What is the same for all caches: it follows from the class and the interval. [atomic; spacing last, release] */
static struct rule {
    uint32_t spacing;             /* a power of two; 0: not known yet */
    uint64_t at_gate, elsewhere; /* thresholds (bs_sampler_passes) of an allocation there, and at the slow door */
} rules[BS_NCLASSES];

static struct bs_meta_pool pool = BS_META_POOL_INIT(sizeof(struct bs_gates));

/* Several threads may make the same one, also while others read it. */
static BS_NOINLINE const struct rule *make_rule(unsigned class) {
    uint64_t interval = bs_load(&bs_sample_interval);
    size_t size = bs_class_info[class].size;
    uint32_t spacing = 1;
    while (spacing < BS_GATE_SPACING_MAX && interval / size >= (uint64_t)spacing * 2 * BS_GATE_HITS_PART)
        spacing *= 2;
    bs_store(&rules[class].at_gate, bs_sampler_threshold(interval, size, spacing));
    bs_store(&rules[class].elsewhere, bs_sampler_threshold(interval, size, 1));
    bs_store_release(&rules[class].spacing, spacing);
    return &rules[class];
}
static inline const struct rule *rule_of(unsigned class) {
    return BS_LIKELY(bs_load_acquire(&rules[class].spacing) != 0) ? &rules[class] : make_rule(class);
}

uint32_t bs_gate_spacing(unsigned class) {
    return bs_load(&rule_of(class)->spacing);
}

struct bs_gates *bs_gates_own(struct bs_tcache *tc) {
    static uint64_t made; /* [atomic] */
    if (BS_LIKELY(tc->gates != NULL))
        return tc->gates;
    struct bs_gates *gates = bs_meta_pool_alloc(&pool);
    if (gates == NULL)
        return NULL;
    memset(gates, 0, sizeof *gates);
    gates->chance = bs_os_random() ^ bs_os_now_ns() ^ (bs_add(&made, 1) + 1) << 40;
    tc->gates = gates;
    for (unsigned class = 1; class < BS_NCLASSES; class++)
        bs_gate_set_there(tc, class);
    return gates;
}

void bs_gates_free(struct bs_tcache *tc) {
    if (tc->gates != NULL)
        bs_meta_pool_free(&pool, tc->gates);
    tc->gates = NULL;
}

static inline void **bottom_of(const struct bs_tcache *tc, unsigned class) {
    return tc->bin[class].blocks - 1;
}

/* Frees that would reach the gate at `next` come to the slow door, as those do for which there is no room. */
static inline void set_limit(struct bs_tcache *tc, unsigned class, void **next) {
    void **full = bottom_of(tc, class) + tc->bin[class].cap;
    bs_store(&tc->tops.limit[class], next <= full ? next - 1 : full);
}

/* The gate at a place that has a block. It is told where it is before the place is emptied: a block is never in none. */
static inline void shut(struct bs_gate *gate, void **at, void *block) {
    bs_store(&gate->aside, block);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    bs_store(&gate->at, at);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    bs_store(at, (void *)NULL);
}
static inline void open_up(const struct bs_gate *gate) {
    bs_store(gate->at, gate->aside);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void bs_gate_lift_there(struct bs_tcache *tc, unsigned class) {
    struct bs_gate *gate = &tc->gates->gate[class];
    if (gate->at == NULL)
        return;
    if (gate->at <= tc->tops.top[class] && *gate->at == NULL)
        open_up(gate);
    bs_store(&gate->at, (void **)NULL);
    bs_tcache_open(tc, class);
}

void bs_gate_set_there(struct bs_tcache *tc, unsigned class) {
    if (bs_tcache_is_closed(tc, class))
        return;
    struct bs_gate *gate = &tc->gates->gate[class];
    size_t spacing = bs_load(&rule_of(class)->spacing), phase = 1 + (bs_sampler_random(&tc->gates->chance) & (spacing - 1));
    void **first = bottom_of(tc, class) + phase, **top = tc->tops.top[class];
    if (top < first) {
        bs_store(&gate->at, first);
        set_limit(tc, class, first);
        return;
    }
    void **at = top - ((size_t)(top - first) & (spacing - 1));
    shut(gate, at, *at);
    set_limit(tc, class, at + spacing);
}

/* --- through a gate --------------------------------------------------------------------------- */

void *bs_tcache_pass_gate(struct bs_tcache *tc, unsigned class, bool *sampled) {
    struct bs_gates *gates = tc->gates;
    struct bs_gate *gate = &gates->gate[class];
    void **at = gate->at, *p = gate->aside;
    if (tc->tops.top[class] != at)
        return NULL;
    const struct rule *rule = &rules[class];
    bs_store(&tc->tops.top[class], at - 1);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    ptrdiff_t spacing = (ptrdiff_t)bs_load(&rule->spacing);
    if (at - bottom_of(tc, class) > spacing)
        shut(gate, at - spacing, at[-spacing]);
    bs_store(&tc->tops.limit[class], at - 1);
    *sampled = bs_sampler_passes(&gates->chance, bs_load(&rule->at_gate));
    return p;
}

bool bs_tcache_pass_gate_back(struct bs_tcache *tc, unsigned class, void *p) {
    struct bs_gate *gate = &tc->gates->gate[class];
    void **at = gate->at, **place = tc->tops.top[class] + 1;
    if (at == NULL || place - 1 != tc->tops.limit[class] || place > bottom_of(tc, class) + tc->bin[class].cap)
        return false;
    size_t spacing = bs_load(&rules[class].spacing);
    if (place == at + spacing)
        open_up(gate);
    else if (place != at)
        return false;
    shut(gate, place, p);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    bs_store(&tc->tops.top[class], place);
    set_limit(tc, class, place + spacing);
    return true;
}

void *bs_gate_alloc(struct bs_tcache *tc, unsigned class) {
    void *p = bs_tcache_pass_gate(tc, class, &tc->gates->due);
    if (p != NULL)
        return p;
    bs_gate_lift_there(tc, class);
    if (!bs_tcache_take(&tc->tops, class, &p) && !bs_tcache_spread(tc, class, &p))
        p = bs_tcache_refill(tc, class, tc->bin[class].claim);
    bs_gate_set_there(tc, class);
    tc->gates->due = p != NULL && bs_sampler_passes(&tc->gates->chance, bs_load(&rule_of(class)->elsewhere));
    return p;
}
