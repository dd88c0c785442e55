#!/bin/sh
# SPDX-License-Identifier: MIT
#
# planted.sh - leaks planted in C, in C++ (operator new, a container, a virtual object, a thread) and in an
# extension of python3 are found within two scans while the program runs, all of them and nothing
# else, each with the function that lost it in its stack.
#
# A program is scanned once a second, from its start on. It goes on until three more scans have come to a verdict
# than when it had lost all, a minute at most: on a busy machine the first one may come before, or be given up.
#
# Called by `make check`; takes BESOM_LIB, BESOM, CC and CXX from the environment. Exit status: 0 all
# right, 1 not, 77 skipped: no threads can be stopped here.
set -eu
export BESOM_LIMIT=off # no scan ends because the machine stalls for want of memory
export LC_ALL=C # or the first line may be bash's warning that there is no such locale

: "${BESOM_LIB:?planted.sh: BESOM_LIB must name libbesom.so}" "${BESOM:?planted.sh: BESOM must name besom}"
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0
count=0

# planted WHAT FUNCTION=LEAKS,... PROGRAM ARG...: the program says first how many scans there were when it had
# lost all.
planted() {
    what=$1 expected=$2 code=0
    shift 2
    rm -f "$tmp/log"
    PLANTED_LOG=$tmp/log timeout 300 "$BESOM" run -l "$BESOM_LIB" --scan \
        -o "scan:leak,scan_interval:1,scavenge_cpu:100,leak_age:0,sample:all,log_format:json,log_stacks:200,log:$tmp/log" \
        -- "$@" >"$tmp/out" 2>&1 || code=$?
    [ "$code" -eq 0 ] || { echo "planted.sh: $what: exit status $code: $(cat "$tmp/out")"; status=1; return 0; }
    if grep -q -e '"unavailable"' -e '"blocked"' "$tmp/log"; then
        echo "planted.sh: SKIP: threads cannot be stopped here"
        exit 77
    fi
    "$BESOM" symbolize "$tmp/log" >"$tmp/named"
    python3 - "$what" "$expected" "$tmp/named" "$(head -n 1 "$tmp/out")" <<'PYTHON' || status=1
import json, sys
what, expected, log, before = sys.argv[1:]
expected = {name: int(n) for name, n in (pair.split("=") for pair in expected.split(","))}
lines = [json.loads(l) for l in open(log)]
scans = [i for i, l in enumerate(lines)
         if l["event"] == "scan" and l["verdict"] == "done" and l["reason"] == "interval"]
after = scans[int(before):]
if len(after) < 3:
    sys.exit("planted.sh: %s: %d scans, %s of them too early" % (what, len(scans), before))
# The first of them may have been under way, and then it did not see all.
lost = [lines[i]["lost_blocks"] for i in after]
second = 1 if lost[0] == lost[1] else 2
found = {}
for l in lines[after[second] + 1:]:
    if l["event"] == "scan":
        break
    if l["event"] == "leak":
        functions = {f.get("function", "").split("(")[0] for f in l["symbols"]}
        name = next((n for n in expected if n in functions), "elsewhere: %s" % functions)
        found[name] = found.get(name, 0) + l["leaks"]
if found != expected:
    sys.exit("planted.sh: %s: %s, not %s" % (what, found, expected))
PYTHON
    count=$((count + 1))
}

cat >"$tmp/scans.h" <<'END_H'
#include <stdio.h>
#include <stdlib.h>
#include "scans_in.h"
static int scans(void) {
    return scans_in(getenv("PLANTED_LOG"));
}
static void wait_for_scans(void) {
    int before = scans();
    dprintf(1, "%d\n", before);
    for (int i = 0; i < 600 && scans() < before + 3; i++)
        usleep(100000);
}
END_H
cat >"$tmp/planted.c" <<'END_C'
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "scans.h"
void *used;
#define SITE __attribute__((noinline)) void
SITE lost_malloc(void) { used = malloc(100); memset(used, 0, 100); }
SITE lost_realloc(void) { used = realloc(malloc(10), 50000); memset(used, 0, 50000); }
SITE lost_aligned(void) { used = aligned_alloc(4096, 8192); memset(used, 0, 8192); }
SITE lost_string(void) { used = strdup("a string that is lost"); }
SITE lost_printed(void) { char *s; if (asprintf(&s, "%100d", 1) > 0) used = s; }
SITE lost_list(void) {
    void **head = NULL;
    for (int i = 0; i < 100; i++) {
        void **node = calloc(1, 32);
        *node = head;
        head = node;
    }
    used = head;
}
SITE lost_ring(void) {
    void **a = calloc(1, 32), **b = calloc(1, 48);
    a[1] = b;
    b[1] = a;
    used = a;
}
SITE lost_large(void) { used = calloc(1, 3000000); }
static __attribute__((noinline)) void wipe(void) {
    volatile char junk[16384];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}
