/* SPDX-License-Identifier: MIT */
/* probe.c - see probe.h. */
#include "probe.h"

#include "os.h"

/* The page is readable, and among the bytes from `from` to `to`. */
static bool admit(struct bs_probe *m, uintptr_t page) {
    bool some = m->from < m->to;
    uintptr_t low = bs_align_down(m->from, BS_PROBE_PAGE), high = bs_align_up(m->to, BS_PROBE_PAGE);
    if (some && page >= low && page < high)
        return true;
    if (page == 0 || (page != m->other && !bs_os_readable(page)))
        return false;
    if (some && page == high) {
        m->to = bs_min(page + BS_PROBE_PAGE, m->end);
        return true;
    }
    if (some)
        m->other = low;
    bs_probe_know(m, page);
    return true;
}

bool bs_probe_read_elsewhere(struct bs_probe *m, uintptr_t p, size_t n, uint64_t *out) {
    *out = 0;
    if (BS_UNLIKELY(p < m->base || p >= m->end || m->end - p < n))
        return false;
    uintptr_t page = bs_align_down(p, BS_PROBE_PAGE), last = bs_align_down(p + n - 1, BS_PROBE_PAGE);
    if (!admit(m, page) || (last != page && !admit(m, last)))
        return false;
    *out = bs_probe_load(p, n);
    return true;
}
