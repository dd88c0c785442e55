# SPDX-License-Identifier: MIT
"""What scan:leak with a scan a minute costs, taken apart: `bench/pauses.py BUILD shares`.

Not by the clock: where others use the machine too, two runs of one program differ by more than the answer. Three
shares are counted, and their sum is the price:

program  what its own thread executes more, for sampling and for calls that go through libbesom-scan.so first: counted
         by callgrind, with the misses of a simulated cache. Each program runs with once and with twice the work, with
         either library; the difference of the differences is what lasts, and what is left is paid once. What besom's own
         functions execute more is said beside it: the rest is the program's, whose blocks, and tables by address, lie elsewhere.
scans    CPU time of one scan, that of a copy's searchers and the time stopped, from the log, divided by a minute.
faults   page faults of a run with scans less those of one without, by scan, times what one costs.
"""
import collections
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
import time

CONF = "scan:leak,scan_interval:60"
MINUTE_NS = 60e9
FAULT_NS = 1500  # of a program that does not say: what `busy` measured, rounded up
CACHE = ["--cache-sim=yes", "--I1=32768,8,64", "--D1=49152,12,64", "--LL=33554432,16,64"]
FIXED = {"PYTHONHASHSEED": "0", "PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"}

PYTHON = """
import json, sys
d = [{str(i): [i, str(i), {}] for i in range(j)} for j in range(60)]
for _ in range(16 * %d):
    d = json.loads(json.dumps(d))
"""
PERL = "for my $r (1..%d) { my %%h; for my $k (1..4) { $h{$_ %% 20000} .= $k x 9 for 1..40000 } print scalar keys %%h }"
SQL = """create table t(a, b); create index i on t(b);
with recursive n(x) as (select 1 union all select x + 1 from n where x < %d)
insert into t select x * 7919 %% 1000003, 'text ' || x from n;
select count(*), sum(a) from t where b like '%%7%%'; select b, count(*) from t group by b order by 2 limit 1;"""
RUBY = "%d.times { h = {}; 4.times { |k| 12000.times { |i| h[i %% 6000] = (h[i %% 6000] || '') + k.to_s } } }"


def c_source(folder, functions):
    """A C file that keeps the compiler busy, and the compiler."""
    name = "%s/source%d.i" % (folder, functions)
    with open(name, "w") as f:
        for i in range(functions):
            f.write("int f%d(int a, int *b, char *c) { int s = 0; for (int i = 0; i < a; i++) { s += b[i] * %d +"
                    " c[i %% 7]; if (s > %d) s -= a; switch (s & 7) { case 1: s += 3; break; case 2: s ^= b[s & 15];"
                    " break; case 5: s *= c[2]; default: s--; } } return s; }\n" % (i, i, i * 37))
    compiler = subprocess.check_output(["gcc", "-print-prog-name=cc1"], text=True).strip()
    return [compiler, "-quiet", "-O1", "-o", "/dev/null", name]


def redis_load(path, keys):
    """SET, GET and DEL of so many keys with values of 16 to 1000 bytes, in batches of 50."""
    import socket
    client = socket.socket(socket.AF_UNIX)
    for _ in range(600):
        try:
            client.connect(path)
            break
        except OSError:
            time.sleep(0.1)
    order = [(k * 7919) % keys for k in range(keys)]

    def send(commands):
        client.sendall(b"".join(b"*%d\r\n" % len(c) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in c)
                                for c in commands))
        text, seen = b"", 0
        while seen < len(commands):  # each command's answer is a line, or two of a value without a newline
            text += client.recv(1 << 20)
            lines = text.split(b"\r\n")[:-1]
            seen = len(lines) - sum(1 for line in lines if line[:1] == b"$")

    for what in (lambda k: (b"SET", b"key%d" % k, b"v" * (16 + k * 37 % 985)), lambda k: (b"GET", b"key%d" % k),
                 lambda k: (b"DEL", b"key%d" % k)):
        for start in range(0, keys, 50):
            send([what(k) for k in order[start:start + 50]])
    client.sendall(b"*2\r\n$8\r\nSHUTDOWN\r\n$6\r\nNOSAVE\r\n")


