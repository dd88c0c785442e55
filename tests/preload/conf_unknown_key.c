/* SPDX-License-Identifier: MIT */
/*
 * Promise: an unknown key in BESOM_CONF gives one line that names it and the nearest known key,
 * the keys beside it still count, and the program goes on. conf_unknown_key.conf mistypes `check`
 * and sets foreign:abort after it, which the last free must obey.
 *
 * One thread.
 */
#include "promise.h"

int main(void) {
    static char in_data[64];
    void *p = malloc(100);

    BS_CHECK(p != NULL, "malloc(100) gave NULL");
    memset(p, 1, 100);
    free(p);
    free(hide(in_data + 16));
    return 1;
}
