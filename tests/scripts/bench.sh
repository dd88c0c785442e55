#!/bin/sh
# SPDX-License-Identifier: MIT
#
# bench.sh - what `besom bench` says is what was: programs whose memory over time is known, alone,
# with children and with a child that left its parent, are measured right; a run that fails,
# differs, hangs or never got its allocator does not count; gates, files and exit statuses are what besom(1)
# promises; Ctrl-C keeps what was measured and leaves no process behind.
#
# It is NOT about wrong use and a machine that refuses (bench_errors.sh), who is faster (bench/), nor `besom run`
# (launcher/). `bench.sh PART...` runs only these parts.
# Called by `make check`; BESOM, BESOM_LIB, CC and top_builddir from the environment. Exit status:
# 0 all right, 1 not, 99 there is nothing to test.
# shellcheck disable=SC2317  # parts are called by their names, from "$@"
# shellcheck disable=SC1091,SC2034,SC2154  # bench_helpers.sh is read on its own
set -eu
. "$(dirname "$0")/bench_helpers.sh"

# --- what is measured -----------------------------------------------------------------------------

# The sampler's share of a CPU in the last run.
note_share() {
    python3 -c 'import json; r = json.load(open("j"))["runs"][0]; print(r["sampler_cpu_s"] / r["whole_s"])' >>shares
}

# The least of several, since a second that is stolen from the machine counts for who had the CPU; more on a machine
# on which python needs more than 60 ms to add a million numbers.
judge_shares() {
    python3 - <<'END' || broken "the sampler's share of a CPU"
import sys, time
def adding():
    begin = time.process_time()
    sum(range(1000000))
    return time.process_time() - begin
shares, slow = [float(line) for line in open("shares")], min(adding() for _ in range(5)) / 0.06
if min(shares) >= 0.08 * max(1, slow):
    sys.exit(f"bench.sh: shares of a CPU {shares}, {slow:.1f} times as slow as should be")
END
}

known_memory() {
    rm -f shares
    bench --alloc glibc -r 1 --json j -- "$steps" down
    ends "50 then 10 MiB" 0
    judge "50 then 10 MiB" '
skip_if_blind()
near("peak", mib("peak_kib"), 50.5, 1.5)
near("largest process", mib("process_peak_kib"), 51.5, 1.5)
near("end", mib("end_kib"), 10.5, 1.5)
near("mean, by its own account", mib("mean_kib"), float(open("told").read().split()[1]) + 0.5,
     2 + 40 * (0.15 + gap) / first["whole_s"])
near("minor faults", first["minor_faults"], 12800, 400)
assert first["status"] == 0 and 3.0 <= first["wall_s"] < 100, first["wall_s"]
assert first["processes"] == 1'
    note_share
    bench --alloc glibc -r 1 --json j -- "$steps" family
    judge "a child with 30 MiB more" '
skip_if_blind()
near("peak in PSS", mib("peak_kib"), 50.7, 2)
near("largest process", mib("process_peak_kib"), 51.5, 2)
assert first["processes"] == 2'
    note_share
    bench --alloc glibc -r 1 --json j -- "$steps" dead
    judge "a child with 30 MiB more beside a dead one" '
skip_if_blind()
near("peak in PSS", mib("peak_kib"), 130.7, 3)'
    note_share
    bench --alloc glibc -r 1 --json j --metric rss -- "$steps" family
    judge "the same as RSS, which counts 20 MiB twice" '
skip_if_blind()
near("peak in RSS", mib("peak_kib"), 72.5, 3)'
    note_share
    judge_shares
    bench --alloc glibc -r 1 --json j -- "$steps" orphan
    # Its share of common pages grows when the other process ends, of which no number but PSS itself tells;
    # PSS is read again when memory has changed by a quarter, or when 1 % of a CPU pays for it.
    judge "a process that left its parent" '
skip_if_blind()
near("peak in PSS", mib("peak_kib"), 50.7, 6)
assert first["processes"] in (2, 3), "the one in the middle may have been seen"'
}

