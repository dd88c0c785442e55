/* SPDX-License-Identifier: MIT */
/*
 * world.c - see world.h: the signal, the stop from its first look to its end, who stands where. One
 * thread's part is in world_ask.c. Lock: the round's is the caller's; none is taken here.
 */
#include "world_internal.h"

#include "counter.h"
#include "round.h"
#include "text.h"
#include "thread.h"

/* --- the signal ------------------------------------------------------------------------------- */

/* Signals that some thread blocks which does not block all of them: it has a use for them. */
struct used {
    uint64_t signals;
};
static void visit_used(void *ctx, int tid) {
    const uint64_t realtime = ~(uint64_t)0 << 35;
    const uint64_t left_out = (uint64_t)1 << (BS_OS_SIGNAL_FIRST_ASKED - 1); /* by the shim */
    struct used *used = ctx;
    struct bs_os_task task;
    if (bs_os_task(tid, 64, &task) == 0 && ((task.blocked | left_out) & realtime) != realtime)
        used->signals |= task.blocked;
}

bool bs_world_start(void) {
    int signal = bs_load(&bs_world.signal);
    if (bs_world.shim != NULL)
        bs_store(&bs_world.shim->awaited, 0);
    if (signal != 0 && bs_os_signal_is_ours(signal))
        return true;
    struct used used = {0};
    if (bs_os_tasks(visit_used, &used) != 0)
        return false;
    signal = bs_os_signal_take(bs_world_answer_signal, used.signals);
    bool shares = signal <= 0 && bs_world.shim != NULL && bs_world.shim->handlers != 0;
    if (shares)
        signal = bs_os_signal_share(bs_world_answer_signal, bs_world.shim->handlers, used.signals);
    bs_store(&bs_world.signal, signal > 0 ? signal : 0);
    if (bs_world.shim != NULL) {
        bs_store(&bs_world.shim->is_shared, shares);
        bs_store(&bs_world.shim->signal, bs_world.signal);
    }
    return signal > 0;
}

void bs_world_unblock(void) {
    int signal = bs_world_signal();
    if (signal != 0 && !(bs_world.shim != NULL && bs_load(&bs_world.shim->is_shared)))
        bs_os_signal_unblock(signal);
}

void bs_world_set_shim(struct bs_world_shim *shim) {
    bs_world.shim = shim;
}

int bs_world_signal(void) {
    return bs_load(&bs_world.signal);
}

/* --- the stop --------------------------------------------------------------------------------- */

static bool stands(const struct slot *s) {
    return state_of(s) == STANDS;
}

/* Threads that would not answer are found before anybody is stopped for nothing. */
#define MAX_SUSPECTS 8
struct suspects {
    int tid[MAX_SUSPECTS];
    unsigned n;
    int tracer; /* of any thread, or 0 */
};
static bool would_not_answer(int tid, struct bs_os_task *task, int *tracer) {
    if (!bs_world_may_ask(tid) || bs_os_task(tid, bs_world.signal, task) != 0 || task->gone || task->kernels)
        return false;
    if (task->tracer != 0)
        *tracer = task->tracer;
    return bs_world_blocks(task);
}
static void visit_suspect(void *ctx, int tid) {
    struct suspects *s = ctx;
    struct bs_os_task task = {.gone = false};
    if (s->n < MAX_SUSPECTS && would_not_answer(tid, &task, &s->tracer))
        s->tid[s->n++] = tid;
    else if (task.kernels && bs_world.nidlers < BS_ARRAY_LEN(bs_world.idler))
        bs_world.idler[bs_world.nidlers++] = tid;
}
static enum bs_world_result look_at_all(uint64_t deadline_ns) {
    struct suspects s = {.n = 0};
    struct bs_os_task task;
    uint64_t ran_ns = 0;
    bs_world.error = bs_os_tasks(visit_suspect, &s);
    if (s.tracer != 0 && bs_os_tracer_interferes(s.tracer))
        return BS_WORLD_TRACED;
    for (unsigned looks = 0; s.n != 0 && bs_world.error == 0;) {
        bs_world.culprit = s.tid[s.n - 1];
        if (!would_not_answer(bs_world.culprit, &task, &s.tracer)) {
            s.n--;
            ran_ns = 0;
            continue;
        }
        looks += bs_world_weight(&task, &ran_ns);
        if (looks >= BS_WORLD_LOOKS || bs_os_now_ns() >= deadline_ns)
            return BS_WORLD_BLOCKED;
        bs_os_pause(BS_WORLD_LOOK_NS);
    }
    bs_world.culprit = 0;
    return bs_world.error != 0 ? BS_WORLD_UNAVAILABLE : BS_WORLD_STOPPED;
}

/* We, the helper, and those who stand are as many threads as the process has. Of these nobody ends meanwhile,
 * so there is nobody else; a helper that is about to end is counted longer than it has a number. */
static bool are_all(void) {
    int helper = bs_os_helper_tid();
    size_t known = bs_world_count() + 1 + (helper != 0 && helper != bs_world.self);
    return !BS_SANITIZED && bs_os_task_count() == known && bs_os_helper_tid() == helper;
}

