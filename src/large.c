/* SPDX-License-Identifier: MIT */
/*
 * large.c - see large.h.
 *
 * Growth, cheapest first: the pages behind are free, or the heap ends there and grows (no copy); the block is at least
 * BS_MREMAP_MIN_BYTES (its page tables move: mremap with MREMAP_DONTUNMAP, so that the old range
 * stays ours and empty); a copy. A moved mapping cannot merge with its neighbours, so the number
 * of moved blocks has a budget, and a moved block that is freed or moved on is mapped anew.
 */
#include "large.h"

#include "central.h"
#include "clear.h"
#include "counter.h"
#include "freed.h"
#include "grow.h"
#include "limit.h"
#include "opt.h"
#include "os.h"
#include "out.h"
#include "tcache_kept.h"
#include "thp.h"
#include "thread.h"
#include "vector.h"
#include "waiting.h"

#include <errno.h>
#include <string.h>

static size_t moved_blocks; /* [atomic] live blocks with BS_SPAN_MOVED */
static size_t keep_bytes;   /* [atomic] */

void bs_large_set_keep(size_t bytes) {
    bs_store(&keep_bytes, bytes);
}

size_t bs_large_span_bytes(void) {
    return bs_sub_clamped(bs_span_large_bytes(), bs_large_kept_bytes());
}

static void add_kept(void *ctx, const struct bs_tcache *tc) {
    *(size_t *)ctx += bs_kept_bytes(tc);
}

size_t bs_large_kept_bytes(void) {
    size_t bytes = bs_waiting_large_bytes();
    bs_thread_each(add_kept, &bytes);
    return bytes;
}

static size_t pages_for(size_t size) {
    return bs_align_up(bs_max(size, 1), BS_PAGE_SIZE) / BS_PAGE_SIZE;
}

static void give_pages(uintptr_t base, size_t npages) {
    struct bs_run run = {.base = base, .npages = npages};
    bs_pageheap_free(&run, 1);
}

/* A span that was freed lately, by this thread or any. Its pages may hold anything. NULL: then new_span wants
 * *other. */
static inline struct bs_span *reuse_span(size_t size, size_t npages, size_t align,
                                         struct bs_span **other) {
    struct bs_span *s = bs_kept_take(npages, align, false);
    if (s == NULL)
        s = bs_kept_trade(npages, align, other);
    if (s != NULL)
        bs_span_revive(s, size);
    return s;
}

/* Another's pages, of about as many, were kept and are not needed: they go back and its descriptor is the new span's, so that
 * a miss takes one visit to the page heap, and none to the descriptors. */
static BS_NOINLINE struct bs_span *swap_span(struct bs_span *s, size_t size, size_t npages,
                                             size_t align, struct bs_pages *pages) {
    struct bs_run old = {.base = s->base, .npages = s->npages};
    bs_span_forget(s);
    if (!bs_central_swap_pages(&old, npages, bs_max(1, align / BS_PAGE_SIZE), pages)) {
        bs_span_discard(s);
        return NULL;
    }
    bs_span_remake(s, pages->base, npages, size);
    bs_kept_count_swap();
    return s;
}

static BS_NOINLINE struct bs_span *new_span(struct bs_span *other, size_t size, size_t npages,
                                            size_t align, struct bs_pages *pages) {
    if (other != NULL)
        return swap_span(other, size, npages, align, pages);
    if (npages > BS_LARGE_PAGES_MAX || !bs_central_take_pages(npages, bs_max(1, align / BS_PAGE_SIZE), pages))
        return NULL;
    struct bs_span *s = bs_span_make_large(pages->base, npages, size);
    if (s == NULL)
        give_pages(pages->base, npages);
    return s;
}

static BS_NOINLINE void *alloc_new(struct bs_span *other, size_t size, size_t npages, size_t align,
                                   bool zero) {
    struct bs_pages pages;
    struct bs_span *s = new_span(other, size, npages, align, &pages);
    if (s == NULL)
        return NULL;
    if (zero)
        bs_clear_block(s->base, size, pages.dirty_base, pages.dirty_end);
    bs_kept_count_alloc();
    return (void *)s->base;
}

static inline void *reuse(struct bs_span *s, size_t size, bool zero) {
    bs_span_revive(s, size);
    if (zero)
        bs_clear_block(s->base, size, s->base, s->base + pages_for(size) * BS_PAGE_SIZE);
    return (void *)s->base;
}

