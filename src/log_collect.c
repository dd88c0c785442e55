/* SPDX-License-Identifier: MIT */
/* log_collect.c - the event `collect`: what became of blocks that nothing leads to, by stack. */
#include "log.h"
#include "log_line.h"
#include "sink.h"

static void modules(const struct bs_collect_report *r) {
    struct bs_stack *stack[BS_COLLECT_NOTES];
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->note[i].stack != NULL)
            stack[n++] = r->note[i].stack;
    bs_line_modules(stack, n);
}

static void note_line(const struct bs_collect_note *note) {
    static const char *const whats[] = {"closed", "reclaimed", "revived", "freed", "reached"};
    struct bs_line l;
    bs_line_begin(&l, "collect");
    bs_line_string(&l, "what", whats[note->what]);
    bs_line_bytes(&l, "bytes", note->bytes);
    bs_line_number(&l, "blocks", note->blocks);
    if (note->stack != NULL)
        bs_line_frames(&l, "frames", note->stack);
    else
        bs_line_number(&l, "size", note->class != 0 ? bs_class_info[note->class].size : 0);
    bs_line_end(&l);
}

void bs_log_collect(const struct bs_collect_report *report) {
    static const char *said; /* [the scanning thread] */
    if (!bs_sink_is_open())
        return;
    if (report->why_not != NULL && report->why_not != said)
        bs_log_note(report->why_not);
    said = report->why_not;
    if (report->n == 0)
        return;
    modules(report);
    for (size_t i = 0; i < report->n; i++)
        note_line(&report->note[i]);
}
