/* SPDX-License-Identifier: MIT */
/* residency.c - see residency.h. */
#include "residency.h"

#include "os.h"

#include <errno.h>

static size_t region_vec_bytes(const struct bs_residency *r) {
    return BS_REGION_SIZE / r->os_page;
}

static bool visit(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    struct bs_residency *r = ctx;
    (void)alloc, (void)released;
    if (r->nregions == r->capacity) /* the heap grew meanwhile: its new part counts as absent */
        return false;
    unsigned char *vec = r->page + r->nregions * region_vec_bytes(r);
    int err = bs_os_residency((void *)base, BS_REGION_SIZE, vec);
    if (err == 0 && r->swapped >= 0)
        bs_os_residency_less_swapped(r->swapped, (void *)base, BS_REGION_SIZE, vec);
    if (err == 0)
        r->base[r->nregions++] = base;
    else
        r->refused |= err == EPERM || err == ENOSYS || err == EACCES;
    return true;
}

bool bs_residency_take(struct bs_residency *r) {
    *r = (struct bs_residency){.os_page = bs_os_page_size()};
    r->capacity = bs_pageheap_counts().mapped_pages / BS_REGION_PAGES;
    r->mapping_bytes =
        bs_align_up(r->capacity * (sizeof *r->base + region_vec_bytes(r)), r->os_page);
    if (r->capacity == 0)
        return true;
    r->mapping = bs_os_alloc(r->mapping_bytes);
    if (r->mapping == NULL) {
        r->capacity = 0;
        return false;
    }
    r->base = r->mapping;
    r->page = (unsigned char *)(r->base + r->capacity);
    r->swapped = bs_os_swap_is_used() ? bs_os_pages_open() : -1;
    uint64_t identity = bs_os_identity(r->swapped);
    bs_pageheap_each_region(visit, r);
    (void)bs_os_close_same(r->swapped, identity);
    return true;
}

void bs_residency_drop(struct bs_residency *r) {
    if (r->mapping != NULL)
        bs_os_free(r->mapping, r->mapping_bytes);
    r->mapping = NULL;
    r->nregions = 0;
}

bool bs_residency_at(const struct bs_residency *r, uintptr_t address) {
    size_t low = 0, high = r->nregions;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (r->base[middle] + BS_REGION_SIZE <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == r->nregions || address < r->base[low])
        return false;
    return (r->page[low * region_vec_bytes(r) + (address - r->base[low]) / r->os_page] & 1) != 0;
}