servers() {
    bench --alloc glibc -r 1 --json j --for 1.5 --idle 4 -- "$steps" serve
    ends "a server" 0
    # Its program has 50 MiB from its first moments on until it has lived for three seconds.
    judge "a server" '
high = [at for at, kib in first["samples"] if kib > 45 * 1024] or [0]
skip_if_blind()
skip_if(high[0] > 1.2 or not 2 < high[-1] < 4.5, f"50 MiB from {high[0]:.1f} to {high[-1]:.1f} s")
near("end", mib("end_kib"), 50.5, 1.5)
near("idle", mib("idle_kib"), 10.5, 1.5)
near("time", first["wall_s"], 1.5, 1)
assert first["status"] == 15, first["status"]'
    bench --alloc glibc -r 1 --json j --stop INT --load "kill -0 \$BENCH_PID && sleep 0.3" -- \
        "$steps" serve
    judge "a load" '
assert 0.3 <= first["wall_s"] < 100, first["wall_s"]
assert first["status"] == 2, first["status"]'
    bench --alloc glibc -r 1 --load "sleep 0.1; exit 3" -- "$steps" serve
    ends "a load that fails" 1 "the load ended with exit status 3"
    bench --alloc glibc -r 1 --for 9 -- "$steps" sleep
    ends "a server that ends" 1 "ended by itself"
    none_left "a server"
}

allocators() {
    rm -f which
    bench --alloc glibc,besom,again=besom -r 3 --json j --env glibc:WHO=g --env besom:WHO=b \
        --env again:WHO=a -- "$steps" which
    ends "three allocators" 0
    [ "$(grep -c '^b .*libbesom\.so$' which)" = 3 ] || broken "besom did not answer: $(cat which)"
    [ "$(grep -c '^a .*libbesom\.so$' which)" = 3 ] || broken "again=besom did not answer"
    [ "$(grep -c '^g .*/libc\.so' which)" = 3 ] || broken "glibc did not answer: $(cat which)"
    [ "$(cut -c1 which | tr -d '\n')" = bagagbgba ] ||
        broken "the order does not rotate: $(cut -c1 which)"
    for name in glibc besom again; do
        grep -q "^$name .* (.*–.*)" out || broken "no row of $name: $(cat out)"
    done
    if ${CC:-cc} -static -o still steps.c 2>/dev/null; then
        bench --alloc besom -r 1 -- "$tmp/still" sleep 2
        ends "a static program" 1 "does nothing in '$tmp/still': it is a static executable"
        # too short to be looked at
        echo 'int main(void) { return 0; }' >short.c
        "${CC:-cc}" -static -o short short.c
        bench --alloc besom -r 1 -- "$tmp/short"
        ends "a short static program" 1 "does nothing in '$tmp/short': it is a static executable"
        bench --alloc besom -r 1 -- env -i "$tmp/still" sleep 2
        ends "a program that loses its environment" 1 "is not mapped in the command"
    else
        echo "bench.sh: skipped: a static program: no static libc (package libc6-dev)"
    fi
}

failures() {
    bench --alloc glibc,besom -r 2 -- sh -c 'echo why >&2; exit 5'
    ends "a command that fails" 1 "exit status 5: why"
    ends "a command that fails, at once" 1 "stopped: the first run of every allocator failed"
    bench --alloc glibc,besom -r 2 -i -- sh -c 'exit 5'
    ends "a failure that is expected" 0
    bench --alloc glibc,besom -r 1 -i -- "$steps" differ
    ends "exit statuses that differ" 1 "exit status 4"
    bench --alloc glibc,besom -r 1 -i --compare-output -- "$steps" differ output
    ends "output that differs" 1 "output differs from that under"
    bench --alloc glibc,besom -r 1 --compare-output -- sh -c 'echo same; sleep 0.2; (sleep 0.2; echo later) &'
    ends "output that is the same, and comes late" 0
    # It is not kept: a file of a limit's size, or a full folder for temporary files, would end the command.
    (ulimit -f 1000 && bench --alloc glibc,besom -r 1 --compare-output -- head -c 50000000 /dev/zero && echo "$code" >code)
    code=$(cat code)
    ends "output beyond what fits in a file" 0
    bench --alloc glibc -r 1 --timeout 0.3 -- "$steps" sleep 60
    ends "a command that hangs" 1 "did not end within 0.3 s"
    none_left "a command that hangs"
    bench --alloc glibc -r 1 -- sh -c "$steps sleep 60 & exit 0"
    ends "what outlives the command" 0
    grep -q 'outlived the command' out || broken "nothing is said of what outlived the command"
    none_left "what outlives the command"
    bench --alloc glibc -r 2 -w 1 --prepare 'echo p >>hooks' --cleanup 'echo c >>hooks' -- true
    [ "$(tr -d '\n' <hooks)" = pcpcpc ] || broken "prepare and cleanup: $(cat hooks)"
    bench --alloc glibc -r 1 --prepare 'exit 9' -- true
    ends "a preparation that fails" 1 "--prepare ended with exit status 9"
    bench --alloc glibc -r 1 --load 'kill -KILL $$' -- "$steps" sleep 60
    ends "a load that is killed" 1 "the load was killed by SIGKILL"
}

