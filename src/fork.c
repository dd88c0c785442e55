/* SPDX-License-Identifier: MIT */
/* fork.c - see fork.h. The order below is that of enum bs_rank (lock.h), checked in debug builds. */
#include "fork.h"

#include "background.h"
#include "central.h"
#include "grow.h"
#include "lock.h"
#include "log.h"
#include "meta.h"
#include "os.h"
#include "pageheap.h"
#include "reader.h"
#include "record.h"
#include "relief.h"
#include "round.h"
#include "sample.h"
#include "stacks.h"
#include "tcache.h"
#include "thp.h"
#include "thread.h"

#include <pthread.h>

/* glibc's, since 2.3.2; the handle is the compiler's name for this object. */
int __register_atfork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void), void *dso);
extern void *__dso_handle __attribute__((visibility("hidden")));
/* glibc's lock of the list of streams, recursive. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

static struct bs_lock one_at_a_time = BS_LOCK_INIT(BS_RANK_FORK);
static uintptr_t owner; /* [atomic] the thread pointer of who has all locks, or keeps the helper; 0: nobody */

/* Who else may be in besom, and so what is done. */
enum others {
    MANY,         /* threads: all locks are taken */
    NOBODY,       /* nothing is */
    HELPER_KEPT,  /* the helper, which is kept from its work */
    HELPER_STUCK, /* the helper, which sleeps for a lock that this thread has: its locks are free in the child */
};
/* Written when it changes only: a page that parent and child would have twice. */
static enum others others;
static unsigned nested; /* [owner] forks of a handler that came between bs_fork_before and the other two */

static void note_others(enum others found) {
    if (others != found)
        others = found;
}

/* What is done where the program has one thread keeps it from waiting for a lock: it may be a handler of a signal, to
 * which POSIX allows fork, that came while the thread had any. What was interrupted goes on in both. */
static enum others find_others(void) {
    if (!bs_thread_is_alone())
        return MANY;
    if (bs_os_helper_tid() == 0) /* none, not even one that is about to end */
        return NOBODY;
    return bs_round_keep_helper() ? HELPER_KEPT : HELPER_STUCK;
}

/* The list of streams is locked by fork itself as well, but after all handlers, and who waits there with our locks
 * waits for ever: a thread that flushes all streams (fflush, exit) has the list and waits for a stream, and the thread
 * that has that one, in getline, wants memory. glibc takes its malloc's locks behind the list's for that. The child's is
 * free whatever fork does. */
static void lock_streams(void) {
    if (_IO_list_lock != NULL)
        _IO_list_lock();
}
static void unlock_streams(void) {
    if (_IO_list_unlock != NULL)
        _IO_list_unlock();
}
static void reset_streams(void) {
    if (_IO_list_resetlock != NULL)
        _IO_list_resetlock();
}

bool bs_fork_is_under_way(void) {
    return bs_load(&owner) == bs_os_thread_pointer();
}

/* Without another thread there is nothing to wait for, and no lock in the child that its owner is not there to
 * release. Shells fork all the time, and each lock is on a page that parent and child would have twice. */
void bs_fork_before(void) {
    /* kept, and nobody is the owner: the fork that was interrupted is about to be, or was until just now */
    if (BS_UNLIKELY(bs_fork_is_under_way() || bs_round_helper_is_kept())) {
        nested++;
        return;
    }
    enum others found = find_others();
    note_others(found);
    if (found == HELPER_KEPT || found == HELPER_STUCK)
        bs_store(&owner, bs_os_thread_pointer());
    if (found != MANY)
        return;
    lock_streams();
    bs_round_knock();
    bs_lock_acquire(&one_at_a_time);
    bs_round_enter_after_knock();
    bs_relief_lock();
    bs_tcache_borrow_lock();
    bs_record_lock();
    bs_log_lock();
    bs_thread_lock();
    bs_central_lock_all();
    bs_grow_lock();
    bs_thp_lock();
    bs_pageheap_lock();
    bs_sample_lock();
    bs_stacks_lock();
    bs_meta_lock();
    bs_store(&owner, bs_os_thread_pointer());
}

void bs_fork_in_parent(void) {
    if (BS_UNLIKELY(nested != 0)) {
        nested--;
        return;
    }
    if (others == NOBODY)
        return;
    bs_store(&owner, (uintptr_t)0);
    if (others == HELPER_KEPT)
        bs_round_let_helper();
    if (others != MANY)
        return;
    bs_meta_unlock();
    bs_stacks_unlock();
    bs_sample_unlock();
    bs_pageheap_unlock();
    bs_thp_unlock();
    bs_grow_unlock();
    bs_central_unlock_all();
    bs_thread_unlock();
    bs_log_unlock();
    bs_record_unlock();
    bs_tcache_borrow_unlock();
    bs_relief_unlock();
    bs_round_leave();
    bs_lock_release(&one_at_a_time);
    unlock_streams();
}

static void reset_locks(void) {
    /* a handler has interrupted it inside, and it goes on there */
    bool stays_in_round = others != MANY && bs_round_is_own();
    if (others == MANY) {
        bs_lock_forget_held();
        reset_streams();
    }
    bs_meta_reset_lock();
    bs_stacks_reset_lock();
    bs_sample_reset_lock();
    bs_pageheap_reset_lock();
    bs_thp_reset_lock();
    bs_grow_reset_lock();
    bs_central_reset_locks();
    bs_thread_reset_lock();
    bs_log_reset_lock();
    bs_record_reset_lock();
    bs_tcache_borrow_reset_lock();
    bs_relief_reset_lock();
    bs_round_reset_lock();
    if (stays_in_round)
        (void)bs_round_try();
    bs_lock_reset(&one_at_a_time);
    bs_store(&owner, (uintptr_t)0);
}

void bs_fork_in_child(void) {
    bool interrupted = nested != 0;
    if (interrupted)
        nested = 0;
    if (bs_round_helper_is_kept()) /* by one that has not noted it yet */
        note_others(HELPER_KEPT);
    if (others == MANY || others == HELPER_STUCK)
        reset_locks();
    if (others == HELPER_KEPT) {
        bs_round_reset_helper();
        bs_store(&owner, (uintptr_t)0);
    }
    bs_reader_forked();
    struct bs_tcache *tc = bs_tcache_self();
    if (tc != &bs_tcache_empty && tc != &bs_tcache_none)
        tc->tid = bs_os_tid();
    bs_thread_forked();
    bs_background_forked();
    bs_log_forked();
    bs_record_forked();
    if (interrupted) /* where that goes on here it has nothing to release, and to keep nobody */
        note_others(NOBODY);
}

void bs_fork_start(void) {
    static bool started; /* [init] */
    if (started)
        return;
    started = true;
    bs_thread_forked(); /* before a vfork child can be the first to ask */
    /* What pthread_atfork does; but that is linked in statically, behind all of our text, and would
     * bring it into every process's memory. */
    (void)__register_atfork(bs_fork_before, bs_fork_in_parent, bs_fork_in_child, &__dso_handle);
}
