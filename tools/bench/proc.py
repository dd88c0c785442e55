# SPDX-License-Identifier: MIT
"""What /proc says of processes: their text, the tree below one, memory. Used by `besom bench` and
bench/rss. Every function takes it as normal that a process has gone."""
import functools
import os
import re

PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


def read_proc(pid, name):
    """The text of /proc/PID/name, '' when the process has gone."""
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.readall().decode("ascii", "replace")
    except OSError:
        return ""


@functools.lru_cache(maxsize=None)
def lists_children():
    """Whether the kernel names the children of a thread (CONFIG_PROC_CHILDREN)."""
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def children_by_parent():
    """{process: its children} of the whole system, for kernels that do not list them."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            words = read_proc(name, "stat").rpartition(")")[2].split()
            if words:
                children.setdefault(int(words[1]), []).append(int(name))
    return children


def tree_of(pid):
    """The process and all its descendants."""
    pids = [pid]
    if not lists_children():
        children = children_by_parent()
        for parent in pids:
            pids += children.get(parent, [])
        return pids
    for parent in pids:
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            pids += [int(word) for word in read_proc(parent, f"task/{task}/children").split()]
    return pids


def field_kib(text, name):
    """A line "Name:   123 kB" of smaps_rollup or status; None when it is not there."""
    found = re.search(rf"^{name}:\s+(\d+)", text, re.M)
    return int(found.group(1)) if found else None


def rss_kib(pids):
    """Summed over the processes, 0 when none is there (any more)."""
    return sum(field_kib(read_proc(pid, "smaps_rollup"), "Rss") or 0 for pid in pids)
