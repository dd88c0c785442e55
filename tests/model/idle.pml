/* SPDX-License-Identifier: MIT */
/*
 * idle.pml - the protocol by which the helper empties the cache of a sleeping thread (src/idle.c,
 * src/tcache.c, src/os_sleep.c; doc/DESIGN.md), for spin. run.sh checks it, and checks that spin finds each
 * bug that can be planted by -D: NO_STACK, NO_LOCK, NO_RELOOK, LATE_GIVE, NO_BARRIER, LEAVE_UNLOCKED.
 *
 * One owner with its thread-local word, one helper, two blocks. Each load and store of the fast path is a step
 * of its own. The owner may block and wake at any moment; a signal handler may interrupt it between any
 * two steps and block. What the helper sees of it is what the kernel tells: `in_sys`, and `in_besom` for the
 * stack. It is NOT about the central lists: taking and giving a block there is one step.
 */

#define NBLOCKS 2
#define EMPTY 0 /* what the word leads to */
#define CACHE 1
#define NONE 2
#define DEAD 3  /* no memory any more */

#define CENTRAL 0 /* where a block is */
#define CACHED 1
#define USER 2

byte word = EMPTY, old_word = EMPTY;
bool word_is_fresh = true;     /* false: the owner may still read old_word */
byte place[NBLOCKS];
byte slot[NBLOCKS], count = 0; /* the magazine */
bool lock = false;             /* borrow */
bool in_sys = false;           /* the owner is blocked in a system call */
byte in_besom = 0;             /* its operations under way: what its stack shows */
bool owner_uses = false, helper_uses = false;
bool made = false, registered = false, ended = false;

#define ACQUIRE atomic { !lock -> lock = true; word_is_fresh = true }
#define RELEASE lock = false

/* A signal handler that blocks for a while, or nothing. */
inline maybe_signal() {
    if
    :: in_sys = true; in_sys = false
    :: skip
    fi
}

inline load_word(to) {
    if
    :: to = word
    :: !word_is_fresh -> to = old_word
    fi
}

inline use() {
    assert(!helper_uses);
    owner_uses = true
}
inline use_end() {
    assert(!helper_uses);
    owner_uses = false
}

inline hand_out(b) {
    assert(place[b] != USER);
    place[b] = USER
}

/* --- the owner ------------------------------------------------------------------------------- */

byte o_cache, o_n, o_block;
bool o_done;

/* Leaves the cache, or NONE, in o_cache. The borrow lock is a system call when it has to wait. */
inline own_cache() {
#ifdef NO_RELOOK
    skip;
#else
    load_word(o_cache);
    if
    :: o_cache == EMPTY ->
#ifndef NO_LOCK
        in_sys = true;
        ACQUIRE;
        in_sys = false;
#endif
        load_word(o_cache);
#ifndef NO_LOCK
        RELEASE
#endif
    :: else
    fi;
#endif
    if
    :: o_cache == EMPTY ->
        assert(!made); /* a second cache: the first one's blocks are lost */
        made = true;
        registered = true;
        maybe_signal();
        word = CACHE;
        o_cache = CACHE
    :: else
    fi
}

inline alloc() {
    in_besom++;
    o_done = false;
    load_word(o_cache);
    maybe_signal();
    if
    :: o_cache == CACHE ->
        use();
        o_n = count;
        maybe_signal();
        if
        :: o_n > 0 ->
            o_block = slot[o_n - 1];
            maybe_signal();
            count = o_n - 1;
            hand_out(o_block);
            o_done = true
        :: else
        fi;
        use_end()
    :: else
    fi;
    if
    :: !o_done ->
        own_cache();
        maybe_signal();
        /* a refill of one block, which goes straight to the program */
        if
        :: place[0] == CENTRAL -> hand_out(0)
        :: place[1] == CENTRAL -> hand_out(1)
        :: else
        fi
    :: else
    fi;
    in_besom--
}

inline dealloc(b) {
    in_besom++;
    o_done = false;
    load_word(o_cache);
    maybe_signal();
    if
    :: o_cache == EMPTY -> own_cache()
    :: else
    fi;
    assert(place[b] == USER);
    if
    :: o_cache == CACHE ->
        use();
        o_n = count;
        maybe_signal();
        slot[o_n] = b;
        place[b] = CACHED;
        maybe_signal();
        count = o_n + 1;
        use_end()
    :: else -> place[b] = CENTRAL
    fi;
    in_besom--
}

inline leave() {
    in_besom++;
#ifndef LEAVE_UNLOCKED
    in_sys = true;
    ACQUIRE;
    in_sys = false;
#endif
    load_word(o_cache);
    word = NONE;
    registered = false;
#ifndef LEAVE_UNLOCKED
    RELEASE;
#endif
    if
    :: o_cache == CACHE ->
        use();
        do
        :: count > 0 ->
            count--;
            place[slot[count]] = CENTRAL
        :: else -> break
        od;
        use_end()
    :: else
    fi;
    in_besom--
}

active proctype owner() {
    byte steps = 0;
    do
    :: steps < 4 ->
        steps++;
        if
        :: alloc()
        :: place[0] == USER -> dealloc(0)
        :: place[1] == USER -> dealloc(1)
        :: in_sys = true; in_sys = false /* it sleeps */
        fi
    :: break
    od;
    in_sys = true; in_sys = false;
    leave();
    word = DEAD;
    ended = true
}

/* --- the helper ------------------------------------------------------------------------------ */

active proctype helper() {
    byte rounds = 0;
    bool taken, asleep;
    do
    :: rounds < 3 ->
        rounds++;
        ACQUIRE;
        taken = false;
        asleep = false;
        if
        :: registered ->
            atomic { /* compare and exchange */
                assert(word != DEAD);
                if
                :: word == CACHE ->
                    old_word = word;
                    word = EMPTY;
                    word_is_fresh = false;
                    taken = true
                :: else
                fi
            }
        :: else
        fi;
        if
        :: taken ->
#ifndef NO_BARRIER
            word_is_fresh = true;
#endif
            asleep = in_sys;
#ifndef NO_STACK
            asleep = asleep && in_besom == 0;
#endif
            asleep = asleep && in_sys;
            if
            :: asleep ->
                assert(!owner_uses);
                helper_uses = true;
                do
                :: count > 0 ->
                    assert(!owner_uses);
                    place[slot[count - 1]] = CENTRAL;
                    count--
                :: else -> break
                od;
                assert(!owner_uses);
                helper_uses = false
            :: else
            fi;
#ifdef LATE_GIVE
            RELEASE;
#endif
            assert(word == EMPTY); /* neither another cache nor a dead thread's memory */
            word = CACHE;
            word_is_fresh = true
        :: else
        fi;
#ifdef LATE_GIVE
        if
        :: !taken -> RELEASE
        :: else
        fi
#else
        RELEASE
#endif
    :: break
    od;
    /* At the end nothing is lost: what the program does not hold is in the central lists. */
    ended;
    assert(place[0] != CACHED && place[1] != CACHED)
}
