/* SPDX-License-Identifier: MIT */
/* park.c - see park.h. No lock. */
#include "park.h"

#include "bits.h"
#include "meta.h"
#include "os.h"
#include "out.h"
#include "sample.h"

static struct {
    struct bs_parked *entry; /* [prepare] in metadata */
    size_t n;                /* [atomic] written while all stand */
    uint64_t events;         /* [atomic] */
} park;

bool bs_park_prepare(void) {
    if (park.entry == NULL)
        park.entry = bs_meta_map(BS_PARK_MAX * sizeof *park.entry);
    return park.entry != NULL;
}
size_t bs_park_count(void) {
    return bs_load(&park.n);
}
bool bs_park_is_closed(void) {
    for (size_t i = 0; i < bs_park_count(); i++)
        if (bs_load(&park.entry[i].state) < BS_PARK_GOING)
            return true;
    return false;
}
struct bs_parked *bs_park_entry(size_t i) {
    return &park.entry[i];
}
uint64_t bs_park_events(void) {
    return bs_load_acquire(&park.events);
}

struct bs_parked *bs_park_find(uintptr_t p) {
    size_t low = 0, high = bs_load(&park.n);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (park.entry[middle].base <= p)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || p - park.entry[low - 1].base >= park.entry[low - 1].bytes)
        return NULL;
    return &park.entry[low - 1];
}

/* --- closing and opening ----------------------------------------------------------------------- */

/* Where the pages lie follows from the entry alone: the span may be gone. */
static int for_pages(const struct bs_parked *e, int (*call)(void *addr, size_t bytes)) {
    const struct bs_span place = {.base = e->base};
    uint16_t pages = e->pick.pages;
    uintptr_t start;
    int error = 0;
    if (e->class == 0)
        return call((void *)e->base, e->bytes);
    for (size_t bytes; (bytes = bs_collect_next_run(&place, &pages, &start)) != 0;) {
        int failed = call((void *)start, bytes);
        error = failed != 0 ? failed : error;
    }
    return error;
}

bool bs_park_close(struct bs_span *s, const struct bs_pick *pick) {
    if (park.n == BS_PARK_MAX)
        return false;
    struct bs_parked *e = &park.entry[park.n];
    *e = (struct bs_parked){.base = s->base, .bytes = (size_t)s->npages * BS_PAGE_SIZE, .span = s,
                            .class = s->class, .state = BS_PARK_CLOSED, .pick = *pick};
    if (for_pages(e, bs_os_forbid) != 0) {
        (void)for_pages(e, bs_os_writable);
        return false;
    }
    bs_store(&park.n, park.n + 1);
    return true;
}

bool bs_park_expire(void) {
    for (size_t i = 0; i < park.n; i++)
        if (bs_load(&park.entry[i].state) == BS_PARK_GOING)
            return false;
    for (size_t i = 0; i < park.n; i++)
        if (bs_load(&park.entry[i].state) == BS_PARK_CLOSED)
            bs_store(&park.entry[i].state, (uint32_t)BS_PARK_GOING);
    return true;
}

void bs_park_keep(bool (*stays)(void *ctx, struct bs_parked *e), void *ctx) {
    size_t n = 0;
    for (size_t i = 0; i < park.n; i++)
        if (stays(ctx, &park.entry[i])) {
            if (n != i)
                park.entry[n] = park.entry[i];
            n++;
        }
    bs_store(&park.n, n);
}

static bool may_be_closed(const struct bs_parked *e) {
    uint32_t state = bs_load(&e->state);
    return state == BS_PARK_CLOSED || state == BS_PARK_GOING;
}
void bs_park_open_all(void) {
    for (size_t i = 0; i < park.n; i++)
        if (may_be_closed(&park.entry[i]))
            (void)for_pages(&park.entry[i], bs_os_writable);
}

static bool change(struct bs_parked *e, uint32_t from, uint32_t to) {
    return __atomic_compare_exchange_n(&e->state, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* What was CLOSED is GOING without anybody who takes it: nobody would be seen to come. */
static void stop_watching(void) {
    for (size_t i = 0; i < bs_park_count(); i++)
        if (change(&park.entry[i], BS_PARK_CLOSED, BS_PARK_GOING))
            (void)for_pages(&park.entry[i], bs_os_writable);
}

/* (There may be too many mappings: what opened was one with its neighbours.) */
void bs_park_close_all(void) {
    bool closed = true;
    for (size_t i = 0; i < park.n; i++)
        if (may_be_closed(&park.entry[i]))
            closed &= for_pages(&park.entry[i], bs_os_forbid) == 0;
    if (!closed)
        stop_watching();
}

/* Opening a part of what is one mapping makes two more. Where there may be no more, all of it opens: that
 * makes fewer. */
bool bs_park_open(const struct bs_parked *e) {
    if (for_pages(e, bs_os_writable) == 0)
        return true;
    stop_watching();
    return for_pages(e, bs_os_writable) == 0;
}

bool bs_park_take(struct bs_parked *e) {
    return change(e, BS_PARK_GOING, BS_PARK_TAKEN);
}

/* --- who comes ------------------------------------------------------------------------------------ */

static bool leave(struct bs_parked *e, enum bs_park_state to, uintptr_t p) {
    if (!change(e, BS_PARK_CLOSED, to) && !change(e, BS_PARK_GOING, to))
        return false;
    e->touched = p;
    /* release: pairs with bs_park_events */
    (void)__atomic_fetch_add(&park.events, 1, __ATOMIC_RELEASE);
    return true;
}

static bool is_closed(const struct bs_parked *e, uintptr_t p) {
    size_t os_page = bs_os_page_size();
    uintptr_t first = bs_align_up(e->base, os_page);
    return e->class == 0 || (p >= first && (e->pick.pages >> ((p - first) / os_page) & 1) != 0);
}

bool bs_park_touch(uintptr_t p) {
    struct bs_parked *e = bs_park_find(p);
    if (e == NULL || !is_closed(e, p) || bs_load_acquire(&e->state) == BS_PARK_GONE)
        return false;
    (void)leave(e, BS_PARK_TOUCHED, p); /* false: another thread is at it, and may not be done */
    return bs_park_open(e);
}

void bs_park_freed(void *p) {
    struct bs_parked *e = bs_park_find((uintptr_t)p);
    struct bs_sampled sampled;
    if (e == NULL || bs_load_acquire(&e->state) == BS_PARK_GONE)
        return;
    size_t size = e->class != 0 ? bs_class_info[e->class].size : e->bytes;
    size_t slot = ((uintptr_t)p - e->base) / size;
    if (((uintptr_t)p - e->base) % size != 0 || slot >= 64 * BS_MARKS_PLANES)
        return; /* found out where the block is released */
    if (bs_bit_test(e->pick.reserve, slot))
        bs_fatal("double free of %p (size class %zu bytes)", p, size);
    if (!bs_bit_test(e->pick.block, slot))
        return;
    bool known = bs_sample_find(p, &sampled);
    if (!leave(e, BS_PARK_FREED, (uintptr_t)p)) {
        if (bs_load_acquire(&e->state) == BS_PARK_TAKEN) /* or it would have two owners */
            bs_fatal("free of %p, whose memory scan:collect uses again", p);
        return;
    }
    e->stack = known ? sampled.stack : NULL;
    (void)bs_park_open(e);
}
