/* SPDX-License-Identifier: MIT */
/*
 * scavenge.c - see scavenge.h. Locks: the page heap's, through its interface, never held across
 * the advice; the policy's state belongs to whoever is in a round (round.h).
 */
#include "scavenge.h"

#include "central.h"
#include "counter.h"
#include "density.h"
#include "holes.h"
#include "limit.h"
#include "opt.h"
#include "os.h"
#include "pageheap.h"
#include "thp.h"
#include "usage.h"

#include <errno.h>

#define NS_PER_MS 1000000u
#define FLUSHES_AFTER_REFUSAL 4096

static struct bs_scavenge_policy policy;        /* [lock:round] */
static size_t keep_bytes = BS_RETAIN_MIN_BYTES; /* [atomic] */
static uint64_t refused_at; /* [atomic] counter of flushes + 1 when advice failed last; 0: it did not */

void bs_scavenge_set_keep(size_t bytes) {
    bs_store(&keep_bytes, bytes);
}

/* --- the policy ------------------------------------------------------------------------------- */

/* The excess of the old peak over `use` halves every epoch: linear within one. */
static size_t decayed(size_t peak, size_t use, uint64_t dt_ns, uint64_t epoch_ns) {
    size_t excess = bs_sub_clamped(peak, use);
    uint64_t epochs = dt_ns / epoch_ns;
    if (epochs >= 40)
        return use;
    excess >>= epochs;
    excess -= (size_t)((double)excess * (double)(dt_ns % epoch_ns) / (double)epoch_ns / 2);
    return use + excess;
}

size_t bs_scavenge_goal(struct bs_scavenge_policy *p, const struct bs_scavenge_input *in) {
    uint64_t dt = in->now_ns > p->last_ns && p->last_ns != 0 ? in->now_ns - p->last_ns : 0;
    if (in->activity != p->activity || p->last_ns == 0 || in->now_ns < p->quiet_since_ns) {
        p->activity = in->activity;
        p->quiet_since_ns = in->now_ns;
    }
    p->last_ns = in->now_ns;
    p->peak_pages = decayed(p->peak_pages, in->span_pages, dt, bs_max(in->epoch_ns, 1));
    if (in->peak_pages > p->peak_pages)
        p->peak_pages = in->peak_pages;
    bool idle = in->now_ns - p->quiet_since_ns >= in->idle_ns;
    size_t extra = p->peak_pages / (100 / BS_RETAIN_EXTRA_PCT);
    size_t retain = p->peak_pages + bs_min(extra, SIZE_MAX - p->peak_pages);
    size_t spare = in->has_room ? in->room_pages : bs_sub_clamped(retain, in->span_pages);
    return bs_sub_clamped(in->dirty_pages, bs_max(idle ? 0 : spare, in->keep_pages));
}

size_t bs_scavenge_room(size_t live, size_t in_use, uint64_t percent) {
    size_t allowed;
    if (__builtin_mul_overflow(live, percent, &allowed))
        return SIZE_MAX;
    return bs_sub_clamped(allowed / 100, bs_sub_clamped(in_use, live));
}

/* --- giving back ------------------------------------------------------------------------------ */

/* What the program has locked (mlock) and freed stays locked, and is not taken by advice. A new mapping in its place is
 * not locked, and empty; unless all memory is to be (mlockall): then it is in memory at once, which one page tells, and
 * the OS takes nothing. */
static BS_COLD enum bs_fate map_anew(uintptr_t base, size_t bytes) {
    unsigned char there = 1;
    size_t os_page = bs_os_page_size();
    if (bs_thp_renew(base, os_page) == 0 && bs_os_residency((void *)base, os_page, &there) == 0 && (there & 1) == 0 &&
        bs_thp_renew(base, bytes) == 0)
        return BS_RUN_RELEASED;
    return bs_os_unused((void *)base, os_page) == ENOMEM ? BS_RUN_CLOSED : BS_RUN_KEPT;
}

