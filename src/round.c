/* SPDX-License-Identifier: MIT */
/* round.c - see round.h. */
#include "round.h"

#include "lock.h"
#include "os.h"

/* All threads of a program that frees much may wait here at once (warden.c). */
#define MAX_WAITERS 1024
#define PLACES 32 /* in a row, that a thread may be in */
#define LOOK_NS 100000u /* between two looks of who does not wait for ever */

static struct bs_lock lock = BS_LOCK_INIT(BS_RANK_ROUND);
static uintptr_t owner;         /* [atomic] the thread pointer of who is inside, but for a moment; 0: nobody */
static uint32_t left;           /* [atomic] rounds that have ended */
static uint32_t in_vain;        /* [atomic] who gave up waiting did so in the round after so many, less one; 0: nobody */
static int waiter[MAX_WAITERS]; /* [atomic] thread ids; 0: free */
static unsigned nwaiters;       /* [atomic] all of them */

static int *place(int tid, unsigned i) {
    return &waiter[((unsigned)tid + i) % MAX_WAITERS];
}

static void note(int tid, int from, int to) {
    for (unsigned i = 0; i < PLACES; i++) {
        int expected = from;
        /* release: pairs with bs_round_is_waited_for_by; what it did before is done */
        if (bs_load(place(tid, i)) == from &&
            __atomic_compare_exchange_n(place(tid, i), &expected, to, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return;
    }
}

static void note_owner(void) {
    bs_store(&owner, bs_os_thread_pointer());
}
bool bs_round_is_own(void) {
    return bs_load(&owner) == bs_os_thread_pointer();
}

void bs_round_knock(void) {
    int tid = bs_os_tid();
    (void)bs_add(&nwaiters, 1u);
    note(tid, 0, tid);
}
void bs_round_go_away(void) {
    int tid = bs_os_tid();
    note(tid, tid, 0);
    (void)bs_sub(&nwaiters, 1u);
}
void bs_round_enter_after_knock(void) {
    bs_lock_acquire(&lock);
    note_owner();
    bs_round_go_away();
}
/* The helper is inside, and sleeps for a lock. Then it makes no stop before it has that. */
static bool helper_waits_inside(void) {
    const struct bs_range helper = bs_os_helper_memory();
    return bs_load(&owner) - helper.start < helper.end - helper.start && bs_lock_helper_is_stuck();
}
bool bs_round_enter_until(uint64_t deadline_ns, bool alone) {
    if (bs_round_try())
        return true;
    /* Its owner may not be noted yet, and a handler that comes again and again would wait each time, before that is done:
     * the kernel delivers a signal that waits before it lets one instruction pass. */
    uint32_t round = bs_load(&left) + 1;
    if (bs_round_is_own() || bs_load(&in_vain) == round)
        return false;
    bs_round_knock();
    bool entered;
    while (!(entered = bs_round_try()) && bs_os_now_ns() < deadline_ns && !(alone && helper_waits_inside()))
        bs_os_pause(LOOK_NS);
    bs_round_go_away();
    if (!entered && bs_load(&left) + 1 == round)
        bs_store(&in_vain, round);
    return entered;
}
void bs_round_enter(void) {
    if (bs_round_try())
        return;
    bs_round_knock();
    bs_round_enter_after_knock();
}

/* --- the helper's work ------------------------------------------------------------------------- */

enum { SLEEPS, WORKS, KEPT };
static uint32_t work; /* [atomic] no lock: who keeps the helper may have been interrupted with any */

static bool step(uint32_t to) {
    uint32_t from = SLEEPS;
    return __atomic_compare_exchange_n(&work, &from, to, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

void bs_round_helper_begins(void) {
    while (!step(WORKS))
        bs_os_wait(&work, KEPT, 0);
}
void bs_round_helper_ends(void) {
    bs_store_release(&work, (uint32_t)SLEEPS); /* who waits for that looks now and then */
}
void bs_round_helper_gives_way(void) {
    if (!bs_round_is_waited_for())
        return;
    bs_round_helper_ends();
    bs_os_pause(2 * LOOK_NS);
    bs_round_helper_begins();
}

bool bs_round_keep_helper(void) {
    bool kept = step(KEPT);
    if (kept)
        return true;
    bs_round_knock(); /* a search ends early for it */
    while (!(kept = step(KEPT)) && !bs_lock_helper_is_stuck() && !bs_os_helper_is_lost())
        bs_os_pause(LOOK_NS);
    bs_round_go_away();
    return kept;
}
bool bs_round_helper_is_kept(void) {
    return bs_load(&work) == KEPT;
}
void bs_round_let_helper(void) {
    bs_store_release(&work, (uint32_t)SLEEPS);
    bs_os_wake(&work, 1);
}
void bs_round_reset_helper(void) {
    if (work != SLEEPS)
        work = SLEEPS;
}

/* --- the round, continued ------------------------------------------------------------------------ */

bool bs_round_is_waited_for_by(int tid) {
    for (unsigned i = 0; i < PLACES; i++)
        if (bs_load_acquire(place(tid, i)) == tid)
            return true;
    return false;
}
bool bs_round_is_waited_for(void) {
    return bs_load(&nwaiters) != 0;
}
bool bs_round_try(void) {
    bool entered = bs_lock_try(&lock);
    if (entered)
        note_owner();
    return entered;
}
void bs_round_leave(void) {
    bs_store(&owner, (uintptr_t)0);
    bs_store(&left, left + 1);
    bs_lock_release(&lock);
}
void bs_round_reset_lock(void) {
    for (unsigned i = 0; i < MAX_WAITERS; i++)
        if (waiter[i] != 0) /* nobody was: they are on no page */
            waiter[i] = 0;
    if (nwaiters != 0)
        nwaiters = 0;
    bs_round_reset_helper();
    bs_store(&owner, (uintptr_t)0);
    bs_lock_reset(&lock);
}
