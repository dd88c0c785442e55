#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pauses.py - how long scan:leak stops a program, and what it and scan:quarantine cost.

    bench/pauses.py BUILD [pauses] [costs]
    bench/pauses.py BUILD shares [program|scans] [NAME...]
    bench/pauses.py BUILD quarantine [PROGRAM...]

pauses: bench/pauses under a scan a second, by threads and kind of memory: median and longest time from the
first signal to the resume (of the longer one, where a scan stops twice), all stops of a scan, and what of.
Nothing else should run. costs: CPU time of programs without scans and with one a minute and two at the end, in
turn, 3 rounds: the median of the ratios. shares: the same price counted instead of timed, where a machine that others
use shows nothing below a tenth (pauses_shares.py). quarantine: the same for scan:quarantine, with time on the wall, the
peak of RSS and page faults, and traces (bench/traces, --scale=1) as programs that do nothing but allocate.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import pauses_shares

SHAPES = [(0, 64, "small"), (8, 64, "small"), (64, 64, "small"), (64, 0, "small"),
          (0, 1024, "small"), (0, 1024, "pages"), (0, 1024, "huge")]
SECONDS = 12
ROUNDS = 3

PYTHON = """
import json
d = [{str(i): [i, str(i), {}] for i in range(j)} for j in range(600)]
for _ in range(22):
    d = json.loads(json.dumps(d))
"""
PERL = "my %h; for my $k (1..13) { $h{$_ % 300000} .= $k for 1..600000 } print scalar keys %h"
SQL = """create table t(a, b); with recursive n(x) as (select 1 union all select x + 1 from n where x < 1200000)
insert into t select x * 7919 % 1000003, 'text ' || x from n; create index i on t(b);
select count(*), sum(a) from t where b like '%7%'; select b, count(*) from t group by b order by 2 limit 1;"""
RUBY = """h = {}; 8.times { |k| 200000.times { |i| h[i % 100000] = (h[i % 100000] || '') + k.to_s } }
puts h.size"""
REGEX = """
import json, re
d = [{str(i): [i, str(i), {}] for i in range(j)} for j in range(400)]
for _ in range(12):
    d = json.loads(json.dumps(d))
text = 'lorem ipsum dolor sit amet 12345 consectetur ' * 2000
for _ in range(20):
    c = {}
    for w in re.findall(r'[a-z]+|[0-9]+', text):
        c[w + str(len(c) % 5000)] = w.upper()
"""
PROGRAMS = [("python3", ["python3", "-c", PYTHON]), ("perl", ["perl", "-e", PERL]),
            ("sqlite3", ["sqlite3", ":memory:", SQL])]


def under(build, options, command):
    """The command under the library: its CPU time, with all that it started."""
    start = os.times()
    subprocess.run([build + "/besom", "run", "-l", build + "/libbesom.so", "--scan", "-o", options, "--"]
                   + command, check=True, stdout=subprocess.DEVNULL)
    end = os.times()
    return end.children_user + end.children_system - start.children_user - start.children_system


def scans_of(log):
    lines = [json.loads(line) for line in open(log)]
    return [line for line in lines if line["event"] == "scan" and line["reason"] == "interval"]


def pauses(build):
    print("                                   ms: stop  longest  a scan  median of: standing  roots  clone  waking  scan")
    print("threads   MiB  kind   scans way")
    for threads, mib, kind in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            log = folder + "/log"
            under(build, "scan:leak,scan_interval:1,scavenge_cpu:100,log_format:json,log:" + log,
                  [build + "/bench/pauses", str(threads), str(mib), str(SECONDS), kind])
            scans = [s for s in scans_of(log) if s["verdict"] == "done"]
            stops = [s["stop_ns"] / 1e6 for s in scans]
            parts = [statistics.median(s[name] / 1e6 for s in scans)
                     for name in ("stopped_ns", "stand_ns", "roots_ns", "clone_ns", "resume_ns", "ns")]
            print("%7d %5d  %-6s %5d %-10s %6.2f %8.2f %7.2f %20.2f %6.2f %6.2f %7.2f %5.0f" % (
                threads, mib, kind, len(scans), scans[-1]["way"], statistics.median(stops), max(stops),
                *parts), flush=True)


