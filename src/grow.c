/* SPDX-License-Identifier: MIT */
/*
 * grow.c - how the heap gets address space: arenas of 64 MiB reserved one after the other where
 * the addresses are free, made accessible in regions of 4 MiB as they are needed.
 *
 * Nothing is reserved ahead beyond the arena begun, so overcommit mode 2 sees what is used; under `ulimit -v`
 * less is reserved at a time, and where even that does not fit, exactly what was asked for. Every step
 * that can fail comes before the pages become visible; a failure leaves nothing half done.
 *
 * Lock: BS_RANK_GROW, above the central locks and below the page heap's, held across the calls.
 */
#include "grow.h"

#include "lock.h"
#include "os.h"
#include "pageheap.h"
#include "pagemap.h"
#include "thp.h"

static struct {
    struct bs_lock lock;
    uintptr_t next, end; /* [lock:grow] what is left of the newest reservation */
    uintptr_t first;     /* [lock:grow] the first region: without huge pages, so that a small program
                            does not get 2 MiB of memory with its first block */
    size_t unit;         /* [lock:grow] so much is reserved at a time; 0: not known yet */
} space = {.lock = BS_LOCK_INIT(BS_RANK_GROW)};

/* Addresses differ from run to run as the program's own do, and are far from all of them. */
static uintptr_t first_hint(void) {
    uintptr_t spread = bs_os_random() % BS_HEAP_HINT_SPREAD;
    return BS_HEAP_HINT_BASE + bs_align_down(spread, BS_GIB);
}

/* Once a reservation, not once a step: the name stays when parts become accessible, and a program
 * that has put itself into a sandbox by then sees one call less that its filter may not know. */
static void name_reservation(uintptr_t base, size_t bytes) {
    bs_os_name((void *)base, bytes, BS_HEAP_NAME);
}

/* An arena, but of a limit on address space one part in 64 or a region: of a limit of 90 MB an arena would leave
 * nothing for what the program maps itself. The limit that there is at the start counts: later a sandbox may not
 * allow the question. */
static size_t unit_locked(void) {
    if (space.unit == 0) {
        uint64_t most = bs_os_address_limit() / 64;
        space.unit = BS_ARENA_SIZE;
        while (space.unit > BS_REGION_SIZE && space.unit > most)
            space.unit /= 2;
    }
    return space.unit;
}
static size_t align_locked(void) {
    return unit_locked() == BS_ARENA_SIZE ? BS_ARENA_SIZE : BS_REGION_SIZE;
}

/* What is missing of `ask` bytes behind the rest of the newest reservation, in whole units. */
static size_t missing_locked(size_t ask) {
    return bs_align_up(ask - (space.end - space.next), unit_locked());
}

/* If [got, got + bytes) is contiguous, the old rest and the new are one. */
static bool joined_locked(uintptr_t got, size_t bytes) {
    if (got == 0 || got != space.end)
        return false;
    name_reservation(got, bytes);
    space.end += bytes;
    return true;
}

static bool reserve_locked(size_t ask) {
    size_t missing = missing_locked(ask), align = align_locked();
    uintptr_t hint = space.end != 0 ? space.end : first_hint();
    uintptr_t got = (uintptr_t)bs_os_reserve(hint, missing, align);
    if (joined_locked(got, missing))
        return true;
    size_t bytes = bs_align_up(ask, unit_locked());
    if (got != 0 && missing < bytes) { /* elsewhere and too short: once more in full */
        bs_os_free((void *)got, missing);
        got = (uintptr_t)bs_os_reserve(0, bytes, align);
    }
    if (got == 0) { /* address space is scarce: what is needed, no more */
        bytes = ask;
        got = (uintptr_t)bs_os_reserve(0, bytes, BS_REGION_SIZE);
    }
    if (got == 0)
        return false;
    if (space.end > space.next)
        bs_os_free((void *)space.next, space.end - space.next);
    if (space.first == 0)
        space.first = got;
    name_reservation(got, bytes);
    space.next = got;
    space.end = got + bytes;
    return true;
}

