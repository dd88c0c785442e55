/* SPDX-License-Identifier: MIT */
/* log_leaks.c - the events of a scan: what it cost, and the leaks by stack, those with most bytes first. */
#include "log.h"
#include "log_line.h"
#include "opt.h"
#include "os.h"
#include "sink.h"

#define LEAKS_MAX 200
#define NS_PER_S UINT64_C(1000000000)

static const char *world_name(enum bs_world_result world) {
    static const char *const worlds[] = {"done",   "vfork",  "unavailable", "blocked",
                                         "silent", "inside", "late",   "traced"};
    return worlds[world];
}
static const char *verdict_of(const struct bs_scan_result *r) {
    static const char *const ends[] = {"done",    "threads", "no_memory", "no_roots",
                                       "no_copy", "died",    "killed"};
    return r->end == BS_SCAN_WORLD ? world_name(r->world) : ends[r->end];
}

static const char *why_of(const struct bs_scan_result *r) {
    static const char *const whys[] = {"none", "time", "copied", "memory", "exit"};
    return whys[r->why];
}

/* Of the whole leak, with what hangs on it. */
static uint64_t weight(const struct bs_leak_sums *s) {
    return s->bytes + s->indirect_bytes;
}

static void sum_fields(struct bs_line *l, const struct bs_leak_sums *s,
                       const struct bs_leak_sums *before) {
    bs_line_number(l, "leaks", s->leaks);
    bs_line_bytes(l, "bytes", s->bytes);
    bs_line_number(l, "blocks", s->blocks);
    bs_line_bytes(l, "indirect", s->indirect_bytes);
    bs_line_number(l, "indirect_blocks", s->indirect_blocks);
    bs_line_signed(l, "delta", (int64_t)(weight(s) - (before != NULL ? weight(before) : 0)));
}

static void scan_line(const char *reason, const struct bs_scan_result *r) {
    const struct bs_scan_verdict *v = r->verdict;
    struct bs_line l;
    bs_line_begin(&l, "scan");
    bs_line_string(&l, "reason", reason);
    bs_line_string(&l, "verdict", verdict_of(r));
    bs_line_string(&l, "way", r->in_place ? "stopped" : r->concurrent ? "concurrent" : "copy");
    bs_line_number(&l, "threads", r->threads);
    bs_line_number(&l, "thread", (uint64_t)r->culprit);
    bs_line_number(&l, "errno", (uint64_t)r->error);
    bs_line_string(&l, "why", why_of(r));
    bs_line_number(&l, "stops", r->stops);
    bs_line_number(&l, "stopped_ns", r->stopped_ns);
    bs_line_number(&l, "stop_ns", r->stop_ns);
    bs_line_number(&l, "stand_ns", r->stand_ns);
    bs_line_number(&l, "roots_ns", r->roots_ns);
    bs_line_number(&l, "clone_ns", r->clone_ns);
    bs_line_number(&l, "resume_ns", r->resume_ns);
    bs_line_number(&l, "ns", r->ns);
    bs_line_bytes(&l, "copied", r->copied_bytes);
    bs_line_bytes(&l, "again", r->again_bytes);
    bs_line_number(&l, "ranges", r->nroots);
    bs_line_bytes(&l, "roots", r->root_bytes);
    if (v != NULL) {
        uint64_t read = v->trace.root_bytes + v->trace.read_bytes;
        bs_line_bytes(&l, "read", read);
        bs_line_number(&l, "searchers", v->searchers);
        bs_line_number(&l, "search_ns", v->search_ns);
        bs_line_number(&l, "mb_per_s", v->search_ns != 0 ? read * 1000 / v->search_ns : 0);
        bs_line_bytes(&l, "reached", v->trace.bytes);
        bs_line_number(&l, "reached_blocks", v->trace.blocks);
        bs_line_bytes(&l, "interior", v->interior_bytes);
        bs_line_number(&l, "interior_blocks", v->interior_blocks);
        bs_line_bytes(&l, "lost", v->lost_bytes);
        bs_line_number(&l, "lost_blocks", v->lost_blocks);
        bs_line_number(&l, "waiting", v->waiting);
        bs_line_number(&l, "suppressed", v->suppressed.leaks);
        bs_line_bytes(&l, "suppressed_bytes", weight(&v->suppressed));
        sum_fields(&l, &v->reported, r->before != NULL ? &r->before->reported : NULL);
    }
    bs_line_time(&l);
    bs_line_end(&l);
}

