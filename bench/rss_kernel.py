# SPDX-License-Identifier: MIT
"""Settings of the kernel that bench/rss changes for a while: files of /sys, and memory cgroups.

Both are context managers that put everything back on every way out. The ways out are exceptions:
bench/rss turns signals into one. Unavailable says why a setting cannot be changed here, and is
meant to be shown.
"""
import contextlib
import os
import re
import time

THP = "/sys/kernel/mm/transparent_hugepage"


class Unavailable(Exception):
    """One line for people."""


def read_setting(path):
    """The value; of "a [b] c" the chosen word."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error
    chosen = re.search(r"\[(\S+)\]", text)
    return chosen.group(1) if chosen else text


def write_setting(path, value):
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(str(value))
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def settings(values):
    """{file: value} for as long as the block runs."""
    before = []
    try:
        for path, value in values.items():
            before.append((path, read_setting(path)))
            write_setting(path, value)
        yield
    finally:
        for path, value in reversed(before):
            with contextlib.suppress(Unavailable):
                write_setting(path, value)


# --- memory cgroups ---------------------------------------------------------------------------


def memory_mount():
    """(folder, version) of the mounted hierarchy that limits memory."""
    unified = None
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, right = line.rstrip().split(" - ", 1)
            folder, (kind, _, options) = left.split()[4], right.split(" ", 2)
            if kind == "cgroup" and "memory" in options.split(","):
                return folder, 1
            if kind == "cgroup2":
                unified = folder
    if unified:
        with open(f"{unified}/cgroup.subtree_control", encoding="ascii") as file:
            if "memory" in file.read().split():
                return unified, 2
    raise Unavailable("no memory controller is mounted")


class Cgroup:
    """A group of its own with a limit, removed at the end. enter() is called by a child."""

    def __init__(self, limit_bytes):
        mount, self.version = memory_mount()
        self.folder = f"{mount}/besom-rss-{os.getpid()}"
        self.limit_bytes = limit_bytes

    def __enter__(self):
        try:
            os.mkdir(self.folder)
        except OSError as error:
            raise Unavailable(f"{self.folder} cannot be made: {error.strerror}") from error
        try:
            names = [("memory.limit_in_bytes", self.limit_bytes)] if self.version == 1 else \
                [("memory.max", self.limit_bytes), ("memory.swap.max", 0)]
            for name, value in names:
                if name != "memory.swap.max" or os.path.exists(f"{self.folder}/{name}"):
                    write_setting(f"{self.folder}/{name}", value)
        except Unavailable:
            os.rmdir(self.folder)
            raise
        return self

    def __exit__(self, *_):
        for _ in range(100):
            try:
                os.rmdir(self.folder)
                return
            except OSError:
                time.sleep(0.05)
        raise Unavailable(f"{self.folder} could not be removed")

    def enter(self):
        with open(f"{self.folder}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(os.getpid()))

    def kills(self):
        """How many processes in it the kernel has killed."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        with open(f"{self.folder}/{name}", encoding="ascii") as file:
            found = re.search(r"^oom_kill (\d+)", file.read(), re.M)
        return int(found.group(1)) if found else 0
