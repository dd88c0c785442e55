# SPDX-License-Identifier: MIT
"""One process, run to its end while its resident memory is sampled; used by bench/run. What
`besom bench` does for trees of processes (tools/bench/child.py) at a fraction of its start-up: the
benchmarks are single processes, many, and short. It compares nothing and prints nothing."""
import os
import select
import subprocess
import tempfile
import time

from sampler import FIRST_INTERVAL, Series, read_statm

INTERVAL = 0.01     # a reading takes 10 µs: one thousandth of a CPU
EARLY = 20          # and at most 1/20 of the time since the start


class TimeLimit(Exception):
    """It did not end, and was killed."""


def wait_and_sample(pid, begin, limit_seconds):
    """(Series, seconds) until the process has ended; it is not reaped."""
    series, handle = Series(), os.pidfd_open(pid)
    try:
        while True:
            now = time.monotonic() - begin
            statm = read_statm(pid)
            if statm and statm[0]:
                series.add(now, statm[0])
            interval = max(min(INTERVAL, now / EARLY), FIRST_INTERVAL)
            if select.select([handle], [], [], interval)[0]:
                return series, time.monotonic() - begin
            if now > limit_seconds:
                raise TimeLimit
    finally:
        os.close(handle)


def run_sampled(command, environment, limit_seconds):
    """(exit status, stdout, stderr, facts); TimeLimit when it took too long. facts: mean_kib, whose
    weights are times, and what the kernel counted for the whole process."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                                 env=environment)
        try:
            series, seconds = wait_and_sample(child.pid, begin, limit_seconds)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if child.returncode is None:
                child.kill()
                child.wait()
        out.seek(0)
        err.seek(0)
        facts = {"mean_kib": round(series.mean(seconds) or 0), "whole_seconds": round(seconds, 6),
                 "user_seconds": usage.ru_utime, "system_seconds": usage.ru_stime,
                 "minor_faults": usage.ru_minflt, "voluntary_switches": usage.ru_nvcsw,
                 "involuntary_switches": usage.ru_nivcsw}
        return (child.returncode, out.read().decode("utf-8", "replace"),
                err.read().decode("utf-8", "replace"), facts)
