#!/bin/sh
# SPDX-License-Identifier: MIT
#
# leaks.sh - scan:leak under real programs: what leaks is named with its function, by the helper and at
# exit, in text and JSON, and what does not leak is not reported: interpreters and git have no leak while
# they run. Planted leaks in detail, and what a program notices, are tests/preload/scan_leaks.c's.
#
# Programs that are scanned while they run go on until their log has enough scans, a minute at most: on a
# busy machine some are given up.
#
# Called by `make check`; takes BESOM_LIB, BESOM and CC from the environment. Exit status: 0 all right,
# 1 not, 77 skipped: no threads can be stopped here.
set -eu
export BESOM_LIMIT=off # no scan ends because the machine stalls for want of memory

: "${BESOM_LIB:?leaks.sh: BESOM_LIB must name libbesom.so}" "${BESOM:?leaks.sh: BESOM must name besom}"
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0
count=0

broken() {
    echo "leaks.sh: $*"
    status=1
}

# run OPTIONS PROGRAM ARG...: with its log in $tmp/log, its exit status in $code.
run() {
    rm -f "$tmp/log"
    count=$((count + 1))
    code=0
    options=$1
    shift
    timeout 200 "$BESOM" run -l "$BESOM_LIB" --scan -o "scan:leak,log:$tmp/log,$options" -- "$@" \
        >"$tmp/out" 2>"$tmp/err" || code=$?
}

# judge WHAT CODE: python code over `lines`, the JSON objects of the log.
judge() {
    python3 - "$tmp/log" <<END || broken "$1: $(grep -v '"module"' "$tmp/log" | head -c 1500)"
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
scans = [l for l in lines if l["event"] == "scan"]
leaks = [l for l in lines if l["event"] == "leak"]
possible = [l for l in lines if l["event"] == "leak_possible"]
sizes = [l for l in lines if l["event"] == "leak_size"]
done = [s for s in scans if s["verdict"] == "done"]
by_time = [s for s in done if s["reason"] == "interval"]
# One that came before the program had lost all, as where it gets no CPU for a second.
early = len(by_time) > 0 and 0 <= by_time[0]["lost_blocks"] < 42
$2
END
}

cat >"$tmp/leaky.c" <<'END'
#include <stdlib.h>
#include "scans_in.h"
static void *kept, *inside;
__attribute__((noinline)) void leak_by_name(size_t bytes) {
    void **volatile p = calloc(1, bytes);
    ((void *volatile *)p)[1] = calloc(1, bytes);
    p = NULL;
}
__attribute__((noinline)) void *hold_inside(void) {
    return (char *)calloc(1, 3000) + 16;
}
__attribute__((noinline)) static void wipe(void) {
    volatile char junk[8192];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}
int main(int argc, char **argv) {
    kept = calloc(1, 5000);
    inside = hold_inside();
    for (int i = 0; i < 20; i++)
        leak_by_name(1000);
    leak_by_name(100000);
    wipe();
    for (int i = 0; i < 600 && argc == 3 && scans_in(argv[2]) < atoi(argv[1]); i++)
        usleep(100000);
    return kept == NULL || inside == NULL;
}
END
${CC:-cc} -g -O1 -fno-builtin -I"$here" -o "$tmp/leaky" "$tmp/leaky.c"

run log_format:json,scan_interval:0,sample:all "$tmp/leaky"
[ "$code" -eq 0 ] || broken "exit status $code: $(cat "$tmp/err")"
if [ "$(grep -c -e '"unavailable"' -e '"blocked"' "$tmp/log")" -ne 0 ]; then
    echo "leaks.sh: SKIP: threads cannot be stopped here: $(grep '"scan"' "$tmp/log")"
    exit 77
fi
judge "every block, at exit" '
assert len(scans) == 1 and scans[0]["reason"] == "exit"
assert scans[0]["leaks"] == 21 and scans[0]["indirect_blocks"] == 21
assert len(leaks) == 2 and not sizes
assert sorted(l["bytes"] for l in leaks) == [20000, 100000]
assert all(l["delta"] > 0 and l["newest"] < 60 for l in leaks)
assert len(possible) == 1 and possible[0]["bytes"] == 3000 and possible[0]["blocks"] == 1
assert scans[0]["interior_blocks"] == 1
'
run log_format:text,scan_interval:0,sample:all "$tmp/leaky"
grep '] scan: ' "$tmp/log" | grep -q ' time 2[0-9-]*T[0-9:]*\.[0-9]*Z$' ||
    broken "no time of day: $(grep '] scan: ' "$tmp/log")"
"$BESOM" symbolize "$tmp/log" | grep -q '#0 .*leak_by_name at .*leaky.c:5' ||
    broken "no name of the function: $("$BESOM" symbolize "$tmp/log" | grep -A3 leak:)"

"$BESOM" symbolize "$tmp/log" | grep -A1 '] leak_possible:' | grep -q 'hold_inside' ||
    broken "no name of what may be lost: $("$BESOM" symbolize "$tmp/log" | grep -A3 leak_poss)"

