/* SPDX-License-Identifier: MIT */
/*
 * heap.c - see heap.h: the order of the slow doors, and what a pointer that reaches them may be. What is about no block,
 * and what is done when there is no memory, is heap_whole.c's.
 *
 * Locks: none of its own; takes those below one at a time.
 */
#include "heap_internal.h"

#include "counter.h"
#include "idle.h"
#include "large.h"
#include "limit.h"
#include "opt.h"
#include "out.h"
#include "relief.h"
#include "route.h"
#include "sample.h"
#include "sampler.h"
#include "scavenge.h"
#include "sweep.h"
#include "thp.h"

#include <string.h>

static void (*work_hook)(void); /* [init] */
static const uint32_t no_helper;
static const uint32_t *helper = &no_helper; /* [init] heap.h */
static void (*freed_hook)(void *p); /* [init] */
const struct bs_heap_keeper *bs_heap_keeper; /* [init] with hidden classes only */
static unsigned fill_byte; /* [atomic] 0: no filling */

/* Request sizes seen at the slow door, a sample of about one in a refill. [atomic] */
static struct {
    uint64_t bytes, blocks;
} sampled[BS_NCLASSES];

void bs_heap_set_work_hook(void (*hook)(void), const uint32_t *runs) {
    work_hook = hook;
    helper = runs;
}

void bs_heap_set_freed_hook(void (*hook)(void *p)) {
    freed_hook = hook;
}

void bs_heap_set_fill(unsigned byte) {
    bs_store(&fill_byte, byte & 0xff);
    if (byte != 0)
        bs_tcache_disable();
}

/* The heap came to its limit: what was taken is paid for, and what is to be said is said. */
static BS_NOINLINE void answer_limit(void) {
    bs_relief_pay();
    if (bs_limit_has_note() && work_hook != NULL)
        work_hook();
}

/* After a visit that may have left work: a few relaxed loads, and a call only if there is some. */
static inline void look_for_work(void) {
    if (BS_UNLIKELY(bs_limit_calls_now()))
        answer_limit();
    uint32_t state = bs_load(helper);
    if (state == BS_HELPER_LOOKS)
        return;
    if (BS_UNLIKELY(bs_scavenge_has_work() || bs_sweep_has_work() || bs_idle_has_work() ||
                    state == BS_HELPER_WANTED) &&
        work_hook != NULL)
        work_hook();
}

/* --- allocation ------------------------------------------------------------------------------- */

static void sample(unsigned class, size_t size) {
    bs_add(&sampled[class].bytes, size);
    bs_add(&sampled[class].blocks, 1);
}

uint64_t bs_heap_rounding_256ths(unsigned class) {
    uint64_t blocks = bs_load(&sampled[class].blocks), bytes = bs_load(&sampled[class].bytes);
    uint64_t whole = blocks * bs_class_info[class].size;
    return blocks == 0 || bytes > whole ? 0 : (whole - bytes) * 256 / blocks;
}

static void *filled(void *p, size_t size) {
    unsigned byte = bs_load(&fill_byte);
    if (BS_UNLIKELY(byte != 0) && p != NULL)
        memset(p, (int)(byte ^ 0xff), size);
    return p;
}

/* --- sampled blocks (sampler.h) --------------------------------------------------------------- */

static BS_NOINLINE void sample_small(void *p, unsigned class, size_t size) {
    bs_pagemap_count((uintptr_t)p, +1); /* before the block is known: who frees it finds both */
    if (BS_UNLIKELY(!bs_sample_made(p, size, bs_class_info[class].size)))
        bs_pagemap_count((uintptr_t)p, -1);
}

static BS_NOINLINE void sample_large(void *p, size_t size) {
    if (p == NULL || !bs_sampler_hits_uncounted(size))
        return;
    struct bs_span *s = bs_span_of((uintptr_t)p);
    bs_span_add_flags(s, BS_SPAN_SAMPLED);
    (void)bs_sample_made(p, size, size);
}

/* False: it was not sampled. */
static bool forget_sample(void *p) {
    if (BS_UNLIKELY(bs_heap_keeper != NULL && bs_heap_keeper->sampled != NULL))
        return bs_heap_keeper->sampled(p);
    return bs_sample_freed(p);
}