int main(void) {
    lost_malloc(), lost_malloc(), lost_malloc();
    lost_realloc();
    lost_aligned();
    lost_string();
    lost_printed();
    lost_list();
    lost_ring();
    lost_large();
    used = malloc(200);
    wipe();
    wait_for_scans();
    return used == NULL;
}
END_C
${CC:-cc} -g -O1 -fno-builtin -I"$here" -o "$tmp/planted" "$tmp/planted.c"
planted C lost_malloc=3,lost_realloc=1,lost_aligned=1,lost_string=1,lost_printed=1,lost_list=1,lost_ring=1,lost_large=1 \
    "$tmp/planted"

cat >"$tmp/planted.cc" <<'END_CC'
#include <map>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>
#include "scans.h"
struct base {
    virtual ~base() {}
};
struct derived : base {
    std::string name = "a name that is too long for the object itself";
};
void *volatile used;
#define SITE __attribute__((noinline)) void
SITE lost_object() { used = new derived; }
SITE lost_array() { used = new int[1000](); }
SITE lost_map() {
    auto *m = new std::map<int, std::string>;
    for (int i = 0; i < 100; i++)
        (*m)[i] = std::string(50, 'x');
    used = m;
}
SITE lost_in_thread() {
    std::thread([] { lost_array(); }).join();
}
SITE lost_vector() { used = new std::vector<int>(1000); }
static __attribute__((noinline)) void wipe() {
    volatile char junk[16384];
    for (char volatile &c : junk)
        c = 0;
}
int main() {
    lost_object(), lost_object();
    lost_map();
    lost_in_thread();
    lost_vector();
    used = nullptr;
    wipe();
    wait_for_scans();
}
END_CC
${CXX:-c++} -g -O1 -pthread -I"$here" -o "$tmp/planted++" "$tmp/planted.cc"
planted C++ lost_object=2,lost_map=1,lost_array=1,lost_vector=1 "$tmp/planted++"

include=$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
if [ -r "$include/Python.h" ]; then
    cat >"$tmp/leaky.c" <<'END_PY'
#include <Python.h>
#define SITE __attribute__((noinline)) static PyObject *
SITE lost_raw(PyObject *self, PyObject *args) {
    void *volatile p = PyMem_RawMalloc(100);
    memset(p, 0, 100);
    p = NULL;
    Py_RETURN_NONE;
}
SITE lost_buffer(PyObject *self, PyObject *args) {
    void *volatile *volatile p = malloc(64);
    p[0] = calloc(1, 100000);
    p = NULL;
    Py_RETURN_NONE;
}
static PyMethodDef methods[] = {
    {"lost_raw", lost_raw, METH_NOARGS, NULL}, {"lost_buffer", lost_buffer, METH_NOARGS, NULL}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "leaky", NULL, -1, methods};
PyMODINIT_FUNC PyInit_leaky(void) { return PyModule_Create(&module); }
END_PY
    ${CC:-cc} -g -O1 -fno-builtin -fPIC -shared -I"$include" -I"$here" -o "$tmp/leaky.so" "$tmp/leaky.c"
    planted python3 lost_raw=50,lost_buffer=5 env PYTHONPATH="$tmp" python3 -c '
import leaky, os, time
for i in range(50): leaky.lost_raw()
for i in range(5): leaky.lost_buffer()
def scans():
    with open(os.environ["PLANTED_LOG"]) as log:
        return log.read().count("\"interval\",\"verdict\":\"done\"")
x = [str(i) for i in range(1000)]
before = scans()
print(before, flush=True)
end = time.time() + 60
while scans() < before + 3 and time.time() < end:
    time.sleep(0.1)'
else
    echo "planted.sh: no Python.h: the extension is left out"
fi
[ "$status" -ne 0 ] || echo "planted.sh: $count programs"
exit "$status"
