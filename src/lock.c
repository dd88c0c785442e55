/* SPDX-License-Identifier: MIT */
/*
 * lock.c - the slow half of lock.h: waiting, waking, and the debug checker of the lock order.
 */
#include "lock.h"

#include "os.h"
#include "out.h"

/* How often a waiter looks again before it sleeps. A critical section is well under 1 us; on a
 * machine with few CPUs the holder may be preempted, so spinning longer only wastes its time. */
#define SPINS 60

static uint32_t spins = SPINS; /* [atomic] */

void bs_lock_set_spinning(bool on) {
    uint32_t n = on ? SPINS : 0;
    if (bs_load(&spins) != n)
        bs_store(&spins, n);
}

static inline void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static struct bs_lock *helper_waits; /* [atomic] what the helper sleeps for; NULL while it tries to get it */

bool bs_lock_helper_is_stuck(void) {
    struct bs_lock *lock = __atomic_load_n(&helper_waits, __ATOMIC_SEQ_CST);
    return lock != NULL && __atomic_load_n(&lock->word, __ATOMIC_SEQ_CST) != 0 &&
           __atomic_load_n(&helper_waits, __ATOMIC_SEQ_CST) == lock;
}

/* In a copy of the process that was not made by fork whoever has a lock may not be there. So long no lock is held. */
#define LOST_NS UINT64_C(1000000000)

/* True: nobody will give it back. */
static bool sleep_for(struct bs_lock *lock) {
    bool helper = bs_os_is_helper(), lost = bs_os_helper_is_lost();
    uint64_t start = lost ? bs_os_now_ns() : 0;
    if (helper)
        __atomic_store_n(&helper_waits, lock, __ATOMIC_SEQ_CST);
    bs_os_wait(&lock->word, 2, lost ? LOST_NS : 0);
    if (helper)
        __atomic_store_n(&helper_waits, NULL, __ATOMIC_SEQ_CST);
    return lost && bs_load(&lock->word) == 2 && bs_os_now_ns() - start >= LOST_NS;
}

BS_NOINLINE void bs_lock_slow(struct bs_lock *lock) {
    for (uint32_t i = bs_load(&spins); i != 0; i--) {
        uint32_t expected = 0;
        if (bs_load(&lock->word) == 0 &&
            __atomic_compare_exchange_n(&lock->word, &expected, 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return;
        cpu_relax();
    }
    /* From here on the word is 2 while we hold or wait: the holder wakes one sleeper, who may find
     * no other and then wakes nobody in vain once. */
    while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_SEQ_CST) != 0)
        if (sleep_for(lock))
            return;
}

BS_NOINLINE void bs_unlock_wake(struct bs_lock *lock) {
    bs_os_wake(&lock->word, 1);
}

/* Looks until somebody who was woken has the lock, each some 0.3 us: a wake takes 5 to 50 us. */
#define BREATHS 128

void bs_lock_breathe(struct bs_lock *lock) {
    bool wanted = bs_load(&lock->word) == 2;
    bs_lock_release(lock);
    for (unsigned i = 0; wanted && i < BREATHS && bs_load(&lock->word) == 0; i++)
        bs_os_yield();
    bs_lock_acquire(lock);
}

#if BS_DEBUG >= 1

/* Held locks of this thread, innermost last; fork holds the most: all central locks. */
#define HELD_MAX 128
static __thread struct {
    const struct bs_lock *lock[HELD_MAX];
    unsigned n;
} held;

bool bs_lock_held(const struct bs_lock *lock) {
    for (unsigned i = 0; i < held.n; i++)
        if (held.lock[i] == lock)
            return true;
    return false;
}

void bs_lock_note(const struct bs_lock *lock, int step) {
    if (step < 0) {
        for (unsigned i = held.n; i-- > 0;)
            if (held.lock[i] == lock) {
                held.lock[i] = held.lock[--held.n];
                return;
            }
        bs_fatal("lock of rank %u released by a thread that does not hold it", lock->rank);
    }
    BS_CHECK(held.n < HELD_MAX);
    for (unsigned i = 0; i < held.n; i++) {
        const struct bs_lock *other = held.lock[i];
        /* fork takes the central locks together, in the order of their addresses */
        bool ordered = other->rank < lock->rank || (other->rank == lock->rank && other < lock);
        if (!ordered)
            bs_fatal("lock order: rank %u taken while rank %u is held", lock->rank, other->rank);
    }
    held.lock[held.n++] = lock;
}

void bs_lock_forget_held(void) {
    held.n = 0;
}

#else

void bs_lock_forget_held(void) {
}

#endif