def costs(build):
    print("program    plain s   ratio of CPU times with scan:leak, of %d: median, all" % ROUNDS)
    for name, command in PROGRAMS:
        ratios, times = [], []
        for turn in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                pair = [("log:%s/plain" % folder, "plain"), ("scan:leak,scan_interval:60,log:%s/scan" % folder, "scan")]
                took = {what: under(build, options, command) for options, what in
                        (pair if turn % 2 == 0 else reversed(pair))}
            ratios.append(took["scan"] / took["plain"])
            times.append(took["plain"])
        print("%-10s %7.2f   %.3f   %s" % (name, statistics.median(times), statistics.median(ratios),
                                         " ".join("%.3f" % r for r in sorted(ratios))), flush=True)


def measured(library, conf, command):
    """CPU seconds, seconds, peak KiB and minor faults of a command under the library."""
    env = dict(os.environ, LD_PRELOAD=library, **({"BESOM_CONF": conf} if conf else {}))
    is_trace = command[0].endswith("/replay")
    start = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE if is_trace else subprocess.DEVNULL)
    said = process.stdout.read() if is_trace else b""
    _, status, usage = os.wait4(process.pid, 0)
    took = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit("%s ended with %d" % (command[0], process.returncode))
    # of a small process the kernel's peak is this one's, which it was before exec
    peak = int(said.split()[4]) if is_trace else usage.ru_maxrss
    return usage.ru_utime + usage.ru_stime, took, peak, usage.ru_minflt


def quarantine(build, wanted):
    traces = os.path.join(os.path.dirname(os.path.abspath(__file__)), "traces")
    with tempfile.TemporaryDirectory() as folder:
        commands = {"python3": ["python3", "-c", REGEX], "perl": ["perl", "-e", PERL],
                    "ruby": ["ruby", "-e", RUBY], "sqlite3": ["sqlite3", ":memory:", SQL],
                    "gcc": pauses_shares.c_source(folder, 350)}
        for name in sorted(os.listdir(traces)):
            if name.endswith(".bst.xz"):
                commands["trace-" + name[:-len(".bst.xz")]] = [
                    build + "/bench/replay", os.path.join(traces, name), "--scale=1"]
        print("               plain: cpu s      MiB   with scan:quarantine, median of %d ratios: "
              "cpu   wall    RSS   faults more" % ROUNDS)
        for name in wanted:
            if name not in commands:
                usage("no program is called %s; there are %s" % (name, ", ".join(commands)))
        for name in wanted or commands:
            pairs = []
            for turn in range(ROUNDS):
                way = [("plain", "/libbesom.so", None), ("kept", "/libbesom-scan.so", "scan:quarantine")]
                got = {what: measured(build + library, conf, commands[name]) for what, library, conf in
                       (way if turn % 2 == 0 else reversed(way))}
                pairs.append((got["plain"], got["kept"]))
            cpu, wall, rss = (statistics.median(k[i] / p[i] for p, k in pairs) for i in range(3))
            print("%-14s %12.2f %8.1f %43.2f %6.2f %6.2f %13d" % (
                name, statistics.median(p[0] for p, _ in pairs), pairs[0][0][2] / 1024, cpu, wall, rss,
                statistics.median(k[3] - p[3] for p, k in pairs)), flush=True)


def usage(complaint):
    print("bench/pauses.py: %s; bench/pauses.py --help says how it is called" % complaint, file=sys.stderr)
    sys.exit(2)


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if len(sys.argv) < 2:
        usage("no folder of a build is given")
    if not os.access(sys.argv[1] + "/besom", os.X_OK):
        usage("there is no %s/besom: give the folder of a build" % sys.argv[1])
    with_names = {"quarantine": quarantine, "shares": pauses_shares.shares}
    if sys.argv[2:3] and sys.argv[2] in with_names:
        with_names[sys.argv[2]](os.path.abspath(sys.argv[1]), sys.argv[3:])
        return
    build, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:] or ["pauses", "costs"]
    known = {"pauses": pauses, "costs": costs}
    for what in wanted:
        if what not in known:
            usage("nothing is called %s; there are pauses, costs, shares and quarantine" % what)
    for what in wanted:
        known[what](build)


main()
