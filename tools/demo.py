#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""demo.py -- the memory of a real Redis server over time: glibc, jemalloc, besom.

Usage: demo.py LIBRARY DIRECTORY      (demo.sh calls it and owns the directory)

The same story three times, one server after the other: load 350 MB of values of mixed sizes
through a Unix socket, delete four fifths of them in random order, then idle. RSS is read from
/proc/PID/smaps_rollup every quarter of a second. Debian's redis-server is linked with jemalloc;
LD_PRELOAD of libc.so.6 or of our library puts another malloc before it, and the dynamic loader is
asked which one redis-server was really bound to before anything is measured. Redis 8 calls jemalloc
by names of its own as well, which libc needs help with (mallocx.c); besom is put there alone.

This is a demonstration, not a benchmark: one run each, on whatever else the machine does.
Python's standard library only; one thread samples, one speaks to the server. Every wait is bounded.
"""
import contextlib
import ctypes
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

LOAD_BYTES = 350_000_000
OCTAVES = [64 << n for n in range(9)]  # values from 64 bytes to 32 KiB
IDLE_SECONDS = 12.0
SAMPLE_SECONDS = 0.25
START_SECONDS = 10.0
REPLY_SECONDS = 40.0
KEEP_EVERY = 5  # one key in five survives
BATCH = 2000
SEED = 42
PR_SET_PDEATHSIG = 1
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
MALLOCX = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                       "build", "tools", ".libs", "mallocx.so")

PLOT_ROWS = 8
PLOT_COLUMNS = 30
BLOCKS = " ▁▂▃▄▅▆▇█"


class DemoError(Exception):
    """Something the user must know, said in one line."""


def whole(library):
    """LD_PRELOAD that takes all of redis-server's memory from a malloc that cannot live beside jemalloc."""
    with open(shutil.which("redis-server"), "rb") as file:
        if b"\0mallocx\0" not in file.read():
            return library
    if not os.path.exists(MALLOCX):
        raise DemoError(f"this Redis needs {MALLOCX}; run ./bootstrap build")
    return f"{library}:{MALLOCX}"


def make_keys():
    """(key, value size) of the whole load: every octave of sizes gets the same number of bytes, so
    that there are many small values and few large ones."""
    source = random.Random(SEED)
    weights = [1 / low for low in OCTAVES]
    keys, total = [], 0
    while total < LOAD_BYTES:
        for low in source.choices(OCTAVES, weights, k=1000):
            size = low + source.randrange(low)
            keys.append((f"session:{len(keys):08d}".encode(), size))
            total += size
    return keys


def encode(*words):
    """One command in Redis' protocol."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)


class Client:
    """A connection that sends commands in batches and counts the replies, which are one line."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(REPLY_SECONDS)
        try:
            self.socket.connect(path)
        except OSError:
            self.close()
            raise

    def close(self):
        self.socket.close()

    def send(self, commands):
        self.socket.sendall(b"".join(commands))
        wanted = len(commands)
        while wanted > 0:
            reply = self.socket.recv(1 << 16)
            if not reply or b"-ERR" in reply or b"-OOM" in reply:
                raise DemoError(f"redis-server answered: {reply[:80]!r}")
            wanted -= reply.count(b"\r\n")

    def load(self, keys):
        noise = random.Random(SEED).randbytes(1 << 16)
        for start in range(0, len(keys), BATCH):
            self.send([encode(b"SET", key, noise[n % 999:n % 999 + size])
                       for n, (key, size) in enumerate(keys[start:start + BATCH], start)])

    def delete(self, keys):
        for start in range(0, len(keys), BATCH * 10):
            names = [key for key, _ in keys[start:start + BATCH * 10]]
            self.send([encode(b"DEL", *names[n:n + 100]) for n in range(0, len(names), 100)])


