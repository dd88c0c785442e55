/* SPDX-License-Identifier: MIT */
/* pagemap.c - see pagemap.h: the table's making and the slow half of its use. No lock of its own. */
#include "pagemap.h"

#include "meta.h"
#include "os.h"

/* Nothing is near to this address. */
#define NO_BASE ((uintptr_t)0x9d4b3c5a00000000)

uintptr_t bs_pagemap_minus_base = -NO_BASE;
uint8_t *bs_pagemap_near;
struct bs_arena **bs_pagemap_table;
size_t bs_pagemap_narenas;

#define TABLE_BYTES (BS_MAX_ARENAS * sizeof(struct bs_arena *))

static void *readonly_zeros(size_t bytes) {
    void *p = bs_os_alloc_readonly(bytes);
    if (p != NULL)
        bs_meta_note_mapping(p, bytes);
    return p;
}

static bool make_writable(const void *p, size_t bytes) {
    size_t os_page = bs_os_page_size();
    uintptr_t first = bs_align_down((uintptr_t)p, os_page);
    return bs_os_writable((void *)first, bs_align_up((uintptr_t)p + bytes, os_page) - first) == 0;
}

static bool make_table(void) {
    struct bs_arena **table = readonly_zeros(TABLE_BYTES);
    if (table == NULL)
        return false;
    bs_store_release(&bs_pagemap_table, table);
    bs_store_release(&bs_pagemap_narenas, BS_MAX_ARENAS);
    return true;
}

/* The flat map begins with the arena at base. Without memory for it every lookup goes the far way. */
static void make_near(uintptr_t base) {
    uint8_t *near = readonly_zeros(BS_NEAR_PAGES);
    if (near == NULL)
        return;
    bs_store_release(&bs_pagemap_near, near);
    bs_store_release(&bs_pagemap_minus_base, -base);
}

/* --- arenas ----------------------------------------------------------------------------------- */

/* [lock:grow] Tables for arenas that are to be added: all are made before one is, and where that fails they are the next
 * growth's. A list, by a word that has no use before. */
static struct bs_arena *spare;

static struct bs_arena *after(const struct bs_arena *a) {
    return (struct bs_arena *)(void *)a->side[0];
}
static void put_after(struct bs_arena *a, struct bs_arena *next) {
    a->side[0] = (struct bs_marks *)(void *)next;
}

/* Where the class bytes of the arena are in the flat map; NULL: it is not near. */
static uint8_t *near_class_bytes(uintptr_t number) {
    size_t page = ((number << BS_ARENA_SHIFT) + bs_pagemap_minus_base) >> BS_PAGE_SHIFT;
    return page < BS_NEAR_PAGES ? &bs_pagemap_near[page] : NULL;
}

/* The next spare one behind `last`, or the first; made if there is none. */
static struct bs_arena *spare_after(struct bs_arena *last) {
    struct bs_arena *a = last != NULL ? after(last) : spare;
    if (a != NULL || (a = bs_meta_alloc(sizeof *a)) == NULL)
        return a;
    if (last != NULL)
        put_after(last, a);
    else
        spare = a;
    return a;
}

static bool has_class_bytes(struct bs_arena *a, uint8_t *near) {
    if (near != NULL)
        return make_writable(near, BS_ARENA_PAGES);
    if (a->class == NULL)
        a->class = bs_meta_alloc(BS_ARENA_PAGES);
    return a->class != NULL;
}

bool bs_pagemap_reserve(uintptr_t base, size_t bytes) {
    if (bs_pagemap_table == NULL && !make_table())
        return false;
    if (bs_pagemap_near == NULL)
        make_near(bs_align_down(base, BS_ARENA_SIZE));
    uintptr_t last = (base + bytes - 1) >> BS_ARENA_SHIFT;
    BS_CHECK(last < BS_MAX_ARENAS);
    struct bs_arena *a = NULL;
    for (uintptr_t number = base >> BS_ARENA_SHIFT; number <= last; number++) {
        struct bs_arena **entry = &bs_pagemap_table[number];
        if (bs_load(entry) != NULL)
            continue;
        if (!make_writable(entry, sizeof *entry) || (a = spare_after(a)) == NULL ||
            !has_class_bytes(a, near_class_bytes(number)))
            return false;
    }
    return true;
}