static void forget_large(struct bs_span *s) {
    unsigned flags = s->flags & (BS_SPAN_SAMPLED | BS_SPAN_PARKED);
    if (flags == 0)
        return;
    if ((flags & BS_SPAN_PARKED) != 0)
        freed_hook((void *)s->base);
    bs_span_drop_flags(s, flags);
    if ((flags & BS_SPAN_SAMPLED) != 0)
        (void)forget_sample((void *)s->base);
}

/* The size class of the block at p; 0: it is large, or none. */
static inline unsigned class_of_block(uintptr_t p) {
    if (BS_UNLIKELY(bs_pagemap_is_hidden()))
        return bs_pagemap_hidden_class(p);
    return bs_pagemap_class(p);
}

/* --- allocation, continued -------------------------------------------------------------------- */

/* The answer of a call that gave NULL, tried again as long as room can be made. */
#define WITH_ROOM(call)                                                                       \
    ({                                                                                        \
        void *given = NULL;                                                                   \
        for (unsigned tries = 0; given == NULL && bs_heap_make_room(tries); tries++)          \
            given = call;                                                                     \
        bs_heap_settle(given);                                                                \
    })

static void *alloc_small(unsigned class) {
    void *p = bs_tcache_alloc_slow(class);
    if (BS_LIKELY(p != NULL))
        return p;
    return WITH_ROOM(bs_tcache_alloc_slow(class));
}

/* p: what bs_large_alloc gave. */
static inline void *settle_large(void *p, size_t size, size_t align, bool zero) {
    if (BS_UNLIKELY(p == NULL))
        p = WITH_ROOM(bs_large_alloc(size, align, zero));
    if (bs_sample_is_on())
        sample_large(p, size);
    return p;
}

/* A block that changes its size is drawn for anew. */
static void *resize_large(struct bs_span *s, size_t size) {
    if (bs_sample_is_on())
        forget_large(s);
    void *(*resize)(struct bs_span *, size_t) = bs_heap_keeper != NULL ? bs_heap_keeper->resize : bs_large_resize;
    void *p = resize(s, size);
    if (BS_UNLIKELY(p == NULL))
        p = WITH_ROOM(resize(s, size));
    if (bs_sample_is_on())
        sample_large(p != NULL ? p : (void *)s->base, p != NULL ? size : s->request);
    return p;
}

#define NO_OTHER_CLASS SIZE_MAX

/* room: what the class, or another one that route.h knows, is to hold, or NO_OTHER_CLASS. */
static void *alloc_class(unsigned class, size_t size, size_t room) {
    struct bs_tcache *tc = bs_tcache_self();
    void *p;
    if (BS_LIKELY(bs_tcache_take(&tc->tops, class, &p)))
        return p;
    if (BS_UNLIKELY(tc->gates != NULL)) { /* what a run gives is seen as well, behind the slow door */
        bool due;
        if ((p = bs_tcache_pass_gate(tc, class, &due)) != NULL) {
            if (due)
                sample_small(p, class, size);
            return p;
        }
    } else if (bs_tcache_spread(tc, class, &p)) {
        return p;
    }
    if (BS_LIKELY(room <= BS_SMALL_MAX))
        class = bs_route_choose(class, room);
    sample(class, size);
    p = alloc_small(class);
    if (bs_sample_is_on() && p != NULL && bs_tcache_is_sampled(bs_class_info[class].size))
        sample_small(p, class, size);
    look_for_work();
    return filled(p, size);
}

static BS_NOINLINE void *alloc_new_large(size_t size, size_t align) {
    void *p = settle_large(bs_large_alloc_missed(size, align, false), size, align, false);
    look_for_work();
    return filled(p, size);
}

/* What this thread keeps is no work for anybody. */
static void *alloc_kept_large(size_t size, size_t align) {
    void *p = bs_large_alloc_kept(size, align);
    if (p == NULL)
        return alloc_new_large(size, align);
    if (BS_UNLIKELY(bs_sample_is_on()))
        sample_large(p, size);
    return filled(p, size);
}

