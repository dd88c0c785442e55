#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pauses.py - how long scan:leak stops a program, and what it costs.

    bench/pauses.py BUILD [pauses] [costs]

pauses: bench/pauses under a scan a second, by threads and kind of memory: median and longest time from the
first signal to the resume, and what of. Nothing else should run. costs: CPU time of programs without scans
and with one a minute and two at the end, in turn, 3 rounds: the median of the ratios.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile

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
    print("                                 ms: stop  longest  median of: standing  roots  clone  scan")
    print("threads   MiB  kind   scans way")
    for threads, mib, kind in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            log = folder + "/log"
            under(build, "scan:leak,scan_interval:1,log_format:json,log:" + log,
                  [build + "/bench/pauses", str(threads), str(mib), str(SECONDS), kind])
            scans = [s for s in scans_of(log) if s["verdict"] == "done"]
            stops = [s["stop_ns"] / 1e6 for s in scans]
            parts = [statistics.median(s[name] / 1e6 for s in scans)
                     for name in ("stand_ns", "roots_ns", "clone_ns", "ns")]
            print("%7d %5d  %-6s %5d %-8s %6.2f %8.2f %20.2f %6.2f %6.2f %7.1f" % (
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


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    build, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:] or ["pauses", "costs"]
    for what in wanted:
        {"pauses": pauses, "costs": costs}[what](build)


main()
