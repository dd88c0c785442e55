/* SPDX-License-Identifier: MIT */
/*
 * tcache.c - the slow half of thread caches: making, refilling, flushing, growing, giving up.
 *
 * Locks: takes the registry's and the central locks, one at a time, and the borrow lock, which is
 * its own; under that the registry's. pthread_setspecific may call
 * back into calloc; every function here is written to be entered again at that point.
 */
#include "tcache_inl.h"

#include "counter.h"
#include "limit.h"
#include "lock.h"
#include "meta.h"
#include "os.h"
#include "pageheap.h"
#include "sampler.h"
#include "thread.h"

#include <string.h>

/* The bottom and the limit of every magazine of the two static caches. */
static void *no_block;
struct bs_no_caches bs_no_caches = {.word = &no_block,
                                    .cache = {.top = {[0 ... BS_NCLASSES - 1] = &no_block},
                                              .limit = {[0 ... BS_NCLASSES - 1] = &no_block}}};
__thread struct bs_tcache *bs_self = &bs_tcache_empty;

#define CACHE_BYTES \
    (sizeof(struct bs_tcache) + BS_NCLASSES * sizeof ((struct bs_tcache *)NULL)->first_blocks[0])
static struct bs_meta_pool cache_pool = BS_META_POOL_INIT(CACHE_BYTES);
static struct bs_meta_pool sampler_pool = BS_META_POOL_INIT(sizeof(struct bs_sampler));
/* Storage of magazines that grew: a bottom and 16, 32 ... 1024 blocks. */
static struct bs_meta_pool storage_pool[] = {
    BS_META_POOL_INIT(17 * sizeof(void *)),  BS_META_POOL_INIT(33 * sizeof(void *)),
    BS_META_POOL_INIT(65 * sizeof(void *)),  BS_META_POOL_INIT(129 * sizeof(void *)),
    BS_META_POOL_INIT(257 * sizeof(void *)), BS_META_POOL_INIT(513 * sizeof(void *)),
    BS_META_POOL_INIT(1025 * sizeof(void *)),
};
_Static_assert(BS_MAGAZINE_MAX == 1024 && BS_MAGAZINE_START == 8, "pools fit the capacities");

static struct bs_lock borrow = BS_LOCK_INIT(BS_RANK_BORROW);

/* [atomic] slow doors were busy since somebody asked; written when it changes only */
static bool busy;

static bool disabled; /* [atomic] no new caches; set while options are read, or by mallopt */

static struct bs_meta_pool *storage_of(uint32_t cap) {
    return &storage_pool[bs_ctz(cap) - 4];
}

/* A fresh magazine of large blocks has less room: the start is a bound in bytes as well. */
static uint16_t start_capacity(uint32_t size) {
    uint16_t cap = BS_MAGAZINE_START;
    while (cap > 2 && (size_t)cap * size > BS_MAGAZINE_MAX_BYTES)
        cap /= 2;
    return cap;
}

/* What magazines of one thread may have beyond the start: a part of what the heap has in use. */
static size_t extra_room(void) {
    size_t part = bs_pageheap_used_bytes() / BS_CACHE_HEAP_PART;
    return bs_min(BS_CACHE_THREAD_BYTES, bs_max(part, BS_CACHE_LEAST_BYTES));
}

static uint32_t max_capacity(uint32_t size) {
    uint32_t cap = BS_MAGAZINE_LEAST;
    while (cap < BS_MAGAZINE_MAX && (size_t)cap * 2 * size <= BS_MAGAZINE_MAX_BYTES)
        cap *= 2;
    return cap;
}

/* Slots of one refill, at most: bounded in bytes as well, so that no thread takes a span's worth of large
 * blocks for one of them. */
static uint32_t max_claim(uint32_t size) {
    return (uint32_t)bs_max(1, bs_min(BS_CLAIM_MAX, BS_CLAIM_MAX_BYTES / size));
}

/* --- making and giving up --------------------------------------------------------------------- */

/* An empty magazine in the cache's own storage. */
static void use_first_blocks(struct bs_tcache *tc, unsigned class, uint16_t cap) {
    void **bottom = tc->first_blocks[class];
    bs_store(&tc->top[class], bottom);
    bs_store(&tc->limit[class], bottom + cap);
    bs_store(&tc->bin[class].blocks, bottom + 1);
    tc->bin[class].cap = cap;
}

