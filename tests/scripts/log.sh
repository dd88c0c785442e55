#!/bin/sh
# SPDX-License-Identifier: MIT
#
# log.sh - options and log as a user meets them: real programs run with libbesom.so preloaded, and
# what they leave behind is judged by python3 (JSON) and grep (text).
#
# It is NOT about the heap's own promises (preload/) nor about every field (check_log). The
# programs' output and exit status must be theirs, whatever the options say.
# Called by `make check`; takes BESOM_LIB from the environment. Exit status: 0 all right, 1 not.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
lib=${BESOM_LIB:-$top/build/libbesom.so}
[ -r "$lib" ] || { echo "log.sh: $lib cannot be read; run make"; exit 1; }
lib=$(realpath "$lib")
python=$(python3 -c 'import sys; print(sys.executable)') || { echo "log.sh: needs python3"; exit 1; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0
count=0

broken() {
    echo "log.sh: $*"
    status=1
}

# with NAME=VALUE... PROGRAM ARG...: runs it under besom, 300 s at most; output in $tmp/out and
# $tmp/err, exit status in $code.
with() {
    count=$((count + 1))
    code=0
    env -u BESOM_CONF LD_PRELOAD="$lib" timeout 300 env "$@" >"$tmp/out" 2>"$tmp/err" || code=$?
}

# said WORDS: exactly one line on stderr, with these words.
said() {
    if [ "$(wc -l <"$tmp/err")" -ne 1 ] || ! grep -q -F -- "$1" "$tmp/err"; then
        broken "run $count: wanted one line with '$1' on stderr, got: $(cat "$tmp/err")"
    fi
}

# well WHAT: exit status 0, nothing on stderr.
well() {
    [ "$code" -eq 0 ] || broken "$1: exit status $code: $(cat "$tmp/err")"
    [ ! -s "$tmp/err" ] || broken "$1: stderr has: $(cat "$tmp/err")"
}

# judge FILE CODE: python code over `lines`, the JSON objects of the file.
judge() {
    python3 - "$1" <<END || broken "$1: $(head -c 600 "$1" 2>/dev/null)"
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
$2
END
}

sums='
for l in lines:
    parts = "live rounding leaked cached held span_free pinned heap_dirty metadata outside remainder"
    if "rss" in l:
        assert l["rss"] == sum(l[p] for p in parts.split()), l
        assert abs(l["remainder"]) <= l["rss"] / 100 + 256 * 1024, l
'

# Without options: silence.
with /bin/true
well 'true without options'
with "$python" -c 'print(sum(range(1000)))'
well 'python3 without options'
[ "$(cat "$tmp/out")" = 499500 ] || broken "python3 printed $(cat "$tmp/out")"

# A report at exit, to a file as JSON, to stderr as text, none.
with BESOM_CONF="log:$tmp/true.%e,log_format:json" /bin/true
well 'true with a log'
judge "$tmp/true.true" "$sums"'
assert [l["event"] for l in lines] == ["exit"], lines
assert lines[0]["besom"] == 1 and lines[0]["pid"] > 1
'
# (Not echo: what coreutils make closes stderr before the library's turn at exit.)
with BESOM_LOG=stderr "$python" -c 'print("text")'
[ "$(cat "$tmp/out")" = text ] || broken "python3 printed $(cat "$tmp/out")"
said '] exit: rss '
with BESOM_LOG=stderr BESOM_LOG_AT=none /bin/true
well 'log_at:none'

# A program that works, sleeps until most of its memory went back, and is traced: every event is JSON, and
# the parts add up, in reports of the time when it sleeps: while it allocates, RSS is another by the time that
# the parts are counted.
with BESOM_CONF="log:$tmp/busy,log_format:json,trace:sweep+scavenge,scavenge_delay:50ms" \
    BESOM_LOG_INTERVAL=1s "$python" -c '
import os, time
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
a = [bytes(1000) for _ in range(60000)] + [bytes(1 << 20) for _ in range(30)]
full = rss()
del a[10:]
end, begin = time.time() + 100, time.time_ns()
def reports(log="'"$tmp/busy"'"):
    return open(log).read().count("\"interval\"") if os.path.exists(log) else 0
before = reports()
time.sleep(2.5)
while (rss() > full - (40 << 20) or reports() < before + 2) and time.time() < end:
    time.sleep(0.1)
print(begin)'
well 'python3 with a trace'
judge "$tmp/busy" "
working = [l for l in lines if l['event'] == 'interval' and l['time_ns'] <= $(cat "$tmp/out")]
all_lines, lines = lines, lines[lines.index(working[-1]) + 1 if working else 0:]
reports = [l for l in lines if l['event'] == 'interval']
assert len(reports) >= 2, len(reports)
lines.remove(reports[0]) # it may have been under way
$sums
lines = all_lines
"'
events = [l["event"] for l in lines]
assert events[-1] == "exit" and events.count("exit") == 1, events
seconds = (lines[-1]["time_ns"] - lines[0]["time_ns"]) / 1e9
assert 1 <= events.count("interval") <= 2 + seconds, (seconds, events)
assert "sweep" in events and "scavenge" in events, events
assert lines[-1]["scavenged_bytes"] > 20 << 20, lines[-1]
assert lines[-1]["background_starts"] == 1, lines[-1]
assert lines[-1]["background_wakes"] > 5, lines[-1]
assert all(l["goal"] <= 100 << 20 and l["failed"] == 0 for l in lines if l["event"] == "scavenge")
'

# Without a helper the pieces at the slow doors are traced as its rounds are, and nothing goes that is in no line.
with BESOM_CONF="log:$tmp/pieces,log_format:json,trace:sweep+scavenge,scavenge_delay:50ms,background:off" "$python" -c '
import time
for i in range(30):
    a = [bytes(1000) for _ in range(30000)]
    del a
    time.sleep(0.02)'
well 'python3 without a helper'
judge "$tmp/pieces" '
events = [l["event"] for l in lines]
assert "sweep" in events and "scavenge" in events, set(events)
assert sum(l["returned"] for l in lines if l["event"] == "sweep") > 0
assert all(l["idle"] == 0 and l["ns"] > 0 for l in lines if l["event"] == "sweep")
given = sum(l["huge"] + l["page"] + l["hole"] for l in lines if l["event"] == "scavenge")
assert given == lines[-1]["scavenged_bytes"], (given, lines[-1]["scavenged_bytes"])
assert lines[-1]["background_starts"] == 0, lines[-1]
'

# Children of a fork have files of their own; those of an exec as well.
with BESOM_CONF="log:$tmp/fork.%p,log_format:json" "$python" -c '
import os, sys
for i in range(3):
    if os.fork() == 0:
        sys.exit(0)
for i in range(3):
    os.wait()
os.system("/bin/true")'
well 'python3 that forks'
files=0
for file in "$tmp"/fork.*; do
    [ -s "$file" ] || continue # a shell that left by _exit
    files=$((files + 1))
    judge "$file" "$sums"'
assert [l["event"] for l in lines] == ["exit"], lines
assert sys.argv[1].endswith("." + str(lines[0]["pid"])), lines
'
done
[ "$files" -ge 5 ] || broken "4 forks and an exec made $files logs"

# %n: a new file each time.
for n in 0 1 2; do
    with BESOM_LOG="$tmp/number.%n" /bin/true
    [ -s "$tmp/number.$n" ] || broken "%n did not make number.$n"
done

# Where it cannot be written: one line, and the program runs.
with BESOM_LOG=/nowhere/at/all /bin/echo fine
[ "$(cat "$tmp/out")$code" = fine0 ] || broken "unwritable log: $code, $(cat "$tmp/out")"
said 'log file "/nowhere/at/all" cannot be written'

# Reports that nobody would see: one line, by the first program that is asked for them, not by those that it starts.
nowhere='there is no log that would show it; add log:stderr or log:FILE'
with BESOM_CONF=log_interval:5,sample:all sh -c '/bin/true; sh -c "/bin/true; /bin/true"; true'
said "option log_interval: $nowhere"
with BESOM_SAMPLE=512k sh -c '/bin/true; /bin/true'
said "option sample: $nowhere"
with BESOM_CONF=log_interval:0,sample:off,trace:none,log_at:exit /bin/true
well 'no report without a log'
with sh -c 'BESOM_TRACE=sweep /bin/true; true'
said "option trace: $nowhere"
with BESOM_CONF="trace:sweep,log:$tmp/sweeps" sh -c '/bin/true; true'
well 'a trace with a log'
with BESOM_CONF=collect:reclaim-unreachable sh -c '/bin/true; true'
said 'option collect: without scan:collect nothing is collected; add scan:collect'

# A reader that is gone or a limit on files would kill who writes (SIGPIPE, SIGXFSZ): they cost the
# log, not the program. Signals that wait for the program itself stay its own.
count=$((count + 1))
python3 - "$lib" "$tmp" <<'END' || broken 'a log that cannot be written harms the program'
import os, resource, signal, subprocess, sys

lib, tmp = sys.argv[1:]

def run(what, code, conf, files=None, expect=5, **options):
    def child():
        if files is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (files, files))
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=child, timeout=300,
                          env={"LD_PRELOAD": lib, "BESOM_CONF": conf}, **options)
    if done.returncode != expect:
        sys.exit(f"log.sh: {what}: exit status {done.returncode} instead of {expect}")
    return done

