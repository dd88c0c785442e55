#!/bin/sh
# SPDX-License-Identifier: MIT
#
# first_text.sh - preload/order.ld names every function that a small program runs: callgrind counts which
# are run by a process that does nothing, by cat, ls and sed, and by one that allocates sizes up to 1 KiB; each
# has to lie in the last window of 64 KiB of libbesom.so's text. One that does not costs every process 64 KiB.
# And what cat, grep, sed and make say of themselves, and a shell that forks of itself and its child, has to have
# no more of the text in memory: callgrind knows no names in .text.rest. A program of 2 MiB, whose slow doors give back
# by pieces, has the window before that one as well, and no other.
#
# Skipped aloud without valgrind, where the linker took no order, and where another level of optimisation
# or compiler makes other functions. Exit status: 0 all are there, 1 not, 77 skipped.
set -eu

top=$(realpath "${top_srcdir:-$(dirname "$0")/../..}")
build=$(realpath "${top_builddir:-$top/build}")
lib=$(realpath "${BESOM_LIB:-$build/libbesom.so}")

skip() { echo "first_text.sh: SKIPPED: $*"; exit 77; }
command -v valgrind >/dev/null || skip "no valgrind"
[ "$(uname -m)" = x86_64 ] || skip "the list is that of x86-64"
readelf -SW "$lib" | grep -q ' \.text\.rest ' || skip "the linker takes no order of text"
readelf --debug-dump=info "$lib" 2>/dev/null | grep -m1 DW_AT_producer | grep 'GNU C.* -O2' >/dev/null ||
    skip "the list is that of gcc -O2"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# run COMMAND...: the names of what it runs in the library
run() {
    (cd "$scratch" && env -i PATH="$PATH" LD_PRELOAD="$lib" timeout 120 valgrind --tool=callgrind \
        --compress-strings=no --callgrind-out-file=out "$@" >stdout 2>stderr </dev/null) ||
        { cat "$scratch/stderr"; exit 1; }
    awk -v ours="ob=$lib" '
        /^ob=/ { in_ours = $0 == ours; next }
        /^fn=/ && in_ours { sub(/'"'"'[0-9]+$/, ""); print substr($0, 4) }' "$scratch/out" | sort -u
}

{ run "$build/bench/starter" nothing; run /bin/cat; run /bin/ls -l /; run /bin/sed s/a/b/ /dev/null
  run "$build/bench/micro" pair-mixed --scale=0.001
  run "$build/bench/micro" realloc-shrink --scale=0.001
  run "$build/bench/micro" thread-churn --scale=0.01; } | sort -u >"$scratch/run"
[ "$(wc -l <"$scratch/run")" -gt 50 ] || { echo "first_text.sh: callgrind saw next to nothing"; exit 1; }
nm "$lib" >"$scratch/names"
awk -v malloc="$(awk '$3 == "malloc" { print $1 }' "$scratch/names")" '
    function window(address) { return substr(address, 1, length(address) - 4) }
    NR == FNR { at[$3] = at[$3] window($1) " "; next } # more than one file may have its own
    $1 in at && index(at[$1], window(malloc) " ") == 0 { print "first_text.sh: not in preload/order.ld: " $1; bad = 1 }
    END { exit bad }' "$scratch/names" "$scratch/run"

# The end of the text segment, less the border before it.
end=$(readelf -lW "$lib" | awk '$1 == "LOAD" && / R E / { print $3, $6 }' | { read -r at bytes; echo $((at + bytes)); })
pages=$(((end % 65536 + 4095) / 4096))
most=$((pages * 4))
# small NAME: what awk counts in the mappings that it reads is no more than that
small() {
    has=$(awk -v lib="$lib" '/^[0-9a-f]+-/ { ours = $2 == "r-xp" && $6 == lib } /^Rss:/ && ours { n += $2 } END { print n + 0 }')
    if [ "$has" -eq 0 ] || [ "$has" -gt "$most" ]; then
        echo "first_text.sh: $1 has $has KiB of text in memory, not $most: it runs what preload/order.ld does not name"
        exit 1
    fi
}
for program in "cat" "grep -E ^[0-9a-f]+-|^Rss:" "sed -n p"; do
    # shellcheck disable=SC2086
    (set -f; env -i PATH="$PATH" LD_PRELOAD="$lib" $program /proc/self/smaps) | small "${program%% *}"
done
# A cat that has freed the buffer of a file, which is a large block; a make that has run a recipe.
env -i PATH="$PATH" LD_PRELOAD="$lib" cat "$0" /proc/self/smaps | small "cat after a file"
if command -v make >/dev/null; then
    # shellcheck disable=SC2016
    printf 'all:\n\t@cat /proc/$$PPID/smaps\n' >"$scratch/recipe"
    env -i PATH="$PATH" LD_PRELOAD="$lib" make -s -f "$scratch/recipe" | small make
fi
# A shell that has forked, and its child that is no other program yet.
# shellcheck disable=SC2016
env -i PATH="$PATH" LD_PRELOAD="$lib" sh -c '(:); cat "/proc/$$/smaps"' | small "a shell that forked"
# shellcheck disable=SC2016
env -i PATH="$PATH" LD_PRELOAD="$lib" sh -c '(cat "/proc/$(cut -d " " -f 4 /proc/self/stat)/smaps"; :)' |
    small "a shell's child"
# What gives back by pieces; looked at as long as it runs, since a piece is done each BS_TICK_MS.
env -i PATH="$PATH" LD_PRELOAD="$lib" "$build/bench/micro" random-10k --scale=1 >/dev/null &
while cat "/proc/$!/smaps" >"$scratch/smaps" 2>/dev/null && [ -s "$scratch/smaps" ]; do
    cp "$scratch/smaps" "$scratch/last"
    sleep 0.02
done
wait "$!"
most=$((most + 64))
small "a program of 2 MiB" <"$scratch/last"
