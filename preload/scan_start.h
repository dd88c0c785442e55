/* SPDX-License-Identifier: MIT */
/*
 * scan_start.h - where the two libraries differ: libbesom-scan.so starts its scans, and in libbesom.so
 * ctor.c's own, weak definition says that there are none. Called by ctor.c alone.
 */
#ifndef BS_SCAN_START_H
#define BS_SCAN_START_H

#include "base.h"

/* After the options were read, before anything else is started. */
BS_LOCAL void besom_scan_start(void);

#endif
