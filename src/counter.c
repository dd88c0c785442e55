/* SPDX-License-Identifier: MIT */
/* counter.c - the one instance of the counters that stats.def names; see counter.h. */
#include "counter.h"

struct bs_counters bs_counters;
