/* SPDX-License-Identifier: MIT */
/*
 * limit.h - the memory limit: what counts, how near it is, and who has to pay for growth beyond it.
 *
 * Counted is what besom has of the kernel's memory: pages in spans less the holes given back, free
 * dirty pages, and metadata handed out. A page that a block covers counts before it is touched,
 * because nothing will tell when it is. The arithmetic is pure functions over numbers; the state
 * is a few atomics that any thread reads on slow paths.
 *
 * It is NOT the scavenger (scavenge.c gives back, relief.c pays) and says nothing itself: what has
 * to be said is left as a note for background.c, since nobody below calls the log. No lock of its
 * own; bs_limit_look reads files and belongs to whoever is in a round (round.h).
 */
#ifndef BS_LIMIT_H
#define BS_LIMIT_H

#include "cgroup.h"
#include "opt.h"
#include "tunables.h"

#define BS_LIMIT_NONE SIZE_MAX

enum bs_pressure { BS_PRESSURE_NONE, BS_PRESSURE_NEAR, BS_PRESSURE_OVER };

/* --- arithmetic ------------------------------------------------------------------------------- */

/* The limit that the option asks for in these surroundings, when besom uses `used` bytes. */
size_t bs_limit_from(struct bs_opt_limit option, const struct bs_cgroup *c, size_t used);
enum bs_pressure bs_limit_judge(size_t limit, size_t used, uint32_t stall_pcm);
/* Bytes to give back at once by a thread that has taken `taken` bytes, when `dirty` of the used
 * ones are free: never more than what is over the brim needs, nor BS_LIMIT_HELP_MAX_BYTES. */
size_t bs_limit_share(size_t limit, size_t used, size_t dirty, size_t taken);
/* Bytes that the helper should give back. */
size_t bs_limit_over_goal(size_t limit, size_t used, size_t dirty);

/* --- the process ------------------------------------------------------------------------------ */

/* Once, after the options were read and before threads exist. */
void bs_limit_start(void);
/* In a round: reads the surroundings again where that is due. */
void bs_limit_look(uint64_t now_ns);
/* In a round: the next look is due. */
void bs_limit_look_again(void);

size_t bs_limit_bytes(void); /* or BS_LIMIT_NONE */
size_t bs_limit_used(void);
enum bs_pressure bs_limit_pressure(void);
/* True while tasks have to wait for memory, as the last look saw it. */
bool bs_limit_stalls(void);
/* Bytes that free memory should come down by; 0 without pressure, SIZE_MAX where the system stalls
 * for want of memory and there is no limit to go by. */
size_t bs_limit_excess(void);
/* CPUs that the process may use, in percent of one; 0: unknown. */
uint32_t bs_limit_cpu_pct(void);

/* limit_hard: may so many pages more be in spans? A refusal is noted. */
bool bs_limit_allows(size_t npages);
/* The same as a question only. */
bool bs_limit_has_room(size_t npages);
/* After pages without memory were taken: beyond the brim they have to be paid for. */
void bs_limit_took(size_t bytes);

/* What threads owe, and notes: one load tells a slow door that nothing is to be done. */
struct bs_limit_calls {
    size_t owed_bytes; /* [atomic] taken beyond the brim and not paid for */
    uint32_t notes;    /* [atomic] BS_LIMIT_NOTE_* */
};
enum { BS_LIMIT_NOTE_OVER = 1, BS_LIMIT_NOTE_REFUSED = 2 };
BS_LOCAL extern struct bs_limit_calls bs_limit_calls;

BS_INLINE bool bs_limit_calls_now(void) {
    return bs_load(&bs_limit_calls.owed_bytes) >= BS_LIMIT_OWED_BYTES ||
           bs_load(&bs_limit_calls.notes) != 0;
}
BS_INLINE bool bs_limit_has_note(void) {
    return bs_load(&bs_limit_calls.notes) != 0;
}
/* The whole debt, which is the caller's now. */
size_t bs_limit_take_debt(void);

/* Looks whether the limit is exceeded with nothing left to give back: noted once, until it was below
 * again. */
void bs_limit_note_excess(size_t request);
struct bs_limit_note {
    uint32_t what;  /* BS_LIMIT_NOTE_*, 0: nothing new */
    size_t request; /* bytes of the last request that was refused, or went beyond the limit */
};
struct bs_limit_note bs_limit_take_note(void);
/* True if a request was refused since the last note was taken; and: it could be served after all. */
bool bs_limit_has_refused(void);
void bs_limit_forget_refusal(void);

#endif
