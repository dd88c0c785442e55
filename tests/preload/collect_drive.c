/* SPDX-License-Identifier: MIT */
/*
 * collect_drive.c - libbesom-collect.so: libbesom-scan.so in which the minutes of scan:collect are
 * COLLECT_MS milliseconds each, if that is set. Users cannot shorten them: a pointer that is hidden for so
 * long is hidden by design. The grace time is COLLECT_GRACE_MS, if that is set too, until the program, which
 * finds the function by dlsym, says another.
 */
#define _GNU_SOURCE
#include "collect_internal.h"

#include <stdlib.h>

BS_EXPORT void collect_drive_set_grace(unsigned ms);

BS_EXPORT void collect_drive_set_grace(unsigned ms) {
    bs_store(&bs_collect.rules.grace_ns, (uint64_t)ms * UINT64_C(1000000));
}

__attribute__((constructor(102))) static void start(void) {
    const char *ms = getenv("COLLECT_MS");
    if (ms == NULL || bs_collect.store == NULL)
        return;
    uint64_t ns = (uint64_t)atoi(ms) * UINT64_C(1000000);
    bs_collect.rules.spacing_ns = bs_collect.rules.grace_ns = ns;
    bs_collect.rules.age_ns = ns;
    const char *grace_ms = getenv("COLLECT_GRACE_MS");
    if (grace_ms != NULL)
        collect_drive_set_grace((unsigned)atoi(grace_ms));
}