class Sampler(threading.Thread):
    """Reads RSS until it is told to stop: (seconds since start, MiB)."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.path = f"/proc/{pid}/smaps_rollup"
        self.start_time = time.monotonic()
        self.samples = []
        self.done = threading.Event()

    def sample(self):
        with open(self.path, encoding="ascii") as file:
            kib = int(re.search(r"^Rss:\s+(\d+)", file.read(), re.M).group(1))
        self.samples.append((time.monotonic() - self.start_time, kib / 1024))
        return kib / 1024

    def run(self):
        while not self.done.wait(SAMPLE_SECONDS):
            try:
                self.sample()
            except (OSError, AttributeError):
                return


class Contender:
    """One malloc: its name, the library that is preloaded for it, and what was measured."""

    def __init__(self, name, library, environment, preload=None):
        self.name = name
        self.library = library
        self.environment = dict(os.environ, **environment)
        self.environment.pop("LD_PRELOAD", None)
        if library:
            self.environment["LD_PRELOAD"] = preload or library
        self.process = None
        self.samples = []
        self.peak = self.deleted = self.idle = 0.0
        self.marks = []
        self.cpu_seconds = 0.0

    def bound_to(self):
        """The file whose malloc the loader gives to redis-server."""
        environment = dict(self.environment, LD_DEBUG="bindings")
        environment.pop("BESOM_CONF", None)  # the log belongs to the server that is measured
        log = subprocess.run(["redis-server", "--version"], capture_output=True, text=True,
                             env=environment, timeout=20, check=False).stderr
        found = re.findall(r"binding file \S*redis-server \[0\] to (\S+) \[0\]: "
                           r"normal symbol `malloc'", log)
        return found[-1] if found else "(unknown)"

    def check_binding(self):
        bound = self.bound_to()
        wanted = self.library or "libjemalloc.so"
        if wanted not in bound and os.path.realpath(wanted) != os.path.realpath(bound):
            raise DemoError(f"{self.name}: redis-server took its malloc from {bound}, "
                            f"expected {wanted}")
        return bound

    def start(self, directory):
        path = os.path.join(directory, self.name + ".sock")
        log = os.path.join(directory, self.name + ".server.log")
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly",
             "no", "--dir", directory, "--logfile", log],
            env=self.environment, stdin=subprocess.DEVNULL, preexec_fn=end_with_parent)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                return Client(path)
            except OSError:
                time.sleep(0.05)
        raise DemoError(f"{self.name}: redis-server did not start:\n" + tail(log))

    def stop(self):
        """SIGTERM is Redis' orderly shutdown: it leaves through exit(), so the log is written."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tell(self, directory, keys, gone):
        """The story: load, delete, idle; RSS at the end of each part."""
        log = os.path.join(directory, self.name + ".server.log")
        with contextlib.closing(self.start(directory)) as client:
            try:
                self.fill_and_empty(client, keys, gone)
            except (OSError, AttributeError) as error: # of the socket, or nothing more in /proc
                raise DemoError(f"{self.name}: redis-server does not answer: {error}:\n" + tail(log)) from None
        self.stop()
        if self.process.returncode != 0:
            raise DemoError(f"{self.name}: redis-server ended with {self.process.returncode}:\n" + tail(log))

    def fill_and_empty(self, client, keys, gone):
        sampler = Sampler(self.process.pid)
        sampler.start()
        begin = time.monotonic()
        client.load(keys)
        sampler.sample()
        self.marks.append(time.monotonic() - begin)
        client.delete(gone)
        self.deleted = sampler.sample()
        self.marks.append(time.monotonic() - begin)
        time.sleep(IDLE_SECONDS)
        self.idle = sampler.sample()
        self.cpu_seconds = cpu_seconds(self.process.pid)
        sampler.done.set()
        sampler.join()
        self.samples = sampler.samples
        self.peak = max(mib for _, mib in self.samples)


def cpu_seconds(pid):
    """Of all threads, in the kernel too. Unlike time on the wall it hardly depends on what else runs."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        words = file.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def end_with_parent():
    """In the child: a demo that is killed outright leaves no server behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def tail(path, lines=15):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:]).rstrip()
    except OSError as error:
        return str(error)


