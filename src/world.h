/* SPDX-License-Identifier: MIT */
/*
 * world.h - stops every other thread of the process, says where their stacks and registers are, and
 * lets them go on; for what has to see the program stand still (a conservative scan).
 *
 * The caller is in a round (round.h) from before bs_world_stop until after bs_world_resume: so one
 * thread stops the world at a time, and a fork, which waits for the round, never comes between. It is
 * the helper or any thread of the program, and holds no lock above the round's: order as in lock.h,
 * then the stop. Where the loader's lock is wanted (dl_iterate_phdr) it is taken before all of them.
 *
 * What BS_WORLD_STOPPED promises, until bs_world_resume:
 *  - every thread of the process but the caller and besom's helper stands in besom's signal handler
 *    or has ended; none is made meanwhile;
 *  - none of them is inside besom (text.h says what that means), but for threads that wait for the
 *    round, or for the right to fork, and have nothing in their hands (bs_round_is_waited_for_by);
 *  - so each lock above the round's is free, or the helper's for a moment;
 *  - libc's locks, the loader's and the program's may be held by threads that stand: until
 *    bs_world_resume the caller calls nothing of libc but mem* and str*, and does not wait.
 * It does NOT hold memory still that others write: other processes (shared memory), the kernel
 * (read(2) never completes in a stopped thread, io_uring and aio do), devices.
 *
 * In every other case nobody stands when bs_world_stop returns, and no signal is left over.
 *
 * A system call that ends with EINTR although its thread has installed handlers with SA_RESTART does
 * so for besom's too. preload/shim.h is about that.
 */
#ifndef BS_WORLD_H
#define BS_WORLD_H

#include "base.h"

struct bs_os_frame;

enum bs_world_result {
    BS_WORLD_STOPPED,
    BS_WORLD_NOT_OURS,    /* a vfork child: the threads are its parent's */
    BS_WORLD_UNAVAILABLE, /* no free signal, no /proc, no memory, a system call is refused */
    BS_WORLD_BLOCKED,     /* a thread blocks the signal, or takes it with sigwait */
    BS_WORLD_SILENT,      /* a thread did not answer: in vfork, in an uninterruptible wait, traced */
    BS_WORLD_INSIDE,      /* a thread was inside besom each time */
    BS_WORLD_LATE,        /* the time was over with no thread to blame */
    BS_WORLD_TRACED,      /* a debugger would stop the program for the signal */
};

/* The deadline is a time of bs_os_now_ns(). A thread that cannot be stopped is found out sooner. Until the resume no
 * handler of the program's runs on the caller either. */
enum bs_world_result bs_world_stop(uint64_t deadline_ns);
void bs_world_resume(void);
/* When the first thread was asked in the last stop that came so far; before that nobody waits. */
uint64_t bs_world_asked_ns(void);
/* True while a stop has not come about because threads are inside besom again and again: who can, and holds
 * nothing, waits for the round now. */
bool bs_world_wants_quiet(void);
/* The thread that a stop was given up for; 0: none. */
int bs_world_culprit(void);
/* The signal that is taken, or 0. */
int bs_world_signal(void);
/* Takes it, so that the shim can be told before the first stop. False: there is none. */
bool bs_world_start(void);
/* The calling thread may have been made with it blocked. (What is shared is the program's to block.) */
void bs_world_unblock(void);

/* --- who stands where ------------------------------------------------------------------------- */

struct bs_world_thread {
    int tid;
    uintptr_t sp, pc;             /* where it was interrupted; it may use 128 bytes below sp */
    bool in_call;                 /* that is a system call, or its end, other than the clock's */
    uintptr_t regs, regs_end;     /* its registers, vector ones too: on the handler's stack */
    uintptr_t alt_base, alt_end;  /* its alternate signal stack; both 0: none */
    bool regs_elsewhere;          /* the handler runs on the alternate stack, and sp is not on it */
    uintptr_t thread_pointer;     /* in the mapping of its usual stack, but for the first thread */
    uintptr_t low;                /* its handler's stack is in use from about here */
};
typedef void bs_world_visitor(void *ctx, const struct bs_world_thread *thread);

/* While stopped: calls visit for each thread that stands. */
void bs_world_each(bs_world_visitor *visit, void *ctx);
size_t bs_world_count(void);
/* While stopped, after the memory was shared with a copy of the process: what each thread writes to when it goes on
 * becomes its own again. Not where anything waits for a handler of page faults (userfaultfd), which may stand. */
void bs_world_own_pages(void);

/* --- others ----------------------------------------------------------------------------------- */

/* Around a call that makes a process which has this one's memory (CLONE_VM) and is none of its threads: nobody can stop it,
 * so no stop is made while it has. pid: negative if there is none. */
void bs_world_sharer_comes(void);
void bs_world_sharer_came(int pid);

/* What the functions in front of libc's share with the handler (preload/shim.h). */
struct bs_world_interrupts { /* of one thread */
    uint32_t ours;  /* [owner] system calls that return EINTR because a stop interrupted them */
    uint32_t cut;   /* [owner] those that a stop may have ended with a part of what they were to do */
    uint32_t mixed; /* [owner] handlers of the program that ran, or are seen to run next */
    uint64_t again; /* [owner] bs_os_call_place of the last one that was to begin again after a stop; 0: none */
};
struct bs_world_shim {
    int signal; /* [atomic] written here: the one that is taken, or 0 */
    int awaited; /* [atomic] the one that is likely to be; written here: 0, when that is known */
    bool is_shared; /* [atomic] written here: the program has a handler for it as well */
    uintptr_t handlers; /* [init] what stands in place of the program's handlers, or 0 */
    uint32_t given_up; /* [atomic] written here: stops whose signals were taken back; they may have woken threads */
    struct bs_world_interrupts *(*own)(void); /* the calling thread's; called in the handler */
    int scan_signal;         /* [init] what a scan is asked for by, or 0 (scanner.c) */
    void (*ask_scan)(void);  /* [init] in a handler of the program's for that signal, before it */
    void (*watch)(void);      /* [init] the program has no handler for it any more */
    bool (*is_watched)(void); /* [init] it has none */
};
/* In the handler of a signal that is not the program's: a call that it has interrupted counts. */
void bs_world_note_interrupt(const struct bs_os_frame *frame);
/* Before threads exist. */
void bs_world_set_shim(struct bs_world_shim *shim);

/* In a forked child: nobody stands, whatever the parent had. */
void bs_world_forked(void);

#if BS_FAULTS
/* Every nth signal is lost on its way, every nth acknowledgement not heard; 0: none. */
void bs_world_lose(unsigned nth_signal, unsigned nth_answer);
#endif

#endif