def run_without_reader(what, code, conf, expect=5):
    reader, writer = os.pipe()
    os.close(reader)
    run(what, code, conf, stderr=writer, expect=expect)
    os.close(writer)

# os._exit would skip the report at exit; python ignores both signals unless told otherwise
ends = ("import signal, sys\nfor s in (signal.SIGPIPE, signal.SIGXFSZ):"
        " signal.signal(s, signal.SIG_DFL)\n")
run_without_reader("stderr without a reader", ends + "sys.exit(5)", "log:stderr")
warns = "import ctypes\nctypes.CDLL(None).free(ctypes.c_void_p(4096))\n"
blocks = "import signal, sys, threading\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})\n"
pends = "signal.SIGPIPE in signal.sigpending()"
run_without_reader("a warning without a reader", blocks + warns + f"sys.exit(6 if {pends} else 5)",
                   "foreign:ignore")
waits = blocks + "signal.pthread_kill(threading.get_ident(), signal.SIGPIPE)\n"
run_without_reader("a warning while a signal waits",
                   waits + warns + f"sys.exit(5 if {pends} else 6)", "foreign:ignore")
abort = ends + warns
run_without_reader("a fatal message without a reader", abort, "foreign:abort",
                   expect=-signal.SIGABRT)
done = run("a limit on files", ends + "sys.exit(5)", f"log:{tmp}/limit", files=0,
           stderr=subprocess.PIPE)
