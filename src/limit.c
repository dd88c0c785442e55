/* SPDX-License-Identifier: MIT */
/* limit.c - see limit.h. */
#include "limit.h"

#include "lock.h"
#include "meta.h"
#include "os.h"
#include "pageheap.h"
#include "span.h"

static struct {
    size_t bytes;          /* [atomic] */
    uint32_t stall_pcm;    /* [atomic] */
    uint32_t cpu_pct;      /* [atomic] */
    size_t request;        /* [atomic] of the note */
    bool excess_noted;     /* [atomic] since it was below the limit last */
    uint64_t next_look_ns; /* [lock:round] */
} limit = {.bytes = BS_LIMIT_NONE};

struct bs_limit_calls bs_limit_calls;

/* --- arithmetic ------------------------------------------------------------------------------- */

static uint64_t percent_of(uint64_t x, uint64_t percent) {
    return x / 100 * percent + x % 100 * percent / 100;
}

/* What is left of the cgroup's memory for us: less a reserve for what the kernel charges beside
 * anonymous memory, and less what others have. A part stays ours however much that is. */
static uint64_t part_of_cgroup(const struct bs_cgroup *c, size_t used) {
    uint64_t ours = c->own_bytes != 0 ? bs_min(c->own_bytes, used) : used;
    uint64_t others = bs_sub_clamped(c->anon_bytes, ours);
    uint64_t whole = percent_of(c->limit_bytes, BS_LIMIT_AUTO_PCT);
    return bs_max(bs_sub_clamped(whole, others), c->limit_bytes / 4);
}

size_t bs_limit_from(struct bs_opt_limit option, const struct bs_cgroup *c, size_t used) {
    uint64_t bytes = BS_CGROUP_NONE;
    switch (option.kind) {
    case BS_LIMIT_BYTES:
        bytes = option.value;
        break;
    case BS_LIMIT_PERCENT:
        bytes = bs_min(c->memory_bytes, c->limit_bytes);
        if (bytes != BS_CGROUP_NONE)
            bytes = percent_of(bytes, option.value);
        break;
    case BS_LIMIT_AUTO: /* version 1 may say more than the machine has: none */
        if (c->limit_bytes != BS_CGROUP_NONE && c->limit_bytes <= c->memory_bytes)
            bytes = part_of_cgroup(c, used);
        break;
    }
    return bytes == BS_CGROUP_NONE ? BS_LIMIT_NONE : bs_max(bytes, BS_LIMIT_MIN_BYTES);
}

enum bs_pressure bs_limit_judge(size_t bytes, size_t used, uint32_t stall_pcm) {
    if (used > bytes)
        return BS_PRESSURE_OVER;
    bool near = bytes != BS_LIMIT_NONE && used >= percent_of(bytes, BS_LIMIT_NEAR_PCT);
    return near || stall_pcm >= BS_LIMIT_STALL_PCM ? BS_PRESSURE_NEAR : BS_PRESSURE_NONE;
}

/* Synchronous help begins a little below the limit: between the count and the pages' return other
 * threads go on, and memory that is not besom's counts for whoever made the limit. */
static size_t brim(size_t bytes) {
    return bytes - bytes / BS_LIMIT_BRIM_PART;
}

/* Down to what it is worth to come when `at` is wanted. What is in use cannot be given back; the
 * more of it there is beyond, the less a few free pages help, and the dearer they are to fault in. */
static size_t reachable(size_t at, size_t used, size_t dirty) {
    size_t in_use = bs_sub_clamped(used, dirty);
    if (in_use <= at)
        return at;
    return in_use + bs_min((in_use - at) / BS_LIMIT_SLACK_PART, SIZE_MAX - in_use);
}

size_t bs_limit_share(size_t bytes, size_t used, size_t dirty, size_t taken) {
    if (bytes == BS_LIMIT_NONE || used <= brim(bytes))
        return 0;
    size_t over = bs_sub_clamped(used, reachable(brim(bytes), used, dirty));
    size_t share = bs_min(bs_max(taken, BS_LIMIT_HELP_MIN_BYTES), BS_LIMIT_HELP_MAX_BYTES);
    return over == 0 ? 0 : bs_min(share, over + BS_LIMIT_HELP_MIN_BYTES);
}

size_t bs_limit_over_goal(size_t bytes, size_t used, size_t dirty) {
    size_t goal = percent_of(bytes, BS_LIMIT_GOAL_PCT);
    return bs_sub_clamped(used, reachable(goal, used, dirty));
}

/* --- the surroundings ------------------------------------------------------------------------- */

static void apply(const struct bs_cgroup *c) {
    bs_store(&limit.bytes, bs_limit_from(bs_opt.limit, c, bs_limit_used()));
    bs_store(&limit.stall_pcm, bs_opt.limit.kind == BS_LIMIT_OFF ? 0 : c->stall_pcm);
    bs_store(&limit.cpu_pct, c->cpu_pct);
    /* with a single CPU the holder of a lock cannot get on while we spin */
    bs_lock_set_spinning(c->cpu_pct == 0 || c->cpu_pct > 100);
}

void bs_limit_start(void) {
    struct bs_cgroup c = {.limit_bytes = BS_CGROUP_NONE, .memory_bytes = BS_CGROUP_NONE};
    if (bs_opt.limit.kind == BS_LIMIT_AUTO && bs_limit_bytes() == BS_LIMIT_NONE)
        return; /* the helper will look */
    if (bs_opt.limit.kind == BS_LIMIT_PERCENT) /* cannot wait for that */
        (void)bs_cgroup_read(&c);
    apply(&c);
    limit.next_look_ns = 0;
}

