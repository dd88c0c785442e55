/* SPDX-License-Identifier: MIT */
/* shim_real.c - see shim_real.h. */
#include "shim_real.h"

#include "base.h"
#include "os.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

static __thread struct bs_world_interrupts interrupts;

static struct bs_world_interrupts *own(void) {
    return &interrupts;
}

struct bs_world_shim besom_shim = {.own = own, .handlers = (uintptr_t)bs_shim_run_handler,
                                   .awaited = BS_OS_SIGNAL_FIRST_ASKED};

/* The linker's names for where the cells of all files begin and end. */
extern BS_LOCAL struct bs_shim_cell __start_bs_shim_cells[], __stop_bs_shim_cells[];

static void *look_for(struct bs_shim_cell *cell) {
    void *found = dlsym(RTLD_NEXT, cell->name);
    if (found != NULL)
        bs_store_release(&cell->found, found);
    return found;
}
void bs_shim_start(void) {
    for (struct bs_shim_cell *cell = __start_bs_shim_cells; cell != __stop_bs_shim_cells; cell++)
        (void)look_for(cell);
    (void)dlerror(); /* that a libc lacks some is not the program's to hear */
}

void *bs_shim_find_or(struct bs_shim_cell *cell, void *instead) {
    void *found = bs_load_acquire(&cell->found);
    if (BS_LIKELY(found != NULL))
        return found;
    found = look_for(cell);
    if (found == NULL)
        found = instead;
    if (found == NULL)
        abort(); /* the program was linked against it */
    bs_store_release(&cell->found, found);
    return found;
}
void *bs_shim_find(struct bs_shim_cell *cell) {
    return bs_shim_find_or(cell, NULL);
}

void bs_shim_note_handler(int signal, void *context) {
    bs_store(&interrupts.mixed, interrupts.mixed + 1);
    if (context != NULL && interrupts.again != 0)
        bs_os_signal_end_call(signal, context, interrupts.again);
}

struct bs_shim_call bs_shim_begin(void) {
    return (struct bs_shim_call){errno, bs_load(&interrupts.ours), bs_load(&interrupts.cut),
                                 bs_load(&interrupts.mixed), bs_load_acquire(&besom_shim.given_up)};
}

bool bs_shim_again(struct bs_shim_call *call, int error) {
    uint32_t ours = bs_load(&interrupts.ours), given_up = bs_load_acquire(&besom_shim.given_up);
    bool by_us = ours != call->ours || given_up != call->given_up;
    if (error != EINTR || !by_us || bs_load(&interrupts.mixed) != call->mixed)
        return false;
    call->ours = ours;
    call->given_up = given_up;
    errno = call->error;
    return true;
}

/* (The rest of one that was cut may have failed in parts: shim_socket.c.) */
bool bs_shim_was_cut(struct bs_shim_call *call) {
    struct bs_shim_call now = bs_shim_begin();
    bool by_us = now.cut != call->cut || now.ours != call->ours || now.given_up != call->given_up;
    if (!by_us || now.mixed != call->mixed)
        return false;
    now.error = call->error;
    *call = now;
    return true;
}

uint64_t bs_shim_now(void) {
    return bs_os_now_ns();
}

uint64_t bs_shim_soon(void) {
    return bs_os_tick_ns() + 10 * NS_PER_MS;
}

struct bs_shim_end bs_shim_after_ms(int ms) {
    if (ms <= 0) /* no time at all: the clock need not be asked */
        return (struct bs_shim_end){ms < 0, 0};
    return (struct bs_shim_end){false, bs_shim_now() + (uint64_t)ms * NS_PER_MS};
}

/* What no clock reaches is for ever; what is no time is left to the kernel, which refuses it at once. */
struct bs_shim_end bs_shim_after(const struct timespec *timeout) {
    if (timeout == NULL || timeout->tv_sec > INT_MAX)
        return (struct bs_shim_end){true, 0};
    if (timeout->tv_sec < 0)
        return (struct bs_shim_end){false, 0};
    return (struct bs_shim_end){false, bs_shim_now() + (uint64_t)timeout->tv_sec * NS_PER_S +
                                           (uint64_t)timeout->tv_nsec};
}

uint64_t bs_shim_left_ns(struct bs_shim_end end) {
    uint64_t now = bs_shim_now();
    return end.ns > now ? end.ns - now : 0;
}

/* Rounded up, as the kernel does: it never returns before its time. */
int bs_shim_left_ms(struct bs_shim_end end) {
    return end.forever ? -1 : (int)((bs_shim_left_ns(end) + NS_PER_MS - 1) / NS_PER_MS);
}

struct timespec bs_shim_left(struct bs_shim_end end) {
    uint64_t ns = bs_shim_left_ns(end);
    return (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
}
