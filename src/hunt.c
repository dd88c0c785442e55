/* SPDX-License-Identifier: MIT */
/* hunt.c - see hunt.h: the order of a search. */
#include "hunt.h"

#include "counter.h"
#include "hunt_copy.h"
#include "limit.h"
#include "meta.h"
#include "pageheap.h"
#include "reader.h"
#include "round.h"
#include "scan_internal.h"
#include "watch.h"

#include <sys/auxv.h>

#define DEAD_FRAMES_BYTES 4096 /* so deep does who reads the heap go */

static struct {
    struct bs_scan_work *work; /* [lock:round] made by the first search, kept */
    size_t nroots;             /* [lock:round] room for so many; 0: none was made */
    uint64_t learned_ns;       /* [lock:round] when flags of mappings were read */
    bool has_learned;          /* [lock:round] in this search: else there is no copy */
    struct bs_linear linear;   /* [lock:round] */
    const struct bs_hunt_guest *guest; /* [lock:round] */
    struct bs_hunt_copy copy;  /* [lock:round] */
    bool in_place;             /* [lock:round] no copy the next time: the last one came to nothing */
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

/* As it will turn out to be, or nearly: roots are not known yet. */
static bool is_large(size_t root_bytes) {
    return bs_pageheap_used_bytes() + root_bytes > BS_SCAN_IN_PLACE_BYTES;
}

static void learn(uint64_t now_ns) {
    hunt.has_learned = bs_roots_learn(&hunt.work->roots);
    hunt.nroots = hunt.work->roots.capacity;
    hunt.learned_ns = now_ns;
}

static bool prepare(uintptr_t caller_sp, bool may_copy) {
    struct bs_scan_work *w = hunt.work;
    if (w == NULL) {
        w = hunt.work = bs_meta_map_sparse(sizeof *w, offsetof(struct bs_scan_work, word));
        if (w == NULL)
            return false;
        w->first_stack = getauxval(AT_RANDOM);
    }
    if (hunt.nroots == 0 && !make_roots(w, BS_SCAN_ROOTS))
        return false;
    uint64_t now = bs_os_now_ns();
    hunt.has_learned = false;
    /* (what a copy would not have has to be known as it is now) */
    if (hunt.learned_ns == 0 || now - hunt.learned_ns > BS_QUARANTINE_LEARN_NS ||
        (may_copy && is_large(w->roots.bytes)))
        learn(now);
    w->caller_sp = caller_sp;
    w->shared = hunt.guest != NULL ? hunt.guest->memory() : (struct bs_range){0, 0};
    return true;
}

/* --- all of it stopped -------------------------------------------------------------------------- */

/* All stand, and a CPU may be free: of much the helper reads a part, if it is not the helper that searches. */
static void work_stopped(struct bs_hunt_result *r, size_t bytes) {
    uint64_t cpu_ns;
    if (bytes < BS_QUARANTINE_COMPANY_BYTES || bs_os_tid() == bs_os_helper_tid()) {
        bs_linear_work(&hunt.linear);
        return;
    }
    r->helped = bs_linear_work_in_company(&hunt.linear, &cpu_ns);
    r->search_ns += cpu_ns;
}

static enum bs_scan_end read_all(struct bs_hunt_result *r) {
    struct bs_scan_work *w = hunt.work;
    if (!bs_linear_begin(&hunt.linear, NULL, w->roots.range, w->roots.n))
        return BS_SCAN_NO_MEMORY;
    hunt.linear.closed = w->roots.closed;
    hunt.linear.nclosed = w->roots.nclosed;
    work_stopped(r, r->root_bytes + bs_pageheap_used_bytes());
    bs_linear_end(&hunt.linear, &r->read);
    return BS_SCAN_DONE;
}

/* True: a copy does the rest. */
static bool copy_all(struct bs_hunt_result *r) {
    bool wanted = r->mode == BS_HUNT_SOUND && is_large(r->root_bytes) && hunt.has_learned && !hunt.in_place &&
                  bs_limit_pressure() != BS_PRESSURE_OVER;
    r->in_copy = wanted && bs_hunt_copy_start(&hunt.copy, hunt.work, hunt.guest, r->held.blocks);
    hunt.in_place = wanted && !r->in_copy;
    return r->in_copy;
}

static enum bs_scan_end turn_and_read_all(struct bs_hunt_result *r) {
    if (!bs_quarantine_turn(&r->held))
        return BS_SCAN_NO_MEMORY;
    if (copy_all(r))
        return BS_SCAN_DONE;
    if (!bs_scan_finish_words(hunt.work))
        return BS_SCAN_NO_ROOTS;
    enum bs_scan_end end = read_all(r);
    if (end == BS_SCAN_DONE && hunt.guest != NULL)
        hunt.guest->stopped(&hunt.work->roots);
    return end;
}

static enum bs_scan_end wait_for_copy(struct bs_hunt_result *r) {
    enum bs_scan_end end = bs_hunt_copy_wait(&hunt.copy, r);
    hunt.in_place = end != BS_SCAN_DONE;
    return end;
}

/* --- the heap before, and what was written since, stopped ---------------------------------------- */

static struct bs_watch watch = {.fd = -1};

/* What was written to becomes a root. */
static bool visit_written(void *ctx, uintptr_t start, uintptr_t end) {
    struct bs_roots *roots = &hunt.work->roots;
    size_t *bytes = ctx;
    bs_roots_add(roots, start, end, BS_ROOT_HEAP);
    *bytes += end - start;
    return true;
}
static bool add_written(bool again, size_t *bytes) {
    struct bs_scan_work *w = hunt.work;
    *bytes = 0;
    if (!bs_watch_written(&watch, again, visit_written, bytes))
        return false;
    w->roots.needed = bs_max(w->roots.needed, w->roots.n + 2); /* our own words come last */
    return w->roots.n + 2 <= w->roots.capacity;
}

/* Reads what there is to read while the program runs, and closes and unmaps: the kernel copies what is the
 * program's to close. The words of a search have no other use yet. */
static void read_while_running(void) {
    hunt.linear.copy = (char *)hunt.work->word;
    (void)bs_reader_begin(); /* else all is copied */
    bs_linear_work(&hunt.linear);
    bs_reader_end();
    hunt.linear.copy = NULL;
}

/* The same of the heap. False: the kernel refuses to copy, or the descriptor is not ours any more. */
static bool read_heap_running(void) {
    uint64_t identity = bs_os_identity(hunt.linear.fd);
    read_while_running();
    if (bs_os_identity(hunt.linear.fd) != identity) { /* what it said of pages may be anything */
        hunt.linear.fd = -1;
        return false;
    }
    return !hunt.linear.unread;
}

/* A program that writes much leaves less for the stop if that is read once more before. False: the kernel
 * has told of too many ranges, and forgotten them, or refuses to copy; or a descriptor is not ours any
 * more. */
static bool read_ahead(struct bs_hunt_result *r) {
    struct bs_scan_work *w = hunt.work;
    if (!read_heap_running())
        return false;
    w->roots.n = w->roots.bytes = 0;
    if (hunt.linear.sums.heap_bytes < BS_QUARANTINE_AHEAD_BYTES)
        return true;
    size_t written;
    bool fits = add_written(true, &written);
    r->dirty_bytes += written;
    bs_linear_more(&hunt.linear, w->roots.range, bs_min(w->roots.n, w->roots.capacity));
    read_while_running();
    return fits && !hunt.linear.unread;
}

/* It becomes one that may be made in a copy. */
static void fall_back(struct bs_hunt_result *r, size_t root_bytes) {
    r->mode = BS_HUNT_SOUND;
    if (is_large(root_bytes))
        learn(bs_os_now_ns());
}

/* While the program runs. True: what is left to do is to be done in a stop. */
static bool begin_concurrent(struct bs_hunt_result *r) {
    size_t root_bytes = hunt.work->roots.bytes; /* of the last search */
    if (!bs_watch_begin(&watch)) {
        fall_back(r, root_bytes);
        return false;
    }
    if (bs_quarantine_turn(&r->held) && bs_linear_begin(&hunt.linear, NULL, NULL, 0)) {
        if (read_ahead(r))
            return true;
        bs_linear_end(&hunt.linear, &r->read);
    }
    bs_watch_end(&watch);
    fall_back(r, root_bytes);
    return false;
}

/* --- nobody stopped ------------------------------------------------------------------------------ */

/* The caller's stack is read as a whole, also what is dead in it. There who has read the heap has left how far he was:
 * addresses in blocks, which would be held. */
static BS_NOINLINE BS_UNCHECKED void clear_dead_frames(void) {
    volatile uintptr_t dead[DEAD_FRAMES_BYTES / sizeof(uintptr_t)];
    for (size_t i = 0; i < BS_ARRAY_LEN(dead); i++)
        dead[i] = 0;
}

/* The kernel's words, too; without room for all of them it is made. */
static enum bs_roots_result take_roots_running(void) {
    struct bs_roots *roots = &hunt.work->roots;
    const struct bs_range without = bs_os_helper_memory();
    enum bs_roots_result result = bs_roots_take(roots, NULL, 0, &without, 1);
    if (result != BS_ROOTS_TAKEN || bs_roots_take_kernel(roots))
        return result;
    roots->needed = bs_max(roots->n, roots->nwords) + 1;
    return roots->needed > roots->capacity ? BS_ROOTS_NO_ROOM : BS_ROOTS_UNKNOWN;
}

static enum bs_scan_end read_running(struct bs_hunt_result *r, bool *again) {
    struct bs_scan_work *w = hunt.work;
    *again = false;
    if (!bs_quarantine_turn(&r->held) || !bs_linear_begin(&hunt.linear, NULL, NULL, 0))
        return BS_SCAN_NO_MEMORY;
    bool read = read_heap_running();
    enum bs_roots_result roots = take_roots_running();
    *again = roots == BS_ROOTS_NO_ROOM;
    r->nroots = w->roots.n;
    r->root_bytes = w->roots.bytes;
    if (roots == BS_ROOTS_TAKEN) {
        bs_linear_more(&hunt.linear, w->roots.range, w->roots.n);
        clear_dead_frames();
        read_while_running();
    }
    read &= !hunt.linear.unread;
    bs_linear_end(&hunt.linear, &r->read);
    return roots == BS_ROOTS_TAKEN && read ? BS_SCAN_DONE : BS_SCAN_NO_ROOTS;
}

/* --- the stop ----------------------------------------------------------------------------------- */

/* All stand. */
static enum bs_scan_end read_stopped(struct bs_hunt_result *r, bool concurrent, bool *again) {
    struct bs_scan_work *w = hunt.work;
    size_t written = 0;
    enum bs_roots_result roots = bs_scan_take_roots(w);
    if (roots == BS_ROOTS_TAKEN && concurrent && !add_written(false, &written))
        roots = bs_watch_is_on(&watch) ? BS_ROOTS_NO_ROOM : BS_ROOTS_UNKNOWN;
    *again = roots == BS_ROOTS_NO_ROOM;
    r->threads = bs_world_count();
    r->nroots = w->roots.n;
    r->root_bytes = w->roots.bytes;
    if (roots != BS_ROOTS_TAKEN)
        return BS_SCAN_NO_ROOTS;
    if (!concurrent)
        return turn_and_read_all(r);
    if (!bs_scan_finish_words(w))
        return BS_SCAN_NO_ROOTS;
    r->dirty_bytes += written;
    hunt.linear.closed = w->roots.closed;
    hunt.linear.nclosed = w->roots.nclosed;
    bs_linear_more(&hunt.linear, w->roots.range, w->roots.n);
    work_stopped(r, r->root_bytes);
    if (hunt.guest != NULL)
        hunt.guest->stopped(&w->roots);
    return BS_SCAN_DONE;
}

static enum bs_scan_end stop_and_read(struct bs_hunt_result *r, bool concurrent, bool *again) {
    enum bs_scan_end end = BS_SCAN_WORLD;
    uint64_t start = bs_os_now_ns();
    *again = false;
    r->world = bs_world_stop(start + BS_SCAN_STOP_NS);
    if (r->world == BS_WORLD_STOPPED) {
        end = read_stopped(r, concurrent, again);
        bs_world_resume();
    } else {
        r->culprit = bs_world_culprit();
    }
    r->stop_ns = bs_os_now_ns() - start;
    return r->in_copy ? wait_for_copy(r) : end;
}

/* --- the order ---------------------------------------------------------------------------------- */

static enum bs_scan_end try_once(struct bs_hunt_result *r, bool *again) {
    bool concurrent = r->mode == BS_HUNT_CONCURRENT && begin_concurrent(r);
    enum bs_scan_end end = r->mode == BS_HUNT_PROBABILISTIC ? read_running(r, again)
                                                            : stop_and_read(r, concurrent, again);
    if (concurrent) {
        bs_linear_end(&hunt.linear, &r->read);
        bs_watch_end(&watch);
    }
    if (*again) {
        size_t needed = hunt.work->roots.needed;
        *again = make_roots(hunt.work, bs_max(2 * hunt.nroots, needed + needed / 4));
    }
    return end;
}

static void release(struct bs_hunt_result *r) {
    const struct bs_hunt_guest *guest = hunt.guest;
    if (guest != NULL)
        guest->judged();
    bs_quarantine_release(&r->released, guest != NULL ? guest->visit : NULL, NULL);
    if (guest != NULL)
        guest->end();
}

static void run(struct bs_hunt_result *r, uintptr_t caller_sp) {
    uint64_t cpu = bs_os_thread_cpu_ns();
    bool again = true;
    if (hunt.guest != NULL)
        hunt.guest->begin();
    for (unsigned tries = 0; again && tries < 3; tries++) {
        if (!prepare(caller_sp, r->mode == BS_HUNT_SOUND))
            return;
        r->end = try_once(r, &again);
    }
    r->search_ns += bs_os_thread_cpu_ns() - cpu;
    if (r->end == BS_SCAN_DONE)
        release(r);
}

/* Above it, on a stack that counts, are the caller's registers. */
static BS_NOINLINE void run_below(struct bs_hunt_result *r) {
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    uint64_t start = bs_os_now_ns();
    run(r, bs_os_tid() == bs_os_helper_tid() ? 0 : sp);
    if (r->end == BS_SCAN_DONE)
        bs_count(scans, 1);
    else
        bs_count(scans_given_up, 1);
    r->ns = bs_os_now_ns() - start;
}

BS_NOINLINE bool bs_hunt_run(enum bs_hunt_mode mode, size_t above, const struct bs_hunt_guest *guest,
                             struct bs_hunt_result *result) {
    __builtin_unwind_init(); /* callee-saved registers go to this frame */
    *result = (struct bs_hunt_result){.mode = mode, .end = BS_SCAN_NO_MEMORY};
    bs_round_enter();
    bool needed = bs_load(&bs_quarantine_fresh) >= above;
    hunt.guest = guest;
    uint32_t keys = bs_os_keys_open();
    if (needed)
        run_below(result);
    bs_os_keys_back(keys);
    bs_round_leave();
    return needed;
}
