/* SPDX-License-Identifier: MIT */
/*
 * scanner.h - when the program is scanned: by the helper every scan_interval and after each scan_signal,
 * and at exit; and whether what is found is collected (collect.h).
 *
 * Only libbesom-scan.so has it. What the plain library shares with it knows scans by the table that
 * bs_scanner_start hands to background.h; without a reference the linker leaves out all that lies below
 * (world, roots, engines, reports), and no process has it in its memory.
 */
#ifndef BS_SCANNER_H
#define BS_SCANNER_H

#include "collect.h"

/* Once, after the options were read and before threads exist, and before bs_background_start. */
void bs_scanner_start(struct bs_world_shim *shim, const struct bs_collect_faults *faults);

#endif
