#!/bin/sh
# SPDX-License-Identifier: MIT
#
# bench_usage.sh - the tools of bench/ beside bench/run (bench_run.sh), used wrongly: one line says what is wrong
# and what there is, and no traceback.
#
# Called by `make check`; takes top_builddir from the environment. Exit status: 0 all right, 1 not, 77 without
# python3.
set -eu

top=$(realpath "${top_srcdir:-$(dirname "$0")/../..}")
build=$(realpath "${top_builddir:-$top/build}")
python=$(command -v python3) || { echo "bench_usage.sh: skipped: there is no python3"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0
export PYTHONDONTWRITEBYTECODE=1 # no folder of compiled modules in the sources

# said CODE WORDS COMMAND...: with the exit status, the words on stderr, at most two lines.
said() {
    want=$1 words=$2 code=0
    shift 2
    timeout 300 "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || code=$?
    if [ "$code" -ne "$want" ] || { [ -n "$words" ] && ! grep -qF -- "$words" "$tmp/err"; } ||
        [ "$(wc -l <"$tmp/err")" -gt 2 ]; then
        echo "bench_usage.sh: $*: exit status $code, wanted $want and '$words': $(cat "$tmp/err")"
        status=1
    fi
}

floor="$python $top/bench/floor"
cat >"$tmp/alone" <<'END'
{"head": {"scale": 0.01}, "summary": {"program-x": {"glibc": {"peak_kib": {"median": 1}, "mean_kib": {"median": 1}}},
 "pair-32": {"besom": {"peak_kib": {"median": 1}, "mean_kib": {"median": 1}}}}}
END
echo '[]' >"$tmp/list"
echo 'round,benchmark' >"$tmp/csv"
# shellcheck disable=SC2086
{
    said 2 "cannot read '$tmp/none': No such file" $floor "$tmp/none"
    for file in list csv; do
        said 2 "'$tmp/$file' is not what bench/run writes with --json" $floor "$tmp/$file"
    done
    said 2 "that another allocator than besom has run" $floor "$tmp/alone"
    said 0 "" $floor --help
}

pauses="$python $top/bench/pauses.py"
# shellcheck disable=SC2086
{
    said 2 "no folder of a build is given" $pauses
    said 2 "there is no /no/such/besom: give the folder of a build" $pauses /no/such costs
    said 2 "nothing is called nonsense; there are pauses, costs," $pauses "$build" nonsense
    said 2 "no program is called nonsense; there are python3," $pauses "$build" quarantine nonsense
    said 0 "" $pauses --help
}

peers=$top/bench/newer-peers
cd "$tmp"
said 1 "no option is called --nonsense" "$peers" --nonsense
said 1 "one folder at most, not: a b" "$peers" a b
said 1 "its path has a blank, a colon or a comma" "$peers" "a b"
said 0 "" "$peers" --help
[ "$(ls)" = "$(printf 'alone\ncsv\nerr\nlist\nout')" ] || { echo "bench_usage.sh: left $(ls)"; status=1; }
exit $status