void bs_limit_look(uint64_t now_ns) {
    struct bs_cgroup c;
    if (now_ns < limit.next_look_ns)
        return;
    if (bs_cgroup_read(&c)) /* else what was known stays true */
        apply(&c);
    uint64_t ms =
        bs_limit_pressure() == BS_PRESSURE_NONE ? BS_LIMIT_LOOK_MS : BS_LIMIT_LOOK_NEAR_MS;
    limit.next_look_ns = now_ns + ms * 1000000u;
}

void bs_limit_look_again(void) {
    limit.next_look_ns = 0;
}

/* --- questions -------------------------------------------------------------------------------- */

size_t bs_limit_bytes(void) {
    return bs_load(&limit.bytes);
}
uint32_t bs_limit_cpu_pct(void) {
    return bs_load(&limit.cpu_pct);
}

/* What dirty pages come on top of. */
static size_t without_memory(void) {
    return bs_span_holes() * bs_os_page_size();
}

size_t bs_limit_used(void) {
    return bs_sub_clamped(bs_pageheap_used_bytes() + bs_meta_used_bytes(), without_memory());
}

enum bs_pressure bs_limit_pressure(void) {
    size_t bytes = bs_load(&limit.bytes);
    uint32_t stall = bs_load(&limit.stall_pcm);
    if (BS_LIKELY(bytes == BS_LIMIT_NONE && stall < BS_LIMIT_STALL_PCM))
        return BS_PRESSURE_NONE;
    return bs_limit_judge(bytes, bs_limit_used(), stall);
}

bool bs_limit_stalls(void) {
    return bs_load(&limit.stall_pcm) >= BS_LIMIT_STALL_PCM;
}

size_t bs_limit_excess(void) {
    size_t bytes = bs_load(&limit.bytes);
    if (bs_limit_pressure() == BS_PRESSURE_NONE)
        return 0;
    if (bytes == BS_LIMIT_NONE)
        return SIZE_MAX;
    return bs_limit_over_goal(bytes, bs_limit_used(), bs_pageheap_dirty_bytes());
}

/* --- taking pages ----------------------------------------------------------------------------- */

bool bs_limit_has_room(size_t npages) {
    size_t bytes = bs_load(&limit.bytes);
    if (BS_LIKELY(bytes == BS_LIMIT_NONE || !bs_opt.limit_hard))
        return true;
    /* free dirty pages do not count: they are what will be taken, or given back for it */
    size_t used = bs_sub_clamped(bs_limit_used(), bs_pageheap_dirty_bytes());
    return used <= bytes && npages <= (bytes - used) / BS_PAGE_SIZE;
}

bool bs_limit_allows(size_t npages) {
    if (BS_LIKELY(bs_limit_has_room(npages)))
        return true;
    bs_store(&limit.request, npages * BS_PAGE_SIZE);
    __atomic_fetch_or(&bs_limit_calls.notes, BS_LIMIT_NOTE_REFUSED, __ATOMIC_RELAXED);
    return false;
}

void bs_limit_took(size_t taken) {
    size_t bytes = bs_load(&limit.bytes);
    if (BS_UNLIKELY(bytes != BS_LIMIT_NONE && bs_limit_used() > brim(bytes)))
        bs_add(&bs_limit_calls.owed_bytes, taken);
}

size_t bs_limit_take_debt(void) {
    return __atomic_exchange_n(&bs_limit_calls.owed_bytes, (size_t)0, __ATOMIC_RELAXED);
}

/* --- notes ------------------------------------------------------------------------------------ */

void bs_limit_note_excess(size_t request) {
    size_t bytes = bs_load(&limit.bytes), used = bs_limit_used();
    if (used <= brim(bytes)) {
        if (bs_load(&limit.excess_noted))
            bs_store(&limit.excess_noted, false);
        return;
    }
    bool nothing_left = bs_pageheap_dirty_bytes() < BS_LIMIT_HELP_MIN_BYTES;
    /* under a hard limit a refusal says it; metadata may exceed that a little */
    if (used > bytes && nothing_left && !bs_opt.limit_hard &&
        !__atomic_exchange_n(&limit.excess_noted, true, __ATOMIC_RELAXED)) {
        bs_store(&limit.request, request);
        __atomic_fetch_or(&bs_limit_calls.notes, BS_LIMIT_NOTE_OVER, __ATOMIC_RELAXED);
    }
}

bool bs_limit_has_refused(void) {
    return (bs_load(&bs_limit_calls.notes) & BS_LIMIT_NOTE_REFUSED) != 0;
}
void bs_limit_forget_refusal(void) {
    __atomic_fetch_and(&bs_limit_calls.notes, ~(uint32_t)BS_LIMIT_NOTE_REFUSED, __ATOMIC_RELAXED);
}

struct bs_limit_note bs_limit_take_note(void) {
    struct bs_limit_note note = {0, 0};
    if (bs_limit_has_note()) {
        note.what = __atomic_exchange_n(&bs_limit_calls.notes, 0u, __ATOMIC_RELAXED);
        note.request = bs_load(&limit.request);
    }
    return note;
}
