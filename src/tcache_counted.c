/* SPDX-License-Identifier: MIT */
/* tcache_counted.c - see tcache_counted.h. Takes the central locks, through tcache.c. */
#include "tcache_counted.h"

#include "os.h"

#include <string.h>

/* Room for what comes back. What circulates is as much: it shall lie in the nearest cache, and be moved seldom. */
static uint32_t room_of(unsigned class) {
    uint32_t size = bs_class_info[class].size, least = size <= BS_TINY_MAX ? BS_RETURNED_LEAST : 2;
    return (uint32_t)bs_min(bs_max(BS_RETURNED_BYTES / size, least), BS_RETURNED_MAX);
}

void bs_counted_init(struct bs_tcache *tc) {
    static uint64_t made; /* [atomic] */
    struct bs_counting *counting = tc->counting;
    bs_sampler_init(&counting->sampler, bs_os_random() ^ bs_os_now_ns() ^ (bs_add(&made, 1) + 1) << 40);
    counting->closed = NULL;
    void **bottom = counting->storage;
    for (unsigned class = 0; class < BS_NCLASSES; class++) {
        tc->tops.top[BS_RETURNED + class] = &counting->closed;
        tc->tops.limit[BS_RETURNED + class] = &counting->closed;
        counting->bottom[class] = bottom;
        counting->room[class] = class != 0 ? (uint16_t)room_of(class) : 0;
        bottom += 1 + counting->room[class];
    }
    BS_CHECK(bottom <= counting->storage + BS_RETURNED_WORDS);
}

static size_t ready_blocks(const struct bs_tcache *tc, unsigned class) {
    uint64_t run = tc->bin[class].run_mask;
    return bs_tcache_count(tc, class) + (run != 0 ? bs_popcount(run) : 0);
}

void bs_counted_account(struct bs_tcache *tc, unsigned class) {
    struct bs_sampler *s = &tc->counting->sampler;
    struct bs_sampler_class *c = &s->class[class];
    uint32_t ready = (uint32_t)ready_blocks(tc, class);
    if (BS_UNLIKELY(!c->drawn))
        bs_sampler_draw(s, class);
    /* (A fork may have met the owner between two stores: clamped.) */
    c->until = bs_sub_clamped(c->until, bs_sub_clamped(c->ready, ready));
    c->ready = ready;
}

void bs_counted_recount(struct bs_tcache *tc, unsigned class) {
    tc->counting->sampler.class[class].ready = (uint32_t)ready_blocks(tc, class);
}

/* --- what came back --------------------------------------------------------------------------- */

static void set_top(struct bs_tcache *tc, unsigned class, size_t count) {
    bs_store(&tc->tops.top[BS_RETURNED + class], tc->counting->bottom[class] + count);
}

/* None counts between the two while blocks leave and move: a snapshot by fork loses them (tcache.h). */
static void **lift(struct bs_tcache *tc, unsigned class) {
    set_top(tc, class, 0);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return tc->counting->bottom[class] + 1;
}
static void lower(struct bs_tcache *tc, unsigned class, void **oldest, size_t gone, size_t left) {
    if (gone != 0)
        memmove(oldest, oldest + gone, left * sizeof *oldest);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    set_top(tc, class, left);
}

void bs_counted_flush(struct bs_tcache *tc, unsigned class, size_t part) {
    size_t count = bs_counted_returned(tc, class), n = (count + part - 1) / part;
    if (count == 0)
        return;
    void **oldest = lift(tc, class);
    bs_central_release(class, oldest, (unsigned)n);
    lower(tc, class, oldest, n, count - n);
}

/* n blocks from *from on become ready; they have left what came back. */
static void make_ready(struct bs_tcache *tc, unsigned class, void **from, size_t n) {
    void **top = tc->tops.top[class];
    memcpy(top + 1, from, n * sizeof *from);
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bs_store(&tc->tops.top[class], top + n);
}

/* Room for n blocks beside `count` that are ready; how many there is room for. */
static size_t grow_to(struct bs_tcache *tc, unsigned class, size_t count, size_t n) {
    bs_tcache_open(tc, class);
    while (tc->bin[class].cap < count + n && bs_tcache_grow(tc, class))
        ;
    return bs_min(n, tc->bin[class].cap - count);
}

/* Nothing is ready, and the next mark lies not before the block that is asked for, and `until` blocks behind it: the
 * newest of what came back is it, and those below become ready; how many. No block: less than `least` came back. (They
 * leave before they count elsewhere.) */
static inline void *turn_over(struct bs_tcache *tc, unsigned class, size_t least, uint64_t until, size_t *ready) {
    void **bottom = tc->counting->bottom[class], **top = tc->tops.top[BS_RETURNED + class];
    ptrdiff_t count = top - bottom; /* (below 0 where none ever came) */
    if (count < (ptrdiff_t)least)
        return NULL;
    size_t n = bs_min((size_t)count - 1, until);
    if (BS_UNLIKELY(tc->bin[class].cap < n || bs_tcache_is_closed(tc, class)))
        n = grow_to(tc, class, 0, n);
    void **left = top - 1 - n;
    bs_store(&tc->tops.top[BS_RETURNED + class], left);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    make_ready(tc, class, left + 1, n);
    tc->bin[class].refilled = true;
    *ready = n;
    return *top;
}

