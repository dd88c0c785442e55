/* SPDX-License-Identifier: MIT */
/* hunt.c - see hunt.h: the order of a search. */
#include "hunt.h"

#include "counter.h"
#include "meta.h"
#include "round.h"
#include "scan_internal.h"

#include <sys/auxv.h>

static struct {
    struct bs_scan_work *work; /* [lock:round] made by the first search, kept */
    size_t nroots;             /* [lock:round] room for so many; 0: none was made */
    uint64_t learned_ns;       /* [lock:round] when flags of mappings were read */
    struct bs_linear linear;   /* [lock:round] */
} hunt;

/* --- room --------------------------------------------------------------------------------------- */

static bool make_roots(struct bs_scan_work *w, size_t capacity) {
    if (hunt.nroots != 0)
        bs_roots_drop(&w->roots);
    hunt.nroots = 0;
    hunt.learned_ns = 0;
    if (!bs_roots_prepare(&w->roots, capacity))
        return false;
    hunt.nroots = capacity;
    return true;
}

static bool prepare(uintptr_t caller_sp) {
    struct bs_scan_work *w = hunt.work;
    if (w == NULL) {
        w = hunt.work = bs_meta_map(sizeof *w);
        if (w == NULL)
            return false;
        w->first_stack = getauxval(AT_RANDOM);
    }
    if (hunt.nroots == 0 && !make_roots(w, BS_SCAN_ROOTS))
        return false;
    uint64_t now = bs_os_now_ns();
    if (hunt.learned_ns == 0 || now - hunt.learned_ns > BS_QUARANTINE_LEARN_NS) {
        (void)bs_roots_learn(&w->roots);
        hunt.learned_ns = now;
    }
    w->caller_sp = caller_sp;
    return true;
}

/* --- the search --------------------------------------------------------------------------------- */

static enum bs_scan_end search(struct bs_hunt_result *r) {
    struct bs_scan_work *w = hunt.work;
    uint64_t cpu = bs_os_thread_cpu_ns();
    if (!bs_linear_begin(&hunt.linear, NULL, w->roots.range, w->roots.n))
        return BS_SCAN_NO_MEMORY;
    bs_linear_work(&hunt.linear);
    bs_linear_end(&hunt.linear, &r->read);
    r->search_ns = bs_os_thread_cpu_ns() - cpu;
    return BS_SCAN_DONE;
}

/* All stand. */
static enum bs_scan_end search_stopped(struct bs_hunt_result *r, bool *again) {
    struct bs_scan_work *w = hunt.work;
    enum bs_roots_result roots = bs_scan_take_roots(w);
    *again = roots == BS_ROOTS_NO_ROOM;
    r->threads = bs_world_count();
    r->nroots = w->roots.n;
    r->root_bytes = w->roots.bytes;
    if (roots != BS_ROOTS_TAKEN || !bs_scan_finish_words(w))
        return BS_SCAN_NO_ROOTS;
    return bs_quarantine_turn(&r->held) ? search(r) : BS_SCAN_NO_MEMORY;
}

static enum bs_scan_end stop_and_search(struct bs_hunt_result *r, bool *again) {
    enum bs_scan_end end = BS_SCAN_WORLD;
    uint64_t start = bs_os_now_ns();
    *again = false;
    r->world = bs_world_stop(start + BS_SCAN_STOP_NS);
    if (r->world == BS_WORLD_STOPPED) {
        end = search_stopped(r, again);
        bs_world_resume();
    } else {
        r->culprit = bs_world_culprit();
    }
    r->stop_ns = bs_os_now_ns() - start;
    if (*again) {
        size_t needed = hunt.work->roots.needed;
        *again = make_roots(hunt.work, bs_max(2 * hunt.nroots, needed + needed / 4));
    }
    return end;
}

static void run(struct bs_hunt_result *r, uintptr_t caller_sp, bs_quarantine_visitor *visit,
                void *ctx) {
    bool again = true;
    for (unsigned tries = 0; again && tries < 3; tries++) {
        if (!prepare(caller_sp))
            return;
        r->end = stop_and_search(r, &again);
    }
    if (r->end == BS_SCAN_DONE)
        bs_quarantine_release(&r->released, visit, ctx);
}

/* Above it, on a stack that counts, are the caller's registers. */
static BS_NOINLINE void run_below(struct bs_hunt_result *r, bs_quarantine_visitor *visit, void *ctx) {
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    uint64_t start = bs_os_now_ns();
    run(r, bs_os_tid() == bs_os_helper_tid() ? 0 : sp, visit, ctx);
    if (r->end == BS_SCAN_DONE)
        bs_count(scans, 1);
    else
        bs_count(scans_given_up, 1);
    r->ns = bs_os_now_ns() - start;
}

BS_NOINLINE bool bs_hunt_run(enum bs_hunt_mode mode, size_t above, bs_quarantine_visitor *visit,
                             void *ctx, struct bs_hunt_result *result) {
    __builtin_unwind_init(); /* callee-saved registers go to this frame */
    *result = (struct bs_hunt_result){.mode = mode, .end = BS_SCAN_NO_MEMORY};
    bs_round_enter();
    bool needed = bs_load(&bs_quarantine_fresh) >= above;
    if (needed)
        run_below(result, visit, ctx);
    bs_round_leave();
    return needed;
}
