#!/bin/sh
# SPDX-License-Identifier: MIT
#
# quarantine.sh - scan:quarantine under real programs: they print what they print without, searches come to
# verdicts, most of what is freed is used again, and a report's parts add up. What a search promises is
# tests/check_quarantine.c's and tests/preload/quarantine_*.c's.
#
# Called by `make check`; takes BESOM_LIB, BESOM and CC from the environment. Exit status: 0 all right,
# 1 not, 77 skipped: no threads can be stopped here.
set -eu
export BESOM_LIMIT=off # no scan ends because the machine stalls for want of memory

: "${BESOM_LIB:?quarantine.sh: BESOM_LIB must name libbesom.so}" "${BESOM:?quarantine.sh: BESOM must name besom}"
tmp=$(mktemp -d)
server=
# shellcheck disable=SC2317
clean_up() {
    [ -z "$server" ] || kill "$server" 2>"$tmp/err" || true
    rm -rf "$tmp"
}
trap clean_up EXIT
status=0
count=0

broken() {
    echo "quarantine.sh: $*"
    status=1
}

# same NAME PROGRAM ARG...: its output with and without; its log in $tmp/log.NAME.*.
same() {
    name=$1
    shift
    count=$((count + 1))
    "$@" >"$tmp/want" 2>&1 || broken "$name: exit status $? without besom"
    timeout 400 "$BESOM" run -l "$BESOM_LIB" --scan -o "scan:quarantine,trace:scan,log_format:json,log:$tmp/log.$name.%p" \
        -- "$@" >"$tmp/got" 2>&1 || broken "$name: exit status $?: $(tail -n 3 "$tmp/got")"
    cmp -s "$tmp/want" "$tmp/got" || broken "$name: another output: $(diff "$tmp/want" "$tmp/got" | head -n 5)"
}

# judge WHAT CODE: python code over the lines of all logs of WHAT.
judge() {
    python3 - "$tmp"/log."$1".* <<END || broken "$1: $(cat "$tmp"/log."$1".* | head -c 1500)"
import json, sys
lines = [json.loads(l) for name in sys.argv[1:] for l in open(name)]
searches = [l for l in lines if l["event"] == "quarantine"]
done = [s for s in searches if s["verdict"] == "done"]
ends = [l for l in lines if l["event"] == "exit"]
parts = "live rounding cached held span_free pinned heap_dirty metadata outside remainder"
assert ends and all(e["rss"] == sum(e[p] for p in parts.split()) for e in ends)
assert all(s["held"] == s["released"] + s["kept"] for s in done)
$2
END
}

cat >"$tmp/big.py" <<'END'
import collections, json, re, threading
def work(n):
    x = [json.loads(json.dumps({str(i): [i] * 30 for i in range(300)})) for _ in range(n)]
    s = " ".join(str(k) for y in x for k in y)
    c = collections.Counter(re.findall(r"\d+", s))
    return len(c), sum(c.values())
print([work(40) for _ in range(3)])
got = []
threads = [threading.Thread(target=lambda: got.append(work(20))) for _ in range(3)]
for t in threads: t.start()
for t in threads: t.join()
print(got)
END
same python python3 "$tmp/big.py"
if grep -q -e '"unavailable"' -e '"blocked"' "$tmp"/log.python.*; then
    echo "quarantine.sh: SKIP: threads cannot be stopped here: $(grep -h '"quarantine"' "$tmp"/log.python.* | tail -n 1)"
    exit 77
fi
judge python '
assert len(done) >= 3
assert sum(s["released"] for s in done) > 10e6'

# What is free between blocks is no reason to hold more: 7.5 MB are alive in spans of 60 MB. (Each keeps its
# neighbour, just past whose end it begins.)
cat >"$tmp/sparse.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define N 60000
static char *block[N];
int main(void) {
    for (int i = 0; i < N; i++)
        memset(block[i] = malloc(1000), i, 1000);
    for (int i = 0; i < N; i++)
        if (i % 8 != 0) {
            free(block[i]);
            block[i] = NULL;
        }
    for (int i = 0; i < 100000; i++) {
        char *p = malloc(1000);
        memset(p, i, 1000);
        free(p);
    }
    puts("done");
}
END
"${CC:-cc}" -O1 -fno-builtin -o "$tmp/sparse" "$tmp/sparse.c"
same sparse "$tmp/sparse"
judge sparse '
assert len(done) >= 15
assert max(s["released"] for s in done[-10:]) < 6 * 2**20, [s["released"] for s in done]'

