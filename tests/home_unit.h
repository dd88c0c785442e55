/* SPDX-License-Identifier: MIT */
/*
 * home_unit.h - for tests that tell blocks by the class that holds them best: each size is served by it from the start, and not
 * by another one for a while (route.h).
 */
#ifndef BS_TESTS_HOME_UNIT_H
#define BS_TESTS_HOME_UNIT_H

#include "sizeclass.h"

static inline void all_sizes_at_home(void) {
    for (unsigned class = 1; class < BS_NCLASSES; class++)
        bs_class_route(class, class);
}

#endif
