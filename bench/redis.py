#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""redis.py LIBRARY DIRECTORY KEYS SECONDS -- a Redis server that loses four fifths of its keys.

Run by bench/rss. Starts Debian's redis-server with LIBRARY preloaded ("" leaves it with jemalloc,
which it is linked with; Redis 8 has tools/mallocx.c behind the others) on a socket in DIRECTORY, sets KEYS keys with values of 16 bytes to 1 KiB,
deletes 80 % of them in random order, says "idle", and ends the server by SIGTERM after SECONDS, so
that it leaves through exit. "sample PID" on stdout names the process whose memory is meant.

It is not the demonstration (tools/demo.py, whose client it uses) and measures nothing.
"""
import os
import random
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                                "tools"))
import demo  # noqa: E402

KEEP_EVERY = 5
START_SECONDS = 10.0


def bound_to(environment):
    """The file whose malloc the dynamic loader gives to redis-server."""
    environment = dict(environment, LD_DEBUG="bindings")
    environment.pop("BESOM_CONF", None)
    log = subprocess.run(["redis-server", "--version"], capture_output=True, text=True,
                         env=environment, timeout=20, check=False).stderr
    found = re.findall(r"binding file \S*redis-server \[0\] to (\S+) \[0\]: normal symbol `malloc'",
                       log)
    return found[-1] if found else ""


def connect(path, server):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return demo.Client(path)
        except OSError:
            time.sleep(0.05)
    raise demo.DemoError("redis-server did not start")


def make_keys(count):
    """(key, value size): each octave of sizes is equally likely."""
    source = random.Random(demo.SEED)
    return [(f"key:{n:08d}".encode(), int(16 * 64 ** source.random())) for n in range(count)]


def story(client, count):
    keys = make_keys(count)
    client.load(keys)
    order = list(range(count))
    random.Random(demo.SEED).shuffle(order)
    client.delete([keys[n] for place, n in enumerate(order) if place % KEEP_EVERY != 0])


def main():
    library, directory, count, seconds = sys.argv[1:5]
    environment = dict(os.environ)
    if library:
        environment["LD_PRELOAD"] = demo.whole(library)
    wanted, bound = library or "libjemalloc.so", bound_to(environment)
    if wanted not in bound and os.path.realpath(wanted) != os.path.realpath(bound):
        sys.exit(f"redis.py: redis-server takes its malloc from {bound}, not from {wanted}")
    path = os.path.join(directory, "redis.sock")
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no",
         "--dir", directory, "--logfile", os.path.join(directory, "redis.log")],
        env=environment, stdin=subprocess.DEVNULL, preexec_fn=demo.end_with_parent)
    try:
        print("sample", server.pid, flush=True)
        story(connect(path, server), int(count))
        print("idle", flush=True)
        time.sleep(float(seconds))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=20)
    return server.returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (demo.DemoError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"redis.py: {error}")