def curve(contender, top_mib, end_seconds):
    """PLOT_ROWS strings, the highest row first: each column is the largest RSS of its time."""
    columns = [0.0] * PLOT_COLUMNS
    for seconds, mib in contender.samples:
        column = min(int(seconds / end_seconds * PLOT_COLUMNS), PLOT_COLUMNS - 1)
        columns[column] = max(columns[column], mib)
    for column in range(1, PLOT_COLUMNS):
        within = column / PLOT_COLUMNS * end_seconds <= contender.samples[-1][0]
        if columns[column] == 0.0 and within:
            columns[column] = columns[column - 1]
    rows = []
    for row in range(PLOT_ROWS - 1, -1, -1):
        levels = [int(round(mib / top_mib * PLOT_ROWS * 8)) - row * 8 for mib in columns]
        rows.append("".join(BLOCKS[max(0, min(8, level))] for level in levels))
    return rows


def phases(contender, end_seconds):
    """The line under a curve: where loading, deleting and idling took place."""
    line = ""
    for word, mark in zip(("load", "delete", "idle"), contender.marks + [end_seconds]):
        width = int(round(mark / end_seconds * PLOT_COLUMNS)) - len(line)
        line += ("|" + word)[:max(width, 0)].ljust(max(width, 0))
    return line.ljust(PLOT_COLUMNS)[:PLOT_COLUMNS]


def print_curves(contenders):
    top_mib = max(contender.peak for contender in contenders)
    end_seconds = max(contender.samples[-1][0] for contender in contenders)
    curves = [curve(contender, top_mib, end_seconds) for contender in contenders]
    print("MiB   " + "  ".join(c.name.ljust(PLOT_COLUMNS) for c in contenders))
    for row in range(PLOT_ROWS):
        label = top_mib * (PLOT_ROWS - row) / PLOT_ROWS
        print(f"{label:5.0f} " + "  ".join(rows[row] for rows in curves))
    print("      " + "  ".join(phases(c, end_seconds) for c in contenders))
    print(f"      0 s to {end_seconds:.0f} s in each curve; the largest RSS of each column\n")


def print_table(contenders):
    besom = contenders[-1]
    print(f"{'RSS in MiB':<12}{'peak':>8}{'deleted':>9}{'idle':>8}{'idle/peak':>11}"
          f"{'idle/besom':>12}{'CPU time':>10}")
    for c in contenders:
        print(f"{c.name:<12}{c.peak:>8.1f}{c.deleted:>9.1f}{c.idle:>8.1f}{c.idle / c.peak:>11.2f}"
              f"{c.idle / besom.idle:>12.2f}{c.cpu_seconds:>8.2f} s")
    print()


def print_log(path):
    print("besom's log at exit (BESOM_CONF=log:FILE,log_at:exit):", flush=True)
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        raise DemoError(f"the library wrote no log to {path}")
    for line in tail(path, 40).splitlines():
        print(textwrap.fill(line, 100, subsequent_indent="    ", break_long_words=False))


def main():
    library, directory = sys.argv[1], sys.argv[2]
    if shutil.which("redis-server") is None:
        raise DemoError("no redis-server here; apt-get install redis-server")
    log = os.path.join(directory, "besom.log")
    contenders = [
        Contender("glibc", LIBC, {}, whole(LIBC)),
        Contender("jemalloc", None, {}),
        Contender("besom", library, {"BESOM_CONF": ",".join(
            filter(None, [os.environ.get("BESOM_CONF"), f"log:{log}", "log_at:exit"]))}),
    ]
    keys = make_keys()
    order = list(range(len(keys)))
    random.Random(SEED).shuffle(order)
    gone = [keys[n] for n in order if n % KEEP_EVERY != 0]
    print(f"Redis, one server after the other: {len(keys)} keys, {LOAD_BYTES / 1e6:.0f} MB of "
          f"values from {OCTAVES[0]} bytes to {OCTAVES[-1] // 512} KiB;\n{len(gone)} of them "
          f"deleted in random order; {IDLE_SECONDS:.0f} s idle.\n", flush=True)
    bound = [contender.check_binding() for contender in contenders]
    try:
        for contender, file in zip(contenders, bound):
            print(f"{contender.name}: malloc of {file} ...", flush=True)
            contender.tell(directory, keys, gone)
    finally:
        for contender in contenders:
            contender.stop()
    print()
    print_curves(contenders)
    print_table(contenders)
    print_log(log)


def interrupted(_signal, _frame):
    raise DemoError("interrupted")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)
    try:
        main()
    except (DemoError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"demo: {error}")
