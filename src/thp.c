/* SPDX-License-Identifier: MIT */
/* thp.c - see thp.h. The states lie in the page map's arenas, a byte for each huge page. */
#include "thp.h"

#include "counter.h"
#include "lock.h"
#include "opt.h"
#include "os.h"

enum { UNKNOWN, OFF, ON };

static struct {
    struct bs_lock lock;
    size_t borders;      /* [lock], read relaxed */
    uint32_t supported;  /* [atomic] whether huge pages are of the size that we count in */
    uint32_t kernel;     /* [atomic] enum bs_thp_kernel as last read; NEVER until then */
    size_t ready;        /* [atomic] that many huge pages may be asked for; taken off under the lock */
    bool grown;          /* [atomic] some have been */
    uint64_t asked_ns;   /* [lock:round] when the kernel was asked; 0: never */
    bool pretended;      /* tests only */
    uint64_t slow_ns;    /* tests only: what one takes then */
} thp = {.lock = BS_LOCK_INIT(BS_RANK_THP)};

/* Every thread finds the same answer, or none yet. */
static bool is_supported(void) {
    uint32_t state = bs_load(&thp.supported);
    if (BS_UNLIKELY(state == UNKNOWN)) {
        long bytes = bs_os_huge_page_size();
        if (bytes < 0)
            return false;
        state = bytes == (long)BS_HUGE_SIZE ? ON : OFF;
        bs_store(&thp.supported, state);
    }
    return state == ON;
}

void bs_thp_refresh(uint64_t now_ns) {
    if (bs_opt.thp != BS_THP_AUTO || !is_supported() || thp.pretended)
        return;
    if (thp.asked_ns != 0 && now_ns - thp.asked_ns < BS_THP_REFRESH_NS)
        return;
    thp.asked_ns = now_ns;
    enum bs_thp_kernel kernel = bs_os_thp_kernel();
    /* half of what is there: others take some as well until we ask again */
    bs_store(&thp.ready, kernel == BS_THP_KERNEL_MADVISE ? bs_os_huge_pages_ready() / 2 : 0);
    bs_store(&thp.kernel, (uint32_t)kernel);
}

#if BS_FAULTS
void bs_thp_pretend(enum bs_thp_kernel kernel, size_t ready) {
    thp.pretended = true;
    bs_store(&thp.ready, ready);
    bs_store(&thp.kernel, (uint32_t)kernel);
}
void bs_thp_pretend_to_take(uint64_t ns) {
    thp.slow_ns = ns;
}
#endif

/* --- states ----------------------------------------------------------------------------------- */

static uint8_t *state_at(uintptr_t p) {
    struct bs_arena *arena = bs_pagemap_arena(p);
    return arena != NULL ? &arena->thp[p % BS_ARENA_SIZE / BS_HUGE_SIZE] : NULL;
}

enum bs_thp_state bs_thp_state_of(uintptr_t p) {
    const uint8_t *state = state_at(p);
    return state != NULL ? (enum bs_thp_state)bs_load(state) : BS_THP_PLAIN;
}

/* The advice that the kernel was given. */
static enum bs_thp_state advice_of(uintptr_t p) {
    enum bs_thp_state s = bs_thp_state_of(p);
    return s == BS_THP_DENSE ? BS_THP_SMALL : s;
}

static size_t borders_of(uintptr_t p, enum bs_thp_state advice) {
    return (size_t)(advice_of(p - BS_HUGE_SIZE) != advice) +
           (size_t)(advice_of(p + BS_HUGE_SIZE) != advice);
}

static void set_state_locked(uintptr_t p, enum bs_thp_state state) {
    enum bs_thp_state advice = state == BS_THP_DENSE ? BS_THP_SMALL : state;
    size_t before = borders_of(p, advice_of(p)), after = borders_of(p, advice);
    bs_store(&thp.borders, thp.borders + after - before);
    bs_store(state_at(p), (uint8_t)state);
}

static bool is_unlike(uintptr_t base, uintptr_t end, enum bs_thp_state advice) {
    for (uintptr_t p = base; p < end; p += BS_HUGE_SIZE)
        if (advice_of(p) != advice)
            return true;
    return false;
}

static void set_states_locked(uintptr_t base, uintptr_t end, enum bs_thp_state state) {
    for (uintptr_t p = base; p < end; p += BS_HUGE_SIZE)
        set_state_locked(p, state);
}

