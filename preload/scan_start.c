/* SPDX-License-Identifier: MIT */
/* scan_start.c - see scan_start.h: scans, and the shim that keeps them from being noticed. */
#include "scan_start.h"

#include "scanner.h"
#include "shim.h"
#include "shim_fault.h"
#include "shim_real.h"

void besom_scan_start(void) {
    bs_shim_start();
    bs_scanner_start(&besom_shim, &besom_shim_faults);
}
