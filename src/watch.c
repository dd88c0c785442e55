/* SPDX-License-Identifier: MIT */
/* watch.c - see watch.h. */
#include "watch.h"

#include "opt.h"
#include "pageheap.h"
#include "tunables.h"

#include <errno.h>

#define PARTS 64

static bool unavailable; /* [lock:round] the kernel has said so */

/* --- the beginning ------------------------------------------------------------------------------ */

struct setting {
    int fd, pages, error;
    struct bs_range run; /* regions side by side */
};

static void watch_run(struct setting *s) {
    if (s->run.start != 0 && s->error == 0)
        s->error = bs_os_watch(s->fd, s->pages, s->run.start, s->run.end);
}
/* Runs of regions, since a part of a mapping would be cut out of it. */
static bool add_region(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    struct setting *s = ctx;
    (void)alloc, (void)released;
    if (s->run.end != base) {
        watch_run(s);
        s->run.start = base;
    }
    s->run.end = base + BS_REGION_SIZE;
    return s->error == 0;
}

bool bs_watch_begin(struct bs_watch *w) {
    w->fd = -1;
    if (unavailable || bs_opt.decommit == BS_DECOMMIT_HARD)
        return false;
    w->fd = bs_os_watch_open();
    if (w->fd < 0) {
        unavailable = w->fd == -ENOSYS || w->fd == -EPERM || w->fd == -EINVAL;
        return false;
    }
    w->identity = bs_os_identity(w->fd);
    struct setting s = {.fd = w->fd, .pages = bs_os_pages_open()};
    s.error = s.pages < 0 ? -s.pages : 0;
    bs_pageheap_each_region(add_region, &s);
    watch_run(&s);
    if (s.pages >= 0)
        bs_os_close(s.pages);
    if (s.error != 0) {
        /* EBUSY: an exec that is under way has the last one open still */
        unavailable = s.error == EINVAL || s.error == ENOTTY || s.error == EPERM;
        bs_watch_end(w);
    }
    return s.error == 0;
}

bool bs_watch_is_on(const struct bs_watch *w) {
    return w->fd >= 0 && bs_os_identity(w->fd) == w->identity;
}

void bs_watch_end(struct bs_watch *w) {
    if (w->fd >= 0)
        (void)bs_os_close_same(w->fd, w->identity);
    w->fd = -1;
}

/* --- what was written --------------------------------------------------------------------------- */

struct written {
    bs_watch_visitor *visit;
    void *ctx;
    int pages;
    bool again, wanted;
};

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    struct written *w = ctx;
    struct bs_range part[PARTS];
    (void)alloc, (void)released;
    for (uintptr_t p = base, end = base + BS_REGION_SIZE; p < end && w->wanted;) {
        size_t n = bs_os_written(w->pages, p, end, w->again, part, PARTS, &p);
        for (size_t i = 0; i < n && w->wanted; i++)
            w->wanted = w->visit(w->ctx, part[i].start, part[i].end);
    }
    return w->wanted;
}

bool bs_watch_written(const struct bs_watch *watch, bool again, bs_watch_visitor *visit, void *ctx) {
    struct written w = {.visit = visit, .ctx = ctx, .pages = bs_os_pages_open(), .again = again, .wanted = true};
    uint64_t identity = bs_os_identity(w.pages);
    bool on = bs_watch_is_on(watch) && w.pages >= 0;
    if (on)
        bs_pageheap_each_region(visit_region, &w);
    return bs_os_close_same(w.pages, identity) && on && w.wanted;
}