# Spans of six pages that a search has released are cut by those of four: what is left of them, two pages each, nobody
# needs, and goes back.
cat >"$tmp/mixed.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static char *live[8000], *other[100];
int main(void) {
    for (int i = 0; i < 8000; i++) {
        memset(live[i] = malloc(4600), 1, 4600);
        for (int k = 0; k < 4; k++) {
            char **p = &other[(i * 4 + k) % 100];
            free(*p);
            memset(*p = malloc(9000), 1, 9000);
        }
    }
    puts("done");
}
END
"${CC:-cc}" -O1 -fno-builtin -o "$tmp/mixed" "$tmp/mixed.c"
same mixed "$tmp/mixed"
judge mixed '
assert len(done) >= 15
assert ends[0]["scavenged_bytes"] > 2 * 2**20, ends[0]["scavenged_bytes"]'

cat >"$tmp/sqlite.py" <<'END'
import sqlite3
c = sqlite3.connect(":memory:")
c.execute("create table t(a integer primary key, b text)")
for r in range(2):
    c.executemany("insert or replace into t values(?,?)", ((i * 7 % 30000, "x" * (i % 200)) for i in range(60000)))
    print(c.execute("select count(*), sum(length(b)) from t").fetchone())
END
same sqlite python3 "$tmp/sqlite.py"
judge sqlite 'assert done and sum(s["released_blocks"] for s in done) > 10000'

if command -v perl >"$tmp/out"; then
    # shellcheck disable=SC2016  # perl's
    same perl perl -e 'my %h; for my $r (1 .. 2) { $h{$_ % 20000} = join(",", map { $_ * $r } 1 .. ($_ % 20))
        for 1 .. 100000; print scalar(keys %h), " ", join(" ", (sort values %h)[0 .. 3]), "\n" }'
    judge perl 'assert done'
fi

i=0
while [ $i -lt 300 ]; do
    echo "int f$i(int a, int b) { int s = 0; for (int i = 0; i < a; i++) { s += b * i + $i; if (s > 1000) s--; } return s; }"
    i=$((i + 1))
done >"$tmp/big.c"
same gcc "${CC:-cc}" -O2 -S -o - "$tmp/big.c"
judge gcc 'assert done and sum(s["released"] for s in done) > 1e6'

# redis writes its state, which is compared, after a load by itself: no client library is needed.
if command -v redis-server >"$tmp/out" && command -v redis-cli >"$tmp/out"; then
    count=$((count + 1))
    BESOM=$(realpath "$BESOM") BESOM_LIB=$(realpath "$BESOM_LIB")
    # A socket's name has 107 bytes at most, which the folder's own may have already.
    (cd "$tmp" && exec "$BESOM" run -l "$BESOM_LIB" --scan \
        -o "scan:quarantine,trace:scan,log_format:json,log:$tmp/log.redis.%p" -- \
        redis-server --port 0 --unixsocket redis --save '' --appendonly no) >"$tmp/redis.out" 2>&1 &
    server=$!
    cli() { (cd "$tmp" && exec redis-cli -s redis "$@"); }
    tries=0
    until cli ping >"$tmp/out" 2>&1 || [ $tries -eq 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    for seed in 1 2 3; do
        cli eval 'for i = 1, 20000 do redis.call("set", "key:" .. (i % 5000), string.rep("x", (i * ARGV[1]) % 300)) end
            return redis.call("dbsize")' 0 $seed >"$tmp/out"
    done
    sum=$(cli eval 'local n = 0 for i = 0, 4999 do n = n + redis.call("strlen", "key:" .. i) end return n' 0)
    want=$(awk 'BEGIN { for (i = 1; i <= 20000; i++) l[i % 5000] = i * 3 % 300; for (k in l) n += l[k]; print n }')
    [ "$(cat "$tmp/out")/$sum" = "5000/$want" ] || broken "redis: $(cat "$tmp/out") keys, $sum bytes, not $want"
    cli shutdown nosave >"$tmp/out" 2>&1 || true
    wait "$server" || broken "redis: exit status $?: $(tail -n 3 "$tmp/redis.out")"
    server=
    judge redis 'assert done and sum(s["released_blocks"] for s in done) > 10000'
fi
[ "$status" -ne 0 ] || echo "quarantine.sh: $count programs"
exit "$status"
