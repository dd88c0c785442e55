# SPDX-License-Identifier: MIT
"""One run of the command: started below `besom bench-child`, sampled, stopped, and what it was.

The command is either a program that ends by itself or a server, which is left alone for a while or
for as long as a load takes (Phases), idles, and is stopped. Whatever happens, nothing of it is left
when run() returns or raises. It compares nothing and prints nothing.
"""
import errno
import fcntl
import hashlib
import os
import re
import select
import signal
import subprocess
import tempfile
import time

from allocators import environment_for
from proc import read_proc, tree_of
from sampler import Sampler, thinned

LEFTOVER_SECONDS = 2.0     # what outlives the command is killed after that
OUTPUT_BLOCK = 1 << 20     # bytes of its standard output that are read, and may wait, at once
F_SETPIPE_SZ = 1031        # fcntl has the name from Python 3.10 on
ERRORS_MOST = 1 << 20      # bytes of its standard error output that are kept while it runs
STOP_SECONDS = 10.0        # what does not obey the stop signal is killed after that
OTHER_MALLOCS = ("libjemalloc", "libmimalloc", "libtcmalloc", "libbesom", "libhoard", "librpmalloc",
                 "libsnmalloc")
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}


class RunError(Exception):
    """A run that could not be made; one line."""


class Phases:
    """How a server is run. busy: seconds, or None when load says it; all None: no server."""

    def __init__(self, busy=None, load=None, idle=None, stop=signal.SIGTERM):
        self.busy, self.load, self.idle, self.stop = busy, load, idle, stop
        self.is_server = busy is not None or load is not None


def status_text(status):
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exit status {os.WEXITSTATUS(status)}"


def how_it_ended(code):
    """What subprocess calls a return code, in words."""
    return f"ended with {status_text(code << 8)}" if code >= 0 else f"was {status_text(-code)}"


def start_shell(launcher, command, **variables):
    """A shell command that is not measured. Its parent, `besom bench-child --guard`, ends as it does, and kills all
    that is below it when told to end, or when this process is killed."""
    return subprocess.Popen([launcher, "bench-child", "--guard", "/bin/sh", "-c", command],
                            env=dict(environment_for(None), **variables), stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, start_new_session=True)


def stop_shell(shell):
    shell.terminate()
    shell.wait()


