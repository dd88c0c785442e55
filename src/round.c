/* SPDX-License-Identifier: MIT */
/* round.c - see round.h. */
#include "round.h"

#include "lock.h"

static struct bs_lock lock = BS_LOCK_INIT(BS_RANK_ROUND);

void bs_round_enter(void) {
    bs_lock_acquire(&lock);
}
bool bs_round_try(void) {
    return bs_lock_try(&lock);
}
void bs_round_leave(void) {
    bs_lock_release(&lock);
}
void bs_round_reset_lock(void) {
    bs_lock_reset(&lock);
}
