#!/bin/sh
# SPDX-License-Identifier: MIT
#
# icount.sh [--update | --print] [NAME...] - how many of libbesom.so's instructions an operation of
# each single-threaded benchmark of build/bench/micro executes, and those of a process that does
# nothing ("start"), counted by callgrind, against tests/scripts/icount.txt. More than the slack allows fails, and says which path, by how much and
# where they are spent; fewer is said and passes. Threads are not counted: how they meet is chance.
#
# Counted is what the measured section (bs_bench_start to bs_bench_stop) executes inside
# libbesom.so, by the main thread. So it is all the same which memcpy libc chose for the processor,
# where things lie, how large the environment is and what starting costs. What depends on time, on
# the cgroup or on the kernel's huge pages is switched off; with background:off the counted thread
# does the helper's sweeps itself. Instructions are not time: bench/run measures that.
#
#   tests/scripts/icount.sh --update     writes the golden file anew (say why in the commit)
#   tests/scripts/icount.sh --print      prints what it would hold
#
# The numbers are gcc 12's; gcc 14's are at most as many, but for what the slack allows.
#
# Skipped aloud without valgrind and where another compiler, level of optimisation, debug level or
# processor would give other numbers. Two counts at a time, at most 600 s each. Exit status: 0 within
# the slack, 1 not, 2 wrong use, 77 skipped.
set -eu

top=$(realpath "${top_srcdir:-$(dirname "$0")/../..}")
build=$(realpath "${top_builddir:-$top/build}")
lib=$(realpath "${BESOM_LIB:-$build/libbesom.so}")
golden=$top/tests/scripts/icount.txt
conf=background:off,scavenge:off,thp:system,limit:off

# shellcheck disable=SC1091  # read on its own
. "$(dirname "$0")/golden_helpers.sh"

# count NAME SCALE OUT: runs one benchmark in the folder OUT and leaves there what its measured
# section executed, "FUNCTION INSTRUCTIONS", as counts, and the number of its operations as ops. The
# environment is empty, but for what is said here, and so is the folder: no .valgrindrc is read.
count() {
    mkdir -p "$3"
    cd "$3"
    part=out.2-01
    if [ "$1" = start ]; then
        part=out-01
        set -- "$build/bench/starter" nothing
    else
        set -- "$build/bench/micro" "$1" "--scale=$2"
    fi
    env -i PATH="$PATH" LD_PRELOAD="$lib" BESOM_CONF="$conf" timeout 600 \
        valgrind --tool=callgrind --separate-threads=yes --compress-strings=no \
        --callgrind-out-file=out --dump-before=bs_bench_start --dump-before=bs_bench_stop \
        "$@" >stdout 2>stderr || return 1
    # The line after "calls=" holds what the callee and all below it cost, which is counted there.
    awk -v object="ob=$lib" '
        /^ob=/ { ours = $0 == object; next }
        /^fn=/ { function_name = substr($0, 4); next }
        /^calls=/ { below = 1; next }
        /^[-+*0-9]/ { if (ours && !below) cost[function_name] += $2; below = 0 }
        END { for (name in cost) print name, cost[name] }' "$part" >counts || return 1
    [ -s counts ] || { echo "no instruction in $lib: was it preloaded?" >>stderr; return 1; }
    awk '{ n = $2 } END { print n ? n : 1 }' stdout >ops
    rm -f out*
}

if [ "${1-}" = --count ]; then # icount.sh --count SCRATCH "NAME SCALE": from xargs below
    name=${3%% *}
    count "$name" "${3##* }" "$2/$name" || touch "$2/$name/failed"
    exit 0
fi

what=compare
case ${1-} in
--update | --print) what=${1#--} && shift ;;
-*) echo "usage: icount.sh [--update | --print] [NAME...]" >&2 && exit 2 ;;
esac
if [ "$what" = update ] && [ $# -gt 0 ]; then
    echo "icount.sh: --update counts all of them" >&2
    exit 2
fi

compiler=''
skip_other_compilers "$lib" 14 # which makes no more of them
[ "$what" != update ] || [ "$compiler" = 12 ] || skip "the golden file is gcc 12's, this is gcc $compiler"
command -v valgrind >/dev/null || skip "valgrind is not installed"
grep -q '^BS_DEBUG_LEVEL = 0$' "$build/Makefile" || skip "the numbers are those of debug level 0"

[ -x "$build/bench/micro" ] || { echo "icount.sh: there is no $build/bench/micro: make" && exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# Every benchmark has its line, so that a new one is not forgotten.
status=0
for name in $(env -i "$build/bench/micro" --list | cut -f 1); do
    grep -q "^$name " "$golden" ||
        { echo "icount.sh: $name has no line in tests/scripts/icount.txt" && status=1; }
done

wanted=" $* "
sed -n 's/^\([a-z][a-z0-9-]*\) \([0-9.][0-9.]*\) .*/\1 \2/p' "$golden" |
    while read -r name scale; do
        case $wanted in
        '  ' | *" $name "*) echo "$name $scale" ;;
        esac
    done >"$scratch/list"
[ -s "$scratch/list" ] || { echo "icount.sh: none is called $*" >&2 && exit 2; }
tr '\n' '\0' <"$scratch/list" |
    top_srcdir=$top top_builddir=$build BESOM_LIB=$lib xargs -0 -n 1 -P 2 "$0" --count "$scratch"

while read -r name scale; do
    if [ -e "$scratch/$name/failed" ]; then
        echo "icount.sh: $name --scale=$scale could not be counted:"
        tail -n 5 "$scratch/$name/stderr"
        exit 1
    fi
    awk -v name="$name" -v ops="$(cat "$scratch/$name/ops")" '
        { sum += $2 } END { printf "%s %.2f\n", name, sum / ops }' "$scratch/$name/counts"
done <"$scratch/list" >"$scratch/now" || { cat "$scratch/now" && exit 1; }

# renew: the golden file with the numbers of now in place of its own.
renew() {
    awk 'NR == FNR { now[$1] = $2; next }
        $1 in now && $2 != "-" { $4 = now[$1]; printf "%s %s %s %s\n", $1, $2, $3, $4; next }
        { print }' "$scratch/now" "$golden"
}

case $what in
print) renew && exit 0 ;;
update) renew >"$scratch/new" && cp "$scratch/new" "$golden" && exit 0 ;;
esac

better=0
while read -r name now; do
    line=$(sed -n "s/^$name [0-9.]* //p" "$golden")
    verdict=$(awk -v now="$now" -v slack="${line%% *}" -v was="${line##* }" 'BEGIN {
        change = 100 * (now / was - 1)
        word = change > slack ? "MORE" : change < -slack ? "fewer" : "same"
        printf "%s %s instructions an operation, %+.1f %% of %s, %s %% allowed",
            word, now, change, was, slack }')
    case $verdict in
    MORE*)
        status=1
        echo "icount.sh: $name: $verdict; most of them in:"
        sort -k 2,2nr "$scratch/$name/counts" | head -n 4 |
            awk -v ops="$(cat "$scratch/$name/ops")" '{ printf "    %10.1f %s\n", $2 / ops, $1 }'
        ;;
    fewer*)
        [ "$compiler" = 12 ] || continue
        better=$((better + 1))
        echo "icount.sh: $name: $verdict"
        ;;
    esac
done <"$scratch/now"
if [ "$status" -ne 0 ] || [ "$better" -gt 0 ]; then
    echo "icount.sh: if that is meant, say why in the commit: tests/scripts/icount.sh --update"
fi
[ "$status" -ne 0 ] || echo "icount.sh: $(wc -l <"$scratch/now") paths within what is allowed"
exit "$status"