void bs_log_hunt(const char *reason, const struct bs_hunt_result *r) {
    static const char *const ends[] = {"done",    "threads", "no_memory", "no_roots",
                                       "no_copy", "died",    "killed"};
    static const char *const ways[] = {"concurrent", "sound", "probabilistic", "sound"};
    struct bs_line l;
    if (!bs_sink_is_open() || (r->end == BS_SCAN_DONE && (bs_opt.trace & BS_TRACE_SCAN) == 0))
        return;
    bs_line_begin(&l, "quarantine");
    bs_line_string(&l, "reason", reason);
    bs_line_string(&l, "verdict", r->end == BS_SCAN_WORLD ? world_name(r->world) : ends[r->end]);
    bs_line_string(&l, "way", r->in_copy ? "copy" : ways[r->mode]);
    bs_line_number(&l, "threads", r->threads);
    bs_line_number(&l, "thread", (uint64_t)r->culprit);
    bs_line_number(&l, "stop_ns", r->stop_ns);
    bs_line_number(&l, "search_ns", r->search_ns);
    bs_line_number(&l, "helped", r->helped);
    bs_line_number(&l, "ns", r->ns);
    bs_line_number(&l, "ranges", r->nroots);
    bs_line_bytes(&l, "roots", r->root_bytes);
    bs_line_bytes(&l, "read", r->read.root_bytes + r->read.heap_bytes);
    bs_line_bytes(&l, "again", r->dirty_bytes);
    bs_line_bytes(&l, "held", r->held.bytes);
    bs_line_number(&l, "held_blocks", r->held.blocks);
    bs_line_bytes(&l, "released", r->released.gone.bytes);
    bs_line_number(&l, "released_blocks", r->released.gone.blocks);
    bs_line_bytes(&l, "kept", r->released.kept.bytes);
    bs_line_number(&l, "kept_blocks", r->released.kept.blocks);
    bs_line_bytes(&l, "stale", r->released.again.bytes);
    bs_line_number(&l, "stale_blocks", r->released.again.blocks);
    bs_line_number(&l, "suppressed", bs_dangling_suppressed());
    bs_line_time(&l);
    bs_line_end(&l);
}

/* --- by stack --------------------------------------------------------------------------------- */

struct top {
    uint64_t (*weight_of)(const struct bs_leak_stack *);
    size_t n, max;
    const struct bs_leak_stack *leak[LEAKS_MAX];
    struct bs_stack *stack[LEAKS_MAX];
};

static uint64_t lost_by(const struct bs_leak_stack *leak) {
    return weight(&leak->sums);
}
static uint64_t possibly_lost_by(const struct bs_leak_stack *leak) {
    return leak->possible_bytes;
}

static void rank(struct top *t, const struct bs_leak_stack *leak) {
    uint64_t key = t->weight_of(leak);
    if (key == 0 || t->max == 0 || (t->n == t->max && key <= t->weight_of(t->leak[t->n - 1])))
        return;
    size_t i = t->n < t->max ? t->n++ : t->n - 1;
    for (; i > 0 && t->weight_of(t->leak[i - 1]) < key; i--) {
        t->leak[i] = t->leak[i - 1];
        t->stack[i] = t->stack[i - 1];
    }
    t->leak[i] = leak;
    t->stack[i] = leak->stack;
}

