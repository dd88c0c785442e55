#!/bin/sh
# SPDX-License-Identifier: MIT
#
# startup.sh - what besom costs a program that does next to nothing, with and without it in turn,
# medians of the difference: the CPU time of /bin/true (the time on the wall is mostly that of others
# where the machine is busy), and the resident memory of a grep that prints its own: the library's, and
# what is no file's. Pages of libc are left out: which of them the kernel maps with a page that is touched
# depends on where libc was loaded, and differs by 200 KiB from run to run of the same program. The project
# promises 0.5 ms and 300 KiB; the limit of memory is lower, so that what is lost by chance is seen. On a machine that
# needs more than a millisecond for /bin/true itself, the promise is half of that time. Not a benchmark.
set -eu
lib=${BESOM_LIB:?startup.sh: BESOM_LIB must name libbesom.so}
exec /usr/bin/python3 - "$lib" <<'PYTHON'
import os
import statistics
import subprocess
import sys

LIMIT_US, LIMIT_KIB, PAIRS = 500, 180, 80


def cpu_us(environment):
    pid = os.posix_spawn("/bin/true", ["true"], environment)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        sys.exit(f"startup.sh: /bin/true ended with status {status}")
    return (usage.ru_utime + usage.ru_stime) * 1e6


def own_kib(environment):
    """Of mappings without a file, the heap, the stack, and the library."""
    done = subprocess.run(["/bin/grep", "-E", "^[0-9a-f]+-|^Rss:", "/proc/self/smaps"],
                          env=environment, capture_output=True, text=True, check=True)
    kib, counts = 0, False
    for line in done.stdout.splitlines():
        words = line.split(None, 5)
        if words[0] != "Rss:":
            name = words[5] if len(words) > 5 else ""
            counts = not name.startswith("/") or name == environment.get("LD_PRELOAD")
        elif counts:
            kib += int(words[1])
    return kib


plain = {"PATH": "/bin"}
preloaded = {"PATH": "/bin", "LD_PRELOAD": os.path.realpath(sys.argv[1])}
cpu_us(plain), cpu_us(preloaded)
pairs = [(cpu_us(plain), cpu_us(preloaded)) for _ in range(PAIRS)]
alone = statistics.median(without for without, _ in pairs)
limit_us = max(LIMIT_US, alone / 2)
sizes = [own_kib(preloaded) - own_kib(plain) for _ in range(PAIRS // 2)]
us = statistics.median(other - without for without, other in pairs)
kib = statistics.median(sizes)
print(f"startup.sh: besom adds {us:.0f} us of CPU time (limit {limit_us:.0f}) to {alone:.0f}, and {kib:.0f} KiB "
      f"(limit {LIMIT_KIB}) to a small program")
sys.exit(0 if us <= limit_us and kib <= LIMIT_KIB else 1)
PYTHON
