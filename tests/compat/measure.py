#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""measure.py -- runs one command for run.sh, with a time limit, and leaves nothing behind.

Usage: measure.py LIMIT_SECONDS REPORT STDOUT STDERR COMMAND [ARGUMENT...]

Writes one line to REPORT: exit status (or "timeout"), seconds, peak RSS in KiB. The peak is that
of the largest single process among the command and all its descendants, daemons included: this
process makes itself the reaper of orphans, so the kernel accounts them to it, and whatever is
still alive at the end (or when SIGTERM arrives) is killed. It is NOT preloaded itself; the
command gets its LD_PRELOAD from the variable COMPAT_PRELOAD.

One thread; the only wait is a poll of 20 ms, bounded by the limit.
"""
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 2.0


def children():
    """The direct children of this process; orphans have been handed to it."""
    pid = os.getpid()
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def reap():
    """Collects every child that has ended; false when there is no child left at all."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        return False
    return True


def end_descendants(grace_seconds):
    """Gives what still runs some time to end by itself, then kills generation by generation."""
    deadline = time.monotonic() + grace_seconds
    while reap():
        if time.monotonic() > deadline:
            for pid in children():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        time.sleep(0.02)


def stop(_signal, _frame):
    end_descendants(0)
    os._exit(1)


def main():
    limit_seconds = float(sys.argv[1])
    report, out, err, command = sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

    environment = dict(os.environ)
    library = environment.pop("COMPAT_PRELOAD", "")
    if library:
        environment["LD_PRELOAD"] = library
    start = time.monotonic()
    with open(out, "wb") as out_file, open(err, "wb") as err_file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out_file,
                                   stderr=err_file, env=environment, start_new_session=True)
    try:
        status = process.wait(timeout=limit_seconds)
        grace_seconds = GRACE_SECONDS
    except subprocess.TimeoutExpired:
        status = "timeout"
        grace_seconds = 0
    seconds = time.monotonic() - start
    end_descendants(grace_seconds)
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with open(report, "w", encoding="ascii") as file:
        file.write(f"{status} {seconds:.1f} {peak_kib}\n")


main()
