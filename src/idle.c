/* SPDX-License-Identifier: MIT */
/*
 * idle.c - see idle.h. Lock: the borrow lock (tcache.h), from before a word is exchanged until after
 * it was put back; the round lock is the caller's. Central locks are taken below.
 *
 * A look at a cache costs some cache lines; only a cache that is not empty and has the signature of
 * the last look is asked for, which takes the system calls.
 */
#include "idle.h"

#include "counter.h"
#include "opt.h"
#include "os.h"
#include "pageheap.h"
#include "tcache_kept.h"
#include "text.h"
#include "thread.h"

enum { UNKNOWN, AVAILABLE, UNAVAILABLE };

/* All [lock:round] but where marked. */
static struct {
    uint32_t state;                 /* [atomic] whether the system can tell who sleeps */
    size_t lap_left;                /* caches still to be looked at in this lap */
    bool lap_more, last_lap_more;   /* some of this, of the last lap may be idle later */
    size_t lap_alone;               /* bytes in caches of this lap that are left alone */
} idle;

static bool is_available(void) {
    uint32_t state = bs_load(&idle.state);
    if (state != UNKNOWN)
        return state == AVAILABLE;
    state = bs_os_barrier_available() && bs_os_sleep_is_known() ? AVAILABLE : UNAVAILABLE;
    bs_store(&idle.state, state);
    return state == AVAILABLE;
}

bool bs_idle_is_unavailable(void) {
    return bs_load(&idle.state) == UNAVAILABLE;
}

/* Empties the cache if its owner sleeps. The caller holds the borrow lock, so the owner can neither
 * give the cache up nor leave the slow door without it (tcache.h). */
static bool drain_if_asleep_locked(struct bs_tcache *tc, struct bs_idle_work *work) {
    /* a thread that vanished without telling may have taken its word along */
    if (!bs_os_thread_alive(tc->tid) || !bs_tcache_take_word(tc))
        return false;
    /* From here on the owner finds the empty cache at every new operation: it stands in the word,
     * and the barrier makes sure that it sees it. An operation that began before has besom's code
     * on the owner's stack until it ends. */
    bool asleep = bs_os_barrier() && bs_text_sleeps_outside(tc->tid, tc->word);
    if (asleep) {
        size_t bytes = bs_tcache_strip(tc);
        tc->idle_drains = bytes > BS_IDLE_LITTLE_BYTES ? 0 : (uint8_t)bs_min(tc->idle_drains + 1, BS_IDLE_LITTLE_DRAINS);
        work->drained++;
        work->bytes += bytes;
        bs_count(caches_drained, 1);
        bs_count(cache_bytes_drained, bytes);
    }
    bs_tcache_give_word(tc);
    return asleep;
}

/* 0: it may not be drained. */
static size_t bytes_to_drain(const struct bs_tcache *tc, int self) {
    return bs_load(&tc->watched) && tc->tid != self ? bs_tcache_bytes(tc) + bs_kept_bytes(tc) : 0;
}

/* A thread that comes back again and again to do little, as for a timer: each time its cache is empty it has to visit
 * the slow door, and as long as that is done the helper does not end. */
static bool is_left_alone(const struct bs_tcache *tc, size_t bytes) {
    if (tc->idle_drains < BS_IDLE_LITTLE_DRAINS || bytes > BS_IDLE_LITTLE_BYTES ||
        idle.lap_alone + bytes > BS_RETAIN_MIN_BYTES)
        return false;
    idle.lap_alone += bytes;
    return true;
}

/* True if the cache may be found idle later. */
static bool look_locked(struct bs_tcache *tc, int self, struct bs_idle_work *work) {
    size_t bytes = bytes_to_drain(tc, self);
    if (bytes == 0 || is_left_alone(tc, bytes))
        return false;
    uint64_t signature = bs_tcache_signature(tc);
    if (signature != tc->idle_signature) {
        tc->idle_signature = signature;
        tc->idle_looks = 0;
        return true;
    }
    if (tc->idle_looks >= BS_IDLE_LOOKS_MAX)
        return false;
    /* At 1, 2, 4 ... looks: a thread that only waits for a CPU, or works without the heap, may
     * sleep soon; one that sleeps in a signal handler may do so for ever. */
    tc->idle_looks++;
    if (bs_is_pow2(tc->idle_looks) && drain_if_asleep_locked(tc, work))
        return false;
    return tc->idle_looks < BS_IDLE_LOOKS_MAX;
}

struct bs_idle_work bs_idle_round(void) {
    struct bs_idle_work work = {0, 0, false};
    (void)bs_tcache_was_busy();
    if (!bs_opt.idle_threads || !bs_thread_are_ours() || !is_available())
        return work;
    size_t n = bs_thread_count(), looks = bs_max(BS_IDLE_ROUND_LOOKS, n / BS_IDLE_LAP_TICKS);
    uint64_t end_ns = bs_os_now_ns() + BS_IDLE_MAX_WORK_NS;
    int self = bs_os_tid();
    for (size_t i = 0; i < bs_min(looks, n) && !work.more; i++) {
        if (idle.lap_left == 0) {
            idle.lap_left = n;
            idle.last_lap_more = idle.lap_more;
            idle.lap_more = false;
            idle.lap_alone = 0;
        }
        bs_tcache_borrow_lock();
        struct bs_tcache *tc = bs_thread_next();
        if (tc != NULL)
            idle.lap_more |= look_locked(tc, self, &work);
        bs_tcache_borrow_unlock();
        idle.lap_left--;
        work.more = bs_os_now_ns() > end_ns; /* the rest at the next round */
    }
    work.more |= idle.lap_more || idle.last_lap_more;
    return work;
}

struct bs_idle_work bs_idle_drain_all(void) {
    struct bs_idle_work work = {0, 0, false};
    if (!bs_opt.idle_threads || !bs_thread_are_ours() || !is_available())
        return work;
    int self = bs_os_tid();
    for (size_t n = bs_thread_count(); n != 0; n--) {
        bs_tcache_borrow_lock();
        struct bs_tcache *tc = bs_thread_next();
        if (tc != NULL && bytes_to_drain(tc, self) != 0)
            (void)drain_if_asleep_locked(tc, &work);
        bs_tcache_borrow_unlock();
    }
    return work;
}

BS_ALWAYS bool bs_idle_has_work(void) {
    return BS_UNLIKELY(bs_tcache_is_busy()) && bs_opt.idle_threads &&
           bs_load(&idle.state) != UNAVAILABLE && bs_opt.background &&
           bs_pageheap_used_bytes() >= BS_BACKGROUND_THRESHOLD_BYTES;
}