static enum bs_fate give_to_os(const struct bs_run *run) {
    size_t bytes = run->npages * BS_PAGE_SIZE;
    bool close = bs_opt.decommit == BS_DECOMMIT_HARD &&
                 bs_pageheap_closed_runs() < BS_CLOSED_RUNS_MAX;
    if (close && bs_os_decommit((void *)run->base, bytes) == 0) {
        bs_os_name((void *)run->base, bytes, BS_HEAP_NAME); /* names must agree for mappings to merge */
        bs_thp_renewed(run->base, bytes);
        return BS_RUN_CLOSED;
    }
    int error = bs_thp_unused(run->base, bytes);
    if (BS_UNLIKELY(error == EINVAL) && bs_os_page_size() <= BS_PAGE_SIZE) /* (closed pages are opened by ours) */
        return map_anew(run->base, bytes);
    return error == 0 ? BS_RUN_RELEASED : BS_RUN_KEPT;
}

/* One quantum. False: nothing of that kind is left, or the OS refused. */
static bool release_one(struct bs_dirty_search *search, struct bs_scavenge_work *work,
                        size_t *pages) {
    struct bs_run run;
    if (!bs_pageheap_take_dirty(search, &run))
        return false;
    enum bs_fate fate = give_to_os(&run);
    bool released = fate != BS_RUN_KEPT;
    bs_pageheap_scavenged(&run, fate);
    work->calls++;
    bs_count(scavenge_calls, 1);
    bs_store(&refused_at, released ? (uint64_t)0 : bs_counted(flushes) + 1);
    if (!released) {
        work->failed = true;
        return false;
    }
    bs_count(scavenged_bytes, run.ndirty * BS_PAGE_SIZE);
    *(search->huge ? &work->huge_bytes : &work->page_bytes) += run.ndirty * BS_PAGE_SIZE;
    *pages += run.ndirty;
    return true;
}

struct bs_scavenge_work bs_scavenge_pages(size_t max_pages, uint32_t epoch, uint64_t budget_ns) {
    struct bs_scavenge_work work = {0};
    const size_t quantum = BS_SCAVENGE_QUANTUM_BYTES / BS_PAGE_SIZE;
    struct bs_dirty_search search = {
        .below = UINTPTR_MAX, .epoch = epoch, .huge = max_pages >= quantum};
    uint64_t start = budget_ns != 0 ? bs_os_now_ns() : 0;
    size_t pages = 0;
    while (pages < max_pages && !work.failed) {
        search.max_pages = bs_min(quantum, max_pages - pages);
        bool enough = !search.huge || search.max_pages == quantum;
        if (!enough || !release_one(&search, &work, &pages)) {
            if (!search.huge)
                break;
            search.huge = false;
            search.below = UINTPTR_MAX;
        }
        if (budget_ns != 0 && bs_os_now_ns() - start >= budget_ns)
            break;
    }
    return work;
}

size_t bs_scavenge_to(size_t keep) {
    size_t dirty = bs_pageheap_dirty_bytes();
    if (dirty <= keep)
        return 0;
    struct bs_scavenge_work work = bs_scavenge_pages((dirty - keep) / BS_PAGE_SIZE, 0, 0);
    return work.huge_bytes + work.page_bytes;
}

/* --- rounds ----------------------------------------------------------------------------------- */

/* The OS may refuse for good (all memory is locked): then the slow doors ask again only after the program
 * has given back a good deal more. */
static bool refused_lately(void) {
    uint64_t at = bs_load(&refused_at);
    return at != 0 && bs_counted(flushes) + 1 - at < FLUSHES_AFTER_REFUSAL;
}

static BS_ALWAYS bool pages_have_work(void) {
    size_t dirty = bs_pageheap_dirty_bytes();
    bool some = dirty > bs_load(&keep_bytes) ||
                (dirty > BS_RETAIN_MIN_BYTES && bs_limit_pressure() != BS_PRESSURE_NONE);
    return some && !refused_lately();
}

BS_ALWAYS bool bs_scavenge_has_work(void) {
    return bs_opt.scavenge &&
           (pages_have_work() || bs_holes_have_work() || bs_density_has_work());
}

