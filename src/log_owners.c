/* SPDX-License-Identifier: MIT */
/* log_owners.c - the events `owners`, `owner`, `owned` and `owned_by`: which words of the program lead to most of its
 * memory, and which of them to what was allocated from a stack. */
#include "log.h"
#include "log_line.h"
#include "meta.h"
#include "opt.h"
#include "os.h"
#include "sink.h"
#include "variable.h"

#define OWNERS_MAX 200 /* as the option has it */
#define EACH 3         /* owners of a stack */

struct report {
    size_t nowners, nstacks, nvariables;
    const struct bs_owned *owner[OWNERS_MAX], *stack[OWNERS_MAX];
    struct {
        size_t n;
        const struct bs_owned *by[EACH];
    } of[OWNERS_MAX];
    struct bs_variable *asked[OWNERS_MAX * (EACH + 1)];
    struct bs_stack *frames[OWNERS_MAX * (EACH + 2)];
    struct bs_variable variable[OWNERS_MAX * (EACH + 1)]; /* those of owners first, then of each stack EACH */
};

static void ask(struct report *r, size_t i, const struct bs_owned *e) {
    bs_variable_begin(&r->variable[i], e->owner.at);
    r->asked[r->nvariables++] = &r->variable[i];
}
static size_t variable_of(size_t stack, size_t by) {
    return OWNERS_MAX + stack * EACH + by;
}

static void take(struct report *r, const struct bs_owners *o, size_t max) {
    r->nowners = bs_owners_top(o, BS_OWNERS_WORDS, NULL, r->owner, max);
    r->nstacks = bs_owners_top(o, BS_OWNERS_STACKS, NULL, r->stack, max);
    for (size_t i = 0; i < r->nowners; i++)
        ask(r, i, r->owner[i]);
    for (size_t i = 0; i < r->nstacks; i++) {
        r->of[i].n = bs_owners_top(o, BS_OWNERS_OF_STACK, r->stack[i]->stack, r->of[i].by, EACH);
        for (size_t k = 0; k < r->of[i].n; k++)
            ask(r, variable_of(i, k), r->of[i].by[k]);
    }
    bs_variables_find(r->asked, r->nvariables);
}

static void modules(struct report *r) {
    size_t n = 0;
    for (size_t i = 0; i < r->nvariables; i++)
        if (bs_variable_frame(r->asked[i]) != NULL)
            r->frames[n++] = bs_variable_frame(r->asked[i]);
    for (size_t i = 0; i < r->nstacks; i++)
        r->frames[n++] = r->stack[i]->stack;
    bs_line_modules(r->frames, n);
}

static void owner_fields(struct bs_line *l, const struct bs_owned *e, struct bs_variable *v) {
    static const char *const kinds[] = {"none", "memory", "stack", "kernel"};
    bs_line_string(l, "kind", kinds[e->owner.kind]);
    bs_line_address(l, "at", e->owner.at);
    bs_line_mapping(l, v);
    if (bs_variable_frame(v) != NULL)
        bs_line_frames(l, "frames", bs_variable_frame(v));
}

/* NULL: there is nothing to tell it with. */
static void owners_line(const struct report *r, const struct bs_scan_verdict *v) {
    uint64_t owned = 0;
    struct bs_line l;
    for (size_t i = 0; i < BS_OWNED; i++)
        owned += v->owners->of[i].stack == NULL ? v->owners->of[i].bytes : 0;
    bs_line_begin(&l, "owners");
    bs_line_number(&l, "shown", r != NULL ? r->nowners : 0);
    bs_line_number(&l, "stacks", r != NULL ? r->nstacks : 0);
    bs_line_bytes(&l, "bytes", owned);
    bs_line_bytes(&l, "other", bs_sub_clamped(v->trace.bytes, owned));
    if (r == NULL)
        bs_line_string(&l, "note", "no memory to tell which words these are");
    bs_line_end(&l);
}

static void owner_line(const struct bs_owned *e, struct bs_variable *v) {
    struct bs_line l;
    bs_line_begin(&l, "owner");
    bs_line_bytes(&l, "bytes", e->bytes);
    bs_line_number(&l, "blocks", e->blocks);
    owner_fields(&l, e, v);
    bs_line_end(&l);
}

static void owned_lines(struct report *r, size_t i) {
    const struct bs_owned *e = r->stack[i];
    struct bs_line l;
    bs_line_begin(&l, "owned");
    bs_line_number(&l, "number", i + 1);
    bs_line_bytes(&l, "bytes", e->bytes);
    bs_line_number(&l, "blocks", e->blocks);
    bs_line_number(&l, "samples", e->samples);
    bs_line_number(&l, "owners", r->of[i].n);
    bs_line_frames(&l, "frames", e->stack);
    bs_line_end(&l);
    for (size_t k = 0; k < r->of[i].n; k++) {
        const struct bs_owned *by = r->of[i].by[k];
        bs_line_begin(&l, "owned_by");
        bs_line_number(&l, "number", i + 1);
        bs_line_bytes(&l, "bytes", by->bytes);
        bs_line_number(&l, "blocks", by->blocks);
        owner_fields(&l, by, &r->variable[variable_of(i, k)]);
        bs_line_end(&l);
    }
}

void bs_log_owners(const struct bs_scan_verdict *v) {
    struct report *r = bs_meta_map(sizeof *r);
    if (r != NULL)
        take(r, v->owners, (size_t)bs_min(bs_opt.scan_owners, OWNERS_MAX));
    owners_line(r, v);
    if (r == NULL)
        return;
    modules(r);
    for (size_t i = 0; i < r->nowners; i++)
        owner_line(r->owner[i], &r->variable[i]);
    for (size_t i = 0; i < r->nstacks; i++)
        owned_lines(r, i);
    bs_meta_unmap(r, sizeof *r);
}