# --- results ---------------------------------------------------------------------------------

files() {
    bench --alloc glibc,besom -r 2 --csv c --json j --markdown m --plot p -- "$steps" sleep 1
    ends "all files" 0
    judge "JSON" '
import csv
rows = list(csv.DictReader(open("c")))
assert len(rows) == len(d["runs"]) == 4
assert [float(r["wall_s"]) for r in rows] == [r["wall_s"] for r in d["runs"]]
s = d["summary"]["glibc"]["wall_s"]
assert s["low"] <= s["median"] <= s["high"] and s["n"] == 2 and s["ratio"]["n"] == 2
assert all(len(r["samples"]) > 5 for r in d["runs"])
table = [l for l in open("m") if l.startswith("| ")]
assert len({l.count("|") for l in table[:3]}) == 1 and len(table) == 6, table'
    # how high its cells are depends on whose pages are shared at that moment
    [ "$(grep -acE '^(glibc|besom)  *[▁▂▃▄▅▆▇█]{40,}' out)" = 2 ] || broken "no sparklines: $(cat out)"
    if command -v gnuplot >/dev/null; then
        for plot in time mean memory scatter; do
            python3 -c 'import sys, xml.etree.ElementTree as e; e.parse(sys.argv[1])' "p/$plot.svg" ||
                broken "p/$plot.svg is no picture"
        done
    else
        echo "bench.sh: skipped: pictures: no gnuplot here (package gnuplot-nox)"
    fi
    mkdir few
    ln -s "$(python3 -c 'import sys; print(sys.executable)')" few/python3
    PATH=$tmp/few bench --alloc glibc -r 1 --plot q -- "$steps" sleep
    ends "without gnuplot" 0 "gnuplot is not installed"
    [ -s q/memory.gp ] || broken "no scripts without gnuplot"
    [ -s q/memory.dat ] || broken "no data without gnuplot"
    bench --alloc glibc -r 1 --csv - -- true
    [ "$(wc -l <out)" = 2 ] || broken "--csv -: $(cat out)"
    bench --alloc glibc -r 1 --csv /dev/full -- true
    ends "a full disk" 1 "cannot write '/dev/full'"
}

# gate JSON [SECONDS] ARG...: a run of steps whose results are judged by `besom bench` itself. A step lasts two
# seconds; false, aloud, where one was not looked at for most of that.
gate() {
    json=$1 seconds=2
    shift
    case $1 in [0-9]*) seconds=$1 && shift ;; esac
    bench --alloc glibc --json "$json" "$@" -- "$steps" down "$seconds"
    python3 - "$json" <<'END'
import json, sys
for run in json.load(open(sys.argv[1]))["runs"]:
    looks = [0] + [at for at, kib in run["samples"]] + [run["whole_s"]]
    gap = max(b - a for a, b in zip(looks, looks[1:]))
    if gap > 1.2:
        print(f"bench.sh: skipped: gates: no look at the memory for {gap:.1f} s: the machine is too busy")
        sys.exit(1)
END
}

