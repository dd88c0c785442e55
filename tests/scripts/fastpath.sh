#!/bin/sh
# SPDX-License-Identifier: MIT
#
# fastpath.sh - malloc and free as the compiler made them, against tests/scripts/fastpath.txt: how
# many instructions, loads, stores, branches, calls and atomics lie on the straight way through each,
# where no branch is taken. A change of the fast path must be seen in a diff, not in a benchmark
# later; fewer is as much a change as more.
#
# The straight way is the hit: a tiny size and a block in the magazine, a block of a known class and
# room for it. Skipped aloud where another compiler, level of optimisation or processor would give
# other numbers. `fastpath.sh --print` prints the numbers of the library at hand.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
lib=${BESOM_LIB:-$top/build/libbesom.so}
golden=$top/tests/scripts/fastpath.txt

# shellcheck disable=SC1091  # read on its own
. "$(dirname "$0")/golden_helpers.sh"
skip_other_compilers "$lib" 14 # which makes the same

# From the first instruction to the first ret, which no jump on the way may skip: whatever a
# conditional branch leads to is the slow way.
count() {
    objdump -d --no-show-raw-insn --disassemble="$1" "$lib" | awk -v name="$2" '
        /^ *[0-9a-f]+:\t/ {
            sub(/^[^\t]*\t/, ""); sub(/ *#.*/, ""); sub(/^(cs |ds )+/, "")
            op = $1; args = $0; sub(/^[a-z0-9]+ */, "", args)
            if (op ~ /^nop|^data16$/) next
            n++
            if (op ~ /^lock$|^xchg|^cmpxchg|^mfence$|^xadd/) atomics++
            if (op ~ /^call/) calls++
            if (op ~ /^j/) branches++
            else if (op != "lea" && args ~ /\(/) {
                # AT&T order: a memory operand at the end is written, or compared
                if (args ~ /\)$/ && op !~ /^cmp|^test/) stores++
                else loads++
                if (args ~ /\)$/ && op ~ /^(add|sub|or|and|xor|inc|dec)/) loads++
            }
            if (op == "ret") exit
        }
        END {
            printf "%s: instructions %d loads %d stores %d branches %d calls %d atomics %d\n",
                name, n, loads, stores, branches, calls, atomics
        }'
}

now=$(count __libc_malloc malloc; count __libc_free free)
if [ "${1-}" = --print ]; then
    echo "$now"
    exit 0
fi
if ! echo "$now" | diff -u "$golden" - ; then
    echo "fastpath.sh: the fast path is another one; if that is meant, say why in the commit:"
    echo "    tests/scripts/fastpath.sh --print > tests/scripts/fastpath.txt"
    exit 1
fi
