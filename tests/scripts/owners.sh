#!/bin/sh
# SPDX-License-Identifier: MIT
#
# owners.sh - scan_owners: a report names the variable that a program's memory hangs on, with all that hangs there, and
# for each stack the variables that lead to what it allocated; in each way of searching, in text and JSON; and a real
# program's. Which word is whose, word for word, is tests/check_owners.c's.
#
# Called by `make check`; takes BESOM_LIB, BESOM and CC from the environment. Exit status: 0 all right, 1 not,
# 77 skipped: no threads can be stopped here.
set -eu
export BESOM_LIMIT=off # no scan ends because the machine stalls for want of memory

: "${BESOM_LIB:?owners.sh: BESOM_LIB must name libbesom.so}" "${BESOM:?owners.sh: BESOM must name besom}"
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0

broken() {
    echo "owners.sh: $*"
    status=1
}

cat >"$tmp/owner.c" <<'END'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "scans_in.h"
struct node { struct node *next, *before; char body[200]; };
struct { int unused[6]; struct node *list; } lists; /* not its first member */
void **table;
struct node *nothing;
__attribute__((noinline)) struct node *make_node(void) {
    return calloc(1, sizeof(struct node));
}
__attribute__((noinline)) void *make_value(void) {
    return calloc(1, 3000);
}
__attribute__((noinline)) void *make_buffer(void) {
    return calloc(1, 800000);
}
static void *wait_with_a_buffer(void *arg) {
    void *volatile buffer = make_buffer();
    pthread_barrier_wait(arg);
    for (;;)
        pause();
    return buffer;
}
int main(int argc, char **argv) {
    static pthread_barrier_t begun;
    pthread_t thread;
    (void)argc;
    for (int i = 0; i < 100000; i++) {
        struct node *n = make_node();
        n->next = lists.list;
        if (n->next != NULL)
            n->next->before = n;
        lists.list = n;
    }
    table = calloc(100, sizeof *table);
    for (int i = 0; i < 100; i++)
        table[i] = make_value();
    nothing = NULL;
    pthread_barrier_init(&begun, NULL, 2);
    pthread_create(&thread, NULL, wait_with_a_buffer, &begun);
    pthread_barrier_wait(&begun);
    for (int tries = 0; tries < 1200 && scans_in(argv[1]) < 3; tries++)
        usleep(50000);
    printf("%d\n", scans_in(argv[1]) >= 3);
    fflush(stdout);
    _exit(0); /* no scan at exit: the thread is still there */
}
END
# shellcheck disable=SC2086 # CC may have options
${CC:-cc} -g -O1 -pthread -I"$here" -o "$tmp/owner" "$tmp/owner.c"

# run OPTIONS: the program, with its log in $tmp/log. False: this machine stops no threads.
run() {
    rm -f "$tmp/log"
    timeout 200 "$BESOM" run -l "$BESOM_LIB" --scan -o "scan:leak,scan_interval:1,log:$tmp/log,log_format:json,$1" -- \
        "$tmp/owner" "$tmp/log" >"$tmp/out" 2>"$tmp/err" || broken "$1: exit status $?"
    if grep -q '"verdict":"unavailable"' "$tmp/log"; then
        echo "owners.sh: skipped: no threads can be stopped here"
        exit 77
    fi
}

# judge WHAT CODE: python code over `lines`, the symbolized JSON objects of the second scan: when the third is told, all of
# the second was.
judge() {
    "$BESOM" symbolize "$tmp/log" >"$tmp/named"
    python3 - "$tmp/named" <<END || broken "$1: $(grep -v '"module"' "$tmp/named" | tail -c 3000)"
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
done = [i for i, l in enumerate(lines) if l["event"] == "scan" and l["verdict"] == "done"]
lines = lines[done[1] : done[2]]
way = lines[0]["way"]
def named(l):
    return [s.get("function", "") for s in l.get("symbols", [])]
owners = {(named(l) or [l["kind"]])[0]: l for l in lines if l["event"] == "owner"}
def owned(function):
    """The report of the stack with that function, and the lines behind it."""
    l = next(l for l in lines if l["event"] == "owned" and function in named(l))
    return l, [b for b in lines if b["event"] == "owned_by" and b["number"] == l["number"]]
$2
END
}

checks='
assert way == want, way
total = next(l for l in lines if l["event"] == "owners")
assert total["bytes"] >= 100000 * 216 + 100 * 3000 + 800000 and total["other"] * 100 <= total["bytes"], total
by_list = owners["lists+0x18"]
assert by_list["blocks"] == 100000 and by_list["kind"] == "memory", by_list
assert owners["table"]["blocks"] == 101, owners["table"]
assert "nothing" not in owners
assert any(o["kind"] == "stack" and o["bytes"] >= 800000 for o in owners.values()), owners
for function, variable in ("make_node", "lists+0x18"), ("make_value", "table"):
    stack, by = owned(function)
    assert len(by) == stack["owners"] == 1 and named(by[0]) == [variable], (stack, by)
    assert by[0]["bytes"] == stack["bytes"] and by[0]["map"].endswith("/owner") , (stack, by)
assert owned("make_node")[0]["blocks"] == 100000
stack, by = owned("make_buffer")
assert by[0]["kind"] == "stack" and stack["bytes"] == 800000, (stack, by)
'
for way in concurrent copy; do
    run "sample:all,scan_owners:20,scan_way:$way"
    judge "$way" "want = \"$way\"$checks"
done
run "sample:all,scan_owners:1"
judge "one of them" '
assert len(owners) == 1 and "lists+0x18" in owners, owners
assert len([l for l in lines if l["event"] == "owned"]) == 1'
run "sample:64k"
judge "none is asked for" 'assert not owners and not any(l["event"].startswith("own") for l in lines)'
run "sample:64k,scan_owners:20"
judge "some blocks are sampled" '
assert owners["lists+0x18"]["blocks"] == 100000
stack, by = owned("make_node")
assert named(by[0]) == ["lists+0x18"] and 0.5 < stack["bytes"] / (100000 * 216) < 2, (stack, by)'

exit "$status"