/* A new magazine is closed, full without a block, until its thread allocates of the class (refill). What a
 * thread frees before was handed to it, often by who gave the neighbours on the same cache line to other
 * threads: the first such block goes back instead of being used by this thread beside them. After that
 * it is open in any case: a thread that only frees shall not come here each time. */
static bool is_closed(const struct bs_tcache *tc, unsigned class) {
    return tc->limit[class] == tc->bin[class].blocks - 1;
}
static void open_magazine(struct bs_tcache *tc, unsigned class) {
    bs_store(&tc->limit[class], tc->bin[class].blocks - 1 + tc->bin[class].cap);
}

static void init_bins(struct bs_tcache *tc) {
    memset(tc, 0, CACHE_BYTES);
    use_first_blocks(tc, 0, 0);
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        struct bs_bin *bin = &tc->bin[class];
        bin->size = (uint16_t)bs_class_info[class].size;
        use_first_blocks(tc, class, start_capacity(bin->size));
        tc->limit[class] = tc->top[class];
        bin->claim = (uint16_t)bs_min(BS_MAGAZINE_START, max_claim(bin->size));
    }
}

/* The magazine is empty. */
static void free_storage(struct bs_tcache *tc, unsigned class) {
    struct bs_bin *bin = &tc->bin[class];
    uint16_t start = start_capacity(bin->size);
    if (bin->cap <= start)
        return;
    size_t bytes = (size_t)(bin->cap - start) * bin->size;
    if (bin->cap > BS_MAGAZINE_START)
        bs_meta_pool_free(storage_of(bin->cap), bin->blocks - 1);
    tc->extra_bytes -= bytes;
    bs_thread_refund(bytes);
    use_first_blocks(tc, class, start);
}

/* The cache is empty and in no registry. */
static void destroy(struct bs_tcache *tc) {
    if (tc->sampler != NULL)
        bs_meta_pool_free(&sampler_pool, tc->sampler);
    for (unsigned class = 1; class < BS_NCLASSES; class++)
        free_storage(tc, class);
    bs_meta_pool_free(&cache_pool, tc);
}

static bool is_real(const struct bs_tcache *tc) {
    return tc != &bs_tcache_empty && tc != &bs_tcache_none;
}

/* What the word leads to when nobody has borrowed it: under the lock, since a word that was put
 * back may be taken again at once. */
static struct bs_tcache *look_again(void) {
    bs_lock_acquire(&borrow);
    struct bs_tcache *tc = bs_load(&bs_self);
    bs_lock_release(&borrow);
    return tc;
}

void bs_tcache_leave(void) {
    if (bs_load(&bs_self) == &bs_tcache_none)
        return;
    bs_lock_acquire(&borrow);
    struct bs_tcache *tc = bs_load(&bs_self);
    bs_store(&bs_self, &bs_tcache_none);
    if (is_real(tc))
        bs_thread_unregister(tc);
    bs_lock_release(&borrow);
    if (!is_real(tc))
        return;
    bs_tcache_drain(tc);
    destroy(tc);
    bs_count(caches_closed, 1);
}

void bs_tcache_bury(struct bs_tcache *tc) {
    bs_tcache_drain(tc);
    destroy(tc);
    bs_count(caches_orphaned, 1);
}

void bs_tcache_disable(void) {
    bs_store(&disabled, true);
    bs_tcache_leave();
}

/* libc calls destructors in rounds, at most four; other libraries' destructors may still use
 * malloc, so the cache goes in the third. What is used after that goes without a cache. */
static void at_thread_exit(void *arg) {
    struct bs_tcache *tc = arg;
    if (tc != look_again())
        return;
    if (tc->exit_rounds++ < 2)
        bs_thread_watch_again(tc);
    else
        bs_tcache_leave();
}

static struct bs_sampler *make_sampler(void) {
    static uint64_t made; /* [atomic] */
    struct bs_sampler *s = bs_meta_pool_alloc(&sampler_pool);
    if (s != NULL) /* without: what this thread allocates is not sampled */
        bs_sampler_init(s, bs_os_random() ^ bs_os_now_ns() ^ (bs_add(&made, 1) + 1) << 40);
    return s;
}

