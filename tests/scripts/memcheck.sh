#!/bin/sh
# SPDX-License-Identifier: MIT
#
# memcheck.sh - what scan:leak reports at the end of real programs is lost for valgrind's memcheck as well:
# a stack of ours is found among memcheck's records of lost blocks, of the same program in a run of its own.
# Stacks are compared by the last 12 bits of their first four places, which do not depend on where a module
# was loaded. perl and java have some leaks when they end, and as before binutils 2.44 (with none both have to find
# none); for java, whose threads run on to its end, it is
# one of up to five runs.
# And memcheck finds no error in what besom does in a new thread.
#
# NOT ruby: at its end it unmaps its object heap and leaves what hung on it, several thousand blocks by its own
# reckoning and memcheck's; which of those a stale word still points to depends on where the heap lay.
#
# Called by `make check`; takes BESOM_LIB and BESOM from the environment. Exit status: 0 all right, 1 not,
# 77 skipped: no valgrind, or no program.
set -eu
export BESOM_LIMIT=off # no scan ends because the machine stalls for want of memory

: "${BESOM_LIB:?memcheck.sh: BESOM_LIB must name libbesom.so}" "${BESOM:?memcheck.sh: BESOM must name besom}"
command -v valgrind >/dev/null || { echo "memcheck.sh: SKIP: no valgrind"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0
count=0
some=no # program has lost anything

# judge WHAT LOG MEMCHECK...: 0 when each stack in our log is lost in one of memcheck's.
judge() {
    python3 - "$@" <<'PYTHON'
import re, sys
what, log, *memchecks = sys.argv[1:]
FRAMES = 4
lost, record = set(), None
for line in (line for path in memchecks for line in open(path, errors="replace")):
    line = re.sub(r"^==\d+== ?", "", line.rstrip("\n"))
    if " in loss record " in line:
        record = []
        is_lost = "still reachable" not in line
    elif record is not None:
        frame = re.match(r"\s+(?:at|by) 0x([0-9A-F]+):(.*)", line)
        # memcheck's malloc, which newer ones know by its source
        if frame and not (re.search("vgpreload|vg_replace_malloc", frame[2]) and not record):
            record.append(int(frame[1], 16) & 0xfff)
        if not frame or len(record) == FRAMES:
            if is_lost:
                lost.add(tuple(record))
            record = None
scans = [l for l in open(log) if "] scan: " in l]
stacks = [l for l in open(log) if "] leak: " in l]
bad = 0
for line in stacks:
    frames = [int(f.split("+")[1], 16) & 0xfff for f in line.split(" frames ")[1].split()[:FRAMES]]
    # memcheck's end at main
    if not any(tuple(frames[:n]) in lost for n in range(2, FRAMES + 1)):
        bad += 1
        print("memcheck.sh: %s: not lost for memcheck: %s" % (what, line.rstrip()))
if not scans or " verdict done " not in scans[-1] or bool(stacks) != bool(lost):
    print("memcheck.sh: %s: %d scans, %d stacks, %d lost: %s" %
          (what, len(scans), len(stacks), len(lost), "".join(scans)))
    sys.exit(1)
print("memcheck.sh: %s: %d stacks, lost in %d runs of memcheck" % (what, len(stacks), len(memchecks)))
sys.exit(bad != 0)
PYTHON
}

# compare WHAT RUNS PROGRAM ARG...: RUNS is how often memcheck may look. It calls a block reachable that a stale
# word on some thread's stack names, and which words are there is chance where threads are many.
compare() {
    what=$1
    runs=$2
    shift 2
    count=$((count + 1))
    rm -f "$tmp/log" "$tmp"/memcheck.*
    if ! timeout 300 "$BESOM" run -l "$BESOM_LIB" --scan \
        -o "scan:leak,sample:all,scan_interval:0,log_stacks:200,log:$tmp/log" -- "$@" >"$tmp/out" 2>&1; then
        echo "memcheck.sh: $what: $(tail -n 5 "$tmp/out")"
        status=1
        return
    fi
    for run in $(seq "$runs"); do
        if ! timeout 300 valgrind --leak-check=full --show-leak-kinds=all --num-callers=12 \
            --log-file="$tmp/memcheck.$run" "$@" >"$tmp/out" 2>&1; then
            echo "memcheck.sh: $what under valgrind: $(tail -n 5 "$tmp/out")"
            status=1
            return
        fi
        bad=0
        judge "$what" "$tmp/log" "$tmp"/memcheck.* >"$tmp/judged" || bad=1
        [ "$bad" -ne 0 ] || break
    done
    cat "$tmp/judged"
    [ "$bad" -eq 0 ] || status=1
    ! grep -q ': [1-9][0-9]* stacks, lost' "$tmp/judged" || some=yes
}

if command -v perl >"$tmp/out"; then
    # shellcheck disable=SC2016
    compare perl 1 perl -e '$x{$_} = [$_] for 1 .. 300; print scalar keys %x'
fi
if command -v as >"$tmp/out"; then
    printf '.text\n.globl f\nf: ret\n' >"$tmp/f.s"
    compare as 1 as "$tmp/f.s" -o "$tmp/f.o"
fi
if command -v javac >"$tmp/out"; then
    cat >"$tmp/Hello.java" <<'JAVA'
public class Hello {
    public static void main(String[] args) {
        int n = 0;
        for (int i = 0; i < 200000; i++)
            n += new int[10].length;
        System.out.println(n);
    }
}
JAVA
    javac -d "$tmp" "$tmp/Hello.java"
    # memcheck takes the second compiler's code for minutes; java ends by closing itself down
    compare java 5 java -XX:TieredStopAtLevel=1 -cp "$tmp" Hello
fi
# What a thread does on libbesom-scan.so before its first function is no error for memcheck.
if command -v perl >"$tmp/out" && perl -Mthreads -e 1 2>"$tmp/out" && [ -e "${BESOM_LIB%.so}-scan.so" ]; then
    count=$((count + 1))
    # shellcheck disable=SC2016
    LD_PRELOAD=${BESOM_LIB%.so}-scan.so timeout 300 valgrind -q --error-exitcode=9 \
        perl -Mthreads -e 'threads->create(sub { 6 * 7 })->join' >"$tmp/out" 2>&1 ||
        { echo "memcheck.sh: a thread under valgrind: $(grep -v sigprocmask "$tmp/out" | head -n 5)"; status=1; }
fi
[ "$count" -ne 0 ] || { echo "memcheck.sh: SKIP: no program here"; exit 77; }
[ "$some" = yes ] || { echo "memcheck.sh: no program has lost anything"; status=1; }
exit "$status"