/* A region that begins at base because of a block or span of `bytes`. */
static bool will_be_filled(uintptr_t base, size_t bytes) {
    return bytes <= BS_THP_GROWN_BLOCK_BYTES ||
           (bytes <= BS_THP_GROWN_LONG_BYTES &&
            bs_thp_is_filled(base - BS_THP_GROWN_REGIONS * BS_REGION_SIZE, base, BS_THP_GROWN_PART));
}

/* What was reserved for a request that could not be met, most of all addresses perhaps, goes, but for a unit that is
 * begun, which the next may fill. */
static void cut_locked(void) {
    uintptr_t keep = bs_align_up(space.next + 1, unit_locked());
    if (space.end <= keep)
        return;
    bs_os_free((void *)keep, space.end - keep);
    space.end = keep;
}

/* ask: of address space, for a block or span of `bytes`. *huge: where huge pages begin in it, if anywhere. */
static bool extend_locked(size_t ask, size_t bytes, uintptr_t *huge) {
    if (space.end - space.next < ask && !reserve_locked(ask))
        return false;
    uintptr_t base = space.next;
    /* first what the kernel may refuse: it costs nothing, and a region is the same again next time; then what metadata
     * may be short for. An arena that the page map knows has memory of the heap's: what is cut off is anybody's. */
    if (bs_os_map((void *)base, ask) != 0 || !bs_pagemap_reserve(base, ask) || !bs_pageheap_reserve(base, ask) ||
        !bs_pagemap_add(base, ask) || !bs_pageheap_prepare(base, ask)) {
        cut_locked();
        return false;
    }
    if (base == space.first)
        bs_thp_mapped(base, BS_REGION_SIZE, true);
    bs_thp_mapped(base, ask, false);
    if (bs_pageheap_used_bytes() >= BS_THP_GROWN_BYTES && bs_thp_may_advise() && will_be_filled(base, bytes) &&
        bs_thp_grown(base, ask))
        *huge = base;
    space.next = base + ask;
    bs_pageheap_insert(base, ask);
    return true;
}

bool bs_grow(size_t npages, uint64_t grown) {
    if (npages > (SIZE_MAX >> 1) / BS_PAGE_SIZE)
        return false;
    size_t bytes = npages * BS_PAGE_SIZE;
    uintptr_t huge = 0;
    bs_lock_acquire(&space.lock);
    bool ok = bs_pageheap_grown() != grown ||
              extend_locked(bs_align_up(bytes, BS_REGION_SIZE), bytes, &huge);
    bs_lock_release(&space.lock);
    if (huge != 0)
        bs_thp_try(huge);
    return ok;
}

/* The rest of the newest reservation is `ask` bytes long, or becomes so. */
static bool lengthen_locked(size_t ask) {
    if (space.end - space.next >= ask)
        return true;
    size_t missing = missing_locked(ask);
    uintptr_t got = (uintptr_t)bs_os_reserve(space.end, missing, align_locked());
    if (joined_locked(got, missing))
        return true;
    if (got != 0)
        bs_os_free((void *)got, missing);
    return false;
}

bool bs_grow_behind(uintptr_t base, size_t npages) {
    uintptr_t end = base + npages * BS_PAGE_SIZE, huge;
    bs_lock_acquire(&space.lock);
    size_t bytes = bs_align_up(bs_sub_clamped(end, space.next), BS_REGION_SIZE);
    bool ok = base <= space.next && bytes != 0 &&
              bs_pageheap_is_free(base, (space.next - base) / BS_PAGE_SIZE) && lengthen_locked(bytes) &&
              extend_locked(bytes, SIZE_MAX, &huge);
    bs_lock_release(&space.lock);
    return ok;
}

void bs_grow_lock(void) {
    bs_lock_acquire(&space.lock);
}
void bs_grow_unlock(void) {
    bs_lock_release(&space.lock);
}
void bs_grow_reset_lock(void) {
    bs_lock_reset(&space.lock);
}