static struct bs_tcache *make_cache(void) {
    /* A vfork child borrows its parent's word. A cache made now would carry the child's tid and be
     * taken for an orphan when the child is gone, while the parent uses it. */
    if (!bs_thread_are_ours())
        return &bs_tcache_none;
    struct bs_tcache *tc = bs_meta_pool_alloc(&cache_pool);
    if (tc == NULL)
        return &bs_tcache_none;
    init_bins(tc);
    tc->tid = bs_os_tid();
    tc->word = &bs_self;
    if (bs_sample_is_on())
        tc->sampler = make_sampler();
    bs_thread_register(tc);
    bs_store(&bs_self, tc);
    bs_count(caches_made, 1);
    /* Without an exit hook the sweeper finds the cache when its thread is gone. */
    if (bs_thread_watch_exit(tc, at_thread_exit))
        bs_store(&tc->watched, true);
    return tc;
}

/* This thread's cache: made now if it has none and may have one. bs_tcache_none without memory.
 * The caller is in besom, so the word may be borrowed again, but the cache stays the caller's. */
static struct bs_tcache *own_cache(void) {
    if (BS_UNLIKELY(bs_load(&disabled))) {
        bs_tcache_leave();
        return &bs_tcache_none;
    }
    struct bs_tcache *tc = bs_load(&bs_self);
    if (BS_UNLIKELY(tc == &bs_tcache_empty))
        tc = look_again();
    return BS_LIKELY(tc != &bs_tcache_empty) ? tc : make_cache();
}

/* --- counting for samples (sampler.h) ---------------------------------------------------------- */

static size_t ready_blocks(const struct bs_tcache *tc, unsigned class) {
    return bs_tcache_count(tc, class) + bs_popcount(tc->bin[class].run_mask);
}

/* What was handed out since the last visit brought the next mark nearer. */
static void account(struct bs_tcache *tc, unsigned class) {
    if (BS_LIKELY(tc->sampler == NULL))
        return;
    struct bs_sampler_class *c = &tc->sampler->class[class];
    uint32_t ready = (uint32_t)ready_blocks(tc, class);
    if (BS_UNLIKELY(!c->drawn))
        bs_sampler_draw(tc->sampler, class);
    /* (A fork may have met the owner between two stores: clamped.) */
    c->until = bs_sub_clamped(c->until, bs_sub_clamped(c->ready, ready));
    c->ready = ready;
}

/* The end of a visit. */
static void recount(struct bs_tcache *tc, unsigned class) {
    if (BS_UNLIKELY(tc->sampler != NULL))
        tc->sampler->class[class].ready = (uint32_t)ready_blocks(tc, class);
}

/* --- flushing --------------------------------------------------------------------------------- */

/* The oldest n of the `count` blocks of the magazine go back. The newest stay: they are warm, and
 * what lies at the bottom is looked at in time (a block freed twice is found when it goes back). */
static void flush(struct bs_tcache *tc, unsigned class, size_t count, size_t n) {
    void **blocks = tc->top[class] - count + 1;
    account(tc, class);
    /* None counts while they leave and move: a snapshot by fork loses them (tcache.h). */
    bs_store(&tc->top[class], blocks - 1);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    bs_central_release(class, blocks, (unsigned)n);
    memmove(blocks, blocks + n, (count - n) * sizeof *blocks);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    bs_store(&tc->top[class], blocks - 1 + (count - n));
    recount(tc, class);
}

static void flush_run(struct bs_tcache *tc, unsigned class) {
    void *blocks[64];
    unsigned n = 0;
    account(tc, class);
    while (bs_tcache_take_run(tc, class, &blocks[n]))
        n++;
    bs_central_release(class, blocks, n);
    recount(tc, class);
}

void bs_tcache_drain(struct bs_tcache *tc) {
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        /* Counted down to the bottom, not from `blocks`: a fork may have met the owner while it
         * changed the storage (grow). */
        size_t count = 0;
        while (tc->top[class][-(ptrdiff_t)count] != NULL)
            count++;
        if (count != 0)
            flush(tc, class, count, count);
        if (tc->bin[class].run_mask != 0)
            flush_run(tc, class);
    }
}