void *bs_heap_alloc_slow(size_t size) {
    if (BS_LIKELY(size <= BS_SMALL_MAX))
        return alloc_class(bs_class_of(size), size, size);
    if (size > BS_REQUEST_MAX)
        return NULL;
    return alloc_kept_large(size, 1);
}

void *bs_heap_alloc_zero(size_t size) {
    if (size > BS_SMALL_MAX) {
        if (size > BS_REQUEST_MAX)
            return NULL;
        void *p = settle_large(bs_large_alloc(size, 1, true), size, 1, true);
        look_for_work();
        return p;
    }
    unsigned class = bs_class_of(size);
    struct bs_tcache *tc = bs_tcache_self();
    void *p;
    /* A run of a span that was never used needs no clearing: worth it before the magazine where
     * clearing costs more than a cold line. */
    if (size > BS_TINY_MAX && tc->bin[class].run_zero && BS_LIKELY(tc->gates == NULL) && bs_tcache_take_run(tc, class, &p))
        return p;
    p = alloc_class(class, size, size);
    return p != NULL ? memset(p, 0, size) : NULL;
}

void *bs_heap_alloc_aligned(size_t align, size_t size) {
    if (size > BS_REQUEST_MAX || align > BS_REQUEST_MAX)
        return NULL;
    unsigned class = bs_class_of_aligned(align, size);
    if (class != 0) {
        size_t room = bs_align_up(size + (size == 0), align);
        return alloc_class(class, size, room <= BS_TINY_MAX ? room : NO_OTHER_CLASS);
    }
    return alloc_kept_large(size, align);
}

/* --- freeing ---------------------------------------------------------------------------------- */

/* Not a block: a pointer into our pages is a crime; one elsewhere is another allocator's. */
static BS_COLD void foreign(const char *verb, void *p) {
    bool first = bs_add(&bs_counters.foreign_frees, 1) == 0;
    if (bs_opt.foreign == BS_FOREIGN_ABORT)
        bs_fatal("%s of foreign pointer %p, which besom did not allocate", verb, p);
    if (first)
        bs_warn("%s of foreign pointer %p ignored, as others will be without a word "
                "(foreign:abort stops at it)", verb, p);
}

static BS_COLD void free_unknown(void *p) {
    if (bs_pagemap_was_ours((uintptr_t)p))
        bs_fatal("double free or invalid free of %p", p);
    foreign("free", p);
}

static BS_COLD void realloc_unknown(void *p, const struct bs_span *s) {
    if (s != NULL && s->class == 0)
        bs_fatal("invalid realloc of %p, inside the block at %p of %zu bytes", p, (void *)s->base,
                 s->request);
    if (bs_pagemap_was_ours((uintptr_t)p))
        bs_fatal("invalid realloc of %p, which was freed", p);
    foreign("realloc", p);
}

/* Only a real block is filled: what is not one is reported when it is released. */
static void fill_freed(void *p, unsigned class, unsigned byte) {
    struct bs_span *s = bs_span_of((uintptr_t)p);
    if (s != NULL && s->class == class && bs_central_is_allocated(s, (uintptr_t)p))
        memset(p, (int)byte, bs_class_info[class].size);
}

/* The small block at p, which may be sampled, goes. */
static BS_NOINLINE void forget_small(void *p) {
    if (BS_UNLIKELY(freed_hook != NULL))
        freed_hook(p);
    if (forget_sample(p))
        bs_pagemap_count((uintptr_t)p, -1);
}

static BS_NOINLINE void free_cached(unsigned class, void *p) {
    bs_tcache_free_slow(class, p);
    look_for_work();
}

static BS_NOINLINE void free_kept(void *p, unsigned class) {
    if (BS_UNLIKELY(bs_heap_keeper->small(p, class)))
        look_for_work();
}

static void free_large(struct bs_span *s) {
    if (bs_sample_is_on())
        forget_large(s);
    if (BS_UNLIKELY(bs_pagemap_is_hidden()) && bs_heap_keeper != NULL)
        bs_heap_keeper->large(s);
    else if (BS_LIKELY(bs_large_free_own(s)))
        return;
    look_for_work();
}

