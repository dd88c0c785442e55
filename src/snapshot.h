/* SPDX-License-Identifier: MIT */
/*
 * snapshot.h - a copy of the process as it stands at one moment, for work that only reads: a child that
 * shares all pages until somebody writes, runs one function and leaves its result in shared memory.
 *
 * The program does not notice: no signal, no child that wait(2) returns, no descriptor; but its CPU time counts
 * for RUSAGE_CHILDREN, and pages that the program writes meanwhile are copied. The child dies with the thread
 * that made it, when its time is over, and when whoever waits says so. In it there is one thread at first,
 * and all descriptors are closed.
 *
 * The caller starts it while nobody else is inside besom (the world stands), so that no lock is held in
 * the child; it waits after the program has gone on. It is NOT for writing: what the child changes is
 * its own, but for what bs_os_alloc_shared gave. No locks.
 */
#ifndef BS_SNAPSHOT_H
#define BS_SNAPSHOT_H

#include "base.h"

struct bs_snapshot {
    int pid;    /* 0: none */
    int error;  /* why there is none */
    int status; /* of wait(2), how it ended */
    uint32_t sleep;
};

enum bs_snapshot_end {
    BS_SNAPSHOT_DONE,   /* the function returned */
    BS_SNAPSHOT_DIED,   /* it crashed, or was killed by somebody else */
    BS_SNAPSHOT_KILLED, /* its time was over, or give_up said true */
    BS_SNAPSHOT_LOST    /* somebody else has waited for it, or nobody may; what it did is seen in shared memory alone */
};

/* Runs fn(arg) in a copy. False: there is none, see error. */
bool bs_snapshot_start(struct bs_snapshot *s, void (*fn)(void *), void *arg);
/* Waits for its end, until deadline_ns (bs_os_now_ns) at most. give_up, if not NULL, is asked every few
 * ms, with ctx. It leaves nothing of the child. */
enum bs_snapshot_end bs_snapshot_wait(struct bs_snapshot *s, uint64_t deadline_ns,
                                      bool (*give_up)(void *ctx), void *ctx);

#endif
