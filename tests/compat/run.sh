#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh -- real, unmodified programs must behave the same on besom.
#
# Every programs/NAME.sh is run twice, plain and with the library preloaded, in an empty directory
# of the same name and in the same environment; stdout, stderr and exit status must be equal, and
# the plain run must succeed. That the library is really mapped in each program is read from the
# dynamic loader's own log in a third, short run. NOT a benchmark: times and sizes are printed for
# orientation.
#
# A program's file sets   what=      one line for the table: what is run
#                         packages=  Debian packages      commands=  what must be in PATH
#                         witnesses= programs in which the loader must report the library
#                         speed=     quick or full        limit_seconds=
# and defines             version(), workload(), and if needed prepare() (run once, plain, in
#                         $INPUT), normalise() (a filter for what differs by nature: times, pids),
#                         witness() (a short run of the witnesses, if version() is none), files=.
#
# Usage: run.sh [--quick | --full] [--only NAME] [--list] [--markdown FILE] [--keep]
# BESOM_LIB names the library (default: that of the build tree); every other BESOM_* variable is
# passed on to the programs. Exit status: 0 all equal, 1 some not, 2 usage, 99 no library.
set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
names=""
SPEED=quick
markdown=""
keep=no

die() {
    echo "compat: $2" >&2
    exit "$1"
}

program_names() {
    local path
    for path in "$here"/programs/*.sh; do
        basename "$path" .sh
    done
}

while [ $# -gt 0 ]; do
    case $1 in
    --quick) SPEED=quick ;;
    --full) SPEED=full ;;
    --only | --markdown)
        [ $# -gt 1 ] || die 2 "$1 needs a value"
        if [ "$1" = --only ]; then names="$names $2"; else markdown=$2; fi
        shift
        ;;
    --list)
        program_names
        exit 0
        ;;
    --keep) keep=yes ;;
    *) die 2 "unknown option $1; known: --quick --full --only NAME --list --markdown FILE --keep" ;;
    esac
    shift
done
if [ -z "$names" ]; then
    names=$(program_names)
    whole=yes
else
    whole=no
fi
for name in $names; do
    [ -e "$here/programs/$name.sh" ] || die 2 "no program $name; --list prints the names"
done

lib=${BESOM_LIB:-$top/build/libbesom.so}
[ -r "$lib" ] || die 99 "no library $lib; run ./bootstrap build or set BESOM_LIB"
lib=$(realpath -- "$lib")
unset LD_PRELOAD BESOM_LIB
passed_on=()
while IFS= read -r variable; do
    passed_on+=("$variable=${!variable}")
done < <(compgen -e BESOM_ || true)

work=$(mktemp -d /tmp/besom-compat.XXXXXX)
runner=""

finish() {
    if [ -n "$runner" ]; then
        kill -TERM "$runner" 2>/dev/null || true
        wait "$runner" 2>/dev/null || true
    fi
    if [ "$keep" = yes ]; then
        echo "compat: kept $work"
    else
        rm -rf "$work"
    fi
}
trap finish EXIT
trap 'exit 130' HUP INT TERM
chmod 755 "$work"
# What root may not be is run by another user (postgres), who cannot read what lies in /root.
if [ "$(id -u)" = 0 ] && ! setpriv --reuid 65534 --regid 65534 --clear-groups test -r "$lib" 2>/dev/null; then
    install -m 755 "$lib" "$work"
    lib=$work/${lib##*/}
fi

passed=0 failed=0 skipped=0
rows=$work/rows
: >"$rows"

# run_inside MODE FUNCTION [NAME=VALUE...]: a function of the program's file, in a fresh
# $dir/run, plain or preloaded; leaves $dir/MODE.{out,err,report}. Bounded by limit_seconds.
run_inside() {
    local mode=$1 function=$2 library=""
    shift 2
    [ "$mode" != besom ] || library=$lib
    rm -rf "$dir/run" "$dir/$mode.report"
    mkdir -p "$dir/run/home"
    chmod 1777 "$dir/run" "$dir/run/home"
    (
        cd "$dir/run"
        exec env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME="$dir/run/home" TMPDIR="$dir/run" \
            LC_ALL=C.UTF-8 TZ=UTC TERM=dumb TOP="$top" INPUT="$dir/input" \
            SPEED="$SPEED" COMPAT_PRELOAD="$library" "${passed_on[@]}" "$@" \
            /usr/bin/python3 "$here/measure.py" "$limit_seconds" "$dir/$mode.report" \
            "$dir/$mode.out" "$dir/$mode.err" /bin/bash "$here/inside.sh" "$file" "$function"
    ) &
    runner=$!
    wait "$runner" || true
    runner=""
    status=broken seconds=0 peak_kib=0
    [ ! -e "$dir/$mode.report" ] || read -r status seconds peak_kib <"$dir/$mode.report"
}

