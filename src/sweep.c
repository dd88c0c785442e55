/* SPDX-License-Identifier: MIT */
/* sweep.c - see sweep.h. No lock of its own. */
#include "sweep.h"

#include "tcache.h"
#include "thread.h"
#include "waiting.h"

struct bs_sweep_work bs_sweep(size_t max_spans, unsigned max_caches) {
    struct bs_sweep_work work = {0, 0};
    struct bs_tcache *orphan;
    while (max_caches != 0 && (orphan = bs_thread_take_orphan(max_caches)) != NULL) {
        bs_tcache_bury(orphan);
        work.orphans++;
        max_caches--;
    }
    work.returned = bs_waiting_return(max_spans);
    return work;
}

BS_ALWAYS bool bs_sweep_has_work(void) {
    return bs_waiting_small_count() > BS_EMPTY_BATCH;
}
