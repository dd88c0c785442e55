#!/bin/sh
# SPDX-License-Identifier: MIT
#
# bench_run.sh - bench/run works: a micro-benchmark, a trace and a program have figures for each allocator in
# the JSON and a place in the tables; what is not there is named; a program that fails does not count; where
# results cannot be written is said before anything runs, and a signal costs nothing that was measured.
#
# It is NOT about the figures. Called by `make check`; takes top_builddir from the environment.
# Exit status: 0 all right, 1 not, 77 without python3.
set -eu

top=$(realpath "${top_srcdir:-$(dirname "$0")/../..}")
build=$(realpath "${top_builddir:-$top/build}")
timeout=$(command -v timeout)
python=$(python3 -c "import sys; print(sys.executable)") ||
    { echo "bench_run.sh: skipped: there is no python3"; exit 77; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0

broken() {
    echo "bench_run.sh: $*"
    status=1
}

# compare ARG...: bench/run of this build within 10 minutes; leaves $code, out and err. A folder of compiled
# modules must not be left in the sources.
compare() {
    code=0
    PYTHONDONTWRITEBYTECODE=1 "$timeout" 600 "$python" "$top/bench/run" --quick -r 1 --alloc glibc,besom \
        --micro "$build/bench/micro" --replay "$build/bench/replay" --launcher "$build/besom" \
        --besom "$build/libbesom.so" "$@" >"$tmp/out" 2>"$tmp/err" || code=$?
}

# The shell is there wherever this runs.
compare --only pair-32,trace-git,program-bash --json "$tmp/json"
[ "$code" -eq 0 ] || broken "exit status $code: $(cat "$tmp/err")"
python3 - "$tmp/json" <<'PY' || status=1
import json, sys
runs = json.load(open(sys.argv[1]))["runs"]
got = {(run["benchmark"], run["allocator"]) for run in runs}
for benchmark in ("pair-32", "trace-git", "program-bash"):
    for allocator in ("glibc", "besom"):
        if (benchmark, allocator) not in got:
            sys.exit(f"bench_run.sh: no run of {benchmark} under {allocator}")
for run in runs:
    for field in ("ns_per_op", "peak_kib", "mean_kib", "cpu_seconds", "minor_faults", "whole_seconds"):
        if not run[field] > 0:
            sys.exit(f"bench_run.sh: {run['benchmark']} under {run['allocator']}: {field} is {run[field]}")
PY
for words in '^program-bash, ms ' '^trace-git ' 'over 2 programs and traces' 'over 1 micro-benchmarks'; do
    grep -q "$words" "$tmp/out" || broken "no '$words' in: $(cat "$tmp/out")"
done

compare --only nonsense
if [ "$code" -ne 2 ] || ! grep -q 'no benchmark is called nonsense' "$tmp/err"; then
    broken "a wrong name ends with $code: $(cat "$tmp/err")"
fi

compare --only ''
if [ "$code" -ne 2 ] || ! grep -q "no benchmark is called ''" "$tmp/err"; then
    broken "an empty name ends with $code: $(cat "$tmp/err")"
fi
for words in "--csv /no/where/c" "--json $tmp" "--plot /proc/none"; do
    # shellcheck disable=SC2086
    compare --only pair-32 $words
    if [ "$code" -ne 2 ] || [ -s "$tmp/out" ] || ! grep -q "error: cannot " "$tmp/err"; then
        broken "$words ends with $code: $(cat "$tmp/err")"
    fi
done
compare --only pair-32 --csv /dev/full
if [ "$code" -ne 1 ] || ! grep -q '^pair-32' "$tmp/out" || ! grep -q 'cannot write' "$tmp/err"; then
    broken "a full disk ends with $code: $(cat "$tmp/out" "$tmp/err")"
fi

# A benchmark that every allocator has run, and one during which a signal comes.
cat >"$tmp/micro" <<END
#!/bin/sh
case \$1 in
--list) printf 'fast\tends\nslow\tdoes not\n' ;;
--which) exec "$build/bench/micro" --which ;;
fast) sleep 0.1; echo 'fast 10 0.001 100.0 2000 1000' ;;
slow) touch "$tmp/started"; exec sleep 1000 ;;
esac
END
chmod +x "$tmp/micro"
mkdir "$tmp/scratch"
TMPDIR=$tmp/scratch "$timeout" 600 "$python" -B "$top/bench/run" -r 1 --alloc glibc,besom --only fast,slow \
    --traces "$tmp/scratch" --launcher /no/launcher --micro "$tmp/micro" --besom "$build/libbesom.so" \
    --json "$tmp/cut" >"$tmp/out" 2>"$tmp/err" &
until [ -e "$tmp/started" ] || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
kill -TERM "$(cat "/proc/$!/task/$!/children")"
code=0
wait $! || code=$?
if [ "$code" -ne 143 ] || ! grep -q '^fast' "$tmp/out" || grep -q '^slow' "$tmp/out" ||
    ! grep -q 'interrupted after 2 runs' "$tmp/err" || [ ! -s "$tmp/cut" ]; then
    broken "a signal ends with $code: $(cat "$tmp/out" "$tmp/err")"
fi
[ -z "$(ls "$tmp/scratch")" ] || broken "a signal leaves $(ls "$tmp/scratch")"

# A program that fails, and one that is not there: what it calls is not in PATH, or not itself.
mkdir "$tmp/bin"
for tool in bash cat sh sort tr; do
    path=$(command -v "$tool") && ln -s "$path" "$tmp/bin/$tool"
done
printf '#!/bin/sh\ncat >/dev/null\necho no such sum >&2\nexit 3\n' >"$tmp/bin/sha256sum"
chmod +x "$tmp/bin/sha256sum"
path=$PATH PATH=$tmp/bin
compare --only program-bash
PATH=$path
if [ "$code" -ne 1 ] ||
    ! grep -q 'failed: .*program-bash  besom: exit status 3: no such sum' "$tmp/err"; then
    broken "a program that fails ends with $code: $(cat "$tmp/err")"
fi
grep -q 'program-perl is left out: no perl; apt-get install perl' "$tmp/err" ||
    broken "a program that is not there is not named: $(cat "$tmp/err")"
exit $status
