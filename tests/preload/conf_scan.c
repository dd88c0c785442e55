/* SPDX-License-Identifier: MIT */
/*
 * Promise: libbesom.so, asked for scans (conf_scan.conf), says in one line that another library has
 * them and which, and the program runs on as without the option.
 *
 * One thread.
 */
#include "promise.h"

int main(void) {
    void *p = malloc(100);

    BS_CHECK(p != NULL, "malloc(100) gave NULL");
    free(p);
    return 0;
}
