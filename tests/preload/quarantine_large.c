/* SPDX-License-Identifier: MIT */
/*
 * Promise: the bounds of the quarantine do not grow with the large blocks that are in it. Addresses alone are held of
 * those, but each takes tables of besom's: of a program that has 20 MiB and frees blocks of 300 kB some GiB of
 * addresses came together.
 *
 * One thread.
 */
#include "promise.h"

#include <malloc.h>
#include <string.h>

#define KEPT 5000
#define KEPT_BYTES 4000
#define MOST ((size_t)700 << 20)

static char *kept[KEPT];

int main(void) {
    size_t most = 0;
    for (unsigned i = 0; i < KEPT; i++) {
        BS_CHECK((kept[i] = malloc(KEPT_BYTES)) != NULL, "malloc");
        memset(kept[i], 1, KEPT_BYTES);
    }
    for (unsigned i = 0; i < 20000; i++) {
        volatile char *p = malloc(300000);
        BS_CHECK(p != NULL, "malloc");
        p[0] = p[4096] = 1;
        free((void *)p);
        if (i % 50 == 0) {
            struct mallinfo2 info = mallinfo2();
            size_t used = info.uordblks + info.hblkhd;
            most = used > most ? used : most;
        }
    }
    BS_CHECK(most > KEPT * KEPT_BYTES, "what is held is in use, %zu bytes", most);
    BS_CHECK(most < MOST, "%zu MiB are in use", most >> 20);
    return 0;
}