static void publish_arena(uintptr_t number) {
    struct bs_arena *a = spare;
    uint8_t *near = near_class_bytes(number);
    spare = after(a);
    if (spare != NULL) /* else it is none, and stays without memory */
        put_after(a, NULL);
    if (near != NULL)
        a->class = near;
    bs_store_release(&bs_pagemap_table[number], a);
}

bool bs_pagemap_add(uintptr_t base, size_t bytes) {
    if (!bs_pagemap_reserve(base, bytes))
        return false;
    uintptr_t last = (base + bytes - 1) >> BS_ARENA_SHIFT;
    for (uintptr_t number = base >> BS_ARENA_SHIFT; number <= last; number++)
        if (bs_load(&bs_pagemap_table[number]) == NULL)
            publish_arena(number);
    return true;
}

bool bs_pagemap_was_ours(uintptr_t p) {
    struct bs_arena *arena = bs_pagemap_arena(p);
    if (arena == NULL)
        return false;
    size_t page = (p >> BS_PAGE_SHIFT) % BS_ARENA_PAGES, g = page / BS_GROUP_PAGES;
    /* a group is in one region, so all of it is besom's if a page is */
    return bs_load(&arena->span[page]) != NULL || bs_load(&arena->low[g]) != NULL ||
           bs_load(&arena->high[g]) != NULL || bs_load(&arena->was_whole);
}

/* Pages [page, page+n) of one arena. Readers find the span's fields: release. */
static void set_span(struct bs_arena *arena, size_t page, size_t n, struct bs_span *span) {
#pragma GCC unroll 8
    for (struct bs_span **p = &arena->span[page], **end = p + n; p != end; p++)
        bs_store_release(p, span);
}

static void set_class(struct bs_arena *arena, size_t page, size_t n, unsigned class) {
    for (size_t i = page; i < page + n; i++)
        if (bs_load(&arena->class[i]) != class) /* what is zero stays without memory */
            bs_store(&arena->class[i], (uint8_t)class);
}

void bs_pagemap_set(uintptr_t base, size_t npages, struct bs_span *span, unsigned class) {
    while (npages != 0) {
        size_t page = (base >> BS_PAGE_SHIFT) % BS_ARENA_PAGES;
        size_t n = bs_min(npages, BS_ARENA_PAGES - page);
        struct bs_arena *arena = bs_pagemap_arena(base);
        if (span != NULL)
            set_span(arena, page, n, span);
        set_class(arena, page, n, class);
        base += n * BS_PAGE_SIZE;
        npages -= n;
    }
}

uint32_t bs_pagemap_hidden;

/* The byte of a page without a block whose free matters. */
static unsigned shown(uint32_t hidden, unsigned class) {
    return hidden == BS_HIDE_SOME ? class : 0;
}

static void set_hidden(uintptr_t base, size_t npages, unsigned class) {
    for (size_t i = 0; i < npages; i++, base += BS_PAGE_SIZE) {
        struct bs_arena *arena = bs_pagemap_arena(base);
        size_t page = (base >> BS_PAGE_SHIFT) % BS_ARENA_PAGES;
        if (arena->hidden[page] != class)
            bs_store(&arena->hidden[page], (uint64_t)class);
    }
}

/* The byte, and what stands beside it: hide_page, or bs_pagemap_count, may be at them. Where it is shown nothing does,
 * so that there is no memory for it. */
static void enter_hidden(uintptr_t base, size_t npages, struct bs_span *span, unsigned class) {
    bs_meta_lock();
    uint32_t hidden = bs_load(&bs_pagemap_hidden);
    set_hidden(base, npages, hidden == BS_HIDE_ALL ? class : 0);
    bs_pagemap_set(base, npages, span, shown(hidden, class));
    bs_meta_unlock();
}

