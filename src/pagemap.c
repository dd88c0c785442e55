/* SPDX-License-Identifier: MIT */
/* pagemap.c - see pagemap.h: the table's making and the slow half of its use. No lock of its own. */
#include "pagemap.h"

#include "meta.h"
#include "os.h"

uintptr_t *bs_pagemap_table;
size_t bs_pagemap_narenas;

#define TABLE_BYTES (BS_MAX_ARENAS * sizeof(uintptr_t))

/* class bytes' address - first page number: entry = class byte address - page number */
static uintptr_t bias(const struct bs_arena *arena, uintptr_t base) {
    return (uintptr_t)arena->class - (base >> BS_PAGE_SHIFT);
}

static bool make_table(void) {
    uintptr_t *table = bs_os_alloc_readonly(TABLE_BYTES);
    if (table == NULL)
        return false;
    bs_meta_note_mapping(table, TABLE_BYTES);
    bs_store_release(&bs_pagemap_table, table);
    bs_store_release(&bs_pagemap_narenas, BS_MAX_ARENAS);
    return true;
}

static bool add_arena(uintptr_t number) {
    uintptr_t *entry = &bs_pagemap_table[number];
    if (bs_load(entry) != 0)
        return true;
    size_t os_page = bs_os_page_size();
    if (bs_os_writable((char *)bs_align_down((uintptr_t)entry, os_page), os_page) != 0)
        return false;
    struct bs_arena *arena = bs_meta_alloc(sizeof *arena);
    if (arena == NULL)
        return false;
    bs_store_release(entry, bias(arena, number << BS_ARENA_SHIFT));
    return true;
}

bool bs_pagemap_add(uintptr_t base, size_t bytes) {
    if (bs_pagemap_table == NULL && !make_table())
        return false;
    uintptr_t last = (base + bytes - 1) >> BS_ARENA_SHIFT;
    BS_CHECK(last < BS_MAX_ARENAS);
    for (uintptr_t number = base >> BS_ARENA_SHIFT; number <= last; number++)
        if (!add_arena(number))
            return false;
    return true;
}

/* Pages [page, page+n) of one arena. */
static void set_in_arena(struct bs_arena *arena, size_t page, size_t n, struct bs_span *span,
                         unsigned class) {
    for (size_t i = page; i < page + n; i++) {
        if (span != NULL)
            bs_store_release(&arena->span[i], span);
        bs_store(&arena->class[i], (uint8_t)class);
    }
}

void bs_pagemap_set(uintptr_t base, size_t npages, struct bs_span *span, unsigned class) {
    while (npages != 0) {
        size_t page = (base >> BS_PAGE_SHIFT) % BS_ARENA_PAGES;
        size_t n = bs_min(npages, BS_ARENA_PAGES - page);
        set_in_arena(bs_pagemap_arena(base), page, n, span, class);
        base += n * BS_PAGE_SIZE;
        npages -= n;
    }
}

void bs_pagemap_set_large(uintptr_t base, size_t npages, struct bs_span *span) {
    while (npages != 0) {
        size_t page = (base >> BS_PAGE_SHIFT) % BS_ARENA_PAGES;
        size_t n = bs_min(npages, BS_ARENA_PAGES - page);
        struct bs_arena *arena = bs_pagemap_arena(base);
        if (n == BS_ARENA_PAGES)
            bs_store_release(&arena->whole, span);
        else
            set_in_arena(arena, page, n, span, 0);
        base += n * BS_PAGE_SIZE;
        npages -= n;
    }
}

void bs_pagemap_forget_large(uintptr_t base, size_t npages, const struct bs_span *span) {
    uintptr_t end = base + npages * BS_PAGE_SIZE;
    for (uintptr_t p = bs_align_up(base, BS_ARENA_SIZE); p < end; p += BS_ARENA_SIZE) {
        struct bs_arena *arena = bs_pagemap_arena(p);
        if (bs_load(&arena->whole) == span)
            bs_store_release(&arena->whole, (struct bs_span *)NULL);
    }
}

void bs_pagemap_clear_class(uintptr_t base, size_t npages) {
    bs_pagemap_set(base, npages, NULL, 0);
}
