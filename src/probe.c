/* SPDX-License-Identifier: MIT */
/* probe.c - see probe.h. */
#include "probe.h"

#include "os.h"

#define PAGE ((uintptr_t)4096) /* the smallest there is: a larger OS page is asked several times */

static bool page_is_readable(struct bs_probe *m, uintptr_t p) {
    uintptr_t page = bs_align_down(p, PAGE);
    if (BS_LIKELY(page == m->known[0] || page == m->known[1]))
        return true;
    if (page == 0 || !bs_os_readable(page))
        return false;
    m->known[1] = m->known[0];
    m->known[0] = page;
    return true;
}

/* Other frames' memory: what a sanitizer thinks of it does not matter. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static uint64_t
load(uintptr_t p, size_t n) {
    uint64_t x = 0;
    if (n == 8 && p % 8 == 0)
        return *(const volatile uint64_t *)p;
    for (size_t i = 0; i < n; i++)
        x |= (uint64_t)((const volatile uint8_t *)p)[i] << (8 * i);
    return x;
}

bool bs_probe_read(struct bs_probe *m, uintptr_t p, size_t n, uint64_t *out) {
    *out = 0;
    if (BS_UNLIKELY(p < m->base || p >= m->end || m->end - p < n))
        return false;
    if (!page_is_readable(m, p) || !page_is_readable(m, p + n - 1))
        return false;
    *out = load(p, n);
    return true;
}
