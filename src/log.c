/* SPDX-License-Identifier: MIT */
/*
 * log.c - see log.h: the events. How a line is made is log_line.c's matter, where it goes sink.c's; the
 * events of scans and of searches are in log_leaks.c, log_collect.c and log_dangling.c.
 */
#include "log.h"

#include "counter.h"
#include "ledger.h"
#include "limit.h"
#include "log_line.h"
#include "opt.h"
#include "os.h"
#include "pins.h"
#include "sample.h"
#include "sampler.h"
#include "sink.h"
#include "stacks.h"
#include "usage.h"
#include "waiting.h"

/* --- events ----------------------------------------------------------------------------------- */

static void ledger_fields(struct bs_line *l, const struct bs_ledger *g) {
    bs_line_bytes(l, "rss", g->rss);
    bs_line_bytes(l, "live", g->live);
    bs_line_bytes(l, "rounding", g->rounding);
    bs_line_bytes(l, "leaked", g->leaked);
    bs_line_bytes(l, "cached", g->cached);
    bs_line_bytes(l, "held", g->held);
    bs_line_bytes(l, "span_free", g->span_free);
    bs_line_bytes(l, "pinned", g->pinned);
    bs_line_bytes(l, "heap_dirty", g->heap_dirty);
    bs_line_bytes(l, "metadata", g->metadata);
    bs_line_bytes(l, "outside", g->outside);
    bs_line_signed(l, "remainder", g->remainder);
    bs_line_bytes(l, "floor", g->floor);
    bs_line_bytes(l, "anon_huge", g->anon_huge);
    bs_line_bytes(l, "thp_overfill", g->thp_overfill);
    bs_line_bytes(l, "released", g->released);
    bs_line_bytes(l, "allocated", g->allocated);
}

/* Bytes of the limit; 0: there is none. */
static void limit_fields(struct bs_line *l) {
    size_t limit = bs_limit_bytes();
    bs_line_bytes(l, "limit", limit == BS_LIMIT_NONE ? 0 : limit);
    bs_line_bytes(l, "limit_used", bs_limit_used());
}

/* --- stacks ----------------------------------------------------------------------------------- */

#define STACKS_MAX 200

/* The stacks that hold most, what they pin included, the most first. */
struct top {
    unsigned n, max;
    uint64_t bytes, blocks, samples; /* over all stacks */
    struct bs_pins pins;
    struct bs_stack *stack[STACKS_MAX];
    uint64_t key[STACKS_MAX]; /* live and pinned bytes */
};

static void count_stack(struct top *t, const struct bs_stack *s) {
    t->bytes += bs_load(&s->live_bytes);
    t->blocks += bs_load(&s->live_blocks);
    t->samples += bs_load(&s->live_samples);
}

static void rank_stack(void *ctx, struct bs_stack *s) {
    struct top *t = ctx;
    uint64_t live = bs_load(&s->live_bytes), key = live + bs_pins_of(&t->pins, s);
    count_stack(t, s);
    if (live == 0 || t->max == 0 || (t->n == t->max && key <= t->key[t->n - 1]))
        return;
    unsigned i = t->n < t->max ? t->n++ : t->n - 1;
    for (; i > 0 && t->key[i - 1] < key; i--) {
        t->key[i] = t->key[i - 1];
        t->stack[i] = t->stack[i - 1];
    }
    t->key[i] = key;
    t->stack[i] = s;
}

static void stack_line(const struct bs_stack *s, uint64_t live, uint64_t pinned) {
    struct bs_line l;
    bs_line_begin(&l, "stack");
    bs_line_bytes(&l, "bytes", live);
    bs_line_number(&l, "blocks", bs_load(&s->live_blocks));
    bs_line_number(&l, "samples", bs_load(&s->live_samples));
    bs_line_bytes(&l, "pinned", pinned);
    bs_line_bytes(&l, "total_bytes", bs_load(&s->bytes));
    bs_line_number(&l, "total_blocks", bs_load(&s->blocks));
    bs_line_frames(&l, "frames", s);
    bs_line_end(&l);
}

static void log_stacks(void) {
    struct top t = {.max = (unsigned)bs_min(bs_opt.log_stacks, STACKS_MAX)};
    struct bs_line l;
    bool known = bs_pins_take(&t.pins);
    bs_stacks_each(rank_stack, &t);
    count_stack(&t, &bs_stacks_other);
    bs_line_begin(&l, "stacks");
    bs_line_number(&l, "interval", bs_load(&bs_sample_interval));
    bs_line_number(&l, "stacks", bs_stacks_count());
    bs_line_number(&l, "shown", t.n);
    bs_line_number(&l, "samples", t.samples);
    bs_line_number(&l, "lost", bs_sample_lost());
    bs_line_bytes(&l, "bytes", t.bytes);
    bs_line_number(&l, "blocks", t.blocks);
    bs_line_bytes(&l, "pinned", t.pins.bytes);
    bs_line_bytes(&l, "other", bs_load(&bs_stacks_other.live_bytes));
    if (!known)
        bs_line_string(&l, "note", "no memory to tell what is pinned by stack");
    bs_line_end(&l);
    bs_line_modules(t.stack, t.n);
    for (unsigned i = 0; i < t.n; i++) {
        uint64_t pinned = bs_pins_of(&t.pins, t.stack[i]);
        stack_line(t.stack[i], t.key[i] - pinned, pinned);
    }
    bs_pins_drop(&t.pins);
}

