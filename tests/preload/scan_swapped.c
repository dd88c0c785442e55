/* SPDX-License-Identifier: MIT */
/*
 * Promise: a block that only a swapped-out word leads to is no leak, whatever kind of memory the word lies in, whoever
 * searches and by which way. What is not led to is one all the same.
 */
#include "promise.h"
#include "scan_drive.h"
#include "swapped.h"

static uintptr_t hidden[SWAP_KINDS + 1];

static void __attribute__((noinline)) plant(void) {
    for (unsigned k = 0; k <= SWAP_KINDS; k++) {
        void *p = malloc(200 + 16 * k);
        BS_CHECK(p != NULL, "no memory");
        hidden[k] = ~(uintptr_t)p;
        if (k < SWAP_KINDS)
            *swap_memory[k].at = p;
    }
}
static void __attribute__((noinline)) wipe(void) {
    volatile char junk[32768];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}

int main(void) {
    static const unsigned ways[] = {0, SCAN_BY_COPY, SCAN_BY_COPY | SCAN_CONCURRENT, SCAN_BY_CALLER,
                                    SCAN_BY_COPY | SCAN_BY_CALLER};
    const struct scan_drive *drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    unsigned wrong = 0, whole = 0;
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    swap_make();
    plant();
    wipe();
    swap_map_again();
    for (unsigned w = 0; w < sizeof ways / sizeof *ways; w++) {
        struct scan_seen seen;
        whole += swap_out();
        scan_drive_must(drive, ways[w], &seen);
        for (unsigned k = 0; k <= SWAP_KINDS; k++) {
            int lost = drive->is_lost((void *)~hidden[k]);
            if (lost != (k == SWAP_KINDS))
                dprintf(STDOUT_FILENO, "way %u: %s: lost is %d\n", ways[w], k < SWAP_KINDS ? swap_name[k] : "nothing", lost);
            wrong += lost != (k == SWAP_KINDS);
        }
    }
    BS_CHECK(wrong == 0, "%u wrong", wrong);
    return swap_end(whole, sizeof ways / sizeof *ways);
}