static void take_top(struct top *t, const struct bs_scan_verdict *v) {
    t->n = 0;
    t->max = (size_t)bs_min(bs_opt.log_stacks, LEAKS_MAX);
    for (size_t i = 0; i < BS_SCAN_STACKS; i++)
        if (v->stack[i].stack != NULL)
            rank(t, &v->stack[i]);
    bs_line_modules(t->stack, t->n);
}

static void leak_line(const struct bs_leak_stack *leak, const struct bs_scan_verdict *before,
                      uint64_t now_ns) {
    const struct bs_leak_stack *last = before != NULL ? bs_scan_find(before, leak->stack) : NULL;
    struct bs_line l;
    bs_line_begin(&l, "leak");
    sum_fields(&l, &leak->sums, last != NULL ? &last->sums : NULL);
    bs_line_number(&l, "oldest", bs_sub_clamped(now_ns, leak->oldest_ns) / NS_PER_S);
    bs_line_number(&l, "newest", bs_sub_clamped(now_ns, leak->newest_ns) / NS_PER_S);
    bs_line_frames(&l, "frames", leak->stack);
    bs_line_end(&l);
}

static void possible_line(const struct bs_leak_stack *leak, const struct bs_scan_verdict *before) {
    const struct bs_leak_stack *last = before != NULL ? bs_scan_find(before, leak->stack) : NULL;
    struct bs_line l;
    bs_line_begin(&l, "leak_possible");
    bs_line_bytes(&l, "bytes", leak->possible_bytes);
    bs_line_number(&l, "blocks", leak->possible_blocks);
    bs_line_signed(&l, "delta",
                   (int64_t)(leak->possible_bytes - (last != NULL ? last->possible_bytes : 0)));
    bs_line_frames(&l, "frames", leak->stack);
    bs_line_end(&l);
}

static void leak_lines(const struct bs_scan_result *r) {
    struct top t = {.weight_of = lost_by};
    uint64_t now = bs_os_now_ns();
    take_top(&t, r->verdict);
    for (size_t i = 0; i < t.n; i++)
        leak_line(t.leak[i], r->before, now);
    t.weight_of = possibly_lost_by;
    take_top(&t, r->verdict);
    for (size_t i = 0; i < t.n; i++)
        possible_line(t.leak[i], r->before);
}

/* Those whose stack is not known. */
static void size_lines(const struct bs_scan_result *r) {
    for (unsigned class = 0; class < BS_NCLASSES; class++) {
        const struct bs_leak_sums *s = &r->verdict->class[class];
        struct bs_line l;
        if (s->leaks == 0)
            continue;
        bs_line_begin(&l, "leak_size");
        bs_line_number(&l, "size", class != 0 ? bs_class_info[class].size : 0);
        sum_fields(&l, s, r->before != NULL ? &r->before->class[class] : NULL);
        bs_line_end(&l);
    }
}

/* Rules that something was suppressed by. */
static void rule_lines(const struct bs_scan_verdict *v) {
    for (unsigned i = 0; i < BS_SUPPRESS_RULES; i++) {
        unsigned number;
        const char *text = v->rule[i].leaks != 0 ? bs_suppress_rule(i, &number) : NULL;
        struct bs_line l;
        if (text == NULL)
            continue;
        bs_line_begin(&l, "suppression");
        bs_line_number(&l, "line", number);
        bs_line_number(&l, "leaks", v->rule[i].leaks);
        bs_line_bytes(&l, "bytes", weight(&v->rule[i]));
        bs_line_string(&l, "rule", text);
        bs_line_end(&l);
    }
}

void bs_log_scan(const char *reason, const struct bs_scan_result *result) {
    if (!bs_sink_is_open())
        return;
    scan_line(reason, result);
    if (result->verdict == NULL)
        return;
    leak_lines(result);
    size_lines(result);
    rule_lines(result->verdict);
    if (result->verdict->owners != NULL)
        bs_log_owners(result->verdict);
}
