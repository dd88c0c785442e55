#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pauses.py - how long scan:leak stops a program, and what it and scan:quarantine cost.

    bench/pauses.py BUILD [pauses [copy]]
    bench/pauses.py BUILD costs [PAIRS] [NAME...]
    bench/pauses.py BUILD bursts [ROUNDS] [NAME...] [LIBRARY[@CONF]...]
    bench/pauses.py BUILD shares [program|scans] [NAME...]
    bench/pauses.py BUILD quarantine [PROGRAM...]

pauses: bench/pauses under a scan a second, by threads and kind of memory: median and longest time from the
first signal to the resume (of the longer one, where a scan stops twice), all stops of a scan, and what of; with
`copy` those of scan_way:copy. Nothing else should run, or else it at `nice -n -15`. costs: CPU time and time on the wall of programs under plain besom and with scan:leak, a run
of each in turn, 16 pairs: the medians of the ratios, and between which two of them the true one lies with 95 %. The
programs end without a scan, and before the first one is due (of redis-server, which redis-benchmark keeps busy,
its own CPU time; the wall is redis-benchmark's). bursts: the same where two runs differ by more than the
answer (pauses_bursts.py). shares: the same price counted instead of timed, where a machine that others
use shows nothing below a tenth (pauses_shares.py). quarantine: the same for scan:quarantine, with time on the wall, the
peak of RSS and page faults, and traces (bench/traces, --scale=1) as programs that do nothing but allocate.
"""
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import pauses_bursts
import pauses_shares

SHAPES = [(0, 64, "small"), (8, 64, "small"), (64, 64, "small"), (64, 0, "small"),
          (0, 1024, "small"), (0, 1024, "pages"), (0, 1024, "huge")]
SECONDS = 12
ROUNDS = 3
PAIRS = 16

PYTHON = """
import json, os
d = [{str(i): [i, str(i), {}] for i in range(j)} for j in range(200)]
for _ in range(20):
    d = json.loads(json.dumps(d))
os._exit(0)
"""
PERL = "my %h; for my $k (1..13) { $h{$_ % 300000} .= $k for 1..600000 } print scalar keys %h"
PERL_SHORT = "use POSIX; my %h; for my $k (1..6) { $h{$_ % 200000} .= $k for 1..400000 } POSIX::_exit(0)"
SQL = """create table t(a, b); with recursive n(x) as (select 1 union all select x + 1 from n where x < 1200000)
insert into t select x * 7919 % 1000003, 'text ' || x from n; create index i on t(b);
select count(*), sum(a) from t where b like '%7%'; select b, count(*) from t group by b order by 2 limit 1;"""
SQL_SHORT = SQL.replace("1200000", "300000")
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
PROGRAMS = {"redis-server": None, "python3": [os.path.realpath(sys.executable), "-c", PYTHON],
            "perl": ["perl", "-e", PERL_SHORT],
            "sqlite3": ["sqlite3", ":memory:", SQL_SHORT, ".shell kill -9 $PPID"]}  # whoever exits is scanned at exit
REDIS = ["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]
REDIS_LOAD = ["redis-benchmark", "-q", "-t", "set,get,lpush,lpop,hset", "-n", "120000", "-r", "20000", "-d", "200",
              "-P", "16", "-s"]


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


def pauses(build, way="concurrent"):
    print("                                   ms: stop  longest  a scan  median of: standing  roots  clone  waking  scan")
    print("threads   MiB  kind   scans way")
    for threads, mib, kind in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            log = folder + "/log"
            under(build, "scan:leak,scan_way:%s,scan_interval:1,scavenge_cpu:100,log_format:json,log:%s" % (way, log),
                  [build + "/bench/pauses", str(threads), str(mib), str(SECONDS), kind])
            scans = [s for s in scans_of(log) if s["verdict"] == "done"]
            stops = [s["stop_ns"] / 1e6 for s in scans]
            parts = [statistics.median(s[name] / 1e6 for s in scans)
                     for name in ("stopped_ns", "stand_ns", "roots_ns", "clone_ns", "resume_ns", "ns")]
            print("%7d %5d  %-6s %5d %-10s %6.2f %8.2f %7.2f %20.2f %6.2f %6.2f %7.2f %5.0f" % (
                threads, mib, kind, len(scans), scans[-1]["way"], statistics.median(stops), max(stops),
                *parts), flush=True)


def cost_of(env, command):
    """CPU seconds, seconds of one run."""
    with tempfile.TemporaryDirectory() as folder:
        server = command is None
        end = [folder + "/socket", "--dir", folder]
        start = time.monotonic()
        process = subprocess.Popen(REDIS + end if server else command, env=dict(os.environ, **env),
                                   stdout=subprocess.DEVNULL)
        if server:
            while not os.path.exists(end[0]):
                time.sleep(0.01)
            start = time.monotonic()
            subprocess.run(REDIS_LOAD + end[:1], check=True, stdout=subprocess.DEVNULL)
            took = time.monotonic() - start
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, -signal.SIGKILL):
            sys.exit("%s ended with %d" % ((command or REDIS)[0], process.returncode))
        return usage.ru_utime + usage.ru_stime, took if server else time.monotonic() - start


def likely(ratios):
    """Between which two of them the median lies with 95 %, as far as so many can say that."""
    n, ratios = len(ratios), sorted(ratios)
    k = max([k for k in range(n // 2) if 2 * sum(math.comb(n, i) for i in range(k + 1)) <= 0.05 * 2 ** n] or [0])
    return "%.3f  %.3f to %.3f" % (statistics.median(ratios), ratios[k], ratios[n - 1 - k])


def costs(build, wanted):
    pairs = int(wanted.pop(0)) if wanted and wanted[0].isdigit() else PAIRS
    kinds = [{"LD_PRELOAD": build + "/libbesom.so"},
             {"LD_PRELOAD": build + "/libbesom-scan.so", "BESOM_CONF": "scan:leak,scan_interval:60"}]
    print("program         plain s    ratio with scan:leak, median of %d and interval: CPU time         wall" % pairs)
    for name in wanted or PROGRAMS:
        if name not in PROGRAMS:
            usage("no program is called %s; there are %s" % (name, ", ".join(PROGRAMS)))
        got = ([], [])
        for turn in range(pairs):
            for i in (0, 1) if turn % 2 == 0 else (1, 0):
                got[i].append(cost_of(kinds[i], PROGRAMS[name]))
        ratios = [[b[i] / a[i] for a, b in zip(*got)] for i in (0, 1)]
        print("%-14s %8.2f %51s   %s" % (name, statistics.median(a[0] for a in got[0]), likely(ratios[0]),
                                         likely(ratios[1])), flush=True)


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
    with_names = {"quarantine": quarantine, "shares": pauses_shares.shares, "costs": costs,
                  "bursts": lambda build, rest: pauses_bursts.bursts(build, rest, likely)}
    if sys.argv[2:3] and sys.argv[2] in with_names:
        with_names[sys.argv[2]](os.path.abspath(sys.argv[1]), sys.argv[3:])
        return
    build, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    if wanted not in ([], ["pauses"], ["pauses", "copy"]):
        usage("nothing is called %s; there are pauses, costs, bursts, shares and quarantine" % " ".join(wanted))
    pauses(build, *wanted[1:])
    if not wanted:
        costs(build, [])


main()
