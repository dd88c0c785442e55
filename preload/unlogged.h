/* SPDX-License-Identifier: MIT */
/* unlogged.h - says which options ask for something in vain. Called by ctor.c alone. */
#ifndef BS_UNLOGGED_H
#define BS_UNLOGGED_H

#include "base.h"

/* After the options were read, before what they say is changed: one asks for what only a log shows, or for what another
 * one has to allow. */
BS_LOCAL BS_COLD void besom_say_what_is_in_vain(void);

#endif