/* Passes over the list of threads until two find nobody new; whoever was found stands by then. So the
 * last two saw a list that could not change, unless somebody is in it who was not asked. */
static enum bs_world_result stop_all(uint64_t deadline_ns) {
    for (unsigned agreed = 0; agreed < 2;) {
        size_t found = bs_world_ask_new();
        enum bs_world_result result = bs_world_hear(deadline_ns);
        if (result != BS_WORLD_STOPPED)
            return result;
        agreed = are_all() ? 2 : found == 0 ? agreed + 1 : 0;
        if (agreed == 0 && bs_os_now_ns() >= deadline_ns)
            return BS_WORLD_LATE;
    }
    return BS_WORLD_STOPPED;
}

/* Who waits for the round has nothing in its hands, unless it is a handler of a signal, which executes another program or
 * forks: then what that has interrupted counts. */
static bool is_outside(const struct bs_world_thread *t) {
    /* the thread pointer lies above all frames, or on another mapping */
    const void *own = (const void *)t->thread_pointer;
    return bs_round_is_waited_for_by(t->tid) ? bs_text_is_outside(0, t->sp, true, own)
                                             : bs_text_is_outside(t->pc, t->sp, t->in_call, own);
}

/* Lets those run on that are inside besom; how many. */
static size_t let_insiders_go(void) {
    uint32_t bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < bs_world.n; i++) {
        struct slot *s = slot_of(i);
        if (s->outside || state_of(s) != STANDS)
            continue;
        s->outside = is_outside(&s->thread);
        if (s->outside)
            continue;
        bs_world.culprit = s->tid;
        s->again = true;
        bits |= bs_world_let_go(s);
        n++;
    }
    if (n != 0)
        bs_world_open(bits);
    bs_count(world_let_out, n);
    return n;
}

/* Gives those that were let run the time to get out, and asks them again. The time begins when they have
 * left the handler: a signal that waits by then would let them do nothing. */
static bool ask_again(uint64_t pause_ns, uint64_t deadline_ns) {
    for (size_t i = 0; i < bs_world.n; i++)
        if (slot_of(i)->again && !bs_world_wait_until_free(slot_of(i), deadline_ns))
            return false;
    bs_os_pause(pause_ns);
    for (size_t i = 0; i < bs_world.n; i++)
        if (slot_of(i)->again)
            bs_world_ask(slot_of(i), bs_os_now_ns());
    return true;
}

static enum bs_world_result stop_outside(uint64_t deadline_ns) {
    for (unsigned turn = 0; turn < BS_WORLD_TURNS; turn++) {
        enum bs_world_result result = stop_all(deadline_ns);
        if (result != BS_WORLD_STOPPED)
            return result;
        if (let_insiders_go() == 0) {
            bs_world.culprit = 0;
            return BS_WORLD_STOPPED;
        }
        if (turn == BS_WORLD_QUIET_TURN)
            bs_store(&bs_world.wants_quiet, true);
        if (!ask_again(BS_WORLD_TURN_NS << bs_min(turn, BS_WORLD_TURN_DOUBLINGS), deadline_ns))
            return BS_WORLD_SILENT;
    }
    return BS_WORLD_INSIDE;
}

static void let_all_go(void) {
    uint32_t bits = 0;
    for (size_t i = 0; i < bs_world.n; i++)
        bits |= bs_world_let_go(slot_of(i));
    bs_world_open(bits);
}

/* Those who stood in the last stop have left their handlers. */
static bool all_are_free(uint64_t deadline_ns) {
    for (size_t i = 0; i < bs_world.n; i++)
        if (!bs_world_wait_until_free(slot_of(i), deadline_ns)) {
            bs_world.culprit = slot_of(i)->tid;
            return false;
        }
    return true;
}

/* It may have a pointer in a register, and nobody can ask it to stand. */
static bool is_shared(void) {
    for (size_t i = 0; i < BS_ARRAY_LEN(bs_world.sharer); i++) {
        int pid = bs_load_acquire(&bs_world.sharer[i]);
        if (pid != 0 && bs_os_shares_memory(pid)) {
            bs_world.culprit = pid;
            return true;
        }
    }
    return bs_load_acquire(&bs_world.sharers) != 0;
}

