/* SPDX-License-Identifier: MIT */
/*
 * doors.h - the slow door of free, which entry.c and new.c share. Each form of malloc and new has
 * one of its own, because what happens without memory is its own.
 *
 * A slow door is also where calls are recorded (record.h): the fast paths know nothing of it.
 */
#ifndef BS_DOORS_H
#define BS_DOORS_H

#include "base.h"

/* p: any pointer. In entry.c. */
BS_LOCAL void bs_door_free(void *p);

#endif
