/* SPDX-License-Identifier: MIT */
/*
 * scan_roots.c - see scan_internal.h: all that leads into the heap at this moment, stacks of threads first. What a
 * mapping is, and which are roots, is roots.c's; this says what it is told about threads and about our own memory.
 *
 * For who searches, while all stand: so it waits for nobody, and has its room in struct bs_scan_work.
 */
#include "scan_internal.h"

#include "lines.h"
#include "text.h"

/* A thread that is on its own stack needs nothing of what lies below. One that is on another, which may be
 * a part of the first, needs all. */
static void add_stack(struct bs_scan_work *w, uintptr_t thread_pointer, uintptr_t sp) {
    uintptr_t low = bs_bounds_low(thread_pointer, sp);
    if (low != 0 && w->nstacks < BS_ARRAY_LEN(w->stack))
        w->stack[w->nstacks++] = (struct bs_root_stack){low, sp};
}

static void add_place(struct bs_scan_work *w, uintptr_t p) {
    if (w->nstood < BS_ARRAY_LEN(w->stood))
        w->stood[w->nstood++] = p;
}

/* A stack pointer and the like is a pointer as well: it holds the stack of a coroutine, say. */
static void visit_thread(void *ctx, const struct bs_world_thread *t) {
    struct bs_scan_work *w = ctx;
    bool on_alternate = t->sp - t->alt_base < t->alt_end - t->alt_base || bs_bounds_are_in_doubt();
    uintptr_t sp = on_alternate ? 0 : t->sp;
    bs_scan_add_word(w, t->sp);
    bs_scan_add_word(w, t->alt_base);
    bs_scan_add_word(w, t->thread_pointer);
    add_place(w, t->sp);
    add_place(w, t->regs);
    if (t->tid == bs_os_pid())
        w->first_sp = sp;
    add_stack(w, t->thread_pointer, sp);
}
static void visit_registers(void *ctx, const struct bs_world_thread *t) {
    struct bs_scan_work *w = ctx;
    bs_roots_add(&w->roots, t->regs, t->regs_end, 0);
}

/* True if the first thread is on the stack that the kernel gave to the program, which has a mapping
 * of its own. */
static bool is_on_first_stack(uintptr_t sp, uintptr_t first_stack) {
    struct bs_lines lines;
    struct bs_mapping m = {.start = 0};
    char line[160];
    bool found = false;
    if (sp == 0 || sp > first_stack || !bs_lines_open_own(&lines, "maps"))
        return false;
    while (!found && bs_lines_next(&lines, line, sizeof line))
        found = bs_lines_mapping(line, &m) && first_stack >= m.start && first_stack < m.end;
    bs_lines_close(&lines);
    return found && sp >= m.start;
}

/* The same of who searches. What it stands on when a signal's handler came to besom may be a part of its usual stack. */
static void add_caller(struct bs_scan_work *w) {
    const struct bs_range alternate = bs_os_signal_stack();
    bool on_alternate =
        w->caller_sp - alternate.start < alternate.end - alternate.start || bs_bounds_are_in_doubt();
    uintptr_t sp = on_alternate ? 0 : w->caller_sp;
    bs_scan_add_word(w, w->caller_sp);
    bs_scan_add_word(w, alternate.start); /* only the kernel may know it */
    add_place(w, w->caller_sp);
    if (bs_os_tid() == bs_os_pid())
        w->first_sp = sp;
    add_stack(w, bs_os_thread_pointer(), sp);
}

/* Dead parts of stacks: the first thread's, whose mapping nobody shares, comes first. */
static void take_stacks(struct bs_scan_work *w) {
    w->nwords = 0;
    w->nstood = 0;
    w->nstacks = 1;
    w->first_sp = 0;
    if (w->caller_sp != 0)
        add_caller(w);
    bs_world_each(visit_thread, w);
    bool known = is_on_first_stack(w->first_sp, w->first_stack);
    w->stack[0] = (struct bs_root_stack){known ? BS_STACK_MAPPING : 0, w->first_sp};
}

static size_t take_ours(struct bs_scan_work *w) {
    size_t n = bs_bounds_ended(w->without, BS_BOUNDS_MAX);
    const struct bs_text data = bs_text_data();
    w->without[n++] = bs_os_helper_memory();
    w->without[n++] = w->shared;
    w->without[n++] = (struct bs_range){data.base, data.end};
    return n + bs_scan_verdicts(w->without + n);
}

enum bs_roots_result bs_scan_take_roots(struct bs_scan_work *w) {
    take_stacks(w);
    size_t nwithout = take_ours(w);
    enum bs_roots_result result =
        bs_roots_take(&w->roots, w->stack, w->nstacks, w->without, nwithout);
    if (result != BS_ROOTS_TAKEN)
        return result;
    bool all = bs_roots_take_kernel(&w->roots);
    bs_world_each(visit_registers, w);
    if (w->rules.guest != NULL)
        w->rules.guest->roots(&w->roots);
    w->roots.needed = bs_max(w->roots.n, w->roots.nwords) + 2; /* and our own words */
    if (w->roots.needed > w->roots.capacity)
        return BS_ROOTS_NO_ROOM;
    return all ? BS_ROOTS_TAKEN : BS_ROOTS_UNKNOWN;
}