void bs_tcache_drain_own(void) {
    struct bs_tcache *tc = look_again();
    if (is_real(tc))
        bs_tcache_drain(tc);
}

/* Room for twice as many blocks, if the budgets allow. The magazine is full. */
static bool grow(struct bs_tcache *tc, unsigned class) {
    struct bs_bin *bin = &tc->bin[class];
    if (bin->cap >= max_capacity(bin->size))
        return false;
    size_t bytes = (size_t)bin->cap * bin->size;
    if (tc->extra_bytes + bytes > extra_room() || !bs_thread_grant(bytes))
        return false;
    if (bin->cap < BS_MAGAZINE_START) { /* in the cache's own storage */
        bs_store(&tc->limit[class], tc->limit[class] + bin->cap);
        bin->cap *= 2;
        tc->extra_bytes += bytes;
        return true;
    }
    void **bottom = bs_meta_pool_alloc(storage_of(bin->cap * 2u));
    if (bottom == NULL) {
        bs_thread_refund(bytes);
        return false;
    }
    void **old = bin->blocks - 1;
    uint16_t old_cap = bin->cap;
    memcpy(bottom, old, (1 + (size_t)old_cap) * sizeof *bottom);
    /* In this order for a snapshot by fork: top leads to a whole magazine before and after, and
     * larger storage under the smaller capacity is harmless. */
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bs_store(&tc->top[class], bottom + old_cap);
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bs_store(&bin->blocks, bottom + 1);
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bin->cap = (uint16_t)(old_cap * 2);
    bs_store(&tc->limit[class], bottom + bin->cap);
    tc->extra_bytes += bytes;
    if (old_cap > BS_MAGAZINE_START)
        bs_meta_pool_free(storage_of(old_cap), old);
    return true;
}

/* Now and then (every BS_TRIM_VISITS visits): magazines that were not needed since the last pass give half
 * of what they hold, so that a phase of the program does not leave its blocks here. */
static void trim_pass(struct bs_tcache *tc) {
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        struct bs_bin *bin = &tc->bin[class];
        size_t count = bs_tcache_count(tc, class);
        if (!bin->refilled && count != 0)
            flush(tc, class, count, (count + 1) / 2);
        if (!bin->refilled)
            bin->claim = (uint16_t)bs_min(BS_MAGAZINE_START, max_claim(bin->size));
        bin->refilled = false;
    }
}

static void note_visit(struct bs_tcache *tc) {
    uint32_t visits = tc->slow_ops + 1;
    bs_store(&tc->slow_ops, visits);
    if (visits % BS_TRIM_VISITS_NEAR != 0)
        return;
    if (!bs_load(&busy))
        bs_store(&busy, true);
    if (visits % BS_TRIM_VISITS == 0 || bs_limit_pressure() != BS_PRESSURE_NONE)
        trim_pass(tc);
}

/* --- the slow door ---------------------------------------------------------------------------- */

static void *alloc_uncached(unsigned class) {
    struct bs_refill r = {.blocks = NULL, .max_blocks = 0};
    if (!bs_central_refill(class, 1, &r))
        return NULL;
    return r.run_base + (size_t)bs_ctz(r.run_mask) * bs_class_info[class].size;
}

/* mask without its lowest n bits. */
static uint64_t without_lowest(uint64_t mask, unsigned n) {
    while (n-- > 0)
        mask &= mask - 1;
    return mask;
}

/* The lowest n >= 1 slots of `mask`, the lowest on top, become the magazine's blocks. They leave the
 * run before they count: a snapshot by fork loses them. */
static void move_slots(struct bs_tcache *tc, unsigned class, uint64_t mask, unsigned n) {
    struct bs_bin *bin = &tc->bin[class];
    void **bottom = tc->top[class], **place = bottom + 1 + n;
    size_t size = bin->size;
    char *base = bin->run_base;
    uint64_t neighbours = bs_low_bits(n) << bs_ctz(mask);
    if ((mask & neighbours) == neighbours) { /* the rule */
        bs_store(&bin->run_mask, mask & ~neighbours);
        __atomic_signal_fence(__ATOMIC_RELEASE);
        for (char *p = base + bs_ctz(mask) * size; place != bottom + 1; p += size)
            *--place = p;
    } else {
        bs_store(&bin->run_mask, without_lowest(mask, n));
        __atomic_signal_fence(__ATOMIC_RELEASE);
        for (; place != bottom + 1; mask &= mask - 1)
            *--place = base + bs_ctz(mask) * size;
    }
    __atomic_signal_fence(__ATOMIC_RELEASE);
    bs_store(&tc->top[class], bottom + n);
}

