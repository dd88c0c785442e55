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
#include "sink.h"
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

void bs_log_start(void) {
    bs_sink_open();
}
bool bs_log_is_on(void) {
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