/* The knob is turned on what besom can give back: live is counted by slots, for rounding stays. */
static size_t room_pages(const struct bs_pageheap_counts *c) {
    struct bs_usage u = bs_usage_now();
    size_t in_use = bs_sub_clamped(c->span_pages * BS_PAGE_SIZE, u.holes);
    return bs_scavenge_room(u.live, in_use, bs_opt.overhead) / BS_PAGE_SIZE;
}

static size_t pages_over_goal(void) {
    struct bs_pageheap_counts c = bs_pageheap_counts();
    struct bs_scavenge_input in = {
        .now_ns = bs_os_now_ns(),
        .activity = c.activity,
        .epoch_ns = bs_opt.scavenge_delay * NS_PER_MS,
        .idle_ns = (uint64_t)BS_IDLE_MS * NS_PER_MS,
        .span_pages = c.span_pages,
        .dirty_pages = c.dirty_pages,
        .peak_pages = bs_pageheap_take_peak(),
        .keep_pages = bs_load(&keep_bytes) / BS_PAGE_SIZE,
        .has_room = bs_opt.overhead != 0,
        .room_pages = bs_opt.overhead != 0 ? room_pages(&c) : 0,
    };
    /* the limit comes before what is kept */
    size_t over = bs_scavenge_goal(&policy, &in), excess = bs_limit_excess();
    size_t pages = excess / BS_PAGE_SIZE + (excess % BS_PAGE_SIZE != 0);
    size_t most = bs_sub_clamped(c.dirty_pages, BS_RETAIN_MIN_BYTES / BS_PAGE_SIZE);
    return bs_max(over, bs_min(pages, most));
}

/* The number of the present epoch; with scavenge_delay:0, or near the limit, nothing rests. */
static uint32_t epoch_now(void) {
    uint64_t ns = bs_opt.scavenge_delay * NS_PER_MS;
    if (ns == 0 || bs_limit_pressure() != BS_PRESSURE_NONE)
        return 0;
    return (uint32_t)(bs_os_now_ns() / ns) | 1u << 31;
}

static bool round_of_holes(bool piece, struct bs_scavenge_work *work) {
    struct bs_holes_work holes;
    bool more = bs_holes_round(piece ? BS_SCAVENGE_MIN_WORK_NS : 2 * BS_SCAVENGE_MAX_WORK_NS,
                               piece ? BS_HOLES_PIECE_REGIONS : SIZE_MAX, false, &holes);
    work->hole_bytes = holes.bytes;
    work->calls += holes.calls;
    return more;
}

static void round_of_pages(bool piece, struct bs_scavenge_work *work, size_t *goal_pages) {
    size_t over = pages_over_goal();
    *goal_pages = bs_sub_clamped(bs_pageheap_dirty_bytes() / BS_PAGE_SIZE, over);
    if (over != 0) {
        size_t max = piece ? bs_min(over, BS_SCAVENGE_PIECE_BYTES / BS_PAGE_SIZE) : over;
        *work = bs_scavenge_pages(max, epoch_now(), piece ? 0 : BS_SCAVENGE_MAX_WORK_NS);
    }
}

bool bs_scavenge_round(bool piece, struct bs_scavenge_work *work, size_t *goal_pages) {
    *work = (struct bs_scavenge_work){0};
    *goal_pages = 0;
    if (!bs_opt.scavenge)
        return false;
    uint64_t split = bs_counted(thp_split); /* in a round, so all that is counted is ours */
    struct bs_density_work density;
    bs_thp_refresh(bs_os_now_ns());
    bool unsettled = bs_density_round(piece ? BS_SCAVENGE_MIN_WORK_NS : BS_DENSITY_MAX_WORK_NS, false,
                                      &density); /* first: what it finds is dirty from now on */
    round_of_pages(piece, work, goal_pages);
    bool holes = round_of_holes(piece, work);
    work->overfilled_bytes = density.overfilled_bytes;
    work->thp_joined = density.joined;
    work->thp_split = (size_t)(bs_counted(thp_split) - split);
    return holes || unsettled || pages_have_work();
}
