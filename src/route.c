/* SPDX-License-Identifier: MIT */
/* route.c - see route.h. What it reads of others are hints: relaxed, and old when they are used. */
#include "route.h"

#include "tcache_internal.h"
#include "waiting.h"

static bool may_serve(unsigned class, unsigned guest) {
    return bs_class_info[class].size <= BS_ROUTE_TIMES * bs_class_info[guest].size;
}

/* Half of its slots are free, or in the caller's cache. A class without a span has none that is not. */
static bool is_half_free(const struct bs_tcache *tc, unsigned class, size_t *spans) {
    struct bs_central_counts c = bs_central_glance(class);
    size_t cached = 0;
    if (bs_tcache_is_real(tc))
        cached = bs_tcache_count(tc, class) + bs_popcount(tc->bin[class].run_mask);
    *spans = c.spans;
    return bs_sub_clamped(c.slots_out, cached) <= c.spans * bs_class_info[class].nslots / BS_ROUTE_PART;
}

static unsigned find_host(const struct bs_tcache *tc, unsigned guest) {
    size_t spans;
    for (unsigned c = guest + 1; c < BS_NCLASSES && may_serve(c, guest); c++)
        if (is_half_free(tc, c, &spans) && spans != 0)
            return c;
    return guest;
}

/* The sizes of `own` are served by `class`, and may be from now on. */
static bool may_stay(const struct bs_tcache *tc, unsigned class, unsigned own) {
    size_t spans;
    if (!is_half_free(tc, class, &spans))
        return false;
    return bs_class_info[own].size <= BS_ROUTE_FIRST_MAX ? spans <= 1 : spans != 0;
}

static bool has_long_spans(unsigned class) {
    return bs_class_info[class].npages >= BS_ROUTE_PAGES;
}

/* `own`, which holds the size best, has no span in use, or its sizes are served by `class`. */
static BS_NOINLINE unsigned choose(unsigned class, unsigned own) {
    const struct bs_tcache *tc = bs_tcache_self();
    unsigned to = own;
    if (tc != &bs_tcache_none && !bs_load(&bs_tcache_disabled) && bs_central_spans(own) == 0 && !bs_waiting_has(own)) {
        if (class != own && may_stay(tc, class, own))
            return class;
        if (has_long_spans(own) && bs_tcache_is_real(tc))
            to = find_host(tc, own);
    }
    if (to != class)
        bs_class_route(own, to);
    return to;
}

unsigned bs_route_choose(unsigned class, size_t size) {
    unsigned own = bs_class_smallest(size);
    if (BS_LIKELY(class == own) && (!has_long_spans(own) || bs_central_spans(own) != 0))
        return class;
    return choose(class, own);
}
