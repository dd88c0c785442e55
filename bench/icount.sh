#!/bin/sh
# SPDX-License-Identifier: MIT
#
# icount.sh [-b ICOUNT] [-n PAIRS] [-s SIZE,...] [LIBRARY...]
#
# Counts the instructions of malloc and of free on their short paths, per allocator. Each count is
# the difference of two runs under callgrind, of N and of 2N operations, so that start-up, the first
# filling of caches and the end of the process cancel out. A library that is not there or does not
# run under valgrind is named and makes the exit status 1; the word "glibc" stands for no library.
#
# Not a benchmark: instructions are exact and repeatable on a noisy machine, but they are not time.
# Refills that a pattern needs now and then are in the average; "pair" needs none.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
icount=$here/../build/bench/icount
npairs=64000
sizes=32,256,1024

usage() {
    echo "usage: bench/icount.sh [-b ICOUNT] [-n PAIRS] [-s SIZE,...] [LIBRARY|glibc ...]" >&2
    exit 2
}

while getopts b:n:s: option; do
    case $option in
    b) icount=$OPTARG ;;
    n) npairs=$OPTARG ;;
    s) sizes=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- "$here/../build/libbesom.so"

case $npairs in
'' | *[!0-9]*) usage ;;
esac
if [ "$npairs" -eq 0 ] || [ $((npairs % 64)) -ne 0 ]; then
    echo "icount.sh: -n $npairs: give a multiple of 64" >&2
    exit 2
fi
if [ ! -x "$icount" ]; then
    echo "icount.sh: there is no $icount; run ./bootstrap build, or give -b FILE" >&2
    exit 2
fi
if ! command -v valgrind >/dev/null; then
    echo "icount.sh: valgrind is not installed" >&2
    exit 2
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# count LIBRARY PATTERN SIZE N: prints "malloc free" instructions of that run.
# In callgrind's file, the line after "calls=" holds what the callee and all below it cost.
count() {
    preload=
    [ "$1" = glibc ] || preload=$(realpath "$1")
    LD_BIND_NOW=1 LD_PRELOAD=$preload timeout 300 valgrind --tool=callgrind \
        --callgrind-out-file="$scratch/out" "$icount" "$2" "$3" "$4" \
        >"$scratch/stdout" 2>"$scratch/stderr" || return 1
    # The dynamic linker goes on without a library it could not preload; a count must not.
    ! grep -q 'cannot be preloaded' "$scratch/stderr" || return 1
    awk '
        /^fn=/ {
            id = $1; sub(/^fn=/, "", id); sub(/\).*/, ")", id)
            if (NF > 1) name[id] = $2
            current = name[id]; next
        }
        /^cfn=/ {
            id = $1; sub(/^cfn=/, "", id); sub(/\).*/, ")", id)
            if (NF > 1) name[id] = $2
            next
        }
        /^calls=/ { below = 1; next }
        below && /^[-+*0-9]/ { cost[current] += $2; below = 0 }
        END {
            if (!cost["take_block"] || !cost["give_block"]) exit 1
            printf "%d %d\n", cost["take_block"], cost["give_block"]
        }' "$scratch/out"
}

failed=0
for library in "$@"; do
    if [ "$library" != glibc ] && [ ! -e "$library" ]; then
        echo "icount.sh: there is no $library; it is left out" >&2
        failed=1
        continue
    fi
    for pattern in pair batch; do
        for size in $(echo "$sizes" | tr , ' '); do
            if ! once=$(count "$library" "$pattern" "$size" "$npairs") ||
                ! twice=$(count "$library" "$pattern" "$size" $((2 * npairs))); then
                echo "icount.sh: $(basename "$library"): $pattern of $size B failed:" >&2
                grep 'cannot be preloaded' "$scratch/stderr" >&2 || tail -n 5 "$scratch/stderr" >&2
                failed=1
                continue
            fi
            echo "$once $twice" | awk -v n="$npairs" -v what="$pattern $size" \
                -v library="$(basename "$library")" '{
                m = ($3 - $1) / n; f = ($4 - $2) / n
                printf "%-28s %-10s instructions per malloc+free pair: %7.1f", library, what, m + f
                printf "  (malloc %.1f, free %.1f)\n", m, f
            }'
        done
    done
done
exit "$failed"
