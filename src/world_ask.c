/* SPDX-License-Identifier: MIT */
/*
 * world_ask.c - one thread of those that world.c stops: asking it, what its handler does, waiting for its
 * answer. The states are in world_internal.h. It does NOT know when a stop is complete.
 */
#include "world_internal.h"

#include "counter.h"

#include <errno.h>

struct world bs_world;

#if BS_FAULTS
static struct {
    uint32_t nth_signal, nth_answer, signals, answers; /* [atomic] */
} lose;

void bs_world_lose(unsigned nth_signal, unsigned nth_answer) {
    bs_store(&lose.nth_signal, nth_signal);
    bs_store(&lose.nth_answer, nth_answer);
}
static bool is_lost(uint32_t *count, const uint32_t *nth) {
    uint32_t n = bs_load(nth);
    return n != 0 && (bs_add(count, 1) + 1) % n == 0;
}
#define LOST_SIGNAL() is_lost(&lose.signals, &lose.nth_signal)
#define LOST_ANSWER() is_lost(&lose.answers, &lose.nth_answer)
#else
#define LOST_SIGNAL() false
#define LOST_ANSWER() false
#endif

/* --- in the handler --------------------------------------------------------------------------- */

/* What the handler calls on its way out needs so much stack. */
#define WAY_OUT_BYTES 256

static void publish(struct slot *s, const struct bs_os_frame *f) {
    struct bs_world_thread *t = &s->thread;
    t->low = (uintptr_t)__builtin_frame_address(0) - WAY_OUT_BYTES;
    t->sp = f->sp;
    t->pc = f->pc;
    t->in_call = f->in_call;
    t->regs = f->regs;
    t->regs_end = f->regs_end;
    t->alt_base = f->alt_base;
    t->alt_end = f->alt_end;
    t->regs_elsewhere = f->regs >= f->alt_base && f->regs < f->alt_end &&
                        !(f->sp > f->alt_base && f->sp <= f->alt_end);
    t->thread_pointer = f->thread_pointer;
}

static void answer(void) {
    /* sequentially consistent, as in sleep_until_heard: either it sees this one, or we see `wanted` */
    if (!LOST_ANSWER() &&
        __atomic_add_fetch(&bs_world.answers, 1, __ATOMIC_SEQ_CST) >=
            __atomic_load_n(&bs_world.wanted, __ATOMIC_SEQ_CST))
        bs_os_wake(&bs_world.answers, 1);
}

/* The lower half for those that want to run, the upper one for those that will sleep on in their call. */
#define GATE_RUNNERS UINT32_C(0xffff)
static uint32_t gate_bit(const struct slot *s, size_t index) {
    return (uint32_t)1 << (index % 16 + (s->thread.in_call ? 16 : 0));
}

static void stand(struct slot *s, size_t index, uint32_t asking, const struct bs_os_frame *f) {
    publish(s, f);
    bs_tsan_release(&s->word);
    if (step(s, asking, CLAIMED, STANDS)) {
        answer();
        for (;;) {
            uint32_t gate = bs_load_acquire(&bs_world.gate); /* before the word: see bs_world_open */
            if (bs_load_acquire(&s->word) != (asking << STATE_BITS | STANDS))
                break;
            bs_os_wait_bits(&bs_world.gate, gate, gate_bit(s, index));
        }
        bs_tsan_acquire(&s->word);
    }
    bs_tsan_release(&s->word);
    bs_store_release(&s->word, (uint32_t)FREE); /* the last use of the slot */
}

void bs_world_note_interrupt(const struct bs_os_frame *f) {
    if (bs_world.shim == NULL || !(f->call_failed || f->call_ended || f->call_again))
        return;
    struct bs_world_interrupts *count = bs_world.shim->own();
    if (f->call_again) { /* kept until the next one: a stop may come before the handler that wants it */
        count->again = bs_os_call_place(f->pc, f->sp);
        return;
    }
    uint32_t *which = f->call_failed ? &count->ours : &count->cut;
    bs_store(which, *which + 1);
    if (bs_os_signal_another_waits(f))
        bs_store(&count->mixed, count->mixed + 1);
}

/* The value: the number of the asking, 32 bits, and the slot's index. */
void bs_world_answer_signal(uint64_t value, const struct bs_os_frame *f) {
    uint32_t asking = (uint32_t)(value >> 16);
    size_t index = value & 0xffff;
    struct slot *s = slot_of(index);
    /* another number, or given up: the signal is late, and nobody waits for it */
    if (!LOST_SIGNAL() && step(s, asking, ASKED, CLAIMED))
        stand(s, index, asking, f);
    bs_world_note_interrupt(f);
}

/* --- slots ------------------------------------------------------------------------------------ */

