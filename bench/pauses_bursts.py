# SPDX-License-Identifier: MIT
"""What scan:leak costs by the clock between two scans: `bench/pauses.py BUILD bursts [ROUNDS] [NAME...] [LIBRARY[@CONF]...]`.

Two runs of a program differ by a tenth where others use the machine, so whole runs in pairs say little. Here two
processes of a program are alive at once, one under plain besom and one with scan:leak, and are given the same work of
some 20 ms in turn. The CPU time of all threads is read before and after. A round is one pair of processes, whose
addresses are chance: the median of its ratios is one value, and the interval is that of the medians of all rounds.

With libraries, each a path with a / and perhaps options behind an @, these are compared instead with the first of them,
all alive at once: which part of the price is whose.
"""
import glob
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BURSTS = 30
ROUNDS = 40
WARM = 6
CONF = "scan:leak,scan_interval:600,log:/dev/null"  # (without a log there is no helper, nor a scan)

PYTHON = """
import json, sys
d = [{str(i): [i, str(i), {}] for i in range(j)} for j in range(90)]
for line in sys.stdin:
    for _ in range(2):
        d = json.loads(json.dumps(d))
    print(1, flush=True)
"""
PERL = "$| = 1; my %h; my $k = 0; while (<STDIN>) { $k++; $h{$_ % 20000} = $k x 9 for 1..40000; print qq(1\\n) }"
SQL = """delete from t; with recursive n(x) as (select 1 union all select x + 1 from n where x < 12000)
insert into t select x * 7919 % 1000003, 'text ' || x from n; select count(*) from t where b like '%77%';
"""
PROGRAMS = {"redis-server": None, "python3": [os.path.realpath(sys.executable), "-S", "-c", PYTHON],
            "perl": ["perl", "-e", PERL], "sqlite3": ["sqlite3", "-batch", ":memory:"]}


class Worker:
    """A process that waits for work."""

    def __init__(self, folder, name, env):
        command = PROGRAMS[name]
        self.name, self.client = name, None
        if command is None:
            path = tempfile.mkdtemp(dir=folder) + "/socket"
            command = ["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", path]
        self.process = subprocess.Popen(command, env=dict(os.environ, **env), stdin=subprocess.PIPE, cwd=folder,
                                        stdout=subprocess.DEVNULL if name == "redis-server" else subprocess.PIPE)
        if name == "redis-server":
            while not os.path.exists(path):
                time.sleep(0.01)
            self.client = socket.socket(socket.AF_UNIX)
            self.client.connect(path)
        elif name == "sqlite3":
            self.process.stdin.write(b"create table t(a, b); create index i on t(b);\n")

    def send(self, commands):
        self.client.sendall(b"".join(b"*%d\r\n" % len(c) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in c)
                                     for c in commands))
        lines = 0
        while lines < len(commands):  # every answer is one line
            lines += self.client.recv(1 << 20).count(b"\n")

    def work(self, turn):
        """One burst: its CPU time, ns."""
        before = self.cpu()
        if self.client is not None:
            for start in range(0, 3000, 50):
                keys = [(turn * 1009 + k * 7919) % 20000 for k in range(start, start + 50)]
                self.send([(b"SET", b"key%d" % k, b"v" * (16 + (k + turn) * 37 % 985)) for k in keys])
                self.send([(b"STRLEN", b"key%d" % k) for k in keys])
                self.send([(b"DEL", b"key%d" % k) for k in keys[::2]])
        else:
            self.process.stdin.write(SQL.encode() if self.name == "sqlite3" else b"1\n")
            self.process.stdin.flush()
            self.process.stdout.readline()
        return self.cpu() - before

    def cpu(self):
        return sum(int(open(f).read().split()[0]) for f in glob.glob("/proc/%d/task/*/schedstat" % self.process.pid))

    def end(self):
        self.process.kill()
        self.process.wait()


def round_of(folder, name, kinds):
    """The median ratios of one process of each kind to that of the first, and the CPU time of its burst."""
    order = random.sample(range(len(kinds)), len(kinds))
    made = {i: Worker(folder, name, kinds[i]) for i in order}
    took = [[] for _ in kinds]
    for burst in range(WARM + BURSTS):
        random.shuffle(order)
        for i in order:
            took[i].append(made[i].work(burst))
    for worker in made.values():
        worker.end()
    plain = took[0][WARM:]
    return [statistics.median(t / p for t, p in zip(other[WARM:], plain)) for other in took[1:]], statistics.median(plain)


def kind_of(text):
    library, _, conf = text.partition("@")
    return dict({"LD_PRELOAD": os.path.abspath(library)}, **({"BESOM_CONF": conf} if conf else {}))


def bursts(build, wanted, likely):
    rounds = int(wanted.pop(0)) if wanted and wanted[0].isdigit() else ROUNDS
    texts = [w for w in wanted if "/" in w] or [build + "/libbesom.so", build + "/libbesom-scan.so@" + CONF]
    kinds = [kind_of(text) for text in texts]
    print("program       plain ms a burst   ratio of CPU times with scan:leak: median of %d rounds, interval" % rounds)
    for name in [w for w in wanted if "/" not in w] or PROGRAMS:
        with tempfile.TemporaryDirectory() as folder:
            got = [round_of(folder, name, kinds) for _ in range(rounds)]
        for i, text in enumerate(texts[1:]):
            print("%-14s %15.2f %31s%s" % (name, statistics.median(g[1] for g in got) / 1e6, likely([g[0][i] for g in got]),
                                           "   " + text if len(texts) > 2 else ""), flush=True)
