/* SPDX-License-Identifier: MIT */
/* pagesum.c - see pagesum.h. */
#include "pagesum.h"

#include <string.h>

static size_t node_pages(unsigned level) {
    return BS_REGION_PAGES << (3 * level);
}

size_t bs_pagesum_size(size_t nregions) {
    size_t entries = 0;
    for (size_t n = nregions;; n = (n + BS_SUM_FANOUT - 1) / BS_SUM_FANOUT) {
        entries += n;
        if (n <= BS_SUM_FANOUT)
            return entries * sizeof(struct bs_sum);
    }
}

void bs_pagesum_attach(struct bs_pagesum *t, void *storage, size_t nregions) {
    struct bs_sum *next = storage;
    t->nlevels = 0;
    for (size_t n = nregions;; n = (n + BS_SUM_FANOUT - 1) / BS_SUM_FANOUT) {
        BS_CHECK(t->nlevels < BS_SUM_LEVELS);
        t->level[t->nlevels] = next;
        t->count[t->nlevels++] = n;
        next += n;
        if (n <= BS_SUM_FANOUT)
            return;
    }
}

static struct bs_sum merge(const struct bs_sum *child, size_t n, size_t child_pages) {
    struct bs_sum sum = {0, 0, 0};
    size_t run = 0; /* free pages directly below the child looked at */
    bool at_start = true;
    for (size_t i = 0; i < n; i++) {
        if (child[i].start == child_pages) {
            run += child_pages;
            continue;
        }
        run += child[i].start;
        if (at_start)
            sum.start = (uint32_t)run;
        at_start = false;
        sum.max = (uint32_t)bs_max(sum.max, bs_max(run, child[i].max));
        run = child[i].end;
    }
    sum.end = (uint32_t)run;
    if (at_start)
        sum.start = (uint32_t)run;
    sum.max = (uint32_t)bs_max(sum.max, run);
    return sum;
}

static struct bs_sum merge_children(const struct bs_pagesum *t, unsigned level, size_t i) {
    size_t first = i * BS_SUM_FANOUT;
    size_t n = bs_min(BS_SUM_FANOUT, t->count[level - 1] - first);
    return merge(&t->level[level - 1][first], n, node_pages(level - 1));
}

void bs_pagesum_update(struct bs_pagesum *t, size_t first, size_t n) {
    size_t last = first + n - 1;
    for (unsigned level = 1; level < t->nlevels; level++) {
        bool changed = false;
        first /= BS_SUM_FANOUT;
        last /= BS_SUM_FANOUT;
        for (size_t i = first; i <= last; i++) {
            struct bs_sum sum = merge_children(t, level, i);
            changed |= !bs_sum_same(sum, t->level[level][i]);
            t->level[level][i] = sum;
        }
        if (!changed)
            return;
    }
}

/* Does the parent's longest run follow from the child's change from old to sum? Where the child begins and ends as it did,
 * the runs that lie across its borders are the same. */
static bool follows(struct bs_sum *parent, struct bs_sum old, struct bs_sum sum) {
    if (old.start != sum.start || old.end != sum.end ||
        (old.max == parent->max && sum.max < old.max))
        return false;
    parent->max = (uint32_t)bs_max(parent->max, sum.max);
    return true;
}

void bs_pagesum_set(struct bs_pagesum *t, size_t i, struct bs_sum sum) {
    struct bs_sum old = t->level[0][i];
    t->level[0][i] = sum;
    for (unsigned level = 1; level < t->nlevels && !bs_sum_same(old, sum); level++) {
        i /= BS_SUM_FANOUT;
        struct bs_sum *parent = &t->level[level][i], before = *parent;
        if (!follows(parent, old, sum))
            *parent = merge_children(t, level, i);
        old = before;
        sum = *parent;
    }
}

void bs_pagesum_adopt(struct bs_pagesum *t, const struct bs_pagesum *old) {
    for (unsigned level = 0; level < t->nlevels; level++) {
        if (level < old->nlevels) {
            BS_CHECK(level == 0 || old->count[level] * BS_SUM_FANOUT == old->count[level - 1]);
            memcpy(t->level[level], old->level[level], old->count[level] * sizeof(struct bs_sum));
        } else {
            for (size_t i = 0; i < t->count[level]; i++)
                t->level[level][i] = merge_children(t, level, i);
        }
    }
}

bool bs_pagesum_find(const struct bs_pagesum *t, size_t npages, size_t *page, size_t *inside) {
    unsigned level = t->nlevels - 1;
    size_t first = 0, n = t->count[level];
    for (;;) {
        size_t pages = node_pages(level), run = 0, i;
        const struct bs_sum *sum = t->level[level];
        for (i = first; i < first + n; i++) {
            if (run + sum[i].start >= npages) { /* a run that began in an earlier node, or here */
                *page = i * pages - run;
                *inside = BS_REGION_NONE;
                return true;
            }
            if (sum[i].max >= npages)
                break;
            run = sum[i].start == pages ? run + pages : sum[i].end;
        }
        if (i == first + n)
            return false;
        if (level == 0) {
            *inside = i;
            return true;
        }
        first = i * BS_SUM_FANOUT;
        level--;
        n = bs_min(BS_SUM_FANOUT, t->count[level] - first);
    }
}

bool bs_pagesum_is_valid(const struct bs_pagesum *t) {
    for (unsigned level = 1; level < t->nlevels; level++)
        for (size_t i = 0; i < t->count[level]; i++)
            if (!bs_sum_same(t->level[level][i], merge_children(t, level, i)))
                return false;
    return true;
}
