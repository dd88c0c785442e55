/* SPDX-License-Identifier: MIT */
/* bounds.c - see bounds.h: a table by thread pointer, with a few places for each. */
#include "bounds.h"

#include "meta.h"

#define PLACES 16 /* in a row, that a thread pointer may be in */
#define BEING_WRITTEN ((uintptr_t)1)
#define MARK UINT64_C(0x6265736f6d207374) /* and the word's own address: no copy of it counts */

struct record {
    uintptr_t thread_pointer; /* [atomic] 0: free */
    struct bs_bounds bounds;
    bool seen; /* [stopper] since the last bs_bounds_ended */
};
static struct record *table; /* [atomic] in metadata: no root of a scan; NULL: nobody has told */

static bool make_table(void) {
    if (bs_load_acquire(&table) != NULL)
        return true;
    struct record *none = NULL, *made = bs_meta_map(BS_BOUNDS_MAX * sizeof *made);
    if (made != NULL && !__atomic_compare_exchange_n(&table, &none, made, false, __ATOMIC_ACQ_REL,
                                                     __ATOMIC_ACQUIRE))
        bs_meta_unmap(made, BS_BOUNDS_MAX * sizeof *made);
    return bs_load_acquire(&table) != NULL;
}

static struct record *place(uintptr_t thread_pointer, size_t i) {
    size_t hash = (size_t)((uint64_t)(thread_pointer >> 6) * UINT64_C(0x9e3779b97f4a7c15) >> 40);
    return &table[(hash + i) % BS_BOUNDS_MAX];
}

static struct record *find(uintptr_t thread_pointer) {
    for (size_t i = 0; i < PLACES; i++)
        if (bs_load_acquire(&place(thread_pointer, i)->thread_pointer) == thread_pointer)
            return place(thread_pointer, i);
    return NULL;
}

/* A record of the same thread pointer is this thread's alone: whoever it was about is gone. */
static struct record *claim(uintptr_t thread_pointer) {
    struct record *r = find(thread_pointer);
    if (r != NULL) {
        bs_store(&r->thread_pointer, BEING_WRITTEN);
        return r;
    }
    for (size_t i = 0; i < PLACES; i++) {
        uintptr_t expected = 0;
        r = place(thread_pointer, i);
        if (__atomic_compare_exchange_n(&r->thread_pointer, &expected, BEING_WRITTEN, false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return r;
    }
    return NULL;
}

static uintptr_t mark_of(const struct bs_bounds *b) {
    return (uintptr_t)b->mark ^ (uintptr_t)MARK;
}

void bs_bounds_note(uintptr_t thread_pointer, const struct bs_bounds *b) {
    struct record *r = make_table() ? claim(thread_pointer) : NULL;
    if (r == NULL)
        return;
    r->bounds = *b;
    *b->mark = mark_of(b);
    bs_store_release(&r->thread_pointer, thread_pointer); /* pairs with find */
}

/* Is the memory still what it was when the thread told of it? Nobody can unmap it meanwhile. */
static bool holds(const struct record *r) {
    uintptr_t at = (uintptr_t)r->bounds.mark;
    return bs_os_readable(at) && bs_load(r->bounds.mark) == mark_of(&r->bounds);
}

uintptr_t bs_bounds_low(uintptr_t thread_pointer, uintptr_t sp) {
    struct record *r = bs_load_acquire(&table) != NULL ? find(thread_pointer) : NULL;
    if (r == NULL || !holds(r))
        return 0;
    r->seen = true;
    return sp >= r->bounds.low && sp < r->bounds.high ? r->bounds.low : 0;
}

int bs_bounds_thread_at(uintptr_t p) {
    for (size_t i = 0; bs_load_acquire(&table) != NULL && i < BS_BOUNDS_MAX; i++) {
        const struct record *r = &table[i];
        if (bs_load_acquire(&r->thread_pointer) <= BEING_WRITTEN)
            continue;
        if (p - r->bounds.low < r->bounds.high - r->bounds.low && holds(r))
            return r->bounds.tid;
    }
    return 0;
}

/* One that ends is in the kernel's list for a moment more. */
static bool is_there(int tid) {
    struct bs_os_task task;
    return bs_os_thread_alive(tid) && ((void)bs_os_task(tid, 1, &task), !task.gone);
}

size_t bs_bounds_ended(struct bs_range *dead, size_t max) {
    size_t n = 0;
    for (size_t i = 0; table != NULL && i < BS_BOUNDS_MAX; i++) {
        struct record *r = &table[i];
        bool seen = r->seen;
        r->seen = false;
        if (seen || bs_load(&r->thread_pointer) <= BEING_WRITTEN)
            continue;
        if (!holds(r))
            bs_store_release(&r->thread_pointer, (uintptr_t)0);
        else if (r->bounds.is_libc && n < max && !is_there(r->bounds.tid))
            dead[n++] = (struct bs_range){r->bounds.low, r->bounds.kept};
    }
    return n;
}

static bool in_doubt; /* [atomic] */

void bs_bounds_doubt(void) {
    if (!bs_load(&in_doubt))
        bs_store(&in_doubt, true);
}
bool bs_bounds_are_in_doubt(void) {
    return bs_load(&in_doubt);
}
