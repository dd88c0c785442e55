/* SPDX-License-Identifier: MIT */
/* route.c - see route.h. What it reads of others are hints: relaxed, and old when they are used. */
#include "route.h"

#include "tcache_internal.h"
#include "waiting.h"

static bool may_serve(unsigned class, unsigned guest) {
    return bs_class_info[class].size <= BS_ROUTE_TIMES * bs_class_info[guest].size;
}

/* Half of its slots are free, or in the caller's cache. */
static bool is_spacious(const struct bs_tcache *tc, unsigned class) {
    struct bs_central_counts c = bs_central_glance(class);
    size_t cached = bs_tcache_count(tc, class) + bs_popcount(tc->bin[class].run_mask);
    return c.spans != 0 && bs_sub_clamped(c.slots_out, cached) <=
                               c.spans * bs_class_info[class].nslots / BS_ROUTE_PART;
}

static unsigned find_host(const struct bs_tcache *tc, unsigned guest) {
    for (unsigned c = guest + 1; c < BS_NCLASSES && may_serve(c, guest); c++)
        if (is_spacious(tc, c))
            return c;
    return guest;
}

/* `own`, which holds the size best, has no span in use, or its sizes are served by `class`. */
static BS_NOINLINE unsigned choose(unsigned class, unsigned own) {
    const struct bs_tcache *tc = bs_tcache_self();
    unsigned to = own;
    if (!bs_tcache_is_real(tc))
        return class;
    if (bs_central_spans(own) == 0 && !bs_waiting_has(own)) {
        if (class != own && is_spacious(tc, class))
            return class;
        to = find_host(tc, own);
    }
    if (to != class)
        bs_class_route(own, to);
    return to;
}

unsigned bs_route_choose(unsigned class, size_t size) {
    unsigned own = bs_class_smallest(size);
    if (BS_LIKELY(class == own) &&
        (bs_central_spans(own) != 0 || bs_class_info[own].npages < BS_ROUTE_PAGES))
        return class;
    return choose(class, own);
}