/* --- reports ---------------------------------------------------------------------------------- */

void bs_log_report(const char *reason) {
    struct bs_ledger ledger;
    struct bs_line l;
    uint64_t minor, major;
    if (!bs_sink_is_open())
        return;
    bool complete = bs_ledger_take(&ledger);
    bs_line_begin(&l, reason);
    ledger_fields(&l, &ledger);
    limit_fields(&l);
    bs_os_faults(&minor, &major);
    bs_line_number(&l, "minor_faults", minor);
    bs_line_number(&l, "major_faults", major);
#define BS_STAT(name, doc) bs_line_number(&l, #name, bs_counted(name));
#include "stats.def"
#undef BS_STAT
    bs_line_time(&l);
    if (!complete)
        bs_line_string(&l, "note", "/proc/self/smaps cannot be read: rss and outside are missing");
    else if (ledger.unseen)
        bs_line_string(&l, "note", "mincore is refused: live to heap_dirty are missing, and in remainder");
    bs_line_end(&l);
    if (bs_sample_is_on())
        log_stacks();
}

void bs_log_sweep(const struct bs_sweep_work *work, const struct bs_idle_work *idle, uint64_t ns) {
    struct bs_line l;
    if (!bs_sink_is_open() || (bs_opt.trace & BS_TRACE_SWEEP) == 0)
        return;
    bs_line_begin(&l, "sweep");
    bs_line_number(&l, "returned", work->returned);
    bs_line_number(&l, "waiting", bs_waiting_count());
    bs_line_number(&l, "orphans", work->orphans);
    bs_line_number(&l, "idle", idle->drained);
    bs_line_bytes(&l, "cache", idle->bytes);
    bs_line_number(&l, "ns", ns);
    bs_line_time(&l);
    bs_line_end(&l);
}

void bs_log_scavenge(const struct bs_scavenge_work *work, size_t dirty_bytes, size_t goal_bytes,
                     uint64_t ns) {
    struct bs_line l;
    if (!bs_sink_is_open() || (bs_opt.trace & BS_TRACE_SCAVENGE) == 0)
        return;
    bs_line_begin(&l, "scavenge");
    bs_line_bytes(&l, "huge", work->huge_bytes);
    bs_line_bytes(&l, "page", work->page_bytes);
    bs_line_bytes(&l, "hole", work->hole_bytes);
    bs_line_bytes(&l, "overfilled", work->overfilled_bytes);
    bs_line_number(&l, "thp_split", work->thp_split);
    bs_line_number(&l, "thp_joined", work->thp_joined);
    bs_line_number(&l, "calls", work->calls);
    bs_line_number(&l, "failed", work->failed);
    bs_line_bytes(&l, "dirty", dirty_bytes);
    bs_line_bytes(&l, "goal", goal_bytes);
    bs_line_number(&l, "ns", ns);
    bs_line_time(&l);
    bs_line_end(&l);
}

void bs_log_limit(const struct bs_limit_note *note) {
    struct bs_line l;
    if (!bs_sink_is_open())
        return;
    bs_line_begin(&l, "limit");
    limit_fields(&l);
    bs_line_bytes(&l, "live", bs_usage_now().live);
    bs_line_bytes(&l, "request", note->request);
    bs_line_number(&l, "refused", (note->what & BS_LIMIT_NOTE_REFUSED) != 0);
    bs_line_time(&l);
    bs_line_end(&l);
}

void bs_log_note(const char *text) {
    struct bs_line l;
    if (!bs_sink_is_open())
        return;
    bs_line_begin(&l, "note");
    bs_line_string(&l, "text", text);
    bs_line_end(&l);
}

BS_ALWAYS void bs_log_start(void) {
    bs_sink_open();
}
BS_ALWAYS bool bs_log_is_on(void) {
    return bs_sink_is_open();
}
void bs_log_forked(void) {
    bs_sink_forked();
}
void bs_log_lock(void) {
    bs_sink_lock();
}
void bs_log_unlock(void) {
    bs_sink_unlock();
}
void bs_log_reset_lock(void) {
    bs_sink_reset_lock();
}
