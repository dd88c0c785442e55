#!/bin/bash
# SPDX-License-Identifier: MIT
#
# older.sh - what searches do on kernels before 6.7, as Debian 12's: pages are asked for one by one, nothing notes
# what is written, so scan:leak searches in place or in a copy, and the quarantine as with quarantine_mode:sound. Both
# come to verdicts, by no way that such a kernel does not have; and the unit tests of what asks the kernel hold. The
# kernel's newer calls are refused by a filter (older.c), so this runs on any.
#
# Called by `make check`. Exit status: 0 it holds, 1 not, 77 skipped.
set -u
here=$(cd "$(dirname "$0")" && pwd)
besom=${BESOM:-$here/../../build/besom}
units=${top_builddir:-$here/../../build}/tests
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
status=0
fail() { echo "older.sh: $*" && status=1; }

"${CC:-cc}" -O1 -o "$scratch/older" "$here/older.c" || exit 1
"$scratch/older" true || { echo "older.sh: skipped, the kernel takes no filter" && exit 77; }

for unit in check_roots check_dangling check_snapshot; do
    [ -x "$units/$unit" ] || continue
    "$scratch/older" sh "$here/run-unit.sh" "$units/$unit" >"$scratch/out" 2>&1 || fail "$unit: $(cat "$scratch/out")"
done

# Two threads with 60 MB of strings, which are replaced again and again: on a newer kernel the quarantine's searches are
# concurrent then.
cat >"$scratch/program.py" <<'END'
import threading, time
end = time.time() + 4
def work():
    kept = [None] * 150000
    i = 0
    while i < 300000 or time.time() < end:
        kept[i % 150000] = b"x" * (100 + i % 200)
        i += 1
threads = [threading.Thread(target=work) for _ in range(2)]
for t in threads: t.start()
for t in threads: t.join()
print("done")
END

# ways OPTIONS EVENT WAY...: such events have a verdict, and each one of these ways.
ways() {
    local options=$1 event=$2 log=$scratch/log
    shift 2
    rm -f "$log"
    PYTHONMALLOC=malloc timeout 120 "$scratch/older" "$besom" run -o "limit:off,log:$log,$options" -- python3 "$scratch/program.py" >"$scratch/out" 2>&1
    [ "$(cat "$scratch/out")" = "done" ] || fail "$options: $(cat "$scratch/out")"
    grep -q " $event: .*verdict done" "$log" || fail "$options: no verdict: $(grep " $event: " "$log" | tail -n 1)"
    while read -r way; do
        case " $* " in *" $way "*) ;; *) fail "$options: way $way, not $*" ;; esac
    done < <(sed -n "s/.* $event: .*verdict done.* way \([a-z]*\) .*/\1/p" "$log" | sort -u)
}
ways scan:leak,scan_interval:1,scavenge_cpu:100 scan stopped copy
ways scan:quarantine,trace:scan quarantine sound copy
ways scan:quarantine,quarantine_mode:probabilistic,trace:scan quarantine probabilistic
exit "$status"