/* (That classes are to be hidden may be said at any moment: begin_to_hide.) */
void bs_pagemap_set_small(uintptr_t base, size_t npages, struct bs_span *span, unsigned class) {
    if (BS_LIKELY(!bs_pagemap_is_hidden())) {
        bs_pagemap_set(base, npages, span, class);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        if (BS_LIKELY(!bs_pagemap_is_hidden()))
            return;
    }
    enter_hidden(base, npages, span, class);
}

/* Whoever reads this byte finds the class beside it (bs_pagemap_class_not_hidden): release. */
static void show(struct bs_arena *arena, size_t page, uint32_t hidden, uint64_t word) {
    unsigned class = word < BS_HIDDEN_NUMBER ? shown(hidden, (unsigned)word) : 0;
    if (bs_load(&arena->class[page]) != class)
        bs_store_release(&arena->class[page], (uint8_t)class);
}

/* A byte that was shown before may have its class beside it already. */
static void hide_page(struct bs_arena *arena, size_t page, uint32_t hidden) {
    bs_meta_lock();
    uint8_t byte = bs_load(&arena->class[page]);
    uint64_t word = bs_load(&arena->hidden[page]);
    if (byte != 0) {
        if (word % BS_HIDDEN_NUMBER == 0)
            word += byte;
        bs_store(&arena->hidden[page], word);
        show(arena, page, hidden, word);
    }
    bs_meta_unlock();
}

/* Others may enter and clear pages meanwhile. When they have written a byte they look once more whether bytes are hidden;
 * here the barrier is between our store and our first look. So either we see what they wrote, or they see that they
 * have to hide it. */
static void begin_to_hide(uint32_t hidden) {
    bs_store(&bs_pagemap_hidden, hidden);
    bs_os_barrier_or_wait();
}

void bs_pagemap_hide(uintptr_t base, size_t npages, enum bs_hiding which) {
    if (bs_load(&bs_pagemap_hidden) != which)
        begin_to_hide(which);
    for (uintptr_t p = base; p < base + npages * BS_PAGE_SIZE; p += BS_PAGE_SIZE)
        hide_page(bs_pagemap_arena(p), (p >> BS_PAGE_SHIFT) % BS_ARENA_PAGES, which);
}

/* The word with one place more, if there is room, or without it, if it is there. */
static uint64_t with_place(uint64_t word, unsigned at, bool more) {
    for (unsigned i = 0; i < BS_HIDDEN_PLACES; i++)
        if (bs_hidden_place(word, i) == (more ? 0 : at))
            return word ^ (uint64_t)at << (BS_HIDDEN_FIRST + i * BS_HIDDEN_BITS);
    return word;
}

void bs_pagemap_count(uintptr_t p, int step) {
    struct bs_arena *arena = bs_pagemap_arena(p);
    size_t page = (p >> BS_PAGE_SHIFT) % BS_ARENA_PAGES;
    uint64_t *hidden = &arena->hidden[page];
    /* Without a lock the byte of one who counts down could follow that of one who counts up. That happens once in
     * half a MiB of what is asked for, or in a collection: not worth one of its own. */
    bs_meta_lock();
    uint64_t word = with_place(bs_load(hidden), bs_hidden_at(p), step > 0) + (uint64_t)step * BS_HIDDEN_NUMBER;
    uint32_t how = bs_load(&bs_pagemap_hidden);
    if (how != 0 && word % BS_HIDDEN_NUMBER == 0) /* it is about to be hidden */
        word += bs_load(&arena->class[page]);
    bs_store(hidden, word);
    if (how != 0)
        show(arena, page, how, word);
    bs_meta_unlock();
}

/* Pages [page, page+n) of one group, all of them the large span's. */
static void set_in_group(struct bs_arena *arena, size_t page, size_t n, struct bs_span *span) {
    size_t g = page / BS_GROUP_PAGES, i = page % BS_GROUP_PAGES;
    if (i == 0) {
        bs_store_release(&arena->low[g], span);
        bs_store_release(&arena->group[g].low, (uint8_t)n);
    } else if (i + n == BS_GROUP_PAGES) {
        bs_store_release(&arena->high[g], span);
        bs_store_release(&arena->group[g].high, (uint8_t)n);
    } else {
        set_span(arena, page, n, span);
    }
}

