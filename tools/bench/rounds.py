# SPDX-License-Identifier: MIT
"""All runs: rounds in which every allocator has its turn, in an order that rotates, so that a slow
minute of the machine hits all of them alike. Judges each run, prints failures and progress, keeps
what was measured when it is interrupted. The arithmetic is in stats.py.
"""
import os
import signal
import subprocess
import sys

from allocators import environment_for, find_library
from child import Run, RunError, how_it_ended, start_shell, status_text, stop_shell
from progress import Progress
from streams import say


INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NothingRun(Exception):
    """The command cannot be run at all; one line."""


class Session:
    """args of options.py; afterwards runs, failures and notes."""

    def __init__(self, args, allocators):
        self.args, self.allocators = args, allocators
        self.runs, self.failures, self.notes = [], [], []
        self.statuses, self.digests = {}, {}
        self.obstacles = {}
        self.unloaded = [a["name"] for a in allocators if a["path"] is None]
        self.progress = Progress((args.rounds + args.warmup) * len(allocators),
                                 args.progress or sys.stderr.isatty())

    def failed(self, number, allocator, reason):
        self.progress.clear()
        say(f"failed: round {number}, {allocator['name']}: {reason}")
        self.failures.append({"round": number, "allocator": allocator["name"], "reason": reason})

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    # One run.

    def hook(self, option, command, allocator, number):
        """A command of --prepare or --cleanup; '' or what is wrong."""
        if not command:
            return ""
        shell = start_shell(self.args.launcher, command, BENCH_ALLOCATOR=allocator["name"],
                            BENCH_ROUND=str(number))
        try:
            code = shell.wait()
        except BaseException:
            stop_shell(shell)
            raise
        return f"{option} {how_it_ended(code)}" if code else ""

    def one(self, allocator, number):
        args = self.args
        run = Run(args.command, allocator, args.launcher, args.phases, metric=args.metric,
                  interval=args.interval / 1000, timeout=args.timeout,
                  env=args.environments.get(allocator["name"]),
                  output="compare" if args.compare_output else
                  "inherit" if args.show_output else "null")
        complaint = self.hook("--prepare", args.prepare, allocator, number)
        if complaint:
            return None, complaint
        try:
            result = run.run()
            complaint = self.judged(run, result, allocator)
        except RunError as error:
            raise NothingRun(str(error)) from None
        finally:
            late = self.hook("--cleanup", args.cleanup, allocator, number)
        return result, complaint or late

    def judged(self, run, result, allocator):
        """'' or why the run does not count."""
        name = allocator["name"]
        if run.complaint:
            return run.complaint + self.quoted(run)
        if allocator["path"] and not result["mapped"] and self.obstacle(allocator["path"]):
            return f"{allocator['path']} does nothing in {self.obstacle(allocator['path'])}"
        if result["mapped"] is False:
            return (f"{allocator['path']} is not mapped in the command, in spite of LD_PRELOAD: is "
                    "it static or setuid, or does it clear its environment?")
        status = result["status"]
        if status and not self.args.phases.is_server and not self.args.ignore_failure:
            return f"{self.args.command[0]}: {status_text(status)}{self.quoted(run)}"
        self.take_notes(result, name)
        return self.differs(name, status_text(status), self.statuses, "ended with ") or (
            self.differs(name, result["output"], self.digests, "output ")
            if self.args.compare_output else "")

    def obstacle(self, library):
        """Why the library cannot take effect in the program itself, as a static one; ''."""
        if library not in self.obstacles:
            done = subprocess.run([self.args.launcher, "bench-child", "--obstacle", library, self.args.command[0]],
                                  capture_output=True, text=True, errors="replace", check=False)
            self.obstacles[library] = done.stdout.strip()
        return self.obstacles[library]

    @staticmethod
    def quoted(run):
        return f": {run.last_words}" if run.last_words else ""

    def differs(self, name, value, seen, what):
        """The first run of all says what is right."""
        if self.args.phases.is_server:
            return ""
        first, right = seen.setdefault("first", (name, value))
        if value == right:
            return ""
        shown = f"{value}, but {right}" if what.startswith("ended") else "differs from that"
        return f"{what}{shown} under {first}" + (" before" if first == name else "")

    def take_notes(self, result, name):
        if result["other_malloc"] and name in self.unloaded:
            self.note(f"under {name} the command maps {result['other_malloc']} of its own accord; "
                      f"if that is its malloc, compare with --alloc {name}="
                      f"{find_library(['libc.so.6']) or '/path/of/libc.so.6'}")
        if result["leftovers"]:
            self.note(f"under {name} {result['leftovers']} process(es) outlived the command and were "
                      "killed 2 s later")
        if result["pss_unreadable"]:
            self.note("a process of another user was counted by RSS less its shared pages, because "
                      "its PSS cannot be read; run as root to have it")
        if result["mapped"] is None and result["pss_unreadable"]:
            self.note("nor can its mappings be read, so that the allocators answered was tested with another "
                      "program only; the dynamic linker ignores LD_PRELOAD where the user changes")
        elif result["mapped"] is None and result["mean_kib"] is not None:
            self.note("the command ended before its mappings could be looked at, so that the "
                      "allocators answered was tested with another program only")

    # All of them.

    def round(self, number, counts):
        first = number % len(self.allocators)
        failed = 0
        for allocator in self.allocators[first:] + self.allocators[:first]:
            what = f"round {number}/{self.args.rounds}" if counts else "warm-up"
            self.progress.begin(f"{what}  {allocator['name']}")
            result, complaint = self.one(allocator, number)
            if complaint:
                failed += 1
                self.failed(number, allocator, complaint)
            elif counts:
                self.runs.append({"round": number, **result})
            self.progress.step(f"{what}  {allocator['name']}")
        return failed

    def run(self):
        """Rounds are counted from 1; those before, 0 and below, warm up."""
        try:
            for number in range(1 - self.args.warmup, self.args.rounds + 1):
                if self.round(number, number > 0) == len(self.allocators) and not self.runs:
                    self.progress.clear()
                    say("stopped: the first run of every allocator failed")
                    return
        except OSError as error:    # of the machine: no more processes, descriptors, room in /tmp
            raise NothingRun(f"cannot start a run: {error.strerror}") from None
        self.progress.clear()


def interrupt_on_signals():
    """SIGTERM and SIGHUP end as Ctrl-C does: what was measured is written. The launcher has blocked them
    all, so that none came while Python started."""
    def interrupted(number, _frame):
        raise KeyboardInterrupt(number)
    for number in INTERRUPTS:
        if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, interrupted)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


def program_exists(name):
    """'' or what is wrong with the first word of the command."""
    folders = os.environ.get("PATH", "/bin:/usr/bin").split(":")
    paths = [name] if "/" in name else [os.path.join(folder or ".", name) for folder in folders]
    files = [path for path in paths if os.path.isfile(path)]
    if not files and os.path.isdir(name) and "/" in name:
        return f"cannot run '{name}': it is a folder"
    if not files and " " in name:
        return (f"cannot run '{name}': there is no such program; write its arguments as words of their own, or "
                "sh -c before what a shell is to read")
    if not files:
        return f"cannot run '{name}': there is no such program"
    if not any(os.access(path, os.X_OK) for path in files):
        return f"cannot run '{name}': {files[0]} is not executable"
    return ""