/* One advice for the whole huge pages [base, end), at most two of which may differ now. False: it is
 * not needed, not within the budget, or refused. */
static bool advise_locked(uintptr_t base, uintptr_t end, enum bs_thp_state state) {
    enum bs_thp_state first = bs_thp_state_of(base), last = bs_thp_state_of(end - BS_HUGE_SIZE);
    size_t borders = thp.borders, bytes = end - base;
    if (!is_unlike(base, end, state))
        return false;
    set_states_locked(base, end, state);
    bool fits = thp.borders <= borders || thp.borders <= BS_THP_BORDERS_MAX;
    bool ok = fits && (state == BS_THP_HUGE ? bs_os_huge_pages((void *)base, bytes)
                                            : bs_os_no_huge_pages((void *)base, bytes)) == 0;
    if (!ok) {
        set_state_locked(base, first);
        set_state_locked(end - BS_HUGE_SIZE, last);
        return false;
    }
    if (state == BS_THP_HUGE && first == BS_THP_PLAIN)
        bs_count(thp_grown, bytes / BS_HUGE_SIZE);
    else if (state == BS_THP_HUGE)
        bs_count(thp_joined, bytes / BS_HUGE_SIZE);
    else
        bs_count(thp_split, bytes / BS_HUGE_SIZE);
    return true;
}

/* --- giving back ------------------------------------------------------------------------------ */

bool bs_thp_may_be_huge(uintptr_t p) {
    if (bs_opt.thp != BS_THP_AUTO)
        return false;
    switch (advice_of(p)) {
    case BS_THP_PLAIN:
        return bs_load(&thp.kernel) == BS_THP_KERNEL_ALWAYS;
    case BS_THP_HUGE:
        return bs_load(&thp.kernel) != BS_THP_KERNEL_NEVER;
    default:
        return false;
    }
}

bool bs_thp_is_managed(void) {
    if (bs_opt.thp != BS_THP_AUTO)
        return false;
    uint32_t kernel = bs_load(&thp.kernel);
    return kernel == BS_THP_KERNEL_ALWAYS || (kernel == BS_THP_KERNEL_MADVISE && bs_load(&thp.grown));
}

static bool wants_advice(uintptr_t p) {
    return bs_opt.thp == BS_THP_EDGE || bs_thp_may_be_huge(p);
}

/* The huge pages that an unaligned start and an unaligned end of the range lie in. */
static void split_edges(uintptr_t base, uintptr_t end) {
    uintptr_t head = bs_align_down(base, BS_HUGE_SIZE), tail = bs_align_down(end, BS_HUGE_SIZE);
    bool at_head = head != base && wants_advice(head);
    bool at_tail = tail != end && (tail != head || !at_head) && wants_advice(tail);
    if (!at_head && !at_tail)
        return;
    bs_lock_acquire(&thp.lock);
    if (at_head && at_tail && head + BS_HUGE_SIZE == tail) {
        (void)advise_locked(head, tail + BS_HUGE_SIZE, BS_THP_SMALL);
    } else {
        if (at_head)
            (void)advise_locked(head, head + BS_HUGE_SIZE, BS_THP_SMALL);
        if (at_tail)
            (void)advise_locked(tail, tail + BS_HUGE_SIZE, BS_THP_SMALL);
    }
    bs_lock_release(&thp.lock);
}

int bs_thp_unused(uintptr_t base, size_t bytes) {
    /* auto does not even ask while the kernel makes none; bs_thp_refresh has asked for it */
    bool advises = bs_opt.thp == BS_THP_EDGE ? is_supported() : bs_opt.thp == BS_THP_AUTO;
    /* first the advice: between the two calls the kernel could make a huge page of it again */
    if (advises)
        split_edges(base, base + bytes);
    return bs_os_unused((void *)base, bytes);
}

/* --- the life of a range ---------------------------------------------------------------------- */

void bs_thp_mapped(uintptr_t base, size_t bytes, bool first) {
    if (bs_opt.thp == BS_THP_SYSTEM || (!first && bs_opt.thp != BS_THP_NEVER))
        return;
    bs_lock_acquire(&thp.lock);
    if (bs_os_no_huge_pages((void *)base, bytes) == 0)
        set_states_locked(base, base + bytes, BS_THP_SMALL);
    bs_lock_release(&thp.lock);
}

bool bs_thp_may_advise(void) {
    return bs_opt.thp == BS_THP_AUTO && bs_load(&thp.kernel) == BS_THP_KERNEL_MADVISE && bs_load(&thp.ready) != 0;
}

