/* SPDX-License-Identifier: MIT */
/*
 * record.h - writes down what a program asks of its allocator: an event for each call, into the
 * file that the option `record` names. besom.conf(5) describes the format; bench/trace.c reads it.
 *
 * Only preload/ calls it, at slow doors: while it records, threads have no caches, so that every
 * call comes to one. Calls that besom makes within itself (realloc's copy) are not seen.
 * Thread-safe; takes BS_RANK_RECORD, under it makes system calls and may map metadata, allocates
 * nothing from the heap. What goes wrong ends the recording with a line on stderr, and nothing
 * else.
 */
#ifndef BS_RECORD_H
#define BS_RECORD_H

#include "base.h"

/* After the options were read and while the process has one thread: begins the file, if one is
 * named. A file that cannot be written is said on stderr, and nothing is recorded. */
void bs_record_start(void);
/* At exit: writes what is left and the end. What is called later is not recorded. */
void bs_record_finish(void);

BS_LOCAL extern bool bs_recording; /* [atomic] */

BS_INLINE bool bs_record_is_on(void) {
    return BS_UNLIKELY(bs_load(&bs_recording));
}

/* The low bits of an event's first byte. */
enum bs_record_op {
    BS_RECORD_FREE,
    BS_RECORD_MALLOC,
    BS_RECORD_CALLOC,
    BS_RECORD_REALLOC,
    BS_RECORD_ALIGNED,
    BS_RECORD_THREAD,
    BS_RECORD_TIME,
    BS_RECORD_END,
};

/* p is a new block, or NULL: that is no event. align: a power of two, counts for ALIGNED. */
void bs_record_made(enum bs_record_op op, const void *p, size_t size, size_t align);
/* p (any pointer) is about to be freed. */
void bs_record_freed(const void *p);
/* p is about to be resized; what bs_record_resized wants to know of it. */
uint64_t bs_record_resizing(const void *p);
/* p became q; q NULL: it stays as it was. */
void bs_record_resized(uint64_t number, const void *p, const void *q, size_t size);

/* In a forked child: a name with %p or %n begins a file of its own at its first write, without
 * either the child is not recorded. */
void bs_record_forked(void);
void bs_record_lock(void);
void bs_record_unlock(void);
void bs_record_reset_lock(void);

#endif