def commands(folder, times):
    redis = ["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--hz", "1", "--dir", folder,
             "--unixsocket"]
    return {"python3": (["python3", "-S", "-c", PYTHON % times], 0), "perl": (["perl", "-e", PERL % times], 0),
            "sqlite3": (["sqlite3", ":memory:", SQL % (30000 * times)], 0),
            "cc1": (c_source(folder, 40 * times), 0), "ruby": (["ruby", "-e", RUBY % times], 0),
            "redis-server": (redis, 8000 * times), "nothing": (["true"], 0)}


def own_of(text):
    """Instructions of besom's functions in a file of callgrind's. Of some pages it does not know the object."""
    names, own, is_own, called, total = {}, "", False, False, 0
    for line in text.splitlines():
        match = re.match(r"(c?)(ob|fn)=\((\d+)\)(?: (.*))?$", line)
        if match:
            name = names.setdefault((match.group(2), match.group(3)), match.group(4))
            if match.group(1):
                continue
            if match.group(2) == "ob":
                own = os.path.basename(name)
            else:
                is_own = own.startswith("libbesom") or (own == "???" and not name.startswith("0x"))
        elif line.startswith("calls="):
            called = True
        elif line[:1] in "0123456789+-*" and line:
            if is_own and not called:
                total += int(line.split()[1])
            called = False
    return total


def count(build, folder, name, times, scans):
    """(instructions, about cycles, instructions of besom's own functions) of the first thread."""
    place = tempfile.mkdtemp(dir=folder)
    command, keys = commands(place, times)[name]
    if command[0] == "python3":
        command = [os.path.realpath(sys.executable)] + command[1:]
    if keys:
        command = command + [place + "/socket"]
    library = build + ("/libbesom-scan.so" if scans else "/libbesom.so")
    env = dict(FIXED, PATH=os.environ["PATH"], HOME=place, LD_PRELOAD=library, LD_BIND_NOW="1",
               BESOM_CONF=CONF if scans else "thp:auto")
    process = subprocess.Popen(["valgrind", "-q", "--tool=callgrind", "--separate-threads=yes"] + CACHE +
                               ["--callgrind-out-file=%s/out" % place] + command,
                               env=env, cwd=place, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    if keys:
        redis_load(place + "/socket", keys)
    if process.wait() != 0:
        sys.exit("%s ended with %d under callgrind" % (name, process.returncode))
    text = open(place + "/out-01").read()
    events = re.search(r"^events: (.*)$", text, re.M).group(1).split()
    sums = re.search(r"^(?:totals|summary): (.*)$", text, re.M).group(1).split()
    of = dict(zip(events, map(int, sums + ["0"] * (len(events) - len(sums)))))
    cycles = of["Ir"] + 10 * (of["I1mr"] + of["D1mr"] + of["D1mw"]) + 100 * (of["ILmr"] + of["DLmr"] + of["DLmw"])
    return of["Ir"], cycles, own_of(text)


def program_shares(build, wanted):
    print("                10^6 instructions     more with scan:leak, %: of instructions, in besom's functions, about cycles;"
          "   once, 10^6 instructions")
    worst = 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        known = commands(folder, 1)
        for name in wanted:
            if name not in known:
                sys.exit("no program is called %s; there are %s" % (name, ", ".join(known)))
        for name in wanted or [n for n in known if n != "nothing"]:
            runs = {(times, scans): pool.submit(count, build, folder, name, times, scans)
                    for times in (1, 2) for scans in (False, True)}
            got = {k: v.result() for k, v in runs.items()}
            more = []
            for i in range(2):
                plain, scans = (got[2, s][i] - got[1, s][i] for s in (False, True))
                more.append(100 * (scans / plain - 1))
            own = [got[2, s][2] - got[1, s][2] for s in (False, True)]
            more.insert(1, 100 * (own[1] - own[0]) / (got[2, False][0] - got[1, False][0]))
            once = (2 * (got[1, True][0] - got[1, False][0]) - (got[2, True][0] - got[2, False][0])) / 1e6
            print("%-12s %20.0f %30.2f %10.2f %10.2f %30.1f" % (name, got[2, False][0] / 1e6, *more, once), flush=True)
            worst = max(worst, more[0], more[2])
    return worst


LONGEST_S = {10: 12, 100: 24, 1000: 90}
HASH = "my %%h; $h{$_} = 'x' x ($_ %% 90) for 1..%d; my $e = time + %d; my $i = 0; " \
    "while (time < $e) { $h{$i++ %% %d} = 'y' x ($i %% 90) for 1..1000; }"
DICT = """
import time
d = [{str(i): [i, str(i), {}] for i in range(j, j + 100)} for j in range(%d)]
end, n = time.monotonic() + %d, 0
while time.monotonic() < end:
    n += 1
    d[n %% len(d)] = {str(i): [i, str(i), {}] for i in range(n, n + 100)}
"""


def heaps(build):
    """(name, command by seconds, MiB)"""
    for mib in (10, 100, 1000):
        for kind in ("small", "shuffled", "busy"):
            yield kind, mib, lambda s, k=kind, m=mib: [build + "/bench/pauses", "0", str(m), str(s), k]
    for mib, keys in ((10, 50000), (100, 500000)):
        yield "perl hash", mib, lambda s, k=keys: ["perl", "-e", HASH % (k, s, k)]
    for mib, n in ((100, 4000),):
        yield "python3", mib, lambda s, k=n: [os.path.realpath(sys.executable), "-S", "-c", DICT % (k, s)]


def observed(build, interval, command):
    """The exit line, the scans by interval, and what the program printed."""
    with tempfile.TemporaryDirectory() as folder:
        conf = "scan:leak,scan_interval:%d,scavenge_cpu:100,log_format:json,log:%s/log" % (interval, folder)
        env = dict(os.environ, LD_PRELOAD=build + "/libbesom-scan.so", BESOM_CONF=conf)
        said = subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE, text=True).stdout
        lines = [json.loads(line) for line in open(folder + "/log")]
    scans = [line for line in lines if line["event"] == "scan" and line["reason"] == "interval"]
    return next(line for line in lines if line["event"] == "exit"), scans, said


