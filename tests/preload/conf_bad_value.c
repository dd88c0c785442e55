/* SPDX-License-Identifier: MIT */
/*
 * Promise: a value that an option does not know gives one line that names the option and the
 * value, the default stays, and the program goes on. conf_bad_value.conf sets foreign:abrot; the
 * foreign free below must therefore be ignored, with its own line.
 *
 * One thread.
 */
#include "promise.h"

int main(void) {
    static char in_data[64];
    void *p = malloc(100);

    BS_CHECK(p != NULL, "malloc(100) gave NULL");
    free(hide(in_data + 16));
    free(p);
    return 0;
}