# verdict WORD [REASON]: the line and the table's row of a program.
verdict() {
    printf '%-4s %-11s %-28s %6s s%s\n' "$1" "$name" "${version:--}" "${took:--}" "${2:+  ($2)}"
    if [ "$1" = skip ]; then
        version=-
    fi
    printf '%s\t%s\t%s\t%s\t%s\n' "$name" "$version" "$what" "$1${2:+: $2}" "$rss" >>"$rows"
}

show() {
    sed 's/^/    /' "$1" | cut -c 1-200 | head -n "${2:-20}" >&2
}

lacking() {
    local word
    for word in $commands; do
        PATH=/usr/bin:/bin:/usr/sbin:/sbin command -v "$word" >/dev/null || echo "$word"
    done
    for word in $files; do
        [ -e "$word" ] || echo "$word"
    done
}

# The loader logs "initialize program: PROGRAM" and "calling init: LIBRARY", a file a process.
mapped_everywhere() {
    local program logs=$dir/loader
    rm -rf "$logs"
    mkdir -p "$logs"
    chmod 1777 "$logs"
    run_inside besom witness LD_DEBUG=libs LD_DEBUG_OUTPUT="$logs/log"
    for program in $witnesses; do
        if ! grep -lE "initialize program: (.*/)?$program\$" "$logs"/log.* 2>/dev/null |
            xargs -r grep -lF "calling init: $lib" | grep -q .; then
            reason="the library is not mapped in $program"
            return 1
        fi
    done
}

same_output() {
    local stream mode
    for stream in out err; do
        for mode in plain besom; do
            (cd "$dir" && bash "$here/inside.sh" "$file" normalise) <"$dir/$mode.$stream" \
                >"$dir/$mode.$stream.norm"
        done
        if ! diff -u --label plain --label besom "$dir/plain.$stream.norm" \
            "$dir/besom.$stream.norm" >"$dir/diff"; then
            reason="std$stream differs"
            show "$dir/diff" 40
            return 1
        fi
    done
}

# The three runs of one program; false with $reason at the first difference.
compare() {
    local plain_status plain_kib
    if ! mapped_everywhere; then
        show "$dir/besom.err"
        return 1
    fi
    run_inside plain workload
    plain_status=$status plain_kib=$peak_kib
    if [ "$status" != 0 ]; then
        reason="the plain run ends with $status after $seconds s"
        show "$dir/plain.err"
        return 1
    fi
    run_inside besom workload
    took=$seconds
    rss="$((plain_kib / 1024)) / $((peak_kib / 1024))"
    if [ "$status" != "$plain_status" ]; then
        reason="exit status $status, plain $plain_status, after $seconds s"
        show "$dir/besom.err" 40
        return 1
    fi
    same_output
}

run_program() {
    file=$here/programs/$name.sh
    dir=$work/$name
    what="" packages="" commands="" files="" witnesses="" speed=full limit_seconds=600
    version="" took="" rss="-" reason=""
    # shellcheck source=/dev/null
    . "$file"
    if [ "$whole$SPEED$speed" = yesquickfull ]; then
        return 0
    fi
    reason=$(lacking | tr '\n' ' ')
    if [ -n "$reason" ]; then
        skipped=$((skipped + 1))
        verdict skip "no ${reason% }; apt-get install $packages"
        return 0
    fi
    mkdir -p "$dir/input"
    chmod 755 "$dir"
    run_inside plain version
    version=$(head -n 1 "$dir/plain.out")
    run_inside plain prepare_in_input
    if [ "$status" != 0 ]; then
        show "$dir/plain.err"
        failed=$((failed + 1))
        verdict FAIL "prepare ends with $status"
    elif compare; then
        passed=$((passed + 1))
        verdict ok
    else
        failed=$((failed + 1))
        verdict FAIL "$reason"
    fi
    [ "$keep" = yes ] || rm -rf "$dir"
}

write_markdown() {
    {
        echo "# Compatibility"
        echo
        echo "Programs of Debian, unmodified, run plain and on besom by \`tests/compat/run.sh\`:"
        echo "output and exit status must be equal, and the loader must report the library in the"
        echo "program. Peak RSS is that of the largest single process of the run, in MiB, plain and"
        echo "on besom. Made by \`tests/compat/run.sh --$SPEED --markdown FILE\` on"
        echo "$(date -u +%Y-%m-%d), $(uname -m), Linux $(uname -r | cut -d- -f1), $(nproc) CPUs."
        echo
        echo "| program | version | what is run | result | peak RSS, MiB |"
        echo "|---|---|---|---|---|"
        awk -F '\t' '{ printf "| %s | %s | %s | %s | %s |\n", $1, $2, $3, $4, $5 }' "$rows"
    } >"$markdown"
}

for name in $names; do
    run_program
done
[ -z "$markdown" ] || write_markdown
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