void *bs_large_alloc_kept(size_t size, size_t align) {
    struct bs_span *s = bs_kept_take(pages_for(size), align, true);
    return s != NULL ? reuse(s, size, false) : NULL;
}

void *bs_large_alloc_missed(size_t size, size_t align, bool zero) {
    size_t npages = pages_for(size);
    struct bs_span *other, *s = bs_kept_trade(npages, align, &other);
    if (s == NULL)
        return alloc_new(other, size, npages, align, zero);
    bs_kept_count_alloc();
    return reuse(s, size, zero);
}

void *bs_large_alloc(size_t size, size_t align, bool zero) {
    struct bs_span *s = bs_kept_take(pages_for(size), align, true);
    return s != NULL ? reuse(s, size, zero) : bs_large_alloc_missed(size, align, zero);
}

/* A block so large is given to the OS when it is freed, not when the scavenger comes: its memory is
 * a good part of the process's, and where only some of its pages were used all of them would count as
 * dirty until then. (With decommit:hard the scavenger does it, which counts what is closed.) */
static bool may_give(void) {
    return bs_opt.scavenge && bs_opt.decommit != BS_DECOMMIT_HARD &&
           bs_opt.advice != BS_ADVICE_FREE;
}
/* An OS page may be longer than ours, and have neighbours in it. */
static bool is_whole(uintptr_t base, size_t bytes) {
    return ((base | bytes) & (bs_os_page_size() - 1)) == 0;
}
/* By M_TRIM_THRESHOLD: so much may lie free. The limit comes before that. */
static bool is_kept(size_t bytes) {
    size_t keep = bs_load(&keep_bytes);
    return bytes <= keep && bs_pageheap_dirty_bytes() <= keep - bytes && bs_limit_pressure() == BS_PRESSURE_NONE;
}
static void count_given(size_t bytes) {
    bs_count(scavenged_bytes, bytes);
    bs_count(scavenge_calls, 1);
}
static bool is_given_at_once(uintptr_t base, size_t npages) {
    size_t bytes = npages * BS_PAGE_SIZE;
    if (bytes < BS_LARGE_GIVE_BYTES || !is_whole(base, bytes) || !may_give() || is_kept(bytes) ||
        bs_thp_unused(base, bytes) != 0)
        return false;
    count_given(bytes);
    return true;
}

/* Pages that the kernel may have unmapped: who takes them next maps them anew. Where OS pages are longer than ours that
 * could take a neighbour's away, so they are nobody's any more. */
static BS_COLD void give_lost(uintptr_t base, size_t npages) {
    if (bs_os_page_size() <= BS_PAGE_SIZE)
        bs_pageheap_free_closed(base, npages);
}

/* Mapping pages anew was refused, perhaps after the kernel had unmapped them; they hold nothing of worth. */
static BS_COLD bool is_unmapped(uintptr_t base, size_t bytes) {
    return bs_os_unused((void *)base, bytes) == ENOMEM;
}

/* A mapping that came by mremap is replaced by one that merges; that empties it, too. */
static void return_renewed(uintptr_t base, size_t npages, bool empty) {
    size_t bytes = npages * BS_PAGE_SIZE;
    if (BS_UNLIKELY(bs_thp_renew(base, bytes) != 0)) {
        if (is_unmapped(base, bytes))
            give_lost(base, npages);
        else
            give_pages(base, npages);
        return;
    }
    if (!empty)
        count_given(bytes);
    bs_pageheap_free_released(base, npages);
}

/* The same for pages of which the first and the last may share their OS pages with others. */
static void return_moved(uintptr_t base, size_t npages, bool empty) {
    uintptr_t end = base + npages * BS_PAGE_SIZE;
    uintptr_t first = bs_min(bs_align_up(base, bs_os_page_size()), end);
    uintptr_t last = bs_max(bs_align_down(end, bs_os_page_size()), first);
    if (first != base)
        give_pages(base, (first - base) / BS_PAGE_SIZE);
    if (last != end)
        give_pages(last, (end - last) / BS_PAGE_SIZE);
    if (first != last)
        return_renewed(first, (last - first) / BS_PAGE_SIZE, empty);
}

/* The pages of a span go back; `empty`: they have no physical memory any more (moved away). */
static void return_pages(uintptr_t base, size_t npages, bool moved, bool empty) {
    if (moved)
        return_moved(base, npages, empty);
    else if (empty || is_given_at_once(base, npages))
        bs_pageheap_free_released(base, npages);
    else
        give_pages(base, npages);
}