void bs_world_sharer_comes(void) {
    (void)bs_add(&bs_world.sharers, 1u);
}
void bs_world_sharer_came(int pid) {
    for (size_t i = 0; pid > 0 && i < BS_ARRAY_LEN(bs_world.sharer); i++) {
        int before = bs_load(&bs_world.sharer[i]);
        if ((before == 0 || !bs_os_shares_memory(before)) &&
            __atomic_compare_exchange_n(&bs_world.sharer[i], &before, pid, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            pid = 0;
    }
    if (pid <= 0)
        (void)bs_sub(&bs_world.sharers, 1u);
}

static enum bs_world_result prepare(uint64_t deadline_ns) {
    bs_world.culprit = bs_world.error = 0;
    if (!bs_thread_are_ours())
        return BS_WORLD_NOT_OURS;
    if (is_shared() || bs_os_signal_is_forgone())
        return BS_WORLD_SILENT;
    if (!bs_world_start())
        return BS_WORLD_UNAVAILABLE;
    if (!all_are_free(deadline_ns))
        return BS_WORLD_SILENT;
    bs_world.n = bs_world.nidlers = 0;
    bs_store(&bs_world.answers, 0u);
    bs_store(&bs_world.wanted, UINT32_MAX);
    bs_world.self = bs_os_tid();
    enum bs_world_result result = look_at_all(deadline_ns);
    return result == BS_WORLD_STOPPED && bs_os_now_ns() >= deadline_ns ? BS_WORLD_LATE : result;
}

enum bs_world_result bs_world_stop(uint64_t deadline_ns) {
    BS_CHECK(!bs_world.stopped);
    enum bs_world_result result = prepare(deadline_ns);
    if (result == BS_WORLD_STOPPED) {
        /* a handler could fork, and leave the child in the middle of a stop */
        bs_world.held = bs_os_signals_hold();
        bs_world.stopped_ns = bs_os_now_ns();
        result = bs_thread_are_ours() ? stop_outside(deadline_ns) : BS_WORLD_NOT_OURS;
        bs_store(&bs_world.wants_quiet, false);
        if (result == BS_WORLD_STOPPED) {
            bs_world.stopped = true;
            bs_count(world_stops, 1);
            return result;
        }
        let_all_go();
        /* before: who was woken, and finds no signal any more, sees it */
        if (bs_world.shim != NULL)
            (void)bs_add(&bs_world.shim->given_up, 1u);
        bs_os_signal_discard(bs_world.signal);
        bs_os_signals_let(bs_world.held);
    }
    bs_count(world_abandoned, 1);
    return result;
}

void bs_world_resume(void) {
    BS_CHECK(bs_world.stopped);
    bs_world.stopped = false;
    let_all_go();
    bs_count(world_stopped_ns, bs_os_now_ns() - bs_world.stopped_ns);
    bs_os_signals_let(bs_world.held);
}

uint64_t bs_world_asked_ns(void) {
    return bs_world.stopped_ns;
}

bool bs_world_wants_quiet(void) {
    return bs_load(&bs_world.wants_quiet);
}

int bs_world_culprit(void) {
    return bs_world.culprit;
}

/* --- who stands where ------------------------------------------------------------------------- */

void bs_world_each(bs_world_visitor *visit, void *ctx) {
    BS_CHECK(bs_world.stopped);
    for (size_t i = 0; i < bs_world.n; i++)
        if (stands(slot_of(i)))
            visit(ctx, &slot_of(i)->thread);
}

size_t bs_world_count(void) {
    size_t n = 0;
    for (size_t i = 0; i < bs_world.n; i++)
        n += stands(slot_of(i));
    return n;
}

/* --- after a copy ----------------------------------------------------------------------------- */

/* A frame with all registers is 3 to 12 KiB. */
#define OWN_BYTES (64 * BS_KIB)

static void own(uintptr_t start, uintptr_t end) {
    size_t os_page = bs_os_page_size();
    start = bs_align_down(start, os_page);
    if (end - start <= OWN_BYTES)
        (void)bs_os_populate((void *)start, bs_align_up(end, os_page) - start);
}

/* The frame of the signal and the handler's below it, and the thread's block, in which the kernel writes where it runs
 * (rseq). */
static void own_pages(void *ctx, const struct bs_world_thread *t) {
    uintptr_t end = t->regs_elsewhere ? t->regs_end : t->sp;
    uintptr_t block = bs_align_down(t->thread_pointer, bs_os_page_size());
    (void)ctx;
    if (block <= bs_align_up(end, bs_os_page_size()) && block >= t->low) { /* a thread that has called little */
        own(t->low, block + 1);
        return;
    }
    own(t->low, end);
    own(block, block + 1);
}

/* One after the other, on one CPU. Else each faults while another CPU runs threads of the process as well, which has to
 * be interrupted for each page: 15 to 30 us a fault in a virtual machine, instead of 3 a page here. */
void bs_world_own_pages(void) {
    bs_world_each(own_pages, NULL);
}

/* --- fork ------------------------------------------------------------------------------------- */

void bs_world_forked(void) {
    for (size_t i = 0; i < bs_world.n; i++)
        bs_store(&slot_of(i)->word, (uint32_t)FREE);
    bs_world.n = 0;
    bs_world.stopped = false;
    for (size_t i = 0; i < BS_ARRAY_LEN(bs_world.sharer); i++) /* of the parent's memory */
        bs_store(&bs_world.sharer[i], 0);
    bs_store(&bs_world.sharers, 0u);
    bs_world.self = bs_os_tid(); /* whose handler may have forked while it was about to stop others */
    bs_store(&bs_world.wants_quiet, false);
    while (bs_os_signal_is_forgone()) /* by threads of the parent */
        bs_os_signal_recall();
}