run leak_exit_code:23,scan_interval:0 "$tmp/leaky"
[ "$code" -eq 23 ] || broken "leak_exit_code: exit status $code"
run leak_exit_code:23,scan_interval:0 true
[ "$code" -eq 0 ] || broken "leak_exit_code without a leak: exit status $code"

# Without a helper there is none before the end, also where a report has made one.
for more in "" ,log_interval:60; do
    run "log_format:json,background:off,scan_interval:1$more" sh -c 'sleep 2.5; ls /proc/$$/task | wc -l'
    [ "$(cat "$tmp/out")" = "$((1 + ${#more} / 16))" ] || broken "background:off$more: $(cat "$tmp/out") threads"
    judge "background:off$more" '
assert scans and all(s["reason"] == "exit" for s in scans)
'
done

# Suppressions: by module in the program, by function afterwards.
printf '# all of it\nmodule:/leaky$\nnonsense\n' >"$tmp/rules"
run "log_format:json,leak_exit_code:23,scan_interval:0,sample:all,leak_suppressions:$tmp/rules" "$tmp/leaky"
[ "$code" -eq 0 ] || broken "suppressed leaks: exit status $code"
grep -q "rules:3: .*nonsense.* is wanted" "$tmp/err" || broken "a bad rule: $(cat "$tmp/err")"
judge "suppressed" '
assert scans[0]["suppressed"] == 21 and scans[0]["leaks"] == 0 and not leaks
rules = [l for l in lines if l["event"] == "suppression"]
assert len(rules) == 1 and rules[0]["line"] == 2 and rules[0]["leaks"] == 21
assert rules[0]["bytes"] == scans[0]["suppressed_bytes"] and rules[0]["rule"] == "module:/leaky$"
'
printf '# by name\nleak:^leak_by_n*\nleek:misspelt\nmodule:/other$\n' >"$tmp/rules"
for format in text json; do
    run log_format:$format,scan_interval:0,sample:all "$tmp/leaky"
    "$BESOM" symbolize -s "$tmp/rules" "$tmp/log" >"$tmp/out" 2>"$tmp/err"
    if grep -q -e '] leak:' -e '"event":"leak"' "$tmp/out" || ! grep -q -e '] stack:' -e '"event":"stack"' "$tmp/out" ||
        ! grep -q '2 leaks suppressed' "$tmp/err" ||
        [ "$(grep -c "rules:[0-9]*: .* ignored" "$tmp/err")" != 1 ] ||
        ! grep -q "rules:3: 'leek:misspelt' ignored: leak:PATTERN is wanted" "$tmp/err"; then
        broken "symbolize -s: $(cat "$tmp/out" "$tmp/err")"
    fi
done

run log_format:json,scan_interval:1,scavenge_cpu:100,leak_age:0,sample:1M "$tmp/leaky" 3 "$tmp/log"
judge "by size, while it runs" '
by_time = by_time[early:]
assert len(by_time) >= 2 and by_time[0]["leaks"] + by_time[0]["waiting"] == 21
assert all(s["leaks"] == 21 and s["lost_blocks"] == 42 for s in by_time[1:])
assert early or by_time[0]["leaks"] == 0
assert early or by_time[1]["delta"] == by_time[1]["bytes"] + by_time[1]["indirect"]
assert all(s["delta"] == 0 for s in by_time[2:])
assert sum(l["leaks"] for l in leaks + sizes) == sum(s["leaks"] for s in done)
'
run log_format:json,scan_interval:1,scavenge_cpu:100,leak_age:1h,sample:all "$tmp/leaky" 3 "$tmp/log"
judge "young leaks wait" '
by_time = by_time[early:]
assert len(by_time) >= 2 and all(s["leaks"] == 0 and s["waiting"] == 21 for s in by_time)
assert done[-1]["reason"] == "exit" and done[-1]["leaks"] == 21
'

run log_format:json,scan_interval:1,scavenge_cpu:100,leak_age:0 python3 -c '
import json, re, threading, time
end = time.time() + 60
def is_over():
    return open("'"$tmp/log"'").read().count("\"interval\",\"verdict\":\"done\"") >= 3 or time.time() > end
def work():
    kept = []
    while not is_over():
        kept.append(json.loads(json.dumps({str(i): [i] * 30 for i in range(300)})))
        kept = kept[-50:]
threads = [threading.Thread(target=work) for _ in range(3)]
for t in threads: t.start()
for t in threads: t.join()'
judge "python3" 'assert len(by_time) >= 2 and all(s["lost_blocks"] == 0 for s in by_time)'

if command -v git >"$tmp/out"; then
    run log_format:json,scan_interval:1,scavenge_cpu:100,leak_age:0 sh -c "
        git init -q '$tmp/git' && cd '$tmp/git'
        head -c 30000000 /dev/urandom >a
        git -c core.compression=1 add a && git -c user.name=n -c user.email=e commit -q -m m
        git gc -q && git fsck --no-progress"
    [ "$code" -eq 0 ] || broken "git: exit status $code: $(cat "$tmp/err")"
    judge "git" 'assert len(done) >= 3 and all(s["leaks"] == 0 for s in by_time)'
fi
[ "$status" -ne 0 ] || echo "leaks.sh: $count programs"
exit "$status"