static BS_NOINLINE void free_seen(void *p) {
    bool hidden = bs_pagemap_is_hidden();
    unsigned class = class_of_block((uintptr_t)p);
    if (BS_UNLIKELY(hidden) && class != 0) {
        if (bs_pagemap_matters((uintptr_t)p))
            forget_small(p);
        if (bs_heap_keeper != NULL) {
            free_kept(p, class);
            return;
        }
    }
    unsigned byte = bs_load(&fill_byte);
    if (BS_LIKELY(class != 0)) {
        if (bs_sample_is_on() && !hidden) /* every block */
            forget_small(p);
        if (BS_UNLIKELY(byte != 0))
            fill_freed(p, class, byte);
        /* what the fast path could not see: a block too far away (bs_pagemap_near_class) */
        if (bs_tcache_put(bs_tcache_tops(), class, p))
            return;
        free_cached(class, p);
        return;
    }
    if (p == NULL)
        return;
    struct bs_span *s = bs_span_of((uintptr_t)p);
    if (s == NULL || s->class != 0) {
        free_unknown(p);
        return;
    }
    if (s->base != (uintptr_t)p)
        bs_fatal("invalid free of %p, inside the block at %p of %zu bytes", p, (void *)s->base,
                 s->request);
    free_large(s);
}

/* Into the thread's magazine, also where the block's place is a gate. */
static inline bool put_back(struct bs_tcache *tc, unsigned class, void *p) {
    return bs_tcache_put(&tc->tops, class, p) || (tc->gates != NULL && bs_tcache_pass_gate_back(tc, class, p));
}

/* Every free of a small block comes here while blocks are held back, and while blocks are sampled those at a gate and
 * those beside a block that somebody waits for: all are done without a frame. Else large blocks come first: nothing more is
 * asked of them. */
void bs_heap_free_slow(void *p) {
    if (BS_UNLIKELY(bs_pagemap_is_hidden())) {
        unsigned class = bs_pagemap_near_class((uintptr_t)p);
        if (class == 0)
            class = bs_pagemap_plain_class((uintptr_t)p);
        if (class != 0 && bs_heap_keeper != NULL) {
            free_kept(p, class);
            return;
        }
        if (class != 0 && put_back(bs_tcache_self(), class, p))
            return;
        if (class != 0 && BS_LIKELY(bs_load(&fill_byte) == 0)) {
            free_cached(class, p);
            return;
        }
    } else if (bs_pagemap_near_class((uintptr_t)p) == 0) {
        if (p == NULL)
            return;
        struct bs_span *s = bs_span_at((uintptr_t)p);
        if (s != NULL && s->class == 0) {
            free_large(s);
            return;
        }
    }
    free_seen(p);
}

/* --- resizing --------------------------------------------------------------------------------- */

/* class: of p's block; 0: a large one, or one whose free is to be seen. room >= size: what the new block
 * shall hold. */
static void *copy_to_new(void *p, unsigned class, size_t keep, size_t size, size_t room) {
    void *q;
    unsigned to = room <= BS_SMALL_MAX ? bs_class_of(room) : 0; /* class 0 has no block */
    if (!bs_tcache_take(bs_tcache_tops(), to, &q))
        q = to != 0 ? alloc_class(to, size, room) : bs_heap_alloc_slow(size);
    if (BS_UNLIKELY(q == NULL) && room > size) /* no memory for more than was asked */
        q = bs_heap_alloc_slow(size);
    if (q == NULL)
        return NULL;
    memcpy(q, p, bs_min(keep, size));
    if (!bs_tcache_put(bs_tcache_tops(), class, p))
        bs_heap_free_slow(p);
    return q;
}

/* What a small block of `have` bytes is made to hold when it must hold `size`. One that grows by little will grow
 * again: it goes on to the next of three sizes a doubling (1, 5/4 and 13/8 of a power of two), and is copied half as
 * often as with the classes' eighths. Blocks of all sizes meet in these classes, where each would have steps of its
 * own: fewer spans are left half empty by those that went on. */
