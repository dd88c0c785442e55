/* SPDX-License-Identifier: MIT */
/* relief.c - see relief.h. */
#include "relief.h"

#include "counter.h"
#include "limit.h"
#include "lock.h"
#include "opt.h"
#include "pageheap.h"
#include "scavenge.h"
#include "waiting.h"

static struct bs_lock lock = BS_LOCK_INIT(BS_RANK_RELIEF);

static size_t share_of(size_t owed) {
    return bs_limit_share(bs_limit_bytes(), bs_limit_used(), bs_pageheap_dirty_bytes(), owed);
}

static void give_back(size_t bytes) {
    size_t pages = bs_align_up(bytes, BS_PAGE_SIZE) / BS_PAGE_SIZE;
    struct bs_scavenge_work work = bs_scavenge_pages(pages, 0, 0);
    bs_count(limit_helps, 1);
    bs_count(limit_help_bytes, work.huge_bytes + work.page_bytes);
}

void bs_relief_pay(void) {
    size_t owed = bs_limit_take_debt();
    if (owed == 0)
        return;
    if (bs_opt.scavenge && (share_of(owed) != 0 || bs_waiting_count() != 0)) {
        bs_lock_acquire(&lock);
        if (bs_waiting_count() != 0)
            (void)bs_waiting_return(BS_EMPTY_WAITING_MAX);
        /* asked again: the thread before us may have done enough */
        size_t share = share_of(owed);
        if (share != 0 && bs_pageheap_dirty_bytes() >= BS_LIMIT_DREGS_BYTES)
            give_back(share);
        bs_lock_release(&lock);
    }
    bs_limit_note_excess(owed);
}

void bs_relief_lock(void) {
    bs_lock_acquire(&lock);
}
void bs_relief_unlock(void) {
    bs_lock_release(&lock);
}
void bs_relief_reset_lock(void) {
    bs_lock_reset(&lock);
}