static void retire(struct bs_span *s, bool empty) {
    uintptr_t base = s->base;
    size_t npages = s->npages;
    bool moved = (s->flags & BS_SPAN_MOVED) != 0;
    bs_clear_freed(base, empty ? 0 : npages * BS_PAGE_SIZE);
    if (!moved && !empty && npages <= BS_KEPT_SPAN_PAGES) {
        bs_span_rest(s);
        bs_waiting_add_large(&s, 1);
        return;
    }
    bs_span_retire(s);
    if (moved)
        bs_sub(&moved_blocks, 1);
    return_pages(base, npages, moved, empty);
}

void bs_large_free(struct bs_span *s) {
    retire(s, false);
}

bool bs_large_free_own(struct bs_span *s) {
    if (s->npages > BS_KEPT_SPAN_PAGES || (s->flags & BS_SPAN_MOVED) != 0) {
        retire(s, false);
        return false;
    }
    bs_clear_freed(s->base, bs_large_usable(s));
    bs_span_rest(s);
    enum bs_kept_put how = bs_kept_put(s);
    if (BS_UNLIKELY(how == BS_KEPT_REFUSED))
        bs_waiting_add_large(&s, 1);
    return how == BS_KEPT_QUIETLY;
}

void bs_large_release_held(struct bs_span *s, bool empty) {
    BS_ASSERT(!bs_marking);
    bs_store(&s->alloc[0], (uint64_t)0);
    s->nalloc = 0;
    bs_freed_clear(s->base, 0, 1);
    retire(s, empty && is_whole(s->base, bs_large_usable(s)));
}

/* What it shares an OS page with stays. */
bool bs_large_empty(struct bs_span *s) {
    uintptr_t base = s->base, end = base + bs_large_usable(s);
    uintptr_t first = bs_align_up(base, bs_os_page_size()), last = bs_align_down(end, bs_os_page_size());
    if (first >= last || !may_give() || bs_thp_unused(first, last - first) != 0)
        return false;
    count_given(last - first);
    memset((void *)base, 0, first - base);
    memset((void *)last, 0, end - last);
    return true;
}

/* --- resizing --------------------------------------------------------------------------------- */

static void set_length(struct bs_span *s, size_t npages, size_t size) {
    bs_span_count_large(npages, s->npages);
    bs_store(&s->request, size);
    bs_store(&s->npages, (uint32_t)npages);
}

/* (A moved mapping's tail too: left as it is it would be a mapping of its own for as long as others use it, and nobody
 * would count it.) */
static void shrink(struct bs_span *s, size_t npages, size_t size) {
    size_t old = s->npages;
    if (npages < old)
        bs_pagemap_cut_large(s->base, npages, old, s);
    set_length(s, npages, size);
    if (npages < old)
        return_pages(s->base + npages * BS_PAGE_SIZE, old - npages, (s->flags & BS_SPAN_MOVED) != 0, false);
}

/* The pages behind a block of npages. Where the heap ends there it may grow, for a block that has a long way to
 * go to another place. */
static bool take_behind(uintptr_t end, size_t extra, size_t npages, struct bs_pages *more) {
    return bs_pageheap_alloc_at(end, extra, more) ||
           (npages * BS_PAGE_SIZE >= BS_MREMAP_MIN_BYTES && bs_grow_behind(end, extra) &&
            bs_pageheap_alloc_at(end, extra, more));
}

static bool grow_in_place(struct bs_span *s, size_t npages, size_t size) {
    struct bs_pages more;
    size_t extra = npages - s->npages;
    uintptr_t end = s->base + bs_large_usable(s);
    if (npages > BS_LARGE_PAGES_MAX || !bs_central_has_room(extra) || !take_behind(end, extra, s->npages, &more))
        return false; /* what refuses is the attempt to move, which comes next */
    if (!bs_central_make_ready(&more))
        return false;
    if (more.nreleased != 0)
        bs_limit_took(more.nreleased * BS_PAGE_SIZE);
    bs_pagemap_set_large(end, extra, s);
    set_length(s, npages, size);
    bs_vector_grew(s, end - s->base);
    bs_count(large_grown_in_place, 1);
    return true;
}

static BS_COLD void give_up(struct bs_span *s) {
    uintptr_t base = s->base;
    size_t npages = s->npages;
    bs_span_retire(s);
    give_lost(base, npages);
}

static bool become_one(struct bs_span *s) {
    if (!bs_vector_unify(s))
        return false;
    if ((s->flags & BS_SPAN_MOVED) == 0)
        bs_add(&moved_blocks, 1);
    bs_span_add_flags(s, BS_SPAN_MOVED);
    return true;
}

