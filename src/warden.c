/* SPDX-License-Identifier: MIT */
/* warden.c - see warden.h. */
#include "warden.h"

#include "background.h"
#include "bygone.h"
#include "heap.h"
#include "hunt.h"
#include "limit.h"
#include "log.h"
#include "opt.h"
#include "os.h"
#include "pageheap.h"
#include "round.h"
#include "sample.h"
#include "sampler.h"
#include "scavenge.h"
#include "thread.h"
#include "usage.h"
#include "world.h"

static struct {
    size_t soft_bytes;       /* [atomic] below it nothing is to be done */
    size_t kept_bytes;       /* [atomic] what the last search left in quarantine, as far as it counts, */
    size_t free_bytes;       /* [atomic] what was free in spans and pages then, */
    size_t root_bytes;       /* [atomic] and what it read outside the heap */
    uint64_t not_before_ns;  /* [atomic] */
    uint64_t retry_ns;       /* [atomic] 0: the last search was made */
    uint32_t called;         /* [atomic] the helper is to search */
    size_t peak_bytes;       /* [lock:round] in spans, the most since tables were trimmed */
    uint64_t trimmed_ns;     /* [lock:round] when that was */
    size_t spare_bytes;      /* [lock:round] free and dirty before each of so many searches, at least */
    unsigned nspare;         /* [lock:round] */
} warden = {.soft_bytes = BS_QUARANTINE_FLOOR_BYTES};

/* What the program has, in the heap and beside it: what a search reads. What is in quarantine itself does not count, or
 * the bounds would grow with it, nor does what is free for the same reason; of that allocations have taken since about
 * as much as was freed. */
static size_t whole_bytes(void) {
    size_t without = bs_load(&bs_quarantine_aside) + bs_load(&warden.kept_bytes) +
                     bs_max(bs_load(&bs_quarantine_fresh), bs_load(&warden.free_bytes));
    return bs_sub_clamped(bs_pageheap_used_bytes(), without) + bs_load(&warden.root_bytes);
}

/* In slots and pages that nobody has. */
static size_t free_bytes(void) {
    struct bs_usage u = bs_usage_now();
    return bs_sub_clamped(bs_pageheap_used_bytes(), u.live + u.cached);
}
static size_t soft_bytes(size_t whole) {
    size_t bytes = bs_limit_pressure() == BS_PRESSURE_NONE ? whole / 100 * bs_opt.quarantine : 0;
    return bs_max(bytes, BS_QUARANTINE_FLOOR_BYTES);
}
static size_t hard_bytes(size_t whole) {
    size_t pct = bs_max(BS_QUARANTINE_HARD_PCT, 2 * bs_opt.quarantine);
    return bs_max(whole / 100 * pct, BS_QUARANTINE_HARD_BYTES);
}

/* All stand still for a sound search of little, and the thread that frees is known to be ready for it. So is
 * the only thread of a program: nobody else would run meanwhile. */
static bool searches_itself(void) {
    if (bs_opt.quarantine_mode == BS_HUNT_SOUND)
        return whole_bytes() <= BS_SCAN_IN_PLACE_BYTES;
    return bs_opt.quarantine_mode == BS_HUNT_CONCURRENT && bs_thread_count() <= 1;
}

/* --- the tables --------------------------------------------------------------------------------- */

static size_t span_bytes(void) {
    return bs_sub_clamped(bs_pageheap_used_bytes(), bs_pageheap_dirty_bytes());
}

/* They are as large as the most that the heap has had. When much less is in use they are trimmed, not more often than once
 * a second: a heap that breathes would have their pages back at once. */
static void trim_tables(uint64_t now_ns) {
    if (!bs_round_try())
        return; /* a search, or whoever it is: later */
    size_t now = span_bytes(), gone;
    warden.peak_bytes = bs_max(warden.peak_bytes, now);
    gone = warden.peak_bytes - now;
    if (gone >= BS_QUARANTINE_TRIM_BYTES && gone >= warden.peak_bytes / BS_QUARANTINE_TRIM_PART &&
        now_ns - warden.trimmed_ns >= BS_QUARANTINE_TRIM_NS) {
        (void)bs_quarantine_trim();
        warden.peak_bytes = now;
        warden.trimmed_ns = now_ns;
    }
    bs_round_leave();
}

/* What is free and has memory before a search was not needed since the last one, and what that search releases comes on top
 * of it. So the program has no use for pages that were not needed twice: often they are runs too short for its spans, left of
 * longer ones that were released together and cut. The scavenger would keep them for as long as the heap grows. */
static void give_spare(size_t dirty) {
    if (!bs_opt.scavenge || !bs_round_try())
        return;
    warden.spare_bytes = warden.nspare == 0 ? dirty : bs_min(warden.spare_bytes, dirty);
    if (++warden.nspare == BS_QUARANTINE_SPARE_SEARCHES) {
        warden.nspare = 0;
        if (warden.spare_bytes >= BS_QUARANTINE_SPARE_BYTES)
            (void)bs_scavenge_pages(warden.spare_bytes / BS_PAGE_SIZE, 0, BS_QUARANTINE_SPARE_NS);
    }
    bs_round_leave();
}

