/* SPDX-License-Identifier: MIT */
/*
 * Promise kept by none: with quarantine_mode:probabilistic a pointer that moves while it is looked for is
 * missed sooner or later, as besom.conf(5) says. It shows that quarantine_moves and quarantine_moves_sound
 * would find a search that misses pointers. (The argument: seconds.)
 */
#include "quarantine_moves.h"

int main(int argc, char **argv) {
    uint64_t searches, moves;
    unsigned caught =
        catch_pointers(argc > 1 ? strtoull(argv[1], NULL, 10) * 1000 : 100000, 1, &searches, &moves);

    dprintf(STDOUT_FILENO, "%u addresses after %ju searches, %ju moves\n", caught,
            (uintmax_t)searches, (uintmax_t)moves);
    BS_CHECK(caught != 0, "no pointer was missed: the other modes' tests show nothing");
    return 0;
}
