/* SPDX-License-Identifier: MIT */
/* smaps.c - see smaps.h. */
#include "smaps.h"

#include "lines.h"
#include "meta.h"
#include "pagemap.h"

enum owner { OUTSIDE, HEAP, METADATA };

static enum owner owner_of(uintptr_t address) {
    if (bs_pagemap_arena(address) != NULL)
        return HEAP;
    return bs_meta_owns(address) ? METADATA : OUTSIDE;
}

bool bs_smaps_read(struct bs_smaps *out) {
    struct bs_lines r;
    struct bs_mapping m;
    char line[128];
    enum owner owner = OUTSIDE;
    *out = (struct bs_smaps){0};
    if (!bs_lines_open(&r, "/proc/self/smaps"))
        return false;
    while (bs_lines_next(&r, line, sizeof line)) {
        if (bs_lines_mapping(line, &m)) {
            owner = owner_of(m.start);
            out->mappings++;
            continue;
        }
        uint64_t rss = bs_lines_kib(line, "Rss:");
        out->rss += rss;
        if (owner == HEAP) {
            out->heap += rss;
            out->anon_huge += bs_lines_kib(line, "AnonHugePages:");
        } else if (owner == METADATA) {
            out->metadata += rss;
        }
    }
    bs_lines_close(&r);
    return out->rss != 0;
}