/* --- searches ----------------------------------------------------------------------------------- */

static bool search(const char *reason, size_t above) {
    struct bs_hunt_result r;
    enum bs_hunt_mode mode = bs_opt.quarantine_mode == BS_HUNT_CONCURRENT && searches_itself()
                                 ? BS_HUNT_STOPPED
                                 : (enum bs_hunt_mode)bs_opt.quarantine_mode;
    const struct bs_hunt_guest *guest = bs_sample_is_on() && bs_log_is_on() ? bs_dangling_guest() : NULL;
    uint64_t cpu = bs_os_thread_cpu_ns();
    size_t dirty = bs_pageheap_dirty_bytes();
    if (!bs_hunt_run(mode, above, guest, &r))
        return false;
    /* what it has cost, and not how long it took: where CPUs are few, others ran meanwhile */
    uint64_t now = bs_os_now_ns(), cost = bs_max(bs_sub_clamped(bs_os_thread_cpu_ns(), cpu), r.search_ns);
    uint64_t pause = (cost != 0 ? bs_min(cost, r.ns) : r.ns) * (BS_QUARANTINE_REST - 1);
    if (r.end == BS_SCAN_DONE) {
        bs_store(&warden.retry_ns, (uint64_t)0);
        bs_store(&warden.kept_bytes, (size_t)(r.released.kept.bytes - r.released.kept_aside));
        bs_store(&warden.free_bytes, free_bytes());
        bs_store(&warden.root_bytes, r.root_bytes);
    } else {
        pause = bs_min(bs_max(2 * bs_load(&warden.retry_ns), BS_QUARANTINE_RETRY_NS),
                       BS_QUARANTINE_RETRY_MAX_NS);
        bs_store(&warden.retry_ns, pause);
    }
    bs_store(&warden.not_before_ns, now + pause);
    bs_store(&warden.soft_bytes, soft_bytes(whole_bytes()));
    trim_tables(now);
    give_spare(dirty);
    bs_log_hunt(reason, &r);
    bs_log_dangling();
    return r.end == BS_SCAN_DONE;
}

/* Somebody reads while all stand. With one CPU nobody would get on sooner. */
static void call_company(void) {
    if (bs_limit_cpu_pct() >= 200)
        bs_background_nudge();
}

/* A thread has freed some more. */
static void look(size_t fresh_bytes) {
    if (BS_UNLIKELY(bs_world_wants_quiet())) { /* the search that this thread stands in the way of */
        bs_round_enter();
        bs_round_leave();
    }
    if (BS_LIKELY(fresh_bytes < bs_load(&warden.soft_bytes)))
        return;
    size_t whole = whole_bytes(), soft = soft_bytes(whole), hard = hard_bytes(whole);
    uint64_t now = bs_os_now_ns(), not_before = bs_load(&warden.not_before_ns);
    bs_store(&warden.soft_bytes, soft);
    if (fresh_bytes < soft)
        return;
    if (fresh_bytes >= hard && (now >= not_before || bs_load(&warden.retry_ns) == 0)) {
        (void)search("hard", hard);
        return;
    }
    /* (a helper that was called may have ended since, and no other one is to be had) */
    if (now < not_before || (bs_load(&warden.called) != 0 && bs_background_is_there()))
        return;
    if (searches_itself()) {
        (void)search("soft", soft);
        return;
    }
    bs_store(&warden.called, 1u);
    if (!bs_background_call()) {
        bs_store(&warden.called, 0u);
        (void)search("soft", soft);
    }
}

/* --- the helper, malloc_trim, fork -------------------------------------------------------------- */

static bool are_due(void) {
    return bs_load(&warden.called) != 0;
}
static void begin(uint64_t now_ns) {
    (void)now_ns;
}
static void search_if_called(uint64_t now_ns) {
    (void)bs_linear_join();
    if (bs_load(&warden.called) == 0) {
        trim_tables(now_ns);
        return;
    }
    (void)search("soft", 0);
    bs_store(&warden.called, 0u);
}
static uint64_t next(void) {
    return 0;
}
static uint64_t last(void) {
    return 0;
}
static void forked(void) {
    bs_store(&warden.called, 0u);
    bs_world_forked();
    bs_dangling_forked();
}
static bool trim(bool all) {
    return search(all ? "trim" : "limit", all ? 0 : BS_QUARANTINE_TELL_BYTES);
}

/* Without a log there is no report, and no guest that would forget what is known of freed blocks. */
static bool note_sampled(const void *p) {
    return bs_log_is_on() ? bs_bygone_note(p) : bs_sample_freed(p);
}

void bs_warden_start(void) {
    static const struct bs_background_scans scans = {are_due, begin, search_if_called, next, last, forked};
    static const struct bs_heap_keeper keeper = {bs_quarantine_small, bs_quarantine_large,
                                                 bs_quarantine_resize, bs_quarantine_check, trim,
                                                 note_sampled};
    bs_quarantine_set_hook(look);
    bs_linear_set_call(call_company);
    bs_heap_set_keeper(&keeper);
    bs_background_set_scans(&scans);
}
