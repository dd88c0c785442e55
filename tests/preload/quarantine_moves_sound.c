/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine,quarantine_mode:sound a block to which a pointer exists is never handed
 * out, however fast threads move that pointer between memory and registers. (The argument: seconds.)
 */
#include "quarantine_moves.h"

int main(int argc, char **argv) {
    return must_catch_nothing(argc, argv);
}
