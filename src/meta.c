/* SPDX-License-Identifier: MIT */
/*
 * meta.c - see meta.h. Bump allocation out of mappings of MAP_BYTES; objects given back form a
 * LIFO list through their first word.
 *
 * Objects of pools that are small come out of the first bytes of the first mapping, as far as these reach: behind
 * them the first tables lie, of which little is touched, and what a small program needs shall share pages.
 *
 * The table of mappings lets the ledger count metadata and tell it from the program's own memory.
 * It is small: a mapping of its own is made only for large tables, and the bump mappings double.
 */
#include "meta.h"

#include "lock.h"
#include "os.h"

#define FIRST_MAP_BYTES (256 * BS_KIB)
#define LAST_MAP_BYTES (4 * BS_MIB)
#define MAX_MAPPINGS 512
#define SMALL_BYTES (2 * BS_KIB) /* so many of the first mapping are for objects of at most so many */
#define SMALL_MAX 256

struct bs_free {
    struct bs_free *next;
};

static struct {
    struct bs_lock lock;
    char *next, *end;  /* [lock:meta] what is left of the newest bump mapping */
    char *small, *small_end; /* [lock:meta] what is left for small objects; NULL: no mapping yet */
    size_t map_bytes;  /* [lock:meta] of the next bump mapping */
    size_t used_bytes; /* [lock:meta], read relaxed */
    unsigned nmappings; /* [lock:meta] */
} meta = {.lock = BS_LOCK_INIT(BS_RANK_META), .map_bytes = FIRST_MAP_BYTES};

/* [lock:meta] Apart, so that what is never used of it is in no memory. */
static struct {
    char *addr;
    size_t bytes; /* 0: unmapped, the entry may be used again */
} mapping[MAX_MAPPINGS];

static void note_mapping_locked(char *addr, size_t bytes) {
    unsigned i = 0;
    while (i < meta.nmappings && mapping[i].bytes != 0)
        i++;
    if (i == MAX_MAPPINGS)
        return; /* counted as memory outside malloc: a wrong line in the ledger, no wrong memory */
    mapping[i].addr = addr;
    mapping[i].bytes = bytes;
    if (i == meta.nmappings)
        meta.nmappings++;
}

static void *map_locked(size_t bytes) {
    char *p = bs_os_alloc(bytes);
    if (p == NULL)
        return NULL;
    bs_os_name(p, bytes, "besom metadata");
    (void)bs_os_no_huge_pages(p, bytes); /* sparse by design: a huge page would fill it */
    note_mapping_locked(p, bytes);
    return p;
}

static void count_used_locked(size_t plus, size_t minus) {
    bs_store(&meta.used_bytes, meta.used_bytes + plus - minus);
}

static char *take_small_locked(size_t bytes, size_t align) {
    char *p = (char *)bs_align_up((uintptr_t)meta.small, align);
    if (bytes > SMALL_MAX || p == NULL || p + bytes > meta.small_end)
        return NULL;
    meta.small = p + bytes;
    return p;
}

static void *bump_locked(size_t bytes, size_t align) {
    char *p = (char *)bs_align_up((uintptr_t)meta.next, align);
    if (meta.next == NULL || p > meta.end || (size_t)(meta.end - p) < bytes) {
        size_t before = meta.small == NULL ? SMALL_BYTES : 0; /* of the first one */
        size_t map_bytes = bs_max(meta.map_bytes, bs_align_up(before + bytes, bs_os_page_size()));
        p = map_locked(map_bytes);
        if (p == NULL)
            return NULL;
        meta.end = p + map_bytes;
        if (meta.small == NULL) {
            meta.small = p;
            p = meta.small_end = p + SMALL_BYTES;
        }
        meta.map_bytes = bs_min(meta.map_bytes * 2, LAST_MAP_BYTES);
    }
    meta.next = p + bytes;
    count_used_locked(bytes, 0);
    return p;
}

static void *new_object_locked(size_t bytes, size_t align) {
    char *p = take_small_locked(bytes, align);
    if (p == NULL)
        return bump_locked(bytes, align);
    count_used_locked(bytes, 0);
    return p;
}

void *bs_meta_pool_alloc(struct bs_meta_pool *pool) {
    bs_lock_acquire(&meta.lock);
    void *p = pool->free;
    if (p != NULL)
        pool->free = pool->free->next;
    else
        p = new_object_locked(pool->bytes, pool->bytes % BS_CACHE_LINE == 0 ? BS_CACHE_LINE : 16);
    if (p != NULL)
        pool->in_use++;
    bs_lock_release(&meta.lock);
    return p;
}

