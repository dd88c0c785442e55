# SPDX-License-Identifier: MIT
"""The programs that bench/rss watches: started under an allocator, sampled from /proc while they
run, read out (stdout, besom's log) when they end.

One thread does it all, in steps of 20 ms over the programs that run at the same time, so that a
child can be given its last words before exec. A program speaks on stdout, a fact a line: NAME
NUMBER; "idle" when only sleep follows; "sample PID" when another process than its own tree is
meant. bench/workload stays until its stdin ends, so that it is there still when a look comes late.
Nothing here knows a target.
"""
import ctypes
import json
import os
import re
import signal
import subprocess
import tempfile
import time

from harness import environment_for, read_proc, rss_kib, tree_of

PR_SET_PDEATHSIG = 1
STEP_SECONDS = 0.02
SAMPLE_SECONDS = 0.25
# Where besom's heap lives (doc/DESIGN.md); everything else of a process is none of its blocks.
HEAP_BEGIN, HEAP_END = 0x200000000000, 0x300000000000
LIBC = ctypes.CDLL(None)


def until_at_rest(threads, most_seconds=100):
    """For Program's `again`: a look a second until the program has no more than so many threads beside the
    first, so that the allocator's has ended, however little CPU it gets."""
    def again(program):
        at = max(program.snapshots)
        over = len(program.snapshots[at].switches) <= threads or at > most_seconds
        return () if over else (at + 1,)
    return again


class ProgramError(Exception):
    """A program that did not do what it was started for; one line."""


# --- /proc ------------------------------------------------------------------------------------


def switches_of(pid):
    """{thread id: voluntary context switches} of the threads beside the first."""
    try:
        tasks = [int(task) for task in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return {}
    counts = {}
    for task in tasks:
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)",
                          read_proc(pid, f"task/{task}/status"), re.M)
        if found and task != pid:
            counts[task] = int(found.group(1))
    return counts


class Snapshot:
    """A process in detail, at one moment: KiB, number of mappings, its other threads. And its peak
    until then by the kernel, which has looked all the time."""

    def __init__(self, pids):
        self.wall_ns = time.time_ns()
        self.rss = self.huge = self.other = self.maps = 0
        for pid in pids:
            self.add(read_proc(pid, "smaps"))
        self.switches = switches_of(pids[0])
        peak = re.search(r"^VmHWM:\s+(\d+)", read_proc(pids[0], "status"), re.M)
        self.peak = int(peak.group(1)) if peak and len(pids) == 1 else self.rss

    def add(self, text):
        inside = False
        for line in text.splitlines():
            head = re.match(r"([0-9a-f]+)-[0-9a-f]+ ", line)
            if head:
                self.maps += 1
                inside = HEAP_BEGIN <= int(head.group(1), 16) < HEAP_END
            elif line.startswith("Rss:"):
                kib = int(line.split()[1])
                self.rss += kib
                self.other += 0 if inside else kib
            elif line.startswith("AnonHugePages:"):
                self.huge += int(line.split()[1])

    def as_dict(self):
        return {"rss_kib": self.rss, "huge_kib": self.huge, "outside_heap_kib": self.other,
                "maps": self.maps, "threads_beside_main": len(self.switches)}


# --- one program ------------------------------------------------------------------------------