static inline size_t room_for(size_t have, size_t size) {
    size_t low = (size_t)1 << bs_msb(have), room = low + low / 4;
    if (have >= room)
        room = have < low + low / 8 * 5 ? low + low / 8 * 5 : 2 * low;
    return bs_max(size, bs_min(room, BS_SMALL_MAX));
}

/* The same for any block that does not stay. */
static inline size_t room_of(size_t have, size_t size) {
    return size > have ? room_for(have, size) : size;
}

/* It stays while it fits and is not less than half used. */
static inline bool stays(unsigned class, size_t size) {
    size_t have = bs_class_info[class].size;
    return size <= have && (size > have / 2 || bs_class_of(size) == class);
}

/* A small block that does not stay, and whose free is to be seen. */
static void *resize_small(void *p, unsigned class, size_t size) {
    size_t have = bs_class_info[class].size;
    return copy_to_new(p, 0, have, size, room_of(have, size));
}

/* A large block or size, or a small one too far away, held back by a keeper, or whose free somebody waits for. */
static BS_NOINLINE void *realloc_rare(void *p, size_t size) {
    if (bs_heap_keeper != NULL)
        bs_heap_keeper->check(p, "realloc");
    unsigned class = class_of_block((uintptr_t)p);
    if (class != 0)
        return stays(class, size) ? p : resize_small(p, class, size);
    struct bs_span *s = bs_span_of((uintptr_t)p);
    if (s == NULL || s->base != (uintptr_t)p) {
        realloc_unknown(p, s);
        return NULL;
    }
    if (size > BS_REQUEST_MAX)
        return NULL;
    if (size <= BS_SMALL_MAX)
        return copy_to_new(p, 0, bs_large_usable(s), size, size);
    void *q = resize_large(s, size);
    if (BS_UNLIKELY(size >= BS_THP_VECTOR_BYTES && bs_thp_is_unasked()) && work_hook != NULL)
        work_hook(); /* the helper asks */
    look_for_work();
    return q;
}

static BS_NOINLINE void *having_freed_slowly(void *p, void *answer) {
    bs_heap_free_slow(p);
    return answer;
}

/* From `have` bytes to a block of another class. What copy_to_new does, where magazines serve: no value but p and its
 * class outlives a call, and in place realloc needs no frame. */
static BS_NOINLINE void *move_small(void *p, size_t size, size_t class, size_t have, size_t to) {
    void *q;
    if (BS_UNLIKELY(!bs_tcache_take(bs_tcache_tops(), to, &q)))
        return copy_to_new(p, (unsigned)class, have, size, room_of(have, size));
    q = memcpy(q, p, bs_min(have, size));
    return BS_LIKELY(bs_tcache_put(bs_tcache_tops(), class, p)) ? q : having_freed_slowly(p, q);
}

/* class: of p's block; where its free is seen it is not asked for here. */
static inline void *realloc_small(void *p, size_t size, size_t class) {
    size_t have = bs_class_info[class].size, room = size;
    if (size > have)
        room = room_for(have, size);
    else if (size > have / 2) /* stays */
        return p;
    size_t to = bs_class_of(room);
    return to == class ? p : move_small(p, size, class, have, to);
}

void *bs_heap_realloc(void *p, size_t size) {
    size_t class = bs_pagemap_near_class((uintptr_t)p);
    if (BS_UNLIKELY(class == 0 || size > BS_SMALL_MAX))
        return realloc_rare(p, size);
    return realloc_small(p, size, class);
}

static BS_NOINLINE size_t usable_rare(const void *p) {
    if (bs_heap_keeper != NULL)
        bs_heap_keeper->check(p, "malloc_usable_size");
    unsigned class = class_of_block((uintptr_t)p);
    if (BS_LIKELY(class != 0))
        return bs_class_info[class].size;
    struct bs_span *s = p != NULL ? bs_span_of((uintptr_t)p) : NULL;
    return s != NULL && bs_load(&s->class) == 0 ? bs_large_usable(s) : 0;
}

size_t bs_heap_usable(const void *p) {
    size_t class = bs_pagemap_near_class((uintptr_t)p);
    return BS_LIKELY(class != 0) ? bs_class_info[class].size : usable_rare(p);
}
