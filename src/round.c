/* SPDX-License-Identifier: MIT */
/* round.c - see round.h. */
#include "round.h"

#include "lock.h"
#include "os.h"

#define MAX_WAITERS 16

static struct bs_lock lock = BS_LOCK_INIT(BS_RANK_ROUND);
static int waiter[MAX_WAITERS]; /* [atomic] thread ids; 0: free */

static void note(int from, int to) {
    for (unsigned i = 0; i < MAX_WAITERS; i++) {
        int expected = from;
        /* release: pairs with bs_round_is_waited_for_by; what it did before is done */
        if (bs_load(&waiter[i]) == from &&
            __atomic_compare_exchange_n(&waiter[i], &expected, to, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return;
    }
}

void bs_round_knock(void) {
    note(0, bs_os_tid());
}
void bs_round_enter_after_knock(void) {
    bs_lock_acquire(&lock);
    note(bs_os_tid(), 0);
}
void bs_round_enter(void) {
    if (bs_lock_try(&lock))
        return;
    bs_round_knock();
    bs_round_enter_after_knock();
}
bool bs_round_is_waited_for_by(int tid) {
    for (unsigned i = 0; i < MAX_WAITERS; i++)
        if (bs_load_acquire(&waiter[i]) == tid)
            return true;
    return false;
}
bool bs_round_try(void) {
    return bs_lock_try(&lock);
}
void bs_round_leave(void) {
    bs_lock_release(&lock);
}
void bs_round_reset_lock(void) {
    for (unsigned i = 0; i < MAX_WAITERS; i++)
        bs_store(&waiter[i], 0);
    bs_lock_reset(&lock);
}
