/* SPDX-License-Identifier: MIT */
/*
 * Promise: scan:collect alone does not collect. It is refused in one line that names the second option, and
 * leaks are reported only.
 */
#include "promise.h"

int main(void) {
    BS_CHECK(malloc(100) != NULL, "no memory");
    return 0;
}