gates() {
    measured_gates || true
    [ -e base ] || return 0
    refused "a baseline that is missing" "cannot read 'nothing'" --baseline nothing -- touch ran
    echo '{"format":"besom-bench-1","argv":["true"]}' >part
    refused "a baseline without a gate's figure" "has no figure for --gate idle" --alloc glibc --baseline base \
        --gate peak,idle -- touch ran
    refused "a baseline that is damaged" "'part' is damaged" --alloc glibc --baseline part -- touch ran
    python3 -c 'print("[" * 100000)' >deep
    refused "a baseline that is too deep" "is not JSON" --alloc glibc --baseline deep -- touch ran
    refused "a baseline of another kind" "besom bench --json wrote" --baseline steps.c -- touch ran
    refused "a baseline of others" "has none of besom" --alloc besom --baseline base -- touch ran
    refused "a baseline in PSS" "--metric pss" --alloc glibc --metric rss --baseline base -- \
        touch ran
}

measured_gates() {
    gate base -r 2 --max-rss 100M || return
    ends "below --max-rss" 0
    gate j -r 1 --max-rss glibc=20M || return
    ends "above --max-rss" 1
    grep -q 'Gate max-rss FAILED: glibc' out || broken "nothing is said of --max-rss: $(cat out)"
    gate j -r 2 --baseline base --gate peak,end --tolerance 15 || return
    ends "as the baseline" 0
    judge "as the baseline" 'assert [g["passed"] for g in d["gates"]] == [True, True], d["gates"]'
    python3 - <<'END'
import json
d = json.load(open("base"))
d["summary"]["glibc"]["peak_kib"]["median"] *= 0.8
json.dump(d, open("better", "w"))
END
    gate j -r 1 --baseline better --gate peak --tolerance 10 || return
    ends "worse than the baseline" 1
    grep -q 'Gate baseline FAILED: glibc, peak: .* +2[0-9].* %' out ||
        broken "no reason: $(cat out)"
    gate j 2.01 -r 1 --baseline better --gate peak --tolerance 40 || return
    ends "worse by less than the tolerance" 0
    grep -q 'baseline is of another command: .* down 2\.$' out ||
        broken "nothing is said of the other command: $(cat out)"
}

# SIGINT in the third run: two are written, the third is gone, and it has been cleaned up after.
interrupt() {
    : >log
    signalled INT "$steps sleep" --alloc glibc -r 9 --json j --csv c --prepare 'echo p >>log' --cleanup 'echo c >>log' \
        -- sh -c "[ \$(grep -c p log) -lt 3 ] || exec $steps sleep 60"
    ends "Ctrl-C" 130 "interrupted after 2 runs"
    judge "Ctrl-C" 'assert len(d["runs"]) == 2 and d["interrupted"] is True'
    [ "$(wc -l <c)" = 3 ] || broken "Ctrl-C: $(cat c)"
    [ "$(tr -d '\n' <log)" = pcpcpc ] || broken "Ctrl-C: hooks: $(cat log)"
    none_left "Ctrl-C"
}

# SIGKILL leaves nobody who could clean up but besom bench-child.
killed() {
    signalled KILL "$steps sleep 61" --alloc glibc -r 1 -- sh -c "setsid $steps sleep 60 & setsid -f $steps sleep 61; wait"
    ends "SIGKILL" -9
    none_left "SIGKILL"
    signalled KILL "$steps sleep 62" --alloc glibc -r 1 --load "setsid $steps sleep 62 & wait" -- "$steps" sleep 60
    none_left "SIGKILL in a load"
    signalled KILL "$steps sleep 63" --alloc glibc -r 1 --prepare "setsid $steps sleep 63 & wait" -- "$steps" sleep 60
    none_left "SIGKILL in a preparation"
}

# Who starts it ignores SIGCHLD, and a program inherits that: its status is known all the same.
without_sigchld() {
    env --ignore-signal=CHLD true 2>/dev/null || { echo "bench.sh: skipped: SIGCHLD: env is too old"; return; }
    count=$((count + 1))
    code=0
    env --ignore-signal=CHLD "$besom" bench --timeout 100 --alloc glibc -r 1 --json j -- "$steps" sleep >out 2>err ||
        code=$?
    ends "SIGCHLD ignored" 0
    judge "SIGCHLD ignored" 'assert first["status"] == 0, first'
}

