/* SPDX-License-Identifier: MIT */
/*
 * ctor.c - what happens when the library is loaded and when the process exits. The heap needs
 * neither: malloc works before and after.
 */
#define _GNU_SOURCE
#include "background.h"
#include "fork.h"
#include "heap.h"
#include "lockprof.h"
#include "log.h"
#include "options.h"
#include "out.h"
#include "record.h"
#include "scan_start.h"
#include "sink.h"
#include "unlogged.h"

#include <stdlib.h>
#include <unistd.h>

/* What names this library to libc (fork.c); the C runtime's own where that is linked in. */
extern void *__dso_handle __attribute__((weak, visibility("hidden")));
void *__dso_handle = &__dso_handle;

/* libbesom.so is loaded, and option scan asks for what only libbesom-scan.so has. */
BS_COLD static void refuse_scans(void) {
    bs_warn("option scan: libbesom.so does not scan; preload libbesom-scan.so instead (besom run "
            "chooses it); the program runs without scans");
    bs_opt.scan = BS_SCAN_MODE_OFF;
}
/* (a weak name that nobody defines would do without a call, but gold gives the library's own address for it) */
__attribute__((weak)) void besom_scan_start(void) {
    if (bs_opt.scan != BS_SCAN_MODE_OFF)
        refuse_scans();
}

__attribute__((constructor(101))) static void start(void) {
    bs_options_read(environ);
    if (bs_opt.check == BS_CHECK_FULL)
        bs_tcache_disable();
    if ((bs_opt.log[0] == 0 && (bs_opt.log_interval | bs_opt.sample | bs_opt.trace | bs_opt.scan) != 0) ||
        bs_opt.collect != 0)
        besom_say_what_is_in_vain();
    besom_scan_start();
    /* (what the quarantine has to tell goes to a log alone) */
    bool scans = bs_opt.scan != BS_SCAN_MODE_OFF &&
                 (bs_opt.scan != BS_SCAN_MODE_QUARANTINE || bs_opt.log[0] != 0);
    if (scans && bs_opt.sample == 0)
        bs_opt.sample = BS_SCAN_SAMPLE_BYTES;
    bs_heap_start_sampling();
    bs_fork_start();
    bs_log_start();
    bs_background_start();
    bs_record_start();
}

/* What there is to do at exit but for the record, and where it can be done. */
static bool may_look(void) {
    bool report = (bs_opt.log_at & BS_LOG_AT_EXIT) != 0 && bs_log_is_on();
    return (report || bs_opt.scan != BS_SCAN_MODE_OFF) && !bs_sink_is_walled();
}

__attribute__((destructor(101))) static void finish(void) {
    bool looks = may_look();
    if (looks && (bs_opt.log_at & BS_LOG_AT_EXIT) != 0 && bs_log_is_on())
        bs_log_report("exit");
    bs_record_finish();
#if BS_LOCK_PROFILE
    const char *locks = secure_getenv("BS_LOCK_PROFILE_FILE");
    if (locks != NULL)
        bs_lockprof_write(locks);
#endif
    /* what is left of the ending goes on, with another status */
    if (looks && bs_opt.scan != BS_SCAN_MODE_OFF && bs_background_last_scan() != 0 &&
        bs_opt.leak_exit_code != 0)
        exit((int)bs_opt.leak_exit_code);
}