lines = done.stderr.decode().splitlines()
if len(lines) != 1 or f'log file "{tmp}/limit" cannot be written (error 27: file too large)' not in lines[0]:
    sys.exit(f"log.sh: a limit on files: stderr has {lines}")
END

# A FIFO that nobody reads is refused; waiting for a reader would hang the program for ever.
mkfifo "$tmp/fifo"
with BESOM_CONF=log:"$tmp/fifo" /bin/true
[ "$code" -eq 0 ] || broken "a FIFO without a reader: exit status $code (124: it hangs)"
said "log file \"$tmp/fifo\" cannot be written (error 6: nobody reads it)"

# What is mistyped is named, with the nearest word; the rest counts.
with BESOM_CONF=backgrund:off /bin/true
said 'unknown option "backgrund" in BESOM_CONF ignored; did you mean "background"?'
with BESOM_CONF=log_format:xml /bin/true
said 'option log_format in BESOM_CONF: "xml" is not one of text|json'
with BESOM_SCAVENGE_DELAY=fast /bin/true
said 'option scavenge_delay in BESOM_SCAVENGE_DELAY: "fast" is not a whole number from 0 to'
with BESOM_CONF="scavenge,log:$tmp/rest" /bin/true
said '"scavenge" in BESOM_CONF ignored: key:value is wanted'
[ -s "$tmp/rest" ] || broken 'a wrong piece made the right one behind it fail'
with BESOM_CONF=log:stderr BESOM_LOG="$tmp/wins" /bin/true
well 'a variable of its own wins'
[ -s "$tmp/wins" ] || broken 'BESOM_LOG did not win over BESOM_CONF'

[ "$status" -ne 0 ] || echo "log.sh: $count runs as promised"
exit "$status"