def scan_shares(build, wanted):
    print("                                       a scan:  ms of CPU                                   price")
    print("heap         MiB  scans ways          MiB read   helper  copies stopped  faults  ns each   % of a minute")
    for kind, mib, command in heaps(build):
        if wanted and kind.split()[0] not in wanted:
            continue
        seconds = LONGEST_S[mib]
        quiet, _, _ = observed(build, 0, command(seconds))
        end, scans, said = observed(build, max(2, seconds // 6), command(seconds))
        n = max(1, len(scans))
        helper = max(0, end["background_cpu_ns"] - quiet["background_cpu_ns"]) / n
        copies = sum(s.get("search_ns", 0) for s in scans if s["way"] == "copy") / n
        stopped = sum(s["stopped_ns"] for s in scans) / n
        # of a busy heap the program itself says what a fault costs, and how many there were
        each = re.search(r"fault_ns (\d+)", said)
        each = int(each.group(1)) if each and int(each.group(1)) else FAULT_NS
        faults = max(0, end["minor_faults"] - quiet["minor_faults"]) / n
        ways = collections.Counter(s["way"] if s["verdict"] == "done" else s["verdict"] for s in scans)
        price = 100 * (helper + copies + stopped + faults * each) / MINUTE_NS
        print("%-10s %5d %6d %-16s %6.0f %8.1f %7.1f %7.2f %7.0f %8d %15.3f" % (
            kind, mib, len(scans), "+".join("%s:%d" % w for w in sorted(ways.items())),
            max([s.get("read", 0) for s in scans] or [0]) / 2**20, helper / 1e6, copies / 1e6, stopped / 1e6,
            faults, each, price), flush=True)


def shares(build, wanted):
    parts = {"program": program_shares, "scans": scan_shares}
    for part in parts:
        if not wanted or part in wanted or not set(wanted) & set(parts):
            parts[part](build, [w for w in wanted if w not in parts])