arithmetic() {
    PYTHONDONTWRITEBYTECODE=1 python3 - "$top/tools/bench" <<'END' || broken "arithmetic"
import sys
sys.path.insert(0, sys.argv[1])
from child import last_line
from head import code, shown_command
from options import size_kib
from plot import bars
from report import sparkline, verdict
import sampler
from sampler import MAX_SAMPLES, Member, Sampler, Series, thinned
from stats import interval, summarize
assert interval([3]) == (3, 3, 0.0)
assert interval(list(range(1, 6))) == (1, 5, 0.9375)
low, high, coverage = interval([7, 1, 2, 3, 4, 5, 6])
assert (low, high) == (1, 7) and abs(coverage - 0.984375) < 1e-9
low, high, coverage = interval(list(range(1, 10)))
assert (low, high) == (2, 8) and coverage > 0.96, (low, high, coverage)
def series(*samples):
    s = Series()
    for at, kib in samples:
        s.add(at, kib)
    return s
assert series((0, 10), (1, 10), (1, 30), (3, 30)).mean(4) == (10 + 3 * 30) / 4
assert series((0, 0), (2, 20)).mean(2) == 10
assert series((1, 10), (3, 10)).mean(2) == 10 # what ended before the last look at it
assert series().mean(1) is None
# A long run keeps its mean and its peak, and not its samples.
long = series(*((i, 100 if i == 7777 else 2 * (i % 2)) for i in range(50000)))
assert abs(long.mean(50000) - 1) < 0.01 and long.peak == 100, (long.mean(50000), long.peak)
assert len(long.samples) <= MAX_SAMPLES and max(k for _, k in long.samples) == 100
assert [at for at, _ in long.samples] == sorted(at for at, _ in long.samples)
# What a process shares with one that has grown since is not its alone any more.
def smaps(anonymous, files, sharers):
    shared = 60 if sharers > 1 else 0
    pss = anonymous + files - shared + shared // sharers
    return f"Rss: {anonymous + files} kB\nPss: {pss} kB\nPss_Anon: {anonymous} kB\nAnonymous: {anonymous} kB\n"
tree = {7: (10, 60, 1)}
sampler.tree_of = lambda parent: [parent, *tree]
sampler.read_statm = lambda pid: [tree[pid][0] + tree[pid][1], tree[pid][1], pid]
sampler.read_proc = lambda pid, name: smaps(*tree[pid])
both = Sampler(1, 0)
assert both.sample() == 70
tree[8] = (1, 0, 1)
both.tree_seconds = 0 # the tree is walked again
assert both.sample() == 71
tree.update({7: (10, 60, 2), 8: (20, 80, 2)})
assert both.sample() == 110, both.sample()
one = Member([20, 10, 1], 1.0)
one.shared, one.files, one.own = 5, 10, 0.5
assert one.memory([30, 14, 1]) == 30 - 5 - 4 * 0.5
many = [[i, i % 7] for i in range(100)]
assert len(thinned(many, 10)) == 10 and max(k for _, k in thinned(many, 10)) == 6
assert sparkline([[0, 0], [4, 8]], 4, 8, 8, 8) == "▁▄▆█", sparkline([[0, 0], [4, 8]], 4, 8, 8, 8)
assert bars("svg", "mean", "title", "label", "mean_kib", {"glibc": {}})[1] == "" # no run was long enough
cell = dict.fromkeys(("median", "low", "high"), 1.0)
assert "xtics ('a''%%s' 0)" in bars("svg", "time", "title", "label", "wall_s", {"a'%s": {"wall_s": cell}})[1]
assert size_kib("1.5G") == 1.5 * 2**20 and size_kib("300MiB") == 300 * 1024
# What programs are called and say stays one line, and one piece of Markdown.
assert shown_command(["sh", "-c", "a\n\n'b'\x1b\udcff", "c d"]) == r"sh -c $'a\n\n\'b\'\x1b\xff' 'c d'"
assert code("sh -c `x`") == "`` sh -c `x` ``" and code("a ``` b") == "````a ``` b````"
assert last_line(b"one\n\x1b[31mtw\0o\x1b[0m\r10 %\r\n\n") == "10 %" and last_line(b"\x1b[1ma\0") == "a?"
from stats import KEYS
def run(round, name, value):
    return {**dict.fromkeys(KEYS), "round": round, "allocator": name, "wall_s": value}
# Ratios are of the same round: the machine is three times slower in the second.
s = summarize([run(1, "a", 1), run(1, "b", 2), run(2, "a", 3), run(2, "b", 6), run(3, "b", 9)],
              ["a", "b"], "a")
assert s["b"]["wall_s"]["ratio"]["low"] == s["b"]["wall_s"]["ratio"]["high"] == 2.0
assert s["b"]["wall_s"]["median"] == 6 and "mean_kib" not in s["a"]
s = summarize([run(1, "a", 1), run(1, "b", 2)], ["a", "b"], "a")
assert verdict(s, ["a", "b"], "a") == ["Fastest: a; the next, b, has 2.000 times a's, in a single round."], s
END
    count=$((count + 1))
}

