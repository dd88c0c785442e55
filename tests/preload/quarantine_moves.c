/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine, also where a search reads the heap while the program runs, a block to
 * which a pointer exists is never handed out, however fast threads move that pointer between memory and
 * registers. (The argument: seconds.)
 */
#include "quarantine_moves.h"

int main(int argc, char **argv) {
    uint64_t searches, moves;
    unsigned caught =
        catch_pointers(argc > 1 ? strtoull(argv[1], NULL, 10) * 1000 : 5000, 1, &searches, &moves);

    dprintf(STDOUT_FILENO, "%ju searches, %ju moves\n", (uintmax_t)searches, (uintmax_t)moves);
    BS_CHECK(caught == 0, "an address was handed out while a pointer to it existed");
    BS_CHECK(searches > 10 && moves > 100000, "too little was tried");
    return 0;
}
