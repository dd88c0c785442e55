/* SPDX-License-Identifier: MIT */
/* usage.c - see usage.h. */
#include "usage.h"

#include "central.h"
#include "large.h"
#include "os.h"
#include "tcache.h"
#include "thread.h"

static void add_cached(void *ctx, const struct bs_tcache *tc) {
    *(size_t *)ctx += bs_tcache_bytes(tc);
}

struct bs_usage bs_usage_now(void) {
    struct bs_usage u = {0};
    size_t out = 0, in_spans = 0;
    bs_thread_each(add_cached, &u.cached);
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        const struct bs_class_info *c = &bs_class_info[class];
        struct bs_central_counts counts = bs_central_counts(class);
        u.spans += counts.spans;
        u.holes += counts.holes * bs_os_page_size();
        out += counts.slots_out * c->size;
        in_spans += counts.spans * c->nslots * c->size;
    }
    u.large = bs_large_span_bytes();
    u.live = bs_sub_clamped(out, u.cached) + u.large;
    u.free_span = bs_sub_clamped(in_spans, out);
    return u;
}
