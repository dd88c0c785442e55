/* SPDX-License-Identifier: MIT */
/*
 * tcache_life.c - see tcache.h: how a thread comes to its cache, how others look at it and borrow it, and how it
 * goes. Not what it does for the thread: tcache.c.
 *
 * Locks: the borrow lock, which is its own; under that the registry's. pthread_setspecific may call back into
 * calloc; what makes a cache is written to be entered again at that point.
 */
#include "tcache_gate.h"
#include "tcache_kept.h"

#include "counter.h"
#include "lock.h"
#include "meta.h"
#include "os.h"
#include "thread.h"

#include <string.h>

/* The bottom and the limit of every magazine of the two static caches. */
static void *no_block;
struct bs_no_caches bs_no_caches = {.cache = {.no_block = &no_block,
                                              .tops = {.top = {[0 ... BS_NCLASSES - 1] = &no_block},
                                                       .limit = {[0 ... BS_NCLASSES - 1] = &no_block}}}};
__thread struct bs_tops *bs_self = &bs_tcache_empty.tops;

/* Where a magazine lies that never grew, above its bottom. */
typedef void *first_blocks[1 + BS_MAGAZINE_START];
#define CACHE_BYTES (sizeof(struct bs_tcache) + BS_NCLASSES * sizeof(first_blocks))
static struct bs_meta_pool cache_pool = BS_META_POOL_INIT(CACHE_BYTES);
/* Storage of magazines that grew: a bottom and 16, 32 ... 1024 blocks. */
static struct bs_meta_pool storage_pool[] = {
    BS_META_POOL_INIT(17 * sizeof(void *)),  BS_META_POOL_INIT(33 * sizeof(void *)),
    BS_META_POOL_INIT(65 * sizeof(void *)),  BS_META_POOL_INIT(129 * sizeof(void *)),
    BS_META_POOL_INIT(257 * sizeof(void *)), BS_META_POOL_INIT(513 * sizeof(void *)),
    BS_META_POOL_INIT(1025 * sizeof(void *)),
};
_Static_assert(BS_MAGAZINE_MAX == 1024 && BS_MAGAZINE_START == 8, "pools fit the capacities");

static struct bs_lock borrowing = BS_LOCK_INIT(BS_RANK_BORROW);

bool bs_tcache_disabled;

struct bs_meta_pool *bs_tcache_storage(uint32_t cap) {
    return &storage_pool[bs_ctz(cap) - 4];
}

/* Blocks that a fresh magazine has room for: of large ones fewer, a bound in bytes. */
static uint16_t start_capacity(uint32_t size) {
    uint16_t cap = BS_MAGAZINE_START;
    while (cap > 2 && (size_t)cap * size > BS_MAGAZINE_MAX_BYTES)
        cap /= 2;
    return cap;
}

/* An empty magazine in the cache's own storage. */
static void use_first_blocks(struct bs_tcache *tc, unsigned class, uint16_t cap) {
    void **bottom = ((first_blocks *)(void *)(tc + 1))[class];
    bs_store(&tc->tops.top[class], bottom);
    bs_store(&tc->tops.limit[class], bottom + cap);
    bs_store(&tc->bin[class].blocks, bottom + 1);
    tc->bin[class].cap = cap;
}

/* --- giving up -------------------------------------------------------------------------------- */

/* The magazine is empty. */
static void free_storage(struct bs_tcache *tc, unsigned class) {
    struct bs_bin *bin = &tc->bin[class];
    uint16_t start = start_capacity(bin->size);
    if (bin->cap <= start)
        return;
    size_t bytes = (size_t)(bin->cap - start) * bin->size;
    if (bin->cap > BS_MAGAZINE_START)
        bs_meta_pool_free(bs_tcache_storage(bin->cap), bin->blocks - 1);
    tc->extra_bytes -= bytes;
    bs_thread_refund(bytes);
    use_first_blocks(tc, class, start);
}

/* The cache is empty and in no registry. */
static void destroy(struct bs_tcache *tc) {
    for (unsigned class = 1; class < BS_NCLASSES; class++)
        free_storage(tc, class);
    bs_gates_free(tc);
    bs_meta_pool_free(&cache_pool, tc);
}

/* What the word leads to when nobody has borrowed it: under the lock, since a word that was put
 * back may be taken again at once. */
struct bs_tcache *bs_tcache_look_again(void) {
    bs_lock_acquire(&borrowing);
    struct bs_tcache *tc = bs_tcache_self();
    bs_lock_release(&borrowing);
    return tc;
}

void bs_tcache_leave(void) {
    if (bs_tcache_self() == &bs_tcache_none)
        return;
    bs_lock_acquire(&borrowing);
    struct bs_tcache *tc = bs_tcache_self();
    bs_store(&bs_self, &bs_tcache_none.tops);
    if (bs_tcache_is_real(tc))
        bs_thread_unregister(tc);
    bs_lock_release(&borrowing);
    if (!bs_tcache_is_real(tc))
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
    bs_store(&bs_tcache_disabled, true);
    bs_tcache_leave();
}