/* With less it is not worth a visit: what circulates is made more by a refill. */
static inline size_t enough(const struct bs_tcache *tc, unsigned class) {
    return tc->counting->room[class] / 2u;
}

/* The two doors below are asked once for every few blocks: they do without the account and the counts of the slow ones. */
void *bs_tcache_turn(struct bs_tcache *tc, unsigned class) {
    struct bs_sampler_class *c = &tc->counting->sampler.class[class];
    uint64_t until = c->until, ready = c->ready; /* 0 before it is drawn */
    size_t n;
    if (BS_UNLIKELY(until <= ready || *tc->tops.top[class] != NULL || tc->bin[class].run_mask != 0))
        return NULL;
    until -= ready + 1;
    void *p = turn_over(tc, class, enough(tc, class), until, &n);
    if (p != NULL) {
        c->until = until;
        c->ready = (uint32_t)n;
    }
    return p;
}

bool bs_tcache_turn_in(unsigned class, void *p) {
    struct bs_tcache *tc = bs_tcache_self();
    struct bs_counting *counting = tc->counting;
    if (BS_UNLIKELY(counting == NULL))
        return false;
    void **top = tc->tops.top[BS_RETURNED + class], **bottom = counting->bottom[class];
    size_t count = (size_t)(top - bottom), room = (size_t)(tc->tops.limit[class] - tc->tops.top[class]);
    if (BS_UNLIKELY(count != counting->room[class] || room < count))
        return false;
    struct bs_sampler_class *c = &counting->sampler.class[class];
    uint64_t ready = ready_blocks(tc, class), until = c->until - (c->ready - ready);
    if (BS_UNLIKELY(ready > c->ready || until < ready + count))
        return false;
    c->until = until;
    c->ready = (uint32_t)(ready + count);
    bs_store(&tc->tops.top[BS_RETURNED + class], bottom);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    make_ready(tc, class, bottom + 1, count);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return bs_tcache_put(&tc->tops, BS_RETURNED + class, p);
}

/* --- the slow door ---------------------------------------------------------------------------- */

void *bs_counted_alloc(struct bs_tcache *tc, unsigned class) {
    struct bs_sampler *s = &tc->counting->sampler;
    struct bs_sampler_class *c = &s->class[class];
    void *p;
    size_t n;
    bs_counted_account(tc, class);
    bool due = c->until == 0;
    if (due)
        bs_sampler_draw(s, class);
    else
        c->until--;
    if (!bs_tcache_take(&tc->tops, class, &p) && !bs_tcache_spread(tc, class, &p) &&
        (p = turn_over(tc, class, enough(tc, class), c->until, &n)) == NULL) {
        p = bs_tcache_refill(tc, class, (unsigned)bs_min(tc->bin[class].claim, c->until + 1));
        if (BS_UNLIKELY(p == NULL))
            p = turn_over(tc, class, 1, c->until, &n);
    }
    if (p == NULL) /* nothing was handed out, so the mark is where it was */
        c->until = due ? 0 : c->until + 1;
    s->due = due && p != NULL;
    bs_counted_recount(tc, class);
    return p;
}

/* Half of what came back, the oldest, becomes ready where it may, else goes to the central lists. True: some does. */
static bool make_room(struct bs_tcache *tc, unsigned class) {
    size_t count = bs_counted_returned(tc, class), n = (count + 1) / 2;
    struct bs_sampler_class *c = &tc->counting->sampler.class[class];
    bs_counted_account(tc, class);
    size_t stay = grow_to(tc, class, bs_tcache_count(tc, class), bs_min(n, bs_sub_clamped(c->until, c->ready)));
    void **oldest = lift(tc, class);
    if (stay != 0)
        make_ready(tc, class, oldest + (n - stay), stay);
    if (stay != n)
        bs_central_release(class, oldest, (unsigned)(n - stay));
    lower(tc, class, oldest, n, count - n);
    c->ready += (uint32_t)stay;
    return stay != n;
}

bool bs_counted_free(struct bs_tcache *tc, unsigned class, void *p) {
    void ***limit = &tc->tops.limit[BS_RETURNED + class];
    if (BS_UNLIKELY(*limit == &tc->counting->closed)) {
        void **bottom = tc->counting->bottom[class];
        *bottom = NULL;
        set_top(tc, class, 0);
        bs_store(limit, bottom + tc->counting->room[class]);
        if (bs_tcache_is_closed(tc, class)) { /* it was handed to this thread */
            bs_central_release(class, &p, 1);
            return true;
        }
    }
    if (bs_tcache_put(&tc->tops, BS_RETURNED + class, p))
        return false;
    bool asked = make_room(tc, class);
    (void)bs_tcache_put(&tc->tops, BS_RETURNED + class, p);
    return asked;
}
