/* SPDX-License-Identifier: MIT */
/* collect_pick.c - see collect_pick.h. */
#include "collect_pick.h"

#include "bits.h"
#include "os.h"

/* Where a slot lies that reaches beyond the span's whole OS pages. */
#define OUTSIDE ((uint32_t)1 << 16)

/* The OS pages that slot i touches, a bit each. */
static uint32_t pages_of(const struct bs_span *s, size_t i, uintptr_t first, size_t npages) {
    size_t size = bs_span_class(s)->size, os_page = bs_os_page_size();
    uintptr_t start = s->base + i * size, end = start + size;
    uint32_t pages = 0;
    if (start < first || end > first + npages * os_page)
        pages = OUTSIDE;
    for (size_t page = 0; page < npages; page++)
        if (start < first + (page + 1) * os_page && end > first + page * os_page)
            pages |= (uint32_t)1 << page;
    return pages;
}

static void set(uint64_t *bits, size_t i) {
    bits[i / 64] |= (uint64_t)1 << (i % 64);
}

static bool pick_small(const struct bs_span *s, const uint64_t *lost, struct bs_pick *pick) {
    size_t os_page = bs_os_page_size();
    uintptr_t first = bs_span_os_page_base(s, os_page), end = s->base + s->npages * BS_PAGE_SIZE;
    size_t npages = first < end ? bs_min((end - first) / os_page, 16) : 0;
    uint32_t bad = OUTSIDE, pages = 0;
    for (size_t i = 0; i < s->nslots; i++)
        if (bs_bit_test(s->alloc, i) && !bs_bit_test(lost, i))
            bad |= pages_of(s, i, first, npages);
    /* a lost slot that reaches onto a bad page spoils its other pages as well */
    for (uint32_t before = 0; before != bad;) {
        before = bad;
        pages = 0;
        for (size_t i = 0; i < s->nslots; i++) {
            uint32_t on = bs_bit_test(lost, i) ? pages_of(s, i, first, npages) : 0;
            if ((on & bad) != 0)
                bad |= on;
            pages |= on;
        }
    }
    pick->pages = (uint16_t)(pages & ~bad);
    for (size_t i = 0; i < s->nslots && pick->pages != 0; i++) {
        uint32_t on = pages_of(s, i, first, npages);
        if ((on & pick->pages) != 0)
            set(bs_bit_test(lost, i) ? pick->block : pick->reserve, i);
    }
    return pick->pages != 0;
}

bool bs_collect_pick(const struct bs_span *s, const uint64_t lost[BS_MARKS_PLANES],
                     struct bs_pick *pick) {
    *pick = (struct bs_pick){.pages = 0};
    if (s->class != 0)
        return pick_small(s, lost, pick);
    pick->block[0] = lost[0] & s->alloc[0];
    return pick->block[0] != 0 &&
           ((s->base | (size_t)s->npages * BS_PAGE_SIZE) & (bs_os_page_size() - 1)) == 0;
}

size_t bs_collect_next_run(const struct bs_span *s, uint16_t *pages, uintptr_t *start) {
    size_t os_page = bs_os_page_size(), n = 0;
    if (*pages == 0)
        return 0;
    unsigned first = bs_ctz(*pages);
    while (first + n < 16 && (*pages >> (first + n) & 1) != 0) {
        *pages &= (uint16_t)~(1u << (first + n));
        n++;
    }
    *start = bs_span_os_page_base(s, os_page) + first * os_page;
    return n * os_page;
}
