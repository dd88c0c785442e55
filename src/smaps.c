/* SPDX-License-Identifier: MIT */
/* smaps.c - see smaps.h. */
#include "smaps.h"

#include "lines.h"
#include "meta.h"
#include "pagemap.h"

enum owner { OUTSIDE, HEAP, METADATA, MERGED };

/* A kernel that names no mappings merges tables of ours with what lies beside them, as with stacks of threads. */
static enum owner owner_of(const struct bs_mapping *m) {
    if (bs_pagemap_arena(m->start) != NULL)
        return HEAP;
    size_t bytes = bs_meta_mapped_within(m->start, m->end);
    return bytes == 0 ? OUTSIDE : bytes == m->end - m->start ? METADATA : MERGED;
}

bool bs_smaps_read(struct bs_smaps *out) {
    struct bs_lines r;
    struct bs_mapping m;
    char line[128];
    enum owner owner = OUTSIDE;
    *out = (struct bs_smaps){0};
    if (!bs_lines_open_own(&r, "smaps"))
        return false;
    while (bs_lines_next(&r, line, sizeof line)) {
        if (bs_lines_mapping(line, &m)) {
            owner = owner_of(&m);
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
        } else if (owner == MERGED && rss != 0) {
            out->metadata += bs_min(rss, bs_meta_resident_within(m.start, m.end));
        }
    }
    bs_lines_close(&r);
    return out->rss != 0;
}
