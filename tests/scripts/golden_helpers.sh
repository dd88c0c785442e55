#!/bin/sh
# SPDX-License-Identifier: MIT
#
# golden_helpers.sh - read by fastpath.sh, frames.sh and icount.sh, whose expectations are numbers of what a compiler
# makes of the library: gcc 12, or another version that the script says was counted as well; else they are skipped,
# aloud.
set -eu

skip() { echo "${0##*/}: SKIPPED: $*"; exit 77; }

# skip_other_compilers LIBRARY [VERSION...]: leaves the version of gcc in $compiler.
skip_other_compilers() {
    [ "$(uname -m)" = x86_64 ] || skip "the numbers are those of x86_64"
    producer=$(readelf --debug-dump=info "$1" 2>/dev/null | sed -n 's/.*DW_AT_producer.*: //p' | sort -u |
        grep -m 1 '^GNU C') || skip "$1 does not say who compiled it"
    shift
    for compiler in 12 "$@"; do
        case $producer in
        *"GNU C11 $compiler."*' -O2 '*) return ;;
        esac
    done
    skip "the numbers are those of gcc $(echo 12 "$@" | sed 's/ / and /g') with -O2, this is: $producer"
}