class Program:
    """argv under an allocator. snapshots: seconds of idleness after which one is taken; after the last
    one `again`, if given, says of the program when more are to be taken: () for no more."""

    def __init__(self, argv, allocator, *, conf="", log="exit", snapshots=(), again=None, label="",
                 env=None, preload=True, sample=True, cgroup=None, limit_seconds=150):
        self.argv, self.allocator, self.conf, self.log_kind = argv, allocator, conf, log
        self.label = label or allocator["name"]
        self.extra_env, self.preload, self.sampling = env or {}, preload, sample
        self.cgroup, self.limit_seconds = cgroup, limit_seconds
        self.due, self.again = sorted(snapshots), again
        self.samples, self.snapshots, self.facts, self.reports = [], {}, {}, []
        self.directory = self.process = self.idle_at = self.code = None
        self.stderr = self.unread = ""
        self.seconds = 0.0

    # What is asked afterwards.

    @property
    def peak(self):
        return max([kib for _, kib in self.samples] + [s.peak for s in self.snapshots.values()],
                   default=0)

    @property
    def floor(self):
        """KiB, by besom's log at the time of the last snapshot; None for others."""
        return self.report["floor"] / 1024 if self.report else None

    @property
    def report(self):
        """The last line of besom's log that speaks of the idle program."""
        if not self.reports:
            return None
        if self.log_kind == "exit" or not self.snapshots:
            return self.reports[-1]
        until = max(snapshot.wall_ns for snapshot in self.snapshots.values())
        before = [report for report in self.reports if report["time_ns"] <= until]
        return before[-1] if before else None

    def as_dict(self):
        return {"label": self.label, "argv": [os.path.basename(self.argv[0]), *self.argv[1:]],
                "conf": self.conf, "code": self.code, "seconds": round(self.seconds, 3),
                "idle_after": self.idle_at and round(self.idle_at, 3), "peak_kib": self.peak,
                "facts": self.facts, "samples": [[round(t, 2), kib] for t, kib in self.samples],
                "snapshots": {str(at): s.as_dict() for at, s in self.snapshots.items()},
                "report": self.report}

    # How it runs.

    def environment(self):
        env = environment_for(self.allocator["path"] if self.preload else None)
        env.update(self.extra_env)
        if self.allocator["name"] == "besom":
            log = "log_at:exit" if self.log_kind == "exit" else f"log_interval:{self.log_kind}"
            env["BESOM_CONF"] = ",".join(filter(None, [
                env.get("BESOM_CONF"), self.conf, f"log:{self.directory.name}/besom.log",
                "log_format:json", log]))
        return env

    def before_exec(self):
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if self.cgroup:
            self.cgroup.enter()

    def start(self):
        self.directory = tempfile.TemporaryDirectory(prefix="besom-rss-")
        argv = [word.replace("{directory}", self.directory.name) for word in self.argv]
        with open(f"{self.directory.name}/out", "w", encoding="ascii") as out, \
                open(f"{self.directory.name}/err", "w", encoding="ascii") as err:
            stays = os.path.basename(argv[0]) == "workload"
            self.process = subprocess.Popen(argv, env=self.environment(), stdout=out, stderr=err,
                                            stdin=subprocess.PIPE if stays else subprocess.DEVNULL,
                                            start_new_session=True,
                                            preexec_fn=self.before_exec)
        self.begin = time.monotonic()
        self.meant, self.read_to, self.sampled = self.process.pid, 0, -1.0

    def stop(self):
        """For the impatient: nothing of it is left."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.directory:
            self.directory.cleanup()

    def read_stdout(self):
        with open(f"{self.directory.name}/out", encoding="ascii", errors="replace") as file:
            file.seek(self.read_to)
            text = file.read()
            self.read_to = file.tell()
        *lines, self.unread = (self.unread + text).split("\n")
        for line in lines:
            words = line.split()
            if words == ["idle"]:
                self.idle_at = time.monotonic() - self.begin
            elif len(words) == 2 and words[0] == "sample":
                self.meant = int(words[1])
            elif len(words) == 2:
                self.facts[words[0]] = float(words[1])

    def step(self):
        """False when the program has ended."""
        ended = self.process.poll() is not None
        now = time.monotonic() - self.begin
        self.read_stdout()
        if ended:
            self.finish(now)
            return False
        if self.sampling and now - self.sampled >= SAMPLE_SECONDS:
            self.sampled = now
            kib = rss_kib(tree_of(self.meant))
            if kib:
                self.samples.append((now, kib))
        while self.idle_at is not None and self.due and now >= self.idle_at + self.due[0]:
            self.snapshots[self.due.pop(0)] = Snapshot(tree_of(self.meant))
            if not self.due and self.again:
                self.due = list(self.again(self))
        if self.process.stdin and not self.due:
            self.process.stdin.close()
            self.process.stdin = None
        if now > self.limit_seconds:
            self.stop()
            raise ProgramError(f"{self.label}: {os.path.basename(self.argv[0])} did not end within "
                               f"{self.limit_seconds} s")
        return True

    def finish(self, now):
        self.code, self.seconds = self.process.returncode, now
        with open(f"{self.directory.name}/err", encoding="utf-8", errors="replace") as file:
            self.stderr = file.read()
        if os.path.exists(f"{self.directory.name}/besom.log"):
            with open(f"{self.directory.name}/besom.log", encoding="utf-8") as file:
                lines = [json.loads(line) for line in file]
            self.reports = [line for line in lines if line["event"] in ("exit", "interval")]
        self.directory.cleanup()

    def check(self):
        """Raises when it failed; a killed one in a cgroup is for the caller to judge."""
        if self.code != 0:
            last = (self.stderr.strip().split("\n") or [""])[-1]
            raise ProgramError(f"{self.label}: {os.path.basename(self.argv[0])} ended with "
                               f"{self.code}: {last}")
        if self.due:
            raise ProgramError(f"{self.label}: {os.path.basename(self.argv[0])} ended before it "
                               "was looked at")

    def lacks_option(self):
        """The name of an option of ours that the library does not know, or ''."""
        found = re.search(r'unknown option "(\w+)"|option (\w+) in \S+: ".*" is not', self.stderr)
        return (found.group(1) or found.group(2)) if found else ""


def run_all(programs, jobs, progress=None):
    """Runs them, `jobs` at a time, in order."""
    waiting, running = list(programs), []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                program = waiting.pop(0)
                program.start()
                running.append(program)
            time.sleep(STEP_SECONDS)
            for program in list(running):
                if not program.step():
                    running.remove(program)
                    if progress:
                        progress(program)
    finally:
        for program in running:
            program.stop()
    return programs