static bool can_move(struct bs_span *from, const struct bs_span *to, size_t bytes) {
    bool aligned = ((from->base | to->base | bytes) & (bs_os_page_size() - 1)) == 0;
    return bytes >= BS_MREMAP_MIN_BYTES && aligned && bs_load(&moved_blocks) < BS_MREMAP_BUDGET &&
           (bs_thp_is_uniform(from->base, bytes, (from->flags & BS_SPAN_MOVED) != 0) || become_one(from));
}

_Static_assert(2 * BS_KEPT_SPAN_PAGES * BS_PAGE_SIZE <= BS_MREMAP_MIN_BYTES, "what is moved goes to new pages");

/* The new block's pages read as zeros where the old one's shall go: bs_os_move asks for that. */
static bool make_zero(const struct bs_pages *to, size_t bytes) {
    uintptr_t first = bs_align_down(to->dirty_base, bs_os_page_size());
    uintptr_t end = bs_min(bs_align_up(to->dirty_end, bs_os_page_size()), to->base + bytes);
    return first >= end || bs_os_zero((void *)first, end - first) == 0;
}

enum moved { MOVED, STAYED, LOST };

/* Moves the old block into the new one by page tables; whole OS pages only. LOST: the kernel refused
 * after it had unmapped the new one's pages, and gives no others. */
static enum moved move_pages(struct bs_span *from, struct bs_span *to, const struct bs_pages *pages) {
    size_t bytes = bs_large_usable(from);
    if (!can_move(from, to, bytes) || !make_zero(pages, bytes))
        return STAYED;
    if (bs_add(&moved_blocks, 1) >= BS_MREMAP_BUDGET) {
        bs_sub(&moved_blocks, 1);
        return STAYED;
    }
    if (bs_os_move((void *)from->base, (void *)to->base, bytes) == 0) {
        bs_thp_moved(from->base, to->base, bytes);
        bs_span_add_flags(to, BS_SPAN_MOVED);
        return MOVED;
    }
    bs_sub(&moved_blocks, 1);
    return bs_thp_renew(to->base, bytes) != 0 && is_unmapped(to->base, bytes) ? LOST : STAYED;
}

/* The block's content goes to a new one. *moved: by its pages, so that the old one is empty. */
static void *move_content(struct bs_span *s, size_t size, bool *was_moved) {
    struct bs_pages pages = {.dirty_end = 0};
    size_t npages = pages_for(size), align = bs_vector_align(size);
    struct bs_span *other, *to = reuse_span(size, npages, align, &other);
    if (to == NULL)
        to = new_span(other, size, npages, align, &pages);
    if (to == NULL)
        return NULL;
    enum moved moved = move_pages(s, to, &pages);
    if (BS_UNLIKELY(moved == LOST)) {
        give_up(to);
        return NULL;
    }
    if (moved == STAYED)
        memcpy((void *)to->base, (void *)s->base, bs_min(bs_large_usable(s), size)); /* not the request: heap.h */
    if (moved == MOVED) {
        bs_vector_grew(to, bs_large_usable(s));
        bs_count(large_moved, 1);
    } else {
        bs_count(large_copied, 1);
    }
    *was_moved = moved == MOVED;
    return (void *)to->base;
}

static void *move(struct bs_span *s, size_t size) {
    bool moved;
    void *p = move_content(s, size, &moved);
    if (p != NULL)
        retire(s, moved);
    return p;
}

void *bs_large_resize(struct bs_span *s, size_t size) {
    size_t npages = pages_for(size);
    if (npages <= s->npages) { /* one that grows keeps what it may need soon: a span may be longer than was asked for */
        shrink(s, size > s->request ? s->npages : npages, size);
        return (void *)s->base;
    }
    if (grow_in_place(s, npages, size))
        return (void *)s->base;
    return move(s, size);
}

void *bs_large_resize_keeping(struct bs_span *s, size_t size, bool *left) {
    size_t npages = pages_for(size);
    bool moved;
    *left = false;
    void *p;
    if (npages <= s->npages && npages >= s->npages / 2) {
        set_length(s, s->npages, size);
        return (void *)s->base;
    }
    if (npages < s->npages) {
        p = bs_large_alloc(size, BS_PAGE_SIZE, false);
        if (p != NULL)
            memcpy(p, (void *)s->base, size);
    } else {
        if (grow_in_place(s, npages, size))
            return (void *)s->base;
        p = move_content(s, size, &moved);
    }
    *left = p != NULL;
    return p;
}
