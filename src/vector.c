/* SPDX-License-Identifier: MIT */
/* vector.c - see vector.h. */
#include "vector.h"

#include "os.h"
#include "thp.h"
#include "tunables.h"

void bs_vector_grew(const struct bs_span *s, size_t old) {
    size_t bytes = s->npages * BS_PAGE_SIZE;
    uintptr_t more = s->base + old;
    uintptr_t last = more - bs_min(old, BS_THP_FILLED_PAGES * bs_os_page_size());
    if (bytes < BS_THP_VECTOR_BYTES || !bs_thp_may_advise() || !bs_thp_is_filled(last, more, BS_THP_FILLED_PART))
        return;
    bs_thp_extended(more, bytes - old);
}

bool bs_vector_unify(const struct bs_span *s) {
    size_t bytes = s->npages * BS_PAGE_SIZE;
    return bytes >= BS_THP_VECTOR_BYTES && bs_thp_unify(s->base, bytes);
}