static struct slot *add_slot(int tid) {
    size_t c = bs_world.n / CHUNK_SLOTS;
    if (c == MAX_CHUNKS)
        return NULL;
    if (bs_world.chunk[c] == NULL) {
        struct slot *chunk = bs_os_alloc(CHUNK_SLOTS * sizeof *chunk);
        if (chunk == NULL)
            return NULL;
        bs_os_name(chunk, CHUNK_SLOTS * sizeof *chunk, "besom metadata");
        bs_store_release(&bs_world.chunk[c], chunk);
    }
    struct slot *s = slot_of(bs_world.n++);
    s->tid = tid;
    s->ended = s->again = false;
    s->thread.tid = tid;
    return s;
}

/* The order of /proc rarely changes: look first where the last one was. */
static struct slot *find_slot(int tid, size_t *hint) {
    for (size_t i = 0; i < bs_world.n; i++) {
        size_t at = *hint + i < bs_world.n ? *hint + i : *hint + i - bs_world.n;
        if (slot_of(at)->tid == tid) {
            *hint = at + 1 < bs_world.n ? at + 1 : 0;
            return slot_of(at);
        }
    }
    return NULL;
}

/* The helper may be made meanwhile, or end, and a thread of the program's get its number. One that ends has none here
 * before it leaves the list: it is asked, and found to be gone. */
bool bs_world_may_ask(int tid) {
    return tid != bs_world.self && tid != bs_os_helper_tid();
}

/* --- asking ----------------------------------------------------------------------------------- */

static size_t index_of(const struct slot *s) {
    size_t c = 0;
    while (s < bs_world.chunk[c] || s >= bs_world.chunk[c] + CHUNK_SLOTS)
        c++;
    return c * CHUNK_SLOTS + (size_t)(s - bs_world.chunk[c]);
}

/* Sends (again); false: the thread is gone. */
static bool send(struct slot *s, uint64_t now_ns) {
    uint64_t value = (uint64_t)asking_of(s) << 16 | index_of(s);
    int err = bs_os_signal_send(bs_world.signal, s->tid, value);
    s->asked_ns = now_ns;
    if (err != 0 && err != ESRCH && err != EAGAIN) /* EAGAIN: too many wait; asked again later */
        bs_world.error = err;
    return err != ESRCH;
}

static void end(struct slot *s) {
    s->ended = step(s, asking_of(s), ASKED, FREE);
}

/* The slot is FREE and no handler's. Numbers are 29 bits: the word is compared as a whole, so a
 * signal would have to be 2^29 askings late to be taken for another. */
void bs_world_ask(struct slot *s, uint64_t now_ns) {
    uint32_t asking = (bs_load(&bs_world.asking) + 1) & (UINT32_MAX >> STATE_BITS);
    bs_store(&bs_world.asking, asking);
    s->ended = s->outside = s->again = false;
    s->blocked = 0;
    s->ran_ns = 0;
    s->pause_ns = BS_WORLD_RESEND_NS;
    bs_store_release(&s->word, asking << STATE_BITS | ASKED);
    if (!send(s, now_ns))
        end(s);
}

/* (It is asked again: it may have ended, and a thread that the program has made since have its number.) */
static bool is_idler(int tid) {
    struct bs_os_task task;
    for (unsigned i = 0; i < bs_world.nidlers; i++)
        if (bs_world.idler[i] == tid)
            return bs_os_task(tid, bs_world.signal, &task) == 0 && task.kernels;
    return false;
}

struct pass {
    size_t hint;
    uint64_t now_ns;
};
static void visit_ask(void *ctx, int tid) {
    struct pass *p = ctx;
    struct bs_os_task task;
    if (!bs_world_may_ask(tid) || is_idler(tid) || bs_world.error != 0)
        return;
    struct slot *s = find_slot(tid, &p->hint);
    if (s != NULL && !s->ended)
        return;
    /* a first thread that has ended stays in the list; another may have got its number */
    if (s != NULL && (bs_os_task(tid, bs_world.signal, &task) != 0 || task.gone))
        return;
    if (s == NULL)
        s = add_slot(tid);
    if (s == NULL) {
        bs_world.error = ENOMEM;
        return;
    }
    bs_world.found_new++;
    bs_world_ask(s, p->now_ns);
}

size_t bs_world_ask_new(void) {
    struct pass pass = {.now_ns = bs_os_now_ns()};
    bs_world.found_new = 0;
    int err = bs_os_tasks(visit_ask, &pass);
    if (err != 0)
        bs_world.error = err;
    return bs_world.found_new;
}

/* --- waiting for answers ---------------------------------------------------------------------- */

bool bs_world_blocks(const struct bs_os_task *task) {
    return task->in_sigwait || task->is_strict || (task->blocked >> (bs_world.signal - 1) & 1) != 0;
}

/* One that runs may be on its way out of our handler, or of libc, and wait for a CPU: where it has not run
 * since the last look, this one says nothing. */