void bs_meta_pool_free(struct bs_meta_pool *pool, void *object) {
    struct bs_free *f = object;
    bs_lock_acquire(&meta.lock);
    f->next = pool->free;
    pool->free = f;
    pool->in_use--;
    bs_lock_release(&meta.lock);
}

void *bs_meta_alloc(size_t bytes) {
    bs_lock_acquire(&meta.lock);
    void *p = bump_locked(bs_align_up(bytes, BS_CACHE_LINE), BS_CACHE_LINE);
    bs_lock_release(&meta.lock);
    return p;
}

void *bs_meta_map_sparse(size_t bytes, size_t used) {
    bs_lock_acquire(&meta.lock);
    void *p = map_locked(bs_align_up(bytes, bs_os_page_size()));
    if (p != NULL)
        count_used_locked(used, 0);
    bs_lock_release(&meta.lock);
    return p;
}
void *bs_meta_map(size_t bytes) {
    return bs_meta_map_sparse(bytes, bs_align_up(bytes, bs_os_page_size()));
}

void bs_meta_unmap_sparse(void *addr, size_t bytes, size_t used) {
    bytes = bs_align_up(bytes, bs_os_page_size());
    bs_lock_acquire(&meta.lock);
    for (unsigned i = 0; i < meta.nmappings; i++)
        if (mapping[i].addr == addr)
            mapping[i].bytes = 0;
    count_used_locked(0, used);
    bs_lock_release(&meta.lock);
    bs_os_free(addr, bytes);
}
void bs_meta_unmap(void *addr, size_t bytes) {
    bs_meta_unmap_sparse(addr, bytes, bs_align_up(bytes, bs_os_page_size()));
}

void bs_meta_note_mapping(void *addr, size_t bytes) {
    bs_lock_acquire(&meta.lock);
    note_mapping_locked(addr, bytes);
    bs_lock_release(&meta.lock);
}

/* --- questions -------------------------------------------------------------------------------- */

/* Of a mapping, what lies in [start, end). */
static size_t part_within(unsigned i, uintptr_t start, uintptr_t end, uintptr_t *from) {
    uintptr_t base = (uintptr_t)mapping[i].addr;
    *from = bs_max(base, start);
    return bs_sub_clamped(bs_min(base + mapping[i].bytes, end), *from);
}

size_t bs_meta_mapped_within(uintptr_t start, uintptr_t end) {
    uintptr_t from;
    size_t bytes = 0;
    bs_lock_acquire(&meta.lock);
    for (unsigned i = 0; i < meta.nmappings; i++)
        bytes += part_within(i, start, end, &from);
    bs_lock_release(&meta.lock);
    return bytes;
}

size_t bs_meta_mapped_bytes(void) {
    return bs_meta_mapped_within(0, UINTPTR_MAX);
}

size_t bs_meta_used_bytes(void) {
    return bs_load(&meta.used_bytes);
}

static size_t resident_bytes_of(const char *addr, size_t bytes) {
    unsigned char vec[1024];
    size_t page = bs_os_page_size(), resident = 0;
    while (bytes != 0) {
        size_t piece = bs_min(bytes, sizeof vec * page);
        if (bs_os_residency(addr, piece, vec) != 0)
            return resident;
        for (size_t i = 0; i < piece / page; i++)
            resident += (vec[i] & 1) ? page : 0;
        addr += piece;
        bytes -= piece;
    }
    return resident;
}

size_t bs_meta_resident_within(uintptr_t start, uintptr_t end) {
    uintptr_t from;
    size_t resident = 0;
    bs_lock_acquire(&meta.lock);
    for (unsigned i = 0; i < meta.nmappings; i++) {
        size_t bytes = part_within(i, start, end, &from);
        resident += resident_bytes_of((const char *)from, bytes);
    }
    bs_lock_release(&meta.lock);
    return resident;
}

size_t bs_meta_resident_bytes(void) {
    return bs_meta_resident_within(0, UINTPTR_MAX);
}

size_t bs_meta_ranges(struct bs_range *range, size_t max) {
    size_t n = 0;
    bs_lock_acquire(&meta.lock);
    for (unsigned i = 0; i < meta.nmappings; i++) {
        uintptr_t start = (uintptr_t)mapping[i].addr;
        if (mapping[i].bytes == 0)
            continue;
        if (n < max)
            range[n] = (struct bs_range){start, start + mapping[i].bytes};
        n++;
    }
    bs_lock_release(&meta.lock);
    return n;
}

void bs_meta_lock(void) {
    bs_lock_acquire(&meta.lock);
}
void bs_meta_unlock(void) {
    bs_lock_release(&meta.lock);
}
void bs_meta_reset_lock(void) {
    bs_lock_reset(&meta.lock);
}
