/* SPDX-License-Identifier: MIT */
/*
 * log.c - see log.h: the events and their two forms. Where the lines go is sink.c.
 *
 * Both forms come from one list of fields, so they cannot drift apart.
 */
#include "log.h"

#include "counter.h"
#include "ledger.h"
#include "limit.h"
#include "opt.h"
#include "os.h"
#include "out.h"
#include "sample.h"
#include "sampler.h"
#include "sink.h"
#include "stacks.h"
#include "usage.h"
#include "waiting.h"

#define LINE_CAP 4096

/* A line under construction. */
struct line {
    struct bs_out out;
    bool json;
    char buf[LINE_CAP];
};

static void begin(struct line *l, const char *event) {
    l->json = bs_opt.log_format == BS_LOG_JSON;
    bs_out_init(&l->out, l->buf, sizeof l->buf - 2); /* room for the closing brace and newline */
    if (l->json)
        bs_out_printf(&l->out, "{\"besom\":1,\"event\":\"%s\",\"pid\":%d,\"time_ns\":%ju", event,
                      bs_os_pid(), (uintmax_t)bs_os_wall_ns());
    else
        bs_out_printf(&l->out, "besom[%d] %s:", bs_os_pid(), event);
}

static void number(struct line *l, const char *name, uint64_t x) {
    bs_out_printf(&l->out, l->json ? ",\"%s\":%ju" : " %s %ju", name, (uintmax_t)x);
}

static void signed_number(struct line *l, const char *name, int64_t x) {
    bs_out_printf(&l->out, l->json ? ",\"%s\":%jd" : " %s %jd", name, (intmax_t)x);
}

/* Bytes, raw first; text adds the human form where that says more. */
static void bytes(struct line *l, const char *name, uint64_t x) {
    number(l, name, x);
    if (!l->json && x >= 10 * BS_KIB) {
        bs_out_str(&l->out, " (");
        bs_out_size(&l->out, x);
        bs_out_char(&l->out, ')');
    }
}

static void string(struct line *l, const char *name, const char *s) {
    bs_out_printf(&l->out, l->json ? ",\"%s\":\"" : " %s ", name);
    for (; *s != '\0'; s++) {
        bool special = *s == '"' || *s == '\\' || (unsigned char)*s < 0x20;
        if (special && l->json)
            bs_out_printf(&l->out, "\\u%04x", (unsigned)(unsigned char)*s);
        else
            bs_out_char(&l->out, *s);
    }
    if (l->json)
        bs_out_char(&l->out, '"');
}

static void end(struct line *l) {
    if (l->json)
        l->buf[l->out.len++] = '}';
    l->buf[l->out.len++] = '\n';
    bs_sink_write(l->buf, l->out.len);
}

/* --- events ----------------------------------------------------------------------------------- */

static void ledger_fields(struct line *l, const struct bs_ledger *g) {
    bytes(l, "rss", g->rss);
    bytes(l, "live", g->live);
    bytes(l, "rounding", g->rounding);
    bytes(l, "cached", g->cached);
    bytes(l, "span_free", g->span_free);
    bytes(l, "pinned", g->pinned);
    bytes(l, "heap_dirty", g->heap_dirty);
    bytes(l, "metadata", g->metadata);
    bytes(l, "outside", g->outside);
    signed_number(l, "remainder", g->remainder);
    bytes(l, "floor", g->floor);
    bytes(l, "anon_huge", g->anon_huge);
    bytes(l, "thp_overfill", g->thp_overfill);
    bytes(l, "released", g->released);
    bytes(l, "allocated", g->allocated);
}

/* Bytes of the limit; 0: there is none. */
static void limit_fields(struct line *l) {
    size_t limit = bs_limit_bytes();
    bytes(l, "limit", limit == BS_LIMIT_NONE ? 0 : limit);
    bytes(l, "limit_used", bs_limit_used());
}

/* --- stacks ----------------------------------------------------------------------------------- */

#define STACKS_MAX 200

/* The stacks with the most live bytes, the most first. */
struct top {
    unsigned n, max;
    uint64_t bytes, blocks, samples; /* over all stacks */
    struct bs_stack *stack[STACKS_MAX];
    uint64_t key[STACKS_MAX];
};

static void count_stack(struct top *t, struct bs_stack *s) {
    t->bytes += bs_load(&s->live_bytes);
    t->blocks += bs_load(&s->live_blocks);
    t->samples += bs_load(&s->live_samples);
}

static void rank_stack(void *ctx, struct bs_stack *s) {
    struct top *t = ctx;
    uint64_t key = bs_load(&s->live_bytes);
    count_stack(t, s);
    if (key == 0 || t->max == 0 || (t->n == t->max && key <= t->key[t->n - 1]))
        return;
    unsigned i = t->n < t->max ? t->n++ : t->n - 1;
    for (; i > 0 && t->key[i - 1] < key; i--) {
        t->key[i] = t->key[i - 1];
        t->stack[i] = t->stack[i - 1];
    }
    t->key[i] = key;
    t->stack[i] = s;
}

static void module_line(uint32_t number_, const struct bs_module *m, bool loaded) {
    struct line l;
    char id[2 * BS_BUILD_ID_MAX + 1];
    struct bs_out hex;
    bs_out_init(&hex, id, sizeof id);
    for (unsigned i = 0; i < m->id_bytes; i++)
        bs_out_printf(&hex, "%02x", m->id[i]);
    begin(&l, "module");
    number(&l, "number", number_);
    string(&l, "build_id", m->id_bytes != 0 ? bs_out_text(&hex) : "none");
    number(&l, "loaded", loaded);
    string(&l, "path", m->path);
    end(&l);
}