# What is judged, and how it is said, over invented numbers.
judging() {
    PYTHONDONTWRITEBYTECODE=1 python3 - "$top/tools/bench" <<'END' || broken "judging"
import os, subprocess, sys, time
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import proc
from gates import baseline_gates, in_unit, max_rss_gates
from report import cell, coverage_text, sampling_text, shown, verdict
from rounds import Session
from sampler import Member
from stats import KEYS, interval, summarize, typical_run
def passed(gates):
    return [(g["allocator"], g["passed"]) for g in gates]
# The highest peak of all runs, as seen or as the kernel has it; no run keeps no limit.
runs = [{"allocator": "a", "peak_kib": 100, "process_peak_kib": 120}, {"allocator": "a", "peak_kib": None, "process_peak_kib": 80},
        {"allocator": "b", "peak_kib": 300, "process_peak_kib": None}]
assert passed(max_rss_gates([("a", 120), ("a", 119), ("", 300), ("c", 1)], runs, ["a", "b"])) == [
    ("a", True), ("a", False), ("a", True), ("b", True), ("c", False)]
# Of the medians, with the tolerance; what cannot be compared has not passed.
old = {"summary": {"a": {"wall_s": {"median": 10, "low": 9, "high": 11}}, "b": {}}}
def compared(median, low, high, tolerance=5):
    new = {"a": {"wall_s": {"median": median, "low": low, "high": high}}, "b": {"wall_s": {"median": 1}}}
    return list(baseline_gates(old, new, ["a", "b"], ["wall_s", "cpu_s"], tolerance))
for median, low, high, wanted, words in ((10.5, 10.2, 10.8, True, "overlap"), (10.51, 9, 12, False, "overlap"),
                                         (12, 11.5, 13, False, "apart"), (8, 7, 8.9, True, "apart"), (8, 7, 9, True, "overlap")):
    gates = compared(median, low, high)
    assert passed(gates) == [("a", wanted), ("a", None), ("b", None)], gates
    assert words in gates[0]["text"] and f"{10 * median - 100:+.1f} %" in gates[0]["text"], gates
assert passed(baseline_gates(old, {"a": {}}, ["a"], ["wall_s"], 5)) == [("a", False)]
assert (in_unit("peak_kib", 2048), in_unit("wall_s", 1.5), in_unit("minor_faults", 7)) == ("2.0 MiB", "1.500 s", "7")
# Six runs are the least of which the interval is no more than it covers.
assert [interval(list(range(n)))[:2] for n in (8, 9, 12)] == [(0, 7), (1, 7), (2, 9)]
assert typical_run([{"allocator": "a", "mean_kib": kib} for kib in (4, 1, None, 3, 2)], "a")["mean_kib"] == 2
assert typical_run([{"allocator": "a", "mean_kib": kib} for kib in (5, 4, 6)], "a")["mean_kib"] == 5
def summary(a, b):
    cells = [{**dict.fromkeys(KEYS), "round": i, "allocator": name, "wall_s": value}
             for name, values in (("a", a), ("b", b)) for i, value in enumerate(values)]
    return summarize(cells, ["a", "b"], "a")
assert summary([0], [2])["b"]["wall_s"]["ratio"] is None
assert summary([1, 0, None, 1], [3, 2, 5, None])["b"]["wall_s"]["ratio"]["n"] == 1
assert verdict(summary([1, 1, 1], [0.9, 1.1, 1.2]), ["a", "b"], "a") == [
    "Fastest: a; the next, b, has 1.100 (0.900–1.200) times a's, which may be chance."]
assert verdict(summary([1, 1], [0.5, 0.75]), ["a", "b"], "a") == ["Fastest: b has 0.625 (0.500–0.750) times a's."]
assert verdict(summary([1, 1], [2, 1]), ["a", "b"], "a")[0].endswith(", which may be chance.")
assert [shown("wall_s", x) for x in (0.1234, 1.234, 12.34, 999.96, 1234.6)] == ["0.123", "1.23", "12.3", "1000.0", "1235"]
assert [shown("mean_kib", 2048), shown("minor_faults", 7.0), shown("wall_s", 0.5, 20)] == ["2.00", "7", "0.5"]
entry = {"median": 1.0, "low": 0.9, "high": 1.1, "n": 3, "ratio": {"median": 2}}
assert cell(entry, "wall_s", False) == "1.00 (0.90–1.10) ×2.00" and cell(entry, "wall_s", True) == "1.00 (0.90–1.10)"
assert cell({**entry, "n": 1}, "wall_s", True) == "1.00" and cell(None, "wall_s", True) == "–"
covers = {"a": {"wall_s": {"coverage": 0.96}}, "b": {"wall_s": {"coverage": 0.5}}}
assert "covers 50 %" in coverage_text(covers, 2, "a") and "no intervals" in coverage_text(covers, 1, "a")
text = sampling_text([{"whole_s": 2, "nsamples": 20, "sampler_cpu_s": 0.1}, {"whole_s": 8, "nsamples": 0, "sampler_cpu_s": 0}], "pss")
assert "every 100 ms, for 1.0 % of a CPU" in text, text
# The first run of all says what is right; what a server ends with says nothing.
session = Session.__new__(Session)
for server in (False, True):
    seen = {}
    session.args = SimpleNamespace(phases=SimpleNamespace(is_server=server))
    said = [session.differs(name, value, seen, "ended with ") for name, value in (("a", "0"), ("b", "0"), ("b", "1"), ("a", "1"))]
    assert said == (["", "", "ended with 1, but 0 under a", "ended with 1, but 0 under a before"] if not server else [""] * 4), said
assert session.differs("b", "x", {"first": ("a", "y")}, "output ") == ""
# A quarter more or less is another size.
member = Member([100, 20, 5], 1.0)
assert member.is_stale(100) and member.shared == 20
member.read_at = 100
assert [member.is_stale(kib) for kib in (74, 75, 125, 126)] == [True, False, False, True]
text = "Pss_Dirty:  3 kB\nRss:  9 kB\nPss:  12 kB\n"
assert (proc.field_kib(text, "Pss"), proc.field_kib(text, "Rss"), proc.field_kib(text, "Swap")) == (12, 9, None)
# Where the kernel does not list children they are found all the same.
child = subprocess.Popen(["sh", "-c", "sleep 100 & wait"])
try:
    trees = []
    for lists in (proc.lists_children(), False):
        proc.lists_children = lambda lists=lists: lists
        until = time.monotonic() + 100
        while len(tree := proc.tree_of(os.getpid())) != 3 and time.monotonic() < until:
            time.sleep(0.001)
        trees.append(tree)
    assert trees[0] == trees[1] and trees[0][:2] == [os.getpid(), child.pid], trees
    assert proc.tree_of(trees[0][2]) == [trees[0][2]]
finally:
    for pid in proc.tree_of(child.pid)[::-1]:
        os.kill(pid, 9)
    child.wait()
END
    count=$((count + 1))
}

# Without arguments everything, else the parts that are named.
[ $# -gt 0 ] ||
    set -- arithmetic judging known_memory servers allocators failures files gates interrupt killed without_sigchld
for part in "$@"; do
    "$part"
done

[ "$status" -ne 0 ] || echo "bench.sh: $count runs as promised"
exit "$status"
