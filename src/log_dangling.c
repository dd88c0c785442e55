/* SPDX-License-Identifier: MIT */
/* log_dangling.c - the events `dangling` and `dangling_from`: what the quarantine has to keep, by the stack that
 * freed it, and which words point to it. */
#include "log.h"
#include "log_line.h"
#include "os.h"
#include "sink.h"

#define NS_PER_S UINT64_C(1000000000)

/* Of the block that the word lies in, or its own address. NULL: neither is known. */
static struct bs_stack *stack_of(struct bs_dangling_word *w) {
    if (w->by.kind == BS_REFERRER_HEAP)
        return w->by.origin;
    return bs_variable_frame(&w->variable);
}

static void modules(struct bs_dangling_report *r) {
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        r->stack[n++] = r->item[i].stack;
        r->stack[n++] = r->item[i].origin;
        for (unsigned k = 0; k < r->item[i].nwords; k++)
            if (stack_of(&r->item[i].word[k]) != NULL)
                r->stack[n++] = stack_of(&r->item[i].word[k]);
    }
    bs_line_modules(r->stack, n);
}

static void dangling_line(const struct bs_dangling *d, uint64_t number,
                          const struct bs_dangling_report *r) {
    uint64_t now = bs_os_now_ns();
    struct bs_line l;
    bs_line_begin(&l, "dangling");
    bs_line_number(&l, "number", number);
    bs_line_bytes(&l, "bytes", d->bytes);
    bs_line_number(&l, "blocks", d->blocks);
    bs_line_number(&l, "samples", d->samples);
    bs_line_number(&l, "oldest", bs_sub_clamped(now, d->oldest_ns) / NS_PER_S);
    bs_line_number(&l, "newest", bs_sub_clamped(now, d->newest_ns) / NS_PER_S);
    bs_line_number(&l, "words", d->nwords);
    bs_line_number(&l, "cut", r->cut);
    bs_line_number(&l, "more", r->more);
    bs_line_time(&l);
    bs_line_frames(&l, "frames", d->stack);
    bs_line_frames(&l, "alloc_frames", d->origin);
    bs_line_end(&l);
}

static void word_line(struct bs_dangling_word *w, uint64_t number) {
    static const char *const kinds[] = {"register", "stack", "memory", "heap", "kernel"};
    const struct bs_stack *stack = stack_of(w);
    struct bs_line l;
    bs_line_begin(&l, "dangling_from");
    bs_line_number(&l, "number", number);
    bs_line_string(&l, "kind", kinds[w->by.kind]);
    if (w->by.tid != 0)
        bs_line_number(&l, "thread", (uint64_t)w->by.tid);
    bs_line_address(&l, "at", w->by.at);
    bs_line_address(&l, "block", w->base);
    bs_line_number(&l, "offset", w->by.value - w->base);
    if (w->by.kind == BS_REFERRER_HEAP) {
        bs_line_address(&l, "in", w->by.block);
        bs_line_number(&l, "in_size", w->by.block_size);
    }
    if (w->by.kind == BS_REFERRER_MEMORY)
        bs_line_mapping(&l, &w->variable);
    if (stack != NULL)
        bs_line_frames(&l, "frames", stack);
    bs_line_end(&l);
}

void bs_log_dangling(void) {
    struct bs_dangling_report *r = bs_dangling_take();
    if (r == NULL)
        return;
    if (bs_sink_is_open())
        modules(r);
    for (size_t i = 0; i < r->n && bs_sink_is_open(); i++) {
        dangling_line(&r->item[i], r->first + i, r);
        for (unsigned k = 0; k < r->item[i].nwords; k++)
            word_line(&r->item[i].word[k], r->first + i);
    }
    bs_dangling_drop(r);
}
