/* SPDX-License-Identifier: MIT */
/* vector.c - see vector.h. */
#include "vector.h"

#include "opt.h"
#include "os.h"
#include "thp.h"
#include "tunables.h"

/* Of the last pages before `end`, at least from `base` on. Where the kernel does not say, no. */
static bool is_filled(uintptr_t base, uintptr_t end) {
    unsigned char vec[BS_THP_FILLED_PAGES];
    size_t os_page = bs_os_page_size(), present = 0;
    uintptr_t last = bs_align_down(end, os_page), first = bs_align_up(base, os_page);
    size_t n = bs_min(sizeof vec, (last - first) / os_page);
    if (n == 0 || bs_os_residency((const void *)(last - n * os_page), n * os_page, vec) != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        present += vec[i] & 1;
    return present >= n - n / BS_THP_FILLED_PART;
}

void bs_vector_grew(const struct bs_span *s, size_t old) {
    size_t bytes = s->npages * BS_PAGE_SIZE;
    uintptr_t more = s->base + old;
    if (bytes < BS_THP_VECTOR_BYTES || bs_opt.thp != BS_THP_AUTO || !is_filled(s->base, more))
        return;
    if (bs_thp_extended(more, bytes - old))
        bs_thp_try(bs_align_up(more, BS_HUGE_SIZE));
}

bool bs_vector_unify(const struct bs_span *s) {
    size_t bytes = s->npages * BS_PAGE_SIZE;
    return bytes >= BS_THP_VECTOR_BYTES && bs_thp_unify(s->base, bytes);
}
