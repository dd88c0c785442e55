#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run-preload.sh PROGRAM [ARG...]: runs one promise or stress program with the library under test
# preloaded for that program only, and judges its exit status and its output. It is automake's
# LOG_COMPILER for tests/preload and tests/stress; it is NOT a way to start programs of users
# (that is `besom run`).
#
# The library is $BESOM_LIB, else the build's own. $BESOM_CONF of the caller is put before the
# program's own options, so that the whole suite can run under, say, background:off; other BESOM_*
# settings of the caller are dropped. Beside the source there may be PROGRAM.conf, a line each:
#   env NAME=VALUE    environment of the program
#   args WORD...      its arguments, when none are given on the command line
#   exit N|SIGNAME    the status expected (0 without this line)
#   stderr REGEX      a line expected; with such lines every line must match one (grep -E).
#                     Without any, and with `nostderr`, stderr must be empty
#   lines N           exactly N lines on stderr
#   stdout REGEX      a line expected on stdout, among others
#   timeout SECONDS   instead of 400: what takes 4 s alone took more than 60 on a busy machine
#   besom             only besom promises this: skip under another library
#   library NAME      a library of the tests' instead, from tests/preload
#   scan              libbesom-scan.so instead, from beside the build's own library
# Exit status: 0 kept, 1 broken, 77 skipped (the reason is printed), 99 cannot judge.
set -eu

say() { printf '%s: %s\n' "$name" "$*"; }
give_up() { say "ERROR: $*"; exit 99; }
broken() { say "FAILED: $*"; status=1; }

[ $# -ge 1 ] || { echo "usage: run-preload.sh PROGRAM [ARG...]" >&2; exit 99; }
case $1 in */*) program=$1 ;; *) program=./$1 ;; esac
shift
name=$(basename "$program")
[ -x "$program" ] || give_up "$program is not a program; build it first"
here=$(cd "$(dirname "$0")" && pwd)
builddir=$(cd "$(dirname "$program")" && pwd)/../..

lib=
for candidate in ${BESOM_LIB:+"$BESOM_LIB"} "$builddir/preload/.libs/libbesom.so" \
    "$builddir/libbesom.so" ../preload/.libs/libbesom.so ../libbesom.so; do
    [ -r "$candidate" ] || { [ "$candidate" != "${BESOM_LIB-}" ] || break; continue; }
    lib=$(realpath "$candidate")
    break
done
[ -n "$lib" ] || give_up "no library ${BESOM_LIB:-libbesom.so}; run make, or set BESOM_LIB"

conf=
for candidate in "$here/$name.conf" "$here/../stress/$name.conf"; do
    [ ! -r "$candidate" ] || conf=$candidate
done

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 99' HUP INT TERM
: >"$tmp/patterns"
: >"$tmp/stdout-patterns"
args=$* want=0 want_word=0 limit_s=400 lines='' own_conf='' besom_only=no
set --

read_line() {
    key=${1%% *} value=${1#* }
    case $key in
    '#'* | '') ;;
    args) [ -n "$args" ] || args=$value ;;
    exit) want_word=$value ;;
    stderr) printf '%s\n' "$value" >>"$tmp/patterns" ;;
    stdout) printf '%s\n' "$value" >>"$tmp/stdout-patterns" ;;
    nostderr) ;;
    lines) lines=$value ;;
    timeout) limit_s=$value ;;
    besom) besom_only=yes ;;
    library) lib=$(realpath "$builddir/tests/preload/.libs/$value") ;;
    scan) lib=$(realpath "$builddir/preload/.libs/libbesom-scan.so") ;;
    *) give_up "$conf: unknown word \"$key\"; the head of run-preload.sh lists them" ;;
    esac
}

if [ -n "$conf" ]; then
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        'env BESOM_CONF='*) own_conf=${line#env BESOM_CONF=} ;;
        'env '*) set -- "$@" "${line#env }" ;;
        *) read_line "$line" ;;
        esac
    done <"$conf"
fi
case $want_word in
SIGABRT) want=134 ;;
SIGSEGV) want=139 ;;
SIGKILL) want=137 ;;
SIGALRM) want=142 ;;
SIGTERM) want=143 ;;
*[!0-9]* | '') give_up "$conf: exit $want_word is neither a number nor a signal known here" ;;
*) want=$want_word ;;
esac

case $(basename "$lib") in
libbesom*) ;;
*)
    [ "$besom_only" = no ] || {
        say "SKIP: a promise of besom alone, and the library is $lib"
        exit 77
    }
    ;;
esac

caller_conf=${BESOM_CONF-}
for setting in $(env | sed -n 's/^\(BESOM_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$setting"; done
# A machine that stalls for want of memory ends the copies of a scan, which is not what those tests are about.
case $own_conf in
*scan:* | *scan_*) own_conf=limit:off,$own_conf ;;
esac
both=$caller_conf${caller_conf:+${own_conf:+,}}$own_conf
[ -z "$both" ] || set -- "$@" "BESOM_CONF=$both"

# A core file would only be noise, and timeout would report it on the stderr that is judged.
ulimit -c 0
status=0 got=0
# The arguments of .conf are words without quoting, so splitting is meant.
# shellcheck disable=SC2086
timeout -k 5 "$limit_s" env LC_ALL=C "PROMISE_LIB=$lib" "LD_PRELOAD=$lib" "$@" \
    "$program" $args >"$tmp/stdout" 2>"$tmp/stderr" || got=$?
cat "$tmp/stdout"
# What scans and samples find the programs here see for themselves, and want no log of it.
sed -i '/^besom: option [a-z_]*: there is no log that would show it;/d' "$tmp/stderr"
sed 's/^/stderr| /' "$tmp/stderr"

[ "$got" -ne 77 ] || [ "$want" -eq 77 ] || exit 77
if [ "$got" -eq 124 ] || { [ "$got" -eq 137 ] && [ "$want" -ne 137 ]; }; then
    broken "still running after $limit_s s (or killed): a deadlock, or far too slow"
elif [ "$got" -ne "$want" ]; then
    broken "exit status $got, expected $want ($want_word)"
fi
while IFS= read -r pattern; do
    grep -E -q -e "$pattern" "$tmp/stderr" || broken "no line on stderr matches: $pattern"
done <"$tmp/patterns"
while IFS= read -r pattern; do
    grep -E -q -e "$pattern" "$tmp/stdout" || broken "no line on stdout matches: $pattern"
done <"$tmp/stdout-patterns"
if [ ! -s "$tmp/patterns" ]; then
    [ ! -s "$tmp/stderr" ] || broken "stderr is not empty"
elif grep -E -v -q -f "$tmp/patterns" "$tmp/stderr"; then
    broken "stderr has a line that nothing in $conf expects"
fi
if [ -n "$lines" ] && [ "$(wc -l <"$tmp/stderr")" -ne "$lines" ]; then
    broken "$(wc -l <"$tmp/stderr") lines on stderr, expected $lines"
fi
exit "$status"