static void stack_line(const struct bs_stack *s, uint64_t live_bytes) {
    struct line l;
    begin(&l, "stack");
    bytes(&l, "bytes", live_bytes);
    number(&l, "blocks", bs_load(&s->live_blocks));
    number(&l, "samples", bs_load(&s->live_samples));
    bytes(&l, "total_bytes", bs_load(&s->bytes));
    number(&l, "total_blocks", bs_load(&s->blocks));
    bs_out_str(&l.out, l.json ? ",\"frames\":[" : " frames");
    for (uint32_t i = 0; i < s->n; i++)
        bs_out_printf(&l.out, !l.json ? " %u+0x%jx" : i == 0 ? "\"%u+0x%jx\"" : ",\"%u+0x%jx\"",
                      (unsigned)BS_FRAME_MODULE(s->frame[i]), (uintmax_t)BS_FRAME_OFFSET(s->frame[i]));
    bs_out_str(&l.out, l.json ? "]" : "");
    end(&l);
}

/* The lines of the modules that the stacks lie in come before them. */
static void modules_of(const struct top *t) {
    for (uint32_t m = 1; m <= bs_stacks_modules(); m++) {
        struct bs_module module;
        bool used = false, loaded;
        for (unsigned i = 0; i < t->n && !used; i++)
            for (uint32_t k = 0; k < t->stack[i]->n && !used; k++)
                used = BS_FRAME_MODULE(t->stack[i]->frame[k]) == m;
        if (used && bs_stacks_module(m, &module, &loaded))
            module_line(m, &module, loaded);
    }
}

static void log_stacks(void) {
    struct top t = {.max = (unsigned)bs_min(bs_opt.log_stacks, STACKS_MAX)};
    struct line l;
    bs_stacks_each(rank_stack, &t);
    count_stack(&t, &bs_stacks_other);
    begin(&l, "stacks");
    number(&l, "interval", bs_load(&bs_sample_interval));
    number(&l, "stacks", bs_stacks_count());
    number(&l, "shown", t.n);
    number(&l, "samples", t.samples);
    number(&l, "lost", bs_sample_lost());
    bytes(&l, "bytes", t.bytes);
    number(&l, "blocks", t.blocks);
    bytes(&l, "other", bs_load(&bs_stacks_other.live_bytes));
    end(&l);
    modules_of(&t);
    for (unsigned i = 0; i < t.n; i++)
        stack_line(t.stack[i], t.key[i]);
}

/* --- reports ---------------------------------------------------------------------------------- */

void bs_log_report(const char *reason) {
    struct bs_ledger ledger;
    struct line l;
    uint64_t minor, major;
    if (!bs_sink_is_open())
        return;
    bool complete = bs_ledger_take(&ledger);
    begin(&l, reason);
    ledger_fields(&l, &ledger);
    limit_fields(&l);
    bs_os_faults(&minor, &major);
    number(&l, "minor_faults", minor);
    number(&l, "major_faults", major);
#define BS_STAT(name, doc) number(&l, #name, bs_counted(name));
#include "stats.def"
#undef BS_STAT
    if (!complete)
        string(&l, "note", "/proc/self/smaps cannot be read: rss and outside are missing");
    end(&l);
    if (bs_sample_is_on())
        log_stacks();
}

void bs_log_sweep(const struct bs_sweep_work *work, const struct bs_idle_work *idle, uint64_t ns) {
    struct line l;
    if (!bs_sink_is_open() || (bs_opt.trace & BS_TRACE_SWEEP) == 0)
        return;
    begin(&l, "sweep");
    number(&l, "returned", work->returned);
    number(&l, "waiting", bs_waiting_count());
    number(&l, "swept", work->swept);
    number(&l, "orphans", work->orphans);
    number(&l, "idle", idle->drained);
    bytes(&l, "cache", idle->bytes);
    number(&l, "ns", ns);
    end(&l);
}

void bs_log_scavenge(const struct bs_scavenge_work *work, size_t dirty_bytes, size_t goal_bytes,
                     uint64_t ns) {
    struct line l;
    if (!bs_sink_is_open() || (bs_opt.trace & BS_TRACE_SCAVENGE) == 0)
        return;
    begin(&l, "scavenge");
    bytes(&l, "huge", work->huge_bytes);
    bytes(&l, "page", work->page_bytes);
    bytes(&l, "hole", work->hole_bytes);
    bytes(&l, "overfilled", work->overfilled_bytes);
    number(&l, "thp_split", work->thp_split);
    number(&l, "thp_joined", work->thp_joined);
    number(&l, "calls", work->calls);
    number(&l, "failed", work->failed);
    bytes(&l, "dirty", dirty_bytes);
    bytes(&l, "goal", goal_bytes);
    number(&l, "ns", ns);
    end(&l);
}

void bs_log_limit(const struct bs_limit_note *note) {
    struct line l;
    if (!bs_sink_is_open())
        return;
    begin(&l, "limit");
    limit_fields(&l);
    bytes(&l, "live", bs_usage_now().live);
    bytes(&l, "request", note->request);
    number(&l, "refused", (note->what & BS_LIMIT_NOTE_REFUSED) != 0);
    end(&l);
}

void bs_log_note(const char *text) {
    struct line l;
    if (!bs_sink_is_open())
        return;
    begin(&l, "note");
    string(&l, "text", text);
    end(&l);
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