bool bs_tcache_spread(struct bs_tcache *tc, unsigned class, void **out) {
    struct bs_bin *bin = &tc->bin[class];
    uint64_t mask = bin->run_mask, others = mask & (mask - 1);
    if (others == 0 || bin->size > BS_TINY_MAX)
        return bs_tcache_take_run(tc, class, out);
    *out = bin->run_base + (size_t)bs_ctz(mask) * bin->size;
    move_slots(tc, class, others, (unsigned)bs_min(bs_popcount(others), bin->cap));
    return true;
}

/* Fills the cache, which has nothing of the class, with at most `want` slots; one of them, or NULL. */
static void *refill(struct bs_tcache *tc, unsigned class, unsigned want) {
    struct bs_bin *bin = &tc->bin[class];
    unsigned room = (unsigned)bs_min(bin->cap, want);
    struct bs_refill r = {.blocks = bin->blocks, .max_blocks = room};
    void *p;
    if (BS_UNLIKELY(bin->run_base == NULL)) { /* the first one */
        r.whole_lines = true;
        open_magazine(tc, class);
    }
    if (!bs_central_refill(class, want, &r))
        return NULL;
    bin->refilled = true;
    bin->claim = (uint16_t)bs_min((size_t)bin->claim * 2, max_claim(bin->size));
    bs_store(&bin->run_base, r.run_base);
    bin->run_zero = r.run_zero;
    bs_store(&bin->run_mask, r.run_mask);
    if (r.nblocks == 0) {
        (void)bs_tcache_spread(tc, class, &p);
        return p;
    }
    if (r.nblocks != room)
        memmove(bin->blocks, bin->blocks + (room - r.nblocks), r.nblocks * sizeof *bin->blocks);
    __atomic_signal_fence(__ATOMIC_RELEASE);
    p = bin->blocks[r.nblocks - 1];
    bs_store(&tc->top[class], bin->blocks - 2 + r.nblocks);
    return p;
}

/* With a sampler: no more is left ready than lies before the next mark. */
static void *alloc_counted(struct bs_tcache *tc, unsigned class) {
    struct bs_sampler *s = tc->sampler;
    struct bs_sampler_class *c = &s->class[class];
    void *p;
    account(tc, class);
    bool due = c->until == 0;
    if (due)
        bs_sampler_draw(s, class);
    else
        c->until--;
    if (!bs_tcache_take(tc, class, &p) && !bs_tcache_spread(tc, class, &p))
        p = refill(tc, class, (unsigned)bs_min(tc->bin[class].claim, c->until + 1));
    if (p == NULL) /* nothing was handed out, so the mark is where it was */
        c->until = due ? 0 : c->until + 1;
    s->due = due && p != NULL;
    recount(tc, class);
    return p;
}

void *bs_tcache_alloc_slow(unsigned class) {
    struct bs_tcache *tc = own_cache();
    if (tc == &bs_tcache_none)
        return alloc_uncached(class);
    note_visit(tc);
    void *p;
    if (BS_UNLIKELY(tc->sampler != NULL))
        return alloc_counted(tc, class);
    /* a cache just made may have been filled by re-entry */
    if (bs_tcache_take(tc, class, &p) || bs_tcache_spread(tc, class, &p))
        return p;
    return refill(tc, class, tc->bin[class].claim);
}

/* With a sampler: true if there is room for one more block before the next mark. */
static bool make_room_counted(struct bs_tcache *tc, unsigned class) {
    const struct bs_sampler_class *c = &tc->sampler->class[class];
    account(tc, class);
    if (c->ready >= c->until) {
        size_t count = bs_tcache_count(tc, class), n = c->ready - c->until / 2;
        if (count != 0)
            flush(tc, class, count, bs_min(n, count));
    }
    return c->ready < c->until;
}