/* Are there n huge pages to be had? */
static bool may_take(size_t n) {
    return bs_thp_may_advise() && n <= bs_load(&thp.ready);
}

/* A refresh that comes between is older by these. */
static void taken_locked(size_t n) {
    bs_store(&thp.ready, bs_load(&thp.ready) - n);
    bs_store(&thp.grown, true);
}

bool bs_thp_grown(uintptr_t base, size_t bytes) {
    size_t n = bytes / BS_HUGE_SIZE;
    bs_lock_acquire(&thp.lock);
    bool ok = may_take(n) && advise_locked(base, base + bytes, BS_THP_HUGE);
    if (ok)
        taken_locked(n);
    bs_lock_release(&thp.lock);
    return ok;
}

bool bs_thp_is_filled(uintptr_t start, uintptr_t end, size_t part) {
    unsigned char vec[BS_THP_FILLED_PAGES];
    size_t os_page = bs_os_page_size(), present = 0;
    start = bs_align_up(start, os_page);
    size_t n = bs_min(sizeof vec, bs_sub_clamped(end, start) / os_page);
    if (n == 0 || bs_os_residency((const void *)start, n * os_page, vec) != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        present += vec[i] & 1;
    return present >= n - n / part;
}

static void extend(uintptr_t start, uintptr_t end) {
    size_t n = 0;
    bs_lock_acquire(&thp.lock);
    if (may_take((end - start) / BS_HUGE_SIZE))
        for (uintptr_t p = start; p < end; p += BS_HUGE_SIZE)
            n += advise_locked(p, p + BS_HUGE_SIZE, BS_THP_HUGE);
    if (n != 0)
        taken_locked(n);
    bs_lock_release(&thp.lock);
}

/* If the first takes long the others are small. */
void bs_thp_extended(uintptr_t base, size_t bytes) {
    uintptr_t start = bs_align_up(base, BS_HUGE_SIZE), end = bs_align_down(base + bytes, BS_HUGE_SIZE);
    if (start >= end || !may_take((end - start) / BS_HUGE_SIZE))
        return;
    extend(start, start + BS_HUGE_SIZE);
    bs_thp_try(start);
    extend(start + BS_HUGE_SIZE, end);
}

bool bs_thp_unify(uintptr_t base, size_t bytes) {
    uintptr_t start = bs_align_up(base, BS_HUGE_SIZE), end = bs_align_down(base + bytes, BS_HUGE_SIZE);
    if (start >= end)
        return false;
    bs_lock_acquire(&thp.lock);
    bool ok = advice_of(end - BS_HUGE_SIZE) == BS_THP_HUGE && bs_load(&thp.kernel) == BS_THP_KERNEL_MADVISE &&
              bs_os_huge_pages((void *)base, bytes) == 0;
    if (ok)
        set_states_locked(start, end, BS_THP_HUGE);
    bs_lock_release(&thp.lock);
    return ok;
}

bool bs_thp_is_unasked(void) {
    return bs_opt.thp == BS_THP_AUTO && bs_load(&thp.supported) == UNKNOWN;
}

void bs_thp_took(uint64_t ns) {
    if (ns <= BS_THP_SLOW_NS)
        return;
    bs_store(&thp.ready, (size_t)0); /* until the next refresh */
    bs_count(thp_slow, 1);
}

void bs_thp_try(uintptr_t base) {
    uint64_t start = bs_os_thread_cpu_ns();
    if (bs_os_populate((void *)base, bs_os_page_size()) == 0)
        bs_thp_took(thp.pretended ? thp.slow_ns : bs_sub_clamped(bs_os_thread_cpu_ns(), start));
}

static void turn(uintptr_t start, uintptr_t end, enum bs_thp_state from, enum bs_thp_state to) {
    bs_lock_acquire(&thp.lock);
    for (uintptr_t p = start; p < end; p += BS_HUGE_SIZE)
        if (bs_thp_state_of(p) == from)
            (void)advise_locked(p, p + BS_HUGE_SIZE, to);
    bs_lock_release(&thp.lock);
}

void bs_thp_reused(uintptr_t base, size_t bytes) {
    uintptr_t start = bs_align_up(base, BS_HUGE_SIZE), end = bs_align_down(base + bytes, BS_HUGE_SIZE);
    if (start >= end)
        return;
    if (bs_opt.thp == BS_THP_EDGE)
        turn(start, end, BS_THP_SMALL, BS_THP_HUGE);
    else if (bs_load(&thp.grown) && bs_load(&thp.kernel) == BS_THP_KERNEL_MADVISE)
        turn(start, end, BS_THP_HUGE, BS_THP_SMALL);
}

/* The huge page at p was mapped anew from `base` to `end`. In part: that part gets the advice of the
 * rest, else it would be a mapping of its own that nobody counts. */
static void renew_locked(uintptr_t p, uintptr_t base, uintptr_t end) {
    enum bs_thp_state advice = advice_of(p);
    uintptr_t from = bs_max(p, base), to = bs_min(p + BS_HUGE_SIZE, end);
    bool whole = to - from == BS_HUGE_SIZE;
    if (advice == BS_THP_PLAIN)
        return;
    if (whole || (advice == BS_THP_HUGE ? bs_os_huge_pages((void *)from, to - from)
                                        : bs_os_no_huge_pages((void *)from, to - from)) != 0)
        set_state_locked(p, BS_THP_PLAIN);
}

void bs_thp_renewed(uintptr_t base, size_t bytes) {
    bs_lock_acquire(&thp.lock);
    if (bs_opt.thp == BS_THP_NEVER)
        (void)bs_os_no_huge_pages((void *)base, bytes);
    else
        for (uintptr_t p = bs_align_down(base, BS_HUGE_SIZE); p < base + bytes; p += BS_HUGE_SIZE)
            renew_locked(p, base, base + bytes);
    bs_lock_release(&thp.lock);
}

/* The advice of a block: that of a huge page which it covers whole, else of the one it begins in. */
static enum bs_thp_state advice_inside(uintptr_t base, size_t bytes) {
    uintptr_t first = bs_align_up(base, BS_HUGE_SIZE);
    return advice_of(first + BS_HUGE_SIZE <= base + bytes ? first : base);
}

bool bs_thp_is_uniform(uintptr_t base, size_t bytes, bool moved) {
    enum bs_thp_state advice = advice_inside(base, bytes);
    uintptr_t end = base + bytes;
    for (uintptr_t p = bs_align_down(base, BS_HUGE_SIZE); p < end; p += BS_HUGE_SIZE) {
        enum bs_thp_state at = advice_of(p);
        bool part = p < base || p + BS_HUGE_SIZE > end;
        /* a moved block brought its advice into the huge pages at its ends; their state says nothing of
         * it, but that they were not advised since */
        if (at != advice && !(moved && part && at == BS_THP_PLAIN))
            return false;
    }
    return true;
}

void bs_thp_moved(uintptr_t from, uintptr_t to, size_t bytes) {
    uintptr_t first = bs_align_up(to, BS_HUGE_SIZE), end = bs_align_down(to + bytes, BS_HUGE_SIZE);
    bs_lock_acquire(&thp.lock);
    set_states_locked(first, end, advice_inside(from, bytes));
    bs_lock_release(&thp.lock);
}

/* --- density ---------------------------------------------------------------------------------- */

/* From one state to another, if it is that still. */
static bool change(uintptr_t p, enum bs_thp_state from, enum bs_thp_state to) {
    bs_lock_acquire(&thp.lock);
    bool ok = bs_thp_state_of(p) == from;
    if (ok)
        set_state_locked(p, to);
    bs_lock_release(&thp.lock);
    return ok;
}

bool bs_thp_note_dense(uintptr_t p) {
    return change(p, BS_THP_SMALL, BS_THP_DENSE);
}
bool bs_thp_note_sparse(uintptr_t p) {
    return change(p, BS_THP_DENSE, BS_THP_SMALL);
}

bool bs_thp_restore(uintptr_t p) {
    bs_lock_acquire(&thp.lock);
    bool ok = bs_thp_state_of(p) == BS_THP_DENSE &&
              advise_locked(p, p + BS_HUGE_SIZE, BS_THP_HUGE);
    bs_lock_release(&thp.lock);
    return ok;
}

/* --- questions, fork -------------------------------------------------------------------------- */

size_t bs_thp_borders(void) {
    return bs_load(&thp.borders);
}

void bs_thp_lock(void) {
    bs_lock_acquire(&thp.lock);
}
void bs_thp_unlock(void) {
    bs_lock_release(&thp.lock);
}
void bs_thp_reset_lock(void) {
    bs_lock_reset(&thp.lock);
}