static void set_in_arena(struct bs_arena *arena, size_t page, size_t n, struct bs_span *span) {
    if (n == BS_ARENA_PAGES) {
        bs_store(&arena->was_whole, true);
        bs_store_release(&arena->whole, span);
        return;
    }
    while (n != 0) {
        size_t here = bs_min(n, BS_GROUP_PAGES - page % BS_GROUP_PAGES);
        set_in_group(arena, page, here, span);
        page += here;
        n -= here;
    }
}

/* The pages lie in one group and are neither its first nor its last. */
static bool is_inside(size_t page, size_t n) {
    size_t i = page % BS_GROUP_PAGES;
    return i != 0 && i + n < BS_GROUP_PAGES;
}

void bs_pagemap_set_large(uintptr_t base, size_t npages, struct bs_span *span) {
    if (is_inside(base >> BS_PAGE_SHIFT, npages)) {
        set_span(bs_pagemap_arena(base), (base >> BS_PAGE_SHIFT) % BS_ARENA_PAGES, npages, span);
        return;
    }
    while (npages != 0) {
        size_t page = (base >> BS_PAGE_SHIFT) % BS_ARENA_PAGES;
        size_t n = bs_min(npages, BS_ARENA_PAGES - page);
        set_in_arena(bs_pagemap_arena(base), page, n, span);
        base += n * BS_PAGE_SIZE;
        npages -= n;
    }
}

/* The pointers stay: a reader that has seen the number before finds a span that is gone. */
static void forget_group(struct bs_arena *arena, size_t g, const struct bs_span *span) {
    struct bs_group *group = &arena->group[g];
    /* acquire: another's number is not taken together with the pointer that was there before */
    if (bs_load_acquire(&group->low) != 0 && bs_load(&arena->low[g]) == span)
        bs_store_release(&group->low, (uint8_t)0);
    if (bs_load_acquire(&group->high) != 0 && bs_load(&arena->high[g]) == span)
        bs_store_release(&group->high, (uint8_t)0);
}

static void forget_in_arena(struct bs_arena *arena, size_t page, size_t n, const struct bs_span *span) {
    if (bs_load(&arena->whole) == span) {
        bs_store_release(&arena->whole, (struct bs_span *)NULL);
        return;
    }
    for (size_t g = page / BS_GROUP_PAGES; g <= (page + n - 1) / BS_GROUP_PAGES; g++)
        forget_group(arena, g, span);
}

void bs_pagemap_forget_large(uintptr_t base, size_t npages, const struct bs_span *span) {
    if (is_inside(base >> BS_PAGE_SHIFT, npages))
        return;
    while (npages != 0) {
        size_t page = (base >> BS_PAGE_SHIFT) % BS_ARENA_PAGES;
        size_t n = bs_min(npages, BS_ARENA_PAGES - page);
        forget_in_arena(bs_pagemap_arena(base), page, n, span);
        base += n * BS_PAGE_SIZE;
        npages -= n;
    }
}

void bs_pagemap_cut_large(uintptr_t base, size_t npages, size_t old_npages, struct bs_span *span) {
    uintptr_t end = base + npages * BS_PAGE_SIZE, old_end = base + old_npages * BS_PAGE_SIZE;
    uintptr_t from = bs_align_down(end, BS_ARENA_SIZE);
    if (from < base || old_end - from < BS_ARENA_SIZE) /* not an arena that it covered */
        from = bs_max(bs_align_down(end, BS_GROUP_PAGES * BS_PAGE_SIZE), base);
    bs_pagemap_forget_large(from, (old_end - from) / BS_PAGE_SIZE, span);
    bs_pagemap_set_large(from, (end - from) / BS_PAGE_SIZE, span);
}

void bs_pagemap_clear_class(uintptr_t base, size_t npages) {
    bs_pagemap_set_small(base, npages, NULL, 0);
}
