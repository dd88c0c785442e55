/* SPDX-License-Identifier: MIT */
/*
 * shim_real.h - what the files of libbesom-scan.so share: libc's functions behind ours, whether a call
 * is to be done again, and the time that remains.
 *
 * Cancellation points stay some: libc's function is one, and nothing here needs cleaning up. errno is
 * what the last call of libc left; where a call is done again it is first what the caller had.
 */
#ifndef BS_SHIM_REAL_H
#define BS_SHIM_REAL_H

#include "shim.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

/* libc's function of that name, or another library's behind us. (Names in place: each pointer would be a relocation.) */
struct bs_shim_cell {
    void *found; /* [atomic] NULL: not looked for yet, or there is none */
    char name[24];
};
/* Looks for all that FIND and REAL name, before threads exist. Who looks for one later waits for the loader's lock, which
 * may wait for him: of a module's constructor that has made a thread and waits for it. Nor is the loader's search made
 * for handlers of signals, or for the child of a process of many threads. */
void bs_shim_start(void);
void *bs_shim_find(struct bs_shim_cell *cell);
/* The same; if there is none behind us, `instead`. A library that was loaded for itself alone (RTLD_LOCAL) is
 * not behind us, whoever it was linked with. */
void *bs_shim_find_or(struct bs_shim_cell *cell, void *instead);
#define FIND(text)                                                                                        \
    ({                                                                                                    \
        static struct bs_shim_cell cell_ __attribute__((section("bs_shim_cells"), used)) = {NULL, text};  \
        bs_shim_find(&cell_);                                                                             \
    })
#define REAL(name) ((__typeof__(&name))FIND(#name))

/* A handler of the program begins in this thread. context: NULL if the kernel has given none. */
void bs_shim_note_handler(int signal, void *context);
/* What stands in place of each of them (shim_handler.c). */
void bs_shim_run_handler(int signal, siginfo_t *info, void *context);

struct bs_shim_call {
    int error; /* the caller's errno */
    uint32_t ours, cut, mixed, given_up;
};
struct bs_shim_call bs_shim_begin(void);
/* True if the call that just failed with this error was interrupted by a stop alone. */
bool bs_shim_again(struct bs_shim_call *call, int error);
/* True if a stop alone may have ended it with a part of what it was to do. */
bool bs_shim_was_cut(struct bs_shim_call *call);

/* A point in time on the monotonic clock; forever: none. */
struct bs_shim_end {
    bool forever;
    uint64_t ns;
};
uint64_t bs_shim_now(void);
/* Now, or later by no more than 10 ms: for what is asked before each call and wanted hardly ever. */
uint64_t bs_shim_soon(void);
struct bs_shim_end bs_shim_after_ms(int ms);                      /* negative: forever */
struct bs_shim_end bs_shim_after(const struct timespec *timeout); /* NULL: forever */
uint64_t bs_shim_left_ns(struct bs_shim_end end);
int bs_shim_left_ms(struct bs_shim_end end);
struct timespec bs_shim_left(struct bs_shim_end end);

/* Does `call`, an expression whose value is negative when it failed with errno, until it was not a
 * stop that interrupted it; before each further time `prepare` is done. */
#define REPEAT(call, prepare)                              \
    ({                                                     \
        struct bs_shim_call call_ = bs_shim_begin();       \
        __typeof__(call) ret_;                             \
        while ((ret_ = (call)) < 0 && bs_shim_again(&call_, errno)) { \
            prepare;                                       \
        }                                                  \
        ret_;                                              \
    })

#endif