class Run:
    """argv under an allocator, once. After run(): result, a dict of numbers."""

    def __init__(self, argv, allocator, launcher, phases, *, metric="pss", interval=0.01,
                 timeout=None, env=None, output="null"):
        self.argv, self.allocator, self.launcher, self.phases = argv, allocator, launcher, phases
        self.metric, self.interval, self.timeout, self.output = metric, interval, timeout, output
        self.env = env or {}
        self.parent = self.sampler = self.load = None
        self.pid = self.begin = None
        self.status = self.ended_at = self.usage = None
        self.unread = self.said = b""
        self.out, self.digest = None, hashlib.sha256()
        self.facts = {"end_kib": None, "idle_kib": None, "leftovers": 0, "mapped": None,
                      "other_malloc": ""}
        self.complaint = ""
        self.busy_until = self.stop_at = None
        self.stopped = False
        self.looked, self.missed = False, 0
        self.foreign = None

    # Start and messages of the parent.

    def start(self, out, err):
        read_end, write_end = os.pipe()
        env = {**environment_for(None), **self.env}
        preload = ["-p", self.allocator["path"]] if self.allocator["path"] else []
        try:
            self.parent = subprocess.Popen(
                [self.launcher, "bench-child", *preload, str(write_end), *self.argv], env=env,
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, pass_fds=[write_end],
                start_new_session=True)
        finally:
            os.close(write_end)
        self.pipe = read_end
        while self.pid is None:
            if not self.listen(None):
                raise RunError("besom bench-child ended without a word")

    def start_compared(self, err):
        """Its standard output is read and not kept: that may be more than fits anywhere."""
        self.out, write_end = os.pipe()
        try:
            fcntl.fcntl(self.out, F_SETPIPE_SZ, OUTPUT_BLOCK)
        except OSError:
            pass    # beyond what a user may have: it waits for its reader more often
        try:
            self.start(write_end, err)
        finally:
            os.close(write_end)

    def read_output(self):
        block = os.read(self.out, OUTPUT_BLOCK)
        self.digest.update(block)
        if not block:
            os.close(self.out)
            self.out = None

    def read_rest(self):
        """What had been written when nothing was left below; not of who is not below and has it open as well."""
        while self.out is not None:
            if not select.select([self.out], [], [], 5)[0]:
                raise RunError("its standard output is still open 5 s after its end, in a process that it did not "
                               "start; --compare-output needs its end")
            self.read_output()

    def listen(self, seconds):
        """Reads what the parent says, for so long, and what the command writes; False at the parent's end."""
        until = None if seconds is None else time.monotonic() + seconds
        ready = []
        while self.pipe not in ready:
            left = None if until is None else max(until - time.monotonic(), 0)
            files = [self.pipe] if self.out is None else [self.pipe, self.out]
            ready, _, _ = select.select(files, [], [], left)
            if self.out in ready:
                self.read_output()
            if self.pipe not in ready and (not ready or left == 0):
                return True
        data = os.read(self.pipe, 4096)
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in lines:
            self.take(line.decode("ascii").split())
        return bool(data)

    def take(self, words):
        numbers = [int(word) for word in words[1:]]
        if words[0] == "started":
            self.pid, self.begin = numbers[0], numbers[1] / 1e9
        elif words[0] == "failed":
            # The program is there: main.py looked for it.
            why = "its interpreter is missing" if numbers[0] == errno.ENOENT else os.strerror(numbers[0])
            raise RunError(f"cannot run {self.argv[0]}: {why}")
        elif words[0] == "ended":
            self.status, self.ended_at = numbers[0], numbers[1] / 1e9
        elif words[0] == "usage":
            self.usage = numbers

    # What is looked for while it runs.

    def preloaded(self, pid):
        """Is the library mapped in the process? None when it is too early to tell: the loader maps
        what is preloaded before it maps libc."""
        paths = {line.split(None, 5)[-1] for line in read_proc(pid, "maps").splitlines()
                 if "/" in line}
        try:
            if not paths or os.readlink(f"/proc/{pid}/exe") == self.launcher:
                return None
        except OSError:
            return None
        names = {os.path.basename(path): path for path in paths}
        wanted = self.allocator["path"] and os.path.realpath(self.allocator["path"])
        if any(name.startswith("libc.so") for name in names) or wanted in paths:
            self.facts["other_malloc"] = min((path for name, path in names.items() if path != wanted
                                              and name.startswith(OTHER_MALLOCS)), default="")
            return wanted is None or wanted in paths
        return None if any(name.startswith("ld") for name in names) else not wanted

    def look_at_maps(self):
        """One process that has it is enough. Either answer must be seen twice: who has it may be `env`, about to hand
        over to a program that has not."""
        answers = [self.preloaded(pid) for pid in self.sampler.pids]
        if True in answers:
            self.looked = self.facts["mapped"] is True
            self.facts["mapped"] = True
        elif False in answers:
            self.missed += 1
            if self.missed > 1:
                self.facts["mapped"] = False

    def forget_errors(self):
        """A server may write for hours, and the folder of temporary files be memory: the last words are
        enough. The file is appended to, so that it begins anew."""
        size = os.fstat(self.err).st_size
        if size > ERRORS_MOST:
            self.said = os.pread(self.err, 4096, size - 4096)
            os.ftruncate(self.err, 0)

    def step(self):
        """One sample and what it is time for."""
        self.sampler.sample()
        self.forget_errors()
        now = time.monotonic()
        if not self.looked and self.sampler.series.n in (3, 6, 12, 40, 100):
            self.look_at_maps()
        if self.timeout and now - self.begin > self.timeout:
            self.complaint = f"did not end within {self.timeout:g} s (--timeout)"
            self.kill_or_give_up()
        elif self.phases.is_server and not self.stopped:
            self.step_server(now)

    def step_server(self, now):
        if self.stop_at is None and self.busy_is_over(now):
            self.busy_until = now
            self.facts["end_kib"] = self.sampler.sample(final=True) or None
            self.stop_at = now + (self.phases.idle or 0)
        if self.stop_at is not None and now >= self.stop_at:
            if self.phases.idle is not None:
                self.facts["idle_kib"] = self.sampler.sample(final=True) or None
            self.stopped = True
            self.stop_at = time.monotonic()
            if not self.send(self.pid, self.phases.stop):
                raise RunError(f"process {self.pid} cannot be stopped, as it runs as another user, and was "
                               "left behind; run besom bench as root")

    def busy_is_over(self, now):
        if self.load is None:
            return now - self.begin >= self.phases.busy
        code = self.load.poll()
        if code:
            self.complaint = f"the load {how_it_ended(code)} (--load)"
        return code is not None

    # The run.

    def watch(self):
        self.sampler = Sampler(self.parent.pid, self.begin, self.metric, self.interval)
        if self.phases.load is not None:
            self.load = start_shell(self.launcher, self.phases.load, BENCH_PID=str(self.pid),
                                    BENCH_ALLOCATOR=self.allocator["name"])
        while self.status is None:
            self.step()
            if self.status is None and not self.listen(
                    max(self.sampler.next_at - time.monotonic(), 0)):
                raise RunError("besom bench-child was killed")
            if self.stopped and self.status is None and \
                    time.monotonic() - self.stop_at > STOP_SECONDS:
                self.complaint = (f"was still there {STOP_SECONDS:g} s after "
                                  f"{self.phases.stop.name} (--stop)")
                self.kill_or_give_up()
        until = time.monotonic() + LEFTOVER_SECONDS
        while self.usage is None:
            if time.monotonic() > until:
                self.facts["leftovers"] = max(self.facts["leftovers"],
                                              len(tree_of(self.parent.pid)) - 1)
                self.kill_or_give_up()
            if not self.listen(0.02):
                break

    def send(self, pid, number):
        """False when it is of another user, who alone can end it."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            self.foreign = pid
            return False
        return True

    def kill(self):
        """All that is below the parent, which then says so and ends. False when some may not be killed."""
        return all([self.send(pid, signal.SIGKILL)
                    for pid in reversed(tree_of(self.parent.pid)[1:])])

    def kill_or_give_up(self):
        if not self.kill():
            raise RunError(f"process {self.foreign} cannot be killed, as it runs as another user, and was "
                           "left behind; run besom bench as root")

    def finish(self):
        """Nothing is left, whatever happened."""
        if self.load is not None and self.load.poll() is None:
            stop_shell(self.load)
        if self.parent is None:
            return
        until = time.monotonic() + 5
        while self.parent.poll() is None and time.monotonic() < until and self.kill():
            time.sleep(0.01)
        if self.parent.poll() is None:
            self.parent.kill()
            self.parent.wait()
        self.parent.wait()
        os.close(self.pipe)

    def run(self):
        with tempfile.TemporaryFile() as err:
            self.err = err.fileno()
            fcntl.fcntl(self.err, fcntl.F_SETFL, fcntl.fcntl(self.err, fcntl.F_GETFL) | os.O_APPEND)
            try:
                if self.output == "compare":
                    self.start_compared(err)
                elif self.output == "inherit":
                    self.start(None, None)
                else:
                    self.start(subprocess.DEVNULL, err)
                self.watch()
            finally:
                self.finish()
            self.read_rest()
            err.seek(max(err.seek(0, os.SEEK_END) - 4096, 0))
            self.last_words = last_line(self.said + err.read())
        self.judge()
        return self.result()

    def judge(self):
        """Sets complaint when a server did not end as it was told to."""
        if self.complaint or not self.phases.is_server:
            return
        if not self.stopped:
            self.complaint = (f"ended by itself after {self.ended_at - self.begin:.1f} s "
                              f"({status_text(self.status)}), before it was stopped; it must stay in "
                              "the foreground")
        elif os.WIFSIGNALED(self.status) and \
                os.WTERMSIG(self.status) in CRASHES - {self.phases.stop}:
            self.complaint = f"ended when it was stopped, but {status_text(self.status)}"

    def result(self):
        series = self.sampler.series
        whole = self.ended_at - self.begin
        seconds = self.busy_until - self.begin if self.busy_until else whole
        if not self.phases.is_server:
            self.facts["end_kib"] = series.last[1] if series.n else None
        usage = self.usage or [None] * 7
        cpu = None if self.usage is None else (usage[0] + usage[1]) / 1e6
        return {
            "allocator": self.allocator["name"], "status": self.status,
            "wall_s": round(seconds, 6), "whole_s": round(whole, 6), "cpu_s": cpu,
            "user_s": self.usage and usage[0] / 1e6, "system_s": self.usage and usage[1] / 1e6,
            "mean_kib": series.mean(whole), "peak_kib": series.peak if series.n else None,
            "process_peak_kib": usage[6], "minor_faults": usage[2], "major_faults": usage[3],
            "voluntary_switches": usage[4], "involuntary_switches": usage[5],
            "processes": self.sampler.nprocesses, **self.facts,
            "output": self.digest.hexdigest() if self.output == "compare" else "",
            "sampler_cpu_s": round(self.sampler.cpu_seconds, 6), "nsamples": series.n,
            "npss": self.sampler.npss, "pss_unreadable": self.sampler.unreadable,
            "samples": [[round(at, 4), kib] for at, kib in thinned(series.samples, 1000)],
        }


def last_line(said):
    """Of what a program wrote, as a terminal shows it, less colours and what a terminal obeys."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", said.decode("utf-8", "replace")).strip()
    return "".join(c if c.isprintable() else "?" for c in re.split(r"[\r\n]", text)[-1][:300])
