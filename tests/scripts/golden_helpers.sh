#!/bin/sh
# SPDX-License-Identifier: MIT
#
# golden_helpers.sh - read by fastpath.sh, frames.sh and icount.sh, whose expectations are numbers of what one compiler
# makes of the library: it is that one, or they are skipped, aloud.
set -eu

skip() { echo "${0##*/}: SKIPPED: $*"; exit 77; }

# skip_other_compilers LIBRARY
skip_other_compilers() {
    [ "$(uname -m)" = x86_64 ] || skip "the numbers are those of x86_64"
    producer=$(readelf --debug-dump=info "$1" 2>/dev/null | sed -n 's/.*DW_AT_producer.*: //p' | sort -u |
        grep -m 1 '^GNU C') || skip "$1 does not say who compiled it"
    case $producer in
    *'GNU C11 12.'*' -O2 '*) ;;
    *) skip "the numbers are those of gcc 12 with -O2, this is: $producer" ;;
    esac
}