void bs_tcache_free_slow(unsigned class, void *p) {
    struct bs_tcache *tc = own_cache();
    if (tc == &bs_tcache_none) {
        bs_central_release(class, &p, 1);
        return;
    }
    note_visit(tc);
    bool closed = is_closed(tc, class);
    if (BS_UNLIKELY(closed))
        open_magazine(tc, class);
    if (BS_UNLIKELY(closed) || (BS_UNLIKELY(tc->sampler != NULL) && !make_room_counted(tc, class))) {
        bs_central_release(class, &p, 1);
        return;
    }
    uint16_t cap = tc->bin[class].cap;
    if (tc->top[class] == tc->limit[class] && !grow(tc, class))
        flush(tc, class, cap, (cap + 1u) / 2);
    (void)bs_tcache_put(tc, class, p); /* there is room; into tc, whatever the word says by now */
    recount(tc, class);
}

bool bs_tcache_is_sampled(size_t size) {
    struct bs_tcache *tc = bs_load(&bs_self);
    if (BS_UNLIKELY(tc == &bs_tcache_empty))
        tc = look_again();
    if (!is_real(tc))
        return bs_sampler_hits_uncounted(size);
    bool due = tc->sampler != NULL && tc->sampler->due;
    if (due)
        tc->sampler->due = false;
    return due;
}

void bs_tcache_renew(void) {
    bs_tcache_leave();
    bs_lock_acquire(&borrow);
    bs_store(&bs_self, &bs_tcache_empty);
    bs_lock_release(&borrow);
}

size_t bs_tcache_bytes(const struct bs_tcache *tc) {
    size_t bytes = 0;
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        const struct bs_bin *bin = &tc->bin[class];
        bytes += (bs_tcache_count(tc, class) + bs_popcount(bs_load(&bin->run_mask))) *
                 bs_class_info[class].size;
    }
    return bytes;
}

void bs_tcache_each_block(const struct bs_tcache *tc, void (*visit)(uintptr_t p)) {
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        const struct bs_bin *bin = &tc->bin[class];
        for (uint64_t mask = bin->run_mask; mask != 0; mask &= mask - 1)
            visit((uintptr_t)bin->run_base + (size_t)bs_ctz(mask) * bin->size);
        for (void **top = tc->top[class]; *top != NULL; top--)
            visit((uintptr_t)*top);
    }
}

/* --- borrowing -------------------------------------------------------------------------------- */

void bs_tcache_borrow_lock(void) {
    bs_lock_acquire(&borrow);
}
void bs_tcache_borrow_unlock(void) {
    bs_lock_release(&borrow);
}
void bs_tcache_borrow_reset_lock(void) {
    bs_lock_reset(&borrow);
}

uint64_t bs_tcache_signature(const struct bs_tcache *tc) {
    uint64_t sum = bs_load(&tc->slow_ops);
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        const struct bs_bin *bin = &tc->bin[class];
        sum = (sum ^ (uintptr_t)bs_load(&tc->top[class]) ^ bs_load(&bin->run_mask)) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 32;
    }
    return sum;
}

bool bs_tcache_take_word(struct bs_tcache *tc) {
    BS_ASSERT_HELD(&borrow);
    struct bs_tcache *expected = tc;
    return __atomic_compare_exchange_n(tc->word, &expected, &bs_tcache_empty, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

void bs_tcache_give_word(struct bs_tcache *tc) {
    BS_ASSERT_HELD(&borrow);
    BS_CHECK(bs_load(tc->word) == &bs_tcache_empty); /* the owner made no second cache meanwhile */
    /* release: pairs with the owner's next look, on the fast path by the address it loads */
    bs_store_release(tc->word, tc);
}

size_t bs_tcache_strip(struct bs_tcache *tc) {
    BS_ASSERT_HELD(&borrow);
    size_t bytes = bs_tcache_bytes(tc);
    bs_tcache_drain(tc);
    for (unsigned class = 1; class < BS_NCLASSES; class++)
        free_storage(tc, class);
    return bytes;
}

bool bs_tcache_is_busy(void) {
    return bs_load(&busy);
}
bool bs_tcache_was_busy(void) {
    bool was = bs_load(&busy);
    bs_store(&busy, false);
    return was;
}
