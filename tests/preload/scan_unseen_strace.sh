#!/bin/sh
# SPDX-License-Identifier: MIT
#
# scan_unseen_strace.sh - a scanned program under strace: between two marks its thread makes the calls that it makes
# without scans, with the same results, but for those that besom's signal interrupted, which are made again.
# No other signal comes, SIGCHLD least of all. What a program sees itself is scan_unseen.c's. The program does
# the same again and again, until there were enough scans, however long that takes.
#
# Called by `make check`; takes CC from the environment, and libbesom-scans.so from .libs here. Skipped
# aloud without strace, or where it may not trace.
set -eu
lib=$(pwd)/.libs/libbesom-scans.so
skip() {
    echo "scan_unseen_strace.sh: skipped: $1"
    exit 77
}
[ -r "$lib" ] || skip "there is no $lib"
command -v strace >/dev/null || skip "there is no strace"
strace -o /dev/null true 2>/dev/null || skip "strace may not trace here"
command -v python3 >/dev/null || skip "there is no python3"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 99' HUP INT TERM

cat >"$tmp/quiet.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>
#include "scan_drive.h"
static bool is_enough(const struct scan_drive *drive) {
    unsigned verdicts = 5, others;
    if (drive != NULL)
        drive->counts(&verdicts, &others);
    return verdicts >= 5;
}
int main(void) {
    const struct scan_drive *drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    int tube[2], epoll = epoll_create1(0);
    char byte;
    struct epoll_event e;
    if (pipe(tube) != 0 || write(tube[1], "begin", 5) != 5)
        return 1;
    for (int i = 0; i < 5; i++)
        if (read(tube[0], &byte, 1) != 1)
            return 1;
    for (int i = 0; i < 8 || (i < 400 && !is_enough(drive)); i++) {
        struct timespec ts = {0, 80000000};
        struct timeval tv = {0, 80000};
        if (poll(NULL, 0, 80) != 0 || nanosleep(&ts, NULL) != 0 || epoll_wait(epoll, &e, 1, 80) != 0 ||
            select(0, NULL, NULL, NULL, &tv) != 0 || write(tube[1], "x", 1) != 1 ||
            read(tube[0], &byte, 1) != 1 || getppid() <= 0)
            return 1;
    }
    return write(tube[1], "end", 3) != 3;
}
END
${CC:-cc} -O1 -I"$(dirname "$0")" -o "$tmp/quiet" "$tmp/quiet.c"

strace -f -o "$tmp/without" "$tmp/quiet"
PROMISE_LIB=$lib BESOM_CONF=scan:leak,scan_interval:0,leak_age:0 SCAN_PER_SECOND=10 SCAN_LEAST=5 \
    strace -f -o "$tmp/with" -E LD_PRELOAD="$lib" "$tmp/quiet" >"$tmp/out" ||
    { cat "$tmp/out"; echo "scan_unseen_strace.sh: exit status $?"; exit 1; }

python3 - "$tmp/without" "$tmp/with" <<'END'
import re, sys

def calls(path):
    """The first thread's completed calls between the marks, and the signals that came."""
    first, handling, inside, ends = None, False, False, False
    found, signals, stops = [], set(), 0
    for line in open(path, errors="replace"):
        pid, what = line.rstrip().split(None, 1)
        first = first or pid
        signal = re.match(r"--- (\w+)", what)
        if signal:
            ours = "si_code=SI_QUEUE" in what and signal[1].startswith("SIGRT")
            if not ours:
                signals.add(signal[1])
            if pid == first:
                handling, stops = ours, stops + ours
            continue
        if pid != first:
            continue
        name = re.match(r"(?:<\.\.\. )?(\w+)", what)
        if name and name[1] == "rt_sigreturn":
            handling = False
            continue
        inside, ends = inside or '"begin"' in what, ends or '"end"' in what
        if handling or not name or what.endswith("<unfinished ...>") or \
                "ERESTART" in what or "EINTR" in what: # interrupted by ours, and made again
            continue
        result = what.rsplit("= ", 1)[-1].split(None, 1)[0]
        name = {"restart_syscall": "clock_nanosleep", "ppoll": "poll"}.get(name[1], name[1])
        if inside:
            found.append((name, result))
        if ends:
            break
    return found, signals, stops

(plain, none, _), (scanned, signals, stops) = calls(sys.argv[1]), calls(sys.argv[2])

def turns(found):
    """The calls up to each getppid, and those after the last one."""
    parts = [[]]
    for name, result in found:
        parts[-1].append((name, result if name != "getppid" else "pid"))
        if name == "getppid":
            parts.append([])
    return parts

ok = True
want, got = turns(plain), turns(scanned)
want[2:-1] *= 1 + len(got) // len(want[2:-1]) # they are alike, and so many there may be
del want[len(got) - 1:-1]
if want != got:
    print("scan_unseen_strace.sh: the program's calls differ:", [x for x in zip(want, got) if x[0] != x[1]][:3],
          len(plain), len(scanned))
    ok = False
if signals - none:
    print("scan_unseen_strace.sh: signals:", signals)
    ok = False
if stops < 5:
    print("scan_unseen_strace.sh: only", stops, "stops")
    ok = False
print("scan_unseen_strace.sh: %d calls, %d stops" % (len(scanned), stops))
sys.exit(0 if ok else 1)
END