unsigned bs_world_weight(const struct bs_os_task *task, uint64_t *ran_ns) {
    bool has_run = task->ran_ns == 0 || task->ran_ns != *ran_ns;
    *ran_ns = task->ran_ns;
    return task->runs ? has_run : BS_WORLD_ASLEEP_WEIGHT;
}

/* A thread that has not answered for a while: it has ended, it blocks the signal, or the signal was
 * lost. False: it cannot be stopped. */
static bool look_after(struct slot *s, uint64_t now_ns) {
    struct bs_os_task task;
    int err = bs_os_task(s->tid, bs_world.signal, &task);
    if (task.gone || s->tid == bs_os_helper_tid()) {
        end(s);
    } else if (err == 0) {
        s->blocked = bs_world_blocks(&task) ? s->blocked + bs_world_weight(&task, &s->ran_ns) : 0;
        if (s->blocked >= BS_WORLD_BLOCKED_LOOKS)
            return false;
        if (now_ns - s->asked_ns >= s->pause_ns) {
            s->pause_ns *= BS_WORLD_RESEND_GROWTH;
            bs_count(world_resent, 1);
            if (!send(s, now_ns))
                end(s);
        }
    }
    return true;
}

/* How many have not answered; those are looked after if that is due. */
static size_t count_silent(uint64_t now_ns, bool look, enum bs_world_result *result) {
    size_t silent = 0;
    for (size_t i = 0; i < bs_world.n; i++) {
        struct slot *s = slot_of(i);
        uint32_t state = state_of(s);
        if (s->ended || (state != ASKED && state != CLAIMED))
            continue;
        silent++;
        bs_world.culprit = s->tid;
        if (look && state == ASKED && !look_after(s, now_ns)) {
            *result = BS_WORLD_BLOCKED;
            return silent;
        }
    }
    return silent;
}

/* Sleeps until n more were heard than `heard`: the last of them wakes us. One that was lost is made up
 * for by the time. */
static void sleep_until_heard(uint32_t heard, uint32_t n, uint64_t until_ns) {
    __atomic_store_n(&bs_world.wanted, heard + n, __ATOMIC_SEQ_CST);
    for (;;) {
        uint32_t answers = __atomic_load_n(&bs_world.answers, __ATOMIC_SEQ_CST);
        uint64_t now = bs_os_now_ns();
        if (answers - heard >= n || now >= until_ns)
            return;
        bs_os_wait(&bs_world.answers, answers, until_ns - now);
    }
}

enum bs_world_result bs_world_hear(uint64_t deadline_ns) {
    enum bs_world_result result = BS_WORLD_STOPPED;
    uint64_t now = bs_os_now_ns(), look_ns = now + BS_WORLD_SILENCE_NS;
    for (;;) {
        uint32_t heard = bs_load(&bs_world.answers);
        bool look = now >= look_ns;
        size_t silent = count_silent(now, look, &result);
        if (look)
            look_ns = bs_os_now_ns() + BS_WORLD_SILENCE_NS;
        if (result != BS_WORLD_STOPPED || bs_world.error != 0)
            return bs_world.error != 0 ? BS_WORLD_UNAVAILABLE : result;
        if (silent == 0) {
            bs_world.culprit = 0;
            return BS_WORLD_STOPPED;
        }
        if (now >= deadline_ns)
            return BS_WORLD_SILENT;
        sleep_until_heard(heard, (uint32_t)silent, bs_min(look_ns, deadline_ns));
        now = bs_os_now_ns();
    }
}

uint32_t bs_world_let_go(struct slot *s) {
    for (;;) {
        uint32_t asking = asking_of(s), state = state_of(s);
        if (state == FREE || state == GOES)
            return 0;
        if (step(s, asking, state, state == ASKED ? FREE : GOES))
            return state == STANDS ? gate_bit(s, index_of(s)) : 0;
        /* its handler was faster */
    }
}

/* Who has seen the gate before it moves does not sleep on it, or is woken; who sees it afterwards sees that
 * its slot was let go. */
void bs_world_open(uint32_t bits) {
    (void)__atomic_add_fetch(&bs_world.gate, 1, __ATOMIC_SEQ_CST);
    if ((bits & GATE_RUNNERS) != 0)
        bs_os_wake_bits(&bs_world.gate, bits & GATE_RUNNERS);
    if ((bits & ~GATE_RUNNERS) != 0)
        bs_os_wake_bits(&bs_world.gate, bits & ~GATE_RUNNERS);
}

bool bs_world_wait_until_free(const struct slot *s, uint64_t deadline_ns) {
    while (state_of(s) != FREE) {
        if (bs_os_now_ns() >= deadline_ns)
            return false;
        bs_os_pause(10000);
    }
    return true;
}

