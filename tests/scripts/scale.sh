#!/bin/sh
# SPDX-License-Identifier: MIT
#
# scale.sh - bench/scale works: its tiniest run has a number for each load, size and allocator, in the
# table and in the CSV, and plots or the reason why there are none.
#
# It is NOT about the numbers. Called by `make check`; takes top_builddir from the environment.
# Exit status: 0 all right, 1 not, 77 without python3.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
build=$(realpath "${top_builddir:-$top/build}")
command -v python3 >/dev/null || { echo "scale.sh: skipped: there is no python3"; exit 77; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0

broken() {
    echo "scale.sh: $*"
    status=1
}

# A folder of compiled modules must not be left in the sources.
PYTHONDONTWRITEBYTECODE=1 timeout 600 python3 "$top/bench/scale" --smoke --alloc glibc,besom \
    --binary "$build/bench/scale_load" --micro "$build/bench/micro" --besom "$build/libbesom.so" \
    --csv "$tmp/csv" --plots "$tmp/plots" >"$tmp/out" 2>"$tmp/err" ||
    broken "ended with status $?: $(cat "$tmp/err")"

for line in small mixed own hand make refill pages replace drop comb; do
    grep -q "^\*\*$line\*\*" "$tmp/out" || broken "no table for $line: $(cat "$tmp/out" "$tmp/err")"
    for allocator in glibc besom; do
        got=$(grep -c "^$line,[0-9]*,$allocator,0,[1-9]" "$tmp/csv") || true
        [ "$got" -eq 2 ] || broken "$got lines of $line under $allocator in the CSV, not 2"
    done
    if command -v gnuplot >/dev/null && ! grep -q '<svg' "$tmp/plots/scale-$line.svg"; then
        broken "no plot of $line: $(cat "$tmp/err")"
    fi
done
for load in small mixed own hand; do
    [ "$(grep -c "^touch-$load,[0-9]*,program," "$tmp/csv")" -eq 2 ] || broken "no program for $load"
done
if ! command -v gnuplot >/dev/null && ! grep -q 'there is no gnuplot' "$tmp/err"; then
    broken "it does not say why there are no plots: $(cat "$tmp/err")"
fi
exit $status