/* libc calls destructors in rounds, at most four; other libraries' destructors may still use
 * malloc, so the cache goes in the third. What is used after that goes without a cache. */
static void at_thread_exit(void *arg) {
    struct bs_tcache *tc = arg;
    if (tc != bs_tcache_look_again())
        return;
    if (tc->exit_rounds++ < 2)
        bs_thread_watch_again(tc);
    else
        bs_tcache_leave();
}

void bs_tcache_begin_sampling(void) {
    struct bs_tcache *tc = bs_tcache_look_again();
    if (bs_tcache_is_real(tc) && bs_gates_own(tc) != NULL)
        bs_tcache_drain(tc);
}

void bs_tcache_drain_own(void) {
    struct bs_tcache *tc = bs_tcache_look_again();
    if (bs_tcache_is_real(tc))
        bs_tcache_drain(tc);
}

/* --- making ----------------------------------------------------------------------------------- */

static void init_bins(struct bs_tcache *tc) {
    use_first_blocks(tc, 0, 0);
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        struct bs_bin *bin = &tc->bin[class];
        bin->size = (uint16_t)bs_class_info[class].size;
        use_first_blocks(tc, class, start_capacity(bin->size));
        tc->tops.limit[class] = tc->tops.top[class];
        bin->claim = (uint16_t)bs_min(BS_MAGAZINE_START, bs_tcache_max_claim(bin->size));
    }
}

static struct bs_tcache *make_registered(void) {
    struct bs_tcache *tc = bs_meta_pool_alloc(&cache_pool);
    if (tc == NULL)
        return NULL;
    memset(tc, 0, CACHE_BYTES);
    init_bins(tc);
    tc->tid = bs_os_tid();
    tc->word = &bs_self;
    bs_thread_register(tc);
    return tc;
}

struct bs_tcache *bs_tcache_make(void) {
    /* A vfork child borrows its parent's word. A cache made now would carry the child's tid and be
     * taken for an orphan when the child is gone, while the parent uses it. */
    if (!bs_thread_are_ours())
        return &bs_tcache_none;
    struct bs_tcache *tc = make_registered();
    if (tc == NULL)
        return &bs_tcache_none;
    bs_store(&bs_self, &tc->tops);
    bs_count(caches_made, 1);
    /* Without an exit hook the sweeper finds the cache when its thread is gone. */
    if (bs_thread_watch_exit(tc, at_thread_exit))
        bs_store(&tc->watched, true);
    return tc;
}

/* --- looking at it ------------------------------------------------------------------------------ */

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
        for (void **top = tc->tops.top[class], *p;
             (p = *top != NULL ? *top : bs_gate_block(tc, class, top)) != NULL; top--)
            visit((uintptr_t)p);
    }
}

/* --- borrowing -------------------------------------------------------------------------------- */

void bs_tcache_borrow_lock(void) {
    bs_lock_acquire(&borrowing);
}
void bs_tcache_borrow_unlock(void) {
    bs_lock_release(&borrowing);
}
void bs_tcache_borrow_reset_lock(void) {
    bs_lock_reset(&borrowing);
}

uint64_t bs_tcache_signature(const struct bs_tcache *tc) {
    uint64_t sum = bs_load(&tc->slow_ops) ^ (uint64_t)bs_load(&tc->kept.pages) << 32;
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        const struct bs_bin *bin = &tc->bin[class];
        sum = (sum ^ (uintptr_t)bs_load(&tc->tops.top[class]) ^ bs_load(&bin->run_mask)) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 32;
    }
    return sum;
}

bool bs_tcache_take_word(struct bs_tcache *tc) {
    BS_ASSERT_HELD(&borrowing);
    struct bs_tops *expected = &tc->tops;
    return __atomic_compare_exchange_n(tc->word, &expected, &bs_tcache_empty.tops, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

void bs_tcache_give_word(struct bs_tcache *tc) {
    BS_ASSERT_HELD(&borrowing);
    BS_CHECK(bs_load(tc->word) == &bs_tcache_empty.tops); /* the owner made no second cache meanwhile */
    /* release: pairs with the owner's next look, on the fast path by the address it loads */
    bs_store_release(tc->word, &tc->tops);
}

size_t bs_tcache_strip(struct bs_tcache *tc) {
    BS_ASSERT_HELD(&borrowing);
    size_t bytes = bs_tcache_bytes(tc) + bs_kept_bytes(tc);
    bs_tcache_drain(tc);
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        bs_gate_lift(tc, class);
        free_storage(tc, class);
        bs_gate_set(tc, class);
    }
    return bytes;
}
