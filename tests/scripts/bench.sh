#!/bin/sh
# SPDX-License-Identifier: MIT
#
# bench.sh - what `besom bench` says is what was: programs whose memory over time is known, alone,
# with children and with a child that left its parent, are measured right; a run that fails,
# differs, hangs or never got its allocator does not count; gates, files and exit statuses are what besom(1)
# promises; Ctrl-C keeps what was measured and leaves no process behind.
#
# It is NOT about who is faster (bench/) nor about `besom run` (launcher/). Programs are compiled
# here. `bench.sh PART...` runs only these parts.
# Called by `make check`; BESOM, BESOM_LIB, CC and top_builddir from the environment. Exit status:
# 0 all right, 1 not, 99 there is nothing to test.
# shellcheck disable=SC2317  # parts are called by their names, from "$@"
set -eu

top=$(realpath "${top_srcdir:-$(dirname "$0")/../..}")
build=${top_builddir:-$top/build}
besom=$(realpath "${BESOM:-$build/besom}") || exit 99
BESOM_LIB=$(realpath "${BESOM_LIB:-$build/libbesom.so}") || exit 99
export BESOM_LIB
unset LD_PRELOAD BESOM_CONF
timeout=$(command -v timeout)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
cd "$tmp"
status=0
count=0

broken() {
    echo "bench.sh: $*"
    status=1
}

# bench ARG...: besom bench within 300 s; leaves $code, out and err.
bench() {
    count=$((count + 1))
    code=0
    "$timeout" 300 "$besom" bench "$@" >out 2>err </dev/null || code=$?
}

# ends WHAT CODE [WORDS]: exit status, and these words on stderr.
ends() {
    if [ "$code" -ne "$2" ]; then
        broken "$1: exit status $code, not $2: $(cat err)"
    elif [ $# -gt 2 ] && ! grep -q -F -- "$3" err; then
        broken "$1: wanted '$3' on stderr, got: $(cat err)"
    fi
}

# refused WHAT WORDS ARG...: exit status 2, one line that has the words, and nothing was run.
refused() {
    what=$1 words=$2
    shift 2
    rm -f ran
    bench "$@"
    ends "$what" 2 "$words"
    [ "$(wc -l <err)" -le 2 ] || broken "$what: more than a line: $(cat err)"
    [ ! -e ran ] || broken "$what: something was run"
}

# judge WHAT CODE: python code over `d`, the object that --json wrote to j, and `first`, the first
# run in it.
judge() {
    python3 - "$1" <<END || broken "$1"
import json, sys
d = json.load(open("j"))
first = d["runs"][0] if d["runs"] else None
def near(what, value, wanted, slack):
    if value is None or abs(value - wanted) > slack:
        print(f"bench.sh: {sys.argv[1]}: {what} is {value}, not {wanted} within {slack}")
        sys.exit(1)
mib = lambda key: None if first[key] is None else first[key] / 1024
# The longest time without a look at the memory: what is seldom looked at is not known.
looks = [0] + [at for at, kib in first["samples"]] + [first["whole_s"]] if first else [0]
gap = max((b - a for a, b in zip(looks, looks[1:])), default=0)
def skip_if(condition, why):
    if condition:
        print(f"bench.sh: skipped: {sys.argv[1]}: {why}: the machine is too busy")
        sys.exit(0)
def skip_if_blind():
    skip_if(gap > 0.6, f"no look at the memory for {gap:.1f} s")
$2
END
}

# What is killed goes a moment later, on a busy machine longer.
none_left() {
    for _ in $(seq 200); do
        pgrep -f "^$steps " >left || return 0
        sleep 0.1
    done
    broken "$1: left behind: $(cat left)"
}

# steps MODE...: memory in known steps, straight from the kernel, so that it is the same under every
# malloc. Each step lasts for long compared with what a sampler may have to wait for a CPU.
cat >steps.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double begin, area, last_at, last_mib;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
/* The program's own account of its memory, MiB times seconds. */
static void mark(double mib) {
    double at = now();
    area += (at - last_at) * (last_mib + mib) / 2;
    last_at = at;
    last_mib = mib;
}
static void *hold(size_t mib) {
    char *p = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(p, mib << 20, MADV_NOHUGEPAGE);
    memset(p, 1, mib << 20);
    return p;
}
static void rest(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    while (nanosleep(&t, &t) != 0) {
    }
}
static void down(double first) {
    void *p = hold(50);
    mark(50);
    rest(first);
    mark(50);
    munmap((char *)p + (10 << 20), 40 << 20);
    mark(10);
}
static void say(const char *name, double value) {
    FILE *f = fopen("told", "w");
    fprintf(f, "%s %.6f\n", name, value);
    fclose(f);
}
static void below(int leave) {
    hold(20);
    if (fork() == 0) {
        if (leave && (setsid() < 0 || fork() > 0))
            _exit(0);
        hold(30);
        rest(1.5);
        _exit(0);
    }
    if (leave)
        wait(NULL);
    rest(leave ? 2.5 : 0.0);
    wait(NULL);
}
int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    void *(*volatile entry)(size_t) = malloc;
    Dl_info info;
    void *address;

    begin = last_at = now();
    if (strcmp(mode, "down") == 0) {
        double seconds = argc > 2 ? atof(argv[2]) : 1.5;
        down(seconds);
        rest(seconds);
        mark(10);
        say("mean", area / (now() - begin));
    } else if (strcmp(mode, "serve") == 0) {
        down(3);
        rest(60);
    } else if (strcmp(mode, "family") == 0) {
        below(0);
    } else if (strcmp(mode, "orphan") == 0) {
        below(1);
    } else if (strcmp(mode, "which") == 0) {
        memcpy(&address, (const void *)&entry, sizeof(address));
        dladdr(address, &info);
        FILE *f = fopen("which", "a");
        fprintf(f, "%s %s\n", getenv("WHO") ? getenv("WHO") : "-", info.dli_fname);
        fclose(f);
        rest(0.05);
    } else if (strcmp(mode, "differ") == 0) {
        int mine = getenv("LD_PRELOAD") != NULL;
        puts(mine && argc > 2 ? "other" : "same");
        return mine && argc == 2 ? 4 : 3;
    } else {
        rest(argc > 2 ? atof(argv[2]) : 0.1);
    }
    return 0;
}
END
# shellcheck disable=SC2086  # CC may hold options
${CC:-cc} -O1 -o steps steps.c 2>err || { echo "bench.sh: $(cat err)"; exit 1; }
steps=$tmp/steps

# --- what is measured -----------------------------------------------------------------------------

# The sampler's share of a CPU in the last run.
note_share() {
    python3 -c 'import json; r = json.load(open("j"))["runs"][0]; print(r["sampler_cpu_s"] / r["whole_s"])' >>shares
}

# The least of several, since a second that is stolen from the machine counts for who had the CPU; more on a machine
# on which python needs more than 60 ms to add a million numbers.
judge_shares() {
    python3 - <<'END' || broken "the sampler's share of a CPU"
import sys, time
def adding():
    begin = time.process_time()
    sum(range(1000000))
    return time.process_time() - begin
shares, slow = [float(line) for line in open("shares")], min(adding() for _ in range(5)) / 0.06
if min(shares) >= 0.08 * max(1, slow):
    sys.exit(f"bench.sh: shares of a CPU {shares}, {slow:.1f} times as slow as should be")
END
}

known_memory() {
    rm -f shares
    bench --alloc glibc -r 1 --json j -- "$steps" down
    ends "50 then 10 MiB" 0
    judge "50 then 10 MiB" '
skip_if_blind()
near("peak", mib("peak_kib"), 50.5, 1.5)
near("largest process", mib("process_peak_kib"), 51.5, 1.5)
near("end", mib("end_kib"), 10.5, 1.5)
near("mean, by its own account", mib("mean_kib"), float(open("told").read().split()[1]) + 0.5,
     2 + 40 * (0.15 + gap) / first["whole_s"])
near("minor faults", first["minor_faults"], 12800, 400)
assert first["status"] == 0 and 3.0 <= first["wall_s"] < 100, first["wall_s"]
assert first["processes"] == 1'
    note_share
    bench --alloc glibc -r 1 --json j -- "$steps" family
    judge "a child with 30 MiB more" '
skip_if_blind()
near("peak in PSS", mib("peak_kib"), 50.7, 2)
near("largest process", mib("process_peak_kib"), 51.5, 2)
assert first["processes"] == 2'
    note_share
    bench --alloc glibc -r 1 --json j --metric rss -- "$steps" family
    judge "the same as RSS, which counts 20 MiB twice" '
skip_if_blind()
near("peak in RSS", mib("peak_kib"), 72.5, 3)'
    note_share
    judge_shares
    bench --alloc glibc -r 1 --json j -- "$steps" orphan
    # Its share of common pages grows when the other process ends, of which no number but PSS itself tells;
    # PSS is read again when memory has changed by a quarter, or when 1 % of a CPU pays for it.
    judge "a process that left its parent" '
skip_if_blind()
near("peak in PSS", mib("peak_kib"), 50.7, 6)
assert first["processes"] in (2, 3), "the one in the middle may have been seen"'
}

servers() {
    bench --alloc glibc -r 1 --json j --for 1.5 --idle 4 -- "$steps" serve
    ends "a server" 0
    # Its program has 50 MiB from its first moments on until it has lived for three seconds.
    judge "a server" '
high = [at for at, kib in first["samples"] if kib > 45 * 1024] or [0]
skip_if_blind()
skip_if(high[0] > 1.2 or not 2 < high[-1] < 4.5, f"50 MiB from {high[0]:.1f} to {high[-1]:.1f} s")
near("end", mib("end_kib"), 50.5, 1.5)
near("idle", mib("idle_kib"), 10.5, 1.5)
near("time", first["wall_s"], 1.5, 1)
assert first["status"] == 15, first["status"]'
    bench --alloc glibc -r 1 --json j --stop INT --load "kill -0 \$BENCH_PID && sleep 0.3" -- \
        "$steps" serve
    judge "a load" '
assert 0.3 <= first["wall_s"] < 100, first["wall_s"]
assert first["status"] == 2, first["status"]'
    bench --alloc glibc -r 1 --load "sleep 0.1; exit 3" -- "$steps" serve
    ends "a load that fails" 1 "the load ended with exit status 3"
    bench --alloc glibc -r 1 --for 9 -- "$steps" sleep
    ends "a server that ends" 1 "ended by itself"
    none_left "a server"
}

allocators() {
    rm -f which
    bench --alloc glibc,besom,again=besom -r 3 --json j --env glibc:WHO=g --env besom:WHO=b \
        --env again:WHO=a -- "$steps" which
    ends "three allocators" 0
    [ "$(grep -c '^b .*libbesom\.so$' which)" = 3 ] || broken "besom did not answer: $(cat which)"
    [ "$(grep -c '^a .*libbesom\.so$' which)" = 3 ] || broken "again=besom did not answer"
    [ "$(grep -c '^g .*/libc\.so' which)" = 3 ] || broken "glibc did not answer: $(cat which)"
    [ "$(cut -c1 which | tr -d '\n')" = bagagbgba ] ||
        broken "the order does not rotate: $(cut -c1 which)"
    for name in glibc besom again; do
        grep -q "^$name .* (.*–.*)" out || broken "no row of $name: $(cat out)"
    done
    if ${CC:-cc} -static -o still steps.c 2>/dev/null; then
        bench --alloc besom -r 1 -- "$tmp/still" sleep 2
        ends "a static program" 1 "is not mapped in the command"
    else
        echo "bench.sh: skipped: a static program: no static libc (package libc6-dev)"
    fi
}

nobody_can() {
    [ "$(id -u)" = 0 ] && chmod 711 "$tmp" && runuser -u nobody -- "$besom" --version >/dev/null 2>&1
}

# as_nobody ARG...: as bench, by the user nobody.
as_nobody() {
    count=$((count + 1))
    code=0
    "$timeout" 300 runuser -u nobody -- "$besom" bench "$@" >out 2>err </dev/null || code=$?
}

# What became another user's process can be seen in part, and not be killed.
another_user() {
    if ! nobody_can || findmnt -n -o OPTIONS -T "$tmp" | grep -qw nosuid; then
        echo "bench.sh: skipped: another user's process: not root, or nobody cannot run besom here"
        return
    fi
    cat >became.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc != 2 || setgid(0) != 0 || setuid(0) != 0)
        return 1;
    FILE *f = fopen("became.pid", "w");
    fprintf(f, "%d\n", (int)getpid());
    fclose(f);
    sleep((unsigned)atoi(argv[1]));
    return 0;
}
END
    "${CC:-cc}" became.c -o became
    chmod 4755 became
    as_nobody --alloc glibc -r 1 -- ./became 1
    ends "another user's process" 0
    grep -q 'process of another user was counted by RSS' out || broken "nothing is said of its PSS: $(cat out)"
    grep -q 'nor can its mappings be read' out || broken "nothing is said of its mappings: $(cat out)"
    for words in "--timeout 1" "--for 1"; do
        # shellcheck disable=SC2086
        as_nobody --alloc glibc -r 1 $words -- ./became 60
        ends "another user's process, $words" 2 "as it runs as another user, and was left behind"
        [ "$(wc -l <err)" = 1 ] || broken "another user's process, $words: $(cat err)"
        kill "$(cat became.pid)"
    done
}

failures() {
    bench --alloc glibc,besom -r 2 -- sh -c 'echo why >&2; exit 5'
    ends "a command that fails" 1 "exit status 5: why"
    ends "a command that fails, at once" 1 "stopped: the first run of every allocator failed"
    bench --alloc glibc,besom -r 2 -i -- sh -c 'exit 5'
    ends "a failure that is expected" 0
    bench --alloc glibc,besom -r 1 -i -- "$steps" differ
    ends "exit statuses that differ" 1 "exit status 4"
    bench --alloc glibc,besom -r 1 -i --compare-output -- "$steps" differ output
    ends "output that differs" 1 "output differs from that under"
    bench --alloc glibc -r 1 --timeout 0.3 -- "$steps" sleep 60
    ends "a command that hangs" 1 "did not end within 0.3 s"
    none_left "a command that hangs"
    bench --alloc glibc -r 1 -- sh -c "$steps sleep 60 & exit 0"
    ends "what outlives the command" 0
    grep -q 'outlived the command' out || broken "nothing is said of what outlived the command"
    none_left "what outlives the command"
    bench --alloc glibc -r 2 -w 1 --prepare 'echo p >>hooks' --cleanup 'echo c >>hooks' -- true
    [ "$(tr -d '\n' <hooks)" = pcpcpc ] || broken "prepare and cleanup: $(cat hooks)"
    bench --alloc glibc -r 1 --prepare 'exit 9' -- true
    ends "a preparation that fails" 1 "--prepare ended with exit status 9"
    bench --alloc glibc -r 1 --load 'kill -KILL $$' -- "$steps" sleep 60
    ends "a load that is killed" 1 "the load was killed by SIGKILL"
    for limit in 8 9 10; do
        code=0
        "$timeout" 300 prlimit --nofile="$limit" "$besom" bench --alloc glibc -r 1 -- true >out 2>err || code=$?
        if [ "$code" != 0 ]; then ends "$limit descriptors" 2 "Too many open files"; fi
        [ "$(wc -l <err)" -le 1 ] || broken "$limit descriptors: $(cat err)"
    done
    another_user
}

# --- results ---------------------------------------------------------------------------------

files() {
    bench --alloc glibc,besom -r 2 --csv c --json j --markdown m --plot p -- "$steps" sleep 1
    ends "all files" 0
    judge "JSON" '
import csv
rows = list(csv.DictReader(open("c")))
assert len(rows) == len(d["runs"]) == 4
assert [float(r["wall_s"]) for r in rows] == [r["wall_s"] for r in d["runs"]]
s = d["summary"]["glibc"]["wall_s"]
assert s["low"] <= s["median"] <= s["high"] and s["n"] == 2 and s["ratio"]["n"] == 2
assert all(len(r["samples"]) > 5 for r in d["runs"])
table = [l for l in open("m") if l.startswith("| ")]
assert len({l.count("|") for l in table[:3]}) == 1 and len(table) == 6, table'
    grep -q '^besom .*████' out || broken "no sparkline: $(cat out)"
    if command -v gnuplot >/dev/null; then
        for plot in time mean memory scatter; do
            python3 -c 'import sys, xml.etree.ElementTree as e; e.parse(sys.argv[1])' "p/$plot.svg" ||
                broken "p/$plot.svg is no picture"
        done
    else
        echo "bench.sh: skipped: pictures: no gnuplot here (package gnuplot-nox)"
    fi
    mkdir few
    ln -s "$(python3 -c 'import sys; print(sys.executable)')" few/python3
    PATH=$tmp/few bench --alloc glibc -r 1 --plot q -- "$steps" sleep
    ends "without gnuplot" 0 "gnuplot is not installed"
    [ -s q/memory.gp ] || broken "no scripts without gnuplot"
    [ -s q/memory.dat ] || broken "no data without gnuplot"
    bench --alloc glibc -r 1 --csv - -- true
    [ "$(wc -l <out)" = 2 ] || broken "--csv -: $(cat out)"
    bench --alloc glibc -r 1 --csv /dev/full -- true
    ends "a full disk" 1 "cannot write '/dev/full'"
    # An earlier file that is a link stays one, and keeps its mode.
    echo earlier >behind
    chmod 640 behind
    ln -s behind link
    bench --alloc glibc -r 1 --csv link -- true
    if [ ! -L link ] || [ "$(wc -l <behind)" != 2 ] || [ "$(stat -c %a behind)" != 640 ]; then
        broken "a link: $(ls -l link behind)"
    fi
    # A disk that takes nothing more: the earlier file is left, and no other.
    mkdir room
    if unshare -rm sh -c "mount -t tmpfs -o size=1m none room && echo earlier >room/j || exit 1
        cat /dev/zero >room/fill 2>/dev/null
        '$besom' bench --alloc glibc -r 1 --json room/j -- true >out 2>err
        echo \$? >code
        rm room/fill
        ls -A room
        cat room/j" >left 2>/dev/null; then
        [ "$(tr '\n' ' ' <left)" = 'j earlier ' ] || broken "a full disk: left $(cat left)"
        code=$(cat code)
        ends "a full disk" 1 "cannot write 'room/j': No space left on device"
    else
        echo "bench.sh: skipped: a full disk: no mount in a namespace of its own"
    fi
    # A file that is not to be replaced, in a folder that takes no other one.
    if nobody_can; then
        mkdir taken
        echo earlier >taken/f
        chown nobody taken/f
        as_nobody --alloc glibc -r 1 --csv taken/f -- true
        ends "a folder that takes no file" 0
        [ "$(wc -l <taken/f)" = 2 ] || broken "a folder that takes no file: $(cat taken/f)"
        as_nobody --alloc glibc -r 1 --plot taken -- touch ran
        ends "a folder for plots that takes no file" 2 "cannot write into the folder 'taken'"
    else
        echo "bench.sh: skipped: a folder that takes no file: not root, or nobody cannot run besom"
    fi
    # Bytes that are no UTF-8, and line breaks.
    odd=$(printf 'exit 0\n\n# \377\376')
    bench --alloc glibc -r 1 --json j --markdown m --plot odd -- sh -c "$odd"
    ends "a command that is no text" 0
    [ -s m ] || broken "a command that is no text: no Markdown"
}

# gate JSON [SECONDS] ARG...: a run of steps whose results are judged by `besom bench` itself. A step lasts two
# seconds; false, aloud, where one was not looked at for most of that.
gate() {
    json=$1 seconds=2
    shift
    case $1 in [0-9]*) seconds=$1 && shift ;; esac
    bench --alloc glibc --json "$json" "$@" -- "$steps" down "$seconds"
    python3 - "$json" <<'END'
import json, sys
for run in json.load(open(sys.argv[1]))["runs"]:
    looks = [0] + [at for at, kib in run["samples"]] + [run["whole_s"]]
    gap = max(b - a for a, b in zip(looks, looks[1:]))
    if gap > 1.2:
        print(f"bench.sh: skipped: gates: no look at the memory for {gap:.1f} s: the machine is too busy")
        sys.exit(1)
END
}

gates() {
    measured_gates || true
    [ -e base ] || return 0
    refused "a baseline that is missing" "cannot read 'nothing'" --baseline nothing -- touch ran
    echo '{"format":"besom-bench-1","argv":["true"]}' >part
    refused "a baseline that is damaged" "'part' is damaged" --alloc glibc --baseline part -- touch ran
    python3 -c 'print("[" * 100000)' >deep
    refused "a baseline that is too deep" "is not JSON" --alloc glibc --baseline deep -- touch ran
    refused "a baseline of another kind" "besom bench --json wrote" --baseline steps.c -- touch ran
    refused "a baseline of others" "has none of besom" --alloc besom --baseline base -- touch ran
    refused "a baseline in PSS" "--metric pss" --alloc glibc --metric rss --baseline base -- \
        touch ran
}

measured_gates() {
    gate base -r 2 --max-rss 100M || return
    ends "below --max-rss" 0
    gate j -r 1 --max-rss glibc=20M || return
    ends "above --max-rss" 1
    grep -q 'Gate max-rss FAILED: glibc' out || broken "nothing is said of --max-rss: $(cat out)"
    gate j -r 2 --baseline base --gate peak,end --tolerance 15 || return
    ends "as the baseline" 0
    judge "as the baseline" 'assert [g["passed"] for g in d["gates"]] == [True, True], d["gates"]'
    python3 - <<'END'
import json
d = json.load(open("base"))
d["summary"]["glibc"]["peak_kib"]["median"] *= 0.8
json.dump(d, open("better", "w"))
END
    gate j -r 1 --baseline better --gate peak --tolerance 10 || return
    ends "worse than the baseline" 1
    grep -q 'Gate baseline FAILED: glibc, peak: .* +2[0-9].* %' out ||
        broken "no reason: $(cat out)"
    gate j 2.01 -r 1 --baseline better --gate peak --tolerance 40 || return
    ends "worse by less than the tolerance" 0
    grep -q 'baseline is of another command: .* down 2\.$' out ||
        broken "nothing is said of the other command: $(cat out)"
}

# Each is one line that has the words, by what reads the command line, and exit status 2.
usage() {
    mkdir -p named
    PYTHONDONTWRITEBYTECODE=1 python3 - "$top/tools/bench" <<'END' || broken "usage"
import contextlib, io, sys
sys.path.insert(0, sys.argv[1])
import options
for words, line in [
        ("no command given", "-r 1"),
        ("besom is named twice", "--alloc besom,besom -- true"),
        ("'lots': give a size", "--max-rss lots -- true"),
        ("tcmalloc is not among", "--alloc glibc --max-rss tcmalloc=1G -- true"),
        ("besom is not among", "--alloc glibc --base besom -- true"),
        ("'0': give a whole number", "-r 0 -- true"),
        ("--frobnicate", "--frobnicate -- true"),
        ("cannot write '/no/where/c'", "--csv /no/where/c -- true"),
        ("File name too long", "--csv " + 300 * "c" + " -- true"),
        ("'named/c' is named twice", "--csv named/c --json ./named/../named/c -- true"),
        ("without quotes, bars", '--alloc a"b=glibc -- true'),
        ("only one of --csv", "--csv - --json - -- true"),
        ("--idle needs --for or --load", "--idle 1 -- true"),
        ("exclude each other", "--for 1 --load true -- true"),
        ("'HELLO': give the name", "--for 1 --stop HELLO -- true"),
        ("'weight': give some of", "--gate weight -- true"),
        ("'x=y': give NAME:VARIABLE=VALUE", "--env x=y -- true"),
        ("more than 0", "--timeout 0 -- true"),
        ("too short", "--interval 0.5 -- true")]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options.parse(line.split())
        sys.exit(f"bench.sh: {line}: taken")
    except SystemExit as end:
        said = said.getvalue()
        if end.code != 2 or words not in said or said.count("\n") != 1:
            sys.exit(f"bench.sh: {line}: exit status {end.code}, {said!r}")
args = options.parse(["-r3", "--alloc", "a=/x,glibc", "cmd", "-r", "--", "x"])
assert args.command == ["cmd", "-r", "--", "x"] and args.rounds == 3, args
assert options.parse(["--", "cmd", "--", "-w"]).command == ["cmd", "--", "-w"]
END
    refused "no command" "no command given" -r 1
    for option in --baseline --json --plot --besom; do
        refused "$option ''" "argument $option: '': give a name" "$option" '' -- touch ran
    done
    refused "a command that is not there" "there is no such program" --alloc glibc -- ./no-such
    refused "a folder" "cannot run '/tmp': it is a folder" --alloc glibc -- /tmp
    refused "a file that is not executable" "not executable" --alloc glibc -- ./steps.c
    printf '#!/no/such/sh\n' >orphan
    chmod +x orphan
    refused "a script without its interpreter" "cannot run ./orphan: its interpreter is missing" \
        --alloc glibc -- ./orphan
    refused "an unknown allocator" "hoard: unknown; give NAME=FILE" --alloc glibc,hoard -- touch ran
    refused "a library that is missing" "there is no file /no/such.so" --alloc x=/no/such.so -- \
        touch ran
    refused "a library that is none" ": invalid ELF header" --alloc x=./steps.c -- touch ran
    mkdir -p 'a space'
    cp "$BESOM_LIB" 'a space/libbesom.so'
    refused "a library whose path has a space" "x: its path has a space or a colon" \
        --alloc 'x=a space/libbesom.so' -- touch ran
    refused "a besom that is missing" "besom: there is no /no/such.so" --besom /no/such.so -r 1 -- touch ran
    BESOM_LIB=/no/such.so bench -r 1 -- true
    ends "an allocator that nobody asked for" 0 "left out: besom: there is no libbesom.so"
    PATH=$tmp/nowhere bench -- true
    ends "without python3" 125 "needs python3, which is not in PATH; install it"
    mkdir -p lone
    cp "$besom" lone/besom
    code=0
    if [ ! -e /usr/local/share/besom/bench/main.py ]; then
        lone/besom bench -- true >out 2>err || code=$?
        ends "without its scripts" 125 "scripts are missing"
    fi
    bench --help
    ends "--help" 0
    grep -q -e '--max-rss' out || broken "--help: $(cat out)"
}

# A preparation has children, which Ctrl-C ends too; an earlier result is kept where there is none yet.
interrupt_before() {
    python3 - "$besom" "$steps" <<'END' || broken "Ctrl-C in a preparation: the test itself"
import signal, subprocess, sys, time
besom, steps = sys.argv[1:]
open("j", "w").write("earlier")
with open("err", "w") as err:
    p = subprocess.Popen([besom, "bench", "--alloc", "glibc", "-r", "1", "--json", "j", "--prepare",
                          f"{steps} sleep 61; true", "--", "true"], stdout=err, stderr=err)
until = time.monotonic() + 100
while subprocess.run(["pgrep", "-f", "^" + steps + " sleep 61"], stdout=subprocess.DEVNULL).returncode:
    if time.monotonic() > until:
        sys.exit("the preparation did not come")
    time.sleep(0.05)
p.send_signal(signal.SIGHUP)
open("code", "w").write(str(p.wait(100)))
END
    code=$(cat code)
    ends "Ctrl-C in a preparation" 129 "before the first run had ended; nothing is written"
    [ "$(cat j)" = earlier ] || broken "Ctrl-C in a preparation: $(cat j)"
    none_left "Ctrl-C in a preparation"
    count=$((count + 1))
}

# SIGINT in the third run: two are written, the third is gone, and it has been cleaned up after.
interrupt() {
    python3 - "$besom" "$steps" <<'END' || broken "Ctrl-C: the test itself"
import os, signal, subprocess, sys, time
besom, steps = sys.argv[1:]
open("log", "w").close()
with open("out", "w") as out, open("err", "w") as err:
    p = subprocess.Popen([besom, "bench", "--alloc", "glibc", "-r", "9", "--json", "j",
                          "--csv", "c", "--prepare", "echo p >>log", "--cleanup",
                          "echo c >>log", "--", "sh", "-c",
                          f"[ $(grep -c p log) -lt 3 ] || exec {steps} sleep 60"],
                         stdout=out, stderr=err)
until = time.monotonic() + 100
while subprocess.run(["pgrep", "-f", "^" + steps + " sleep"], stdout=subprocess.DEVNULL).returncode:
    if time.monotonic() > until:
        sys.exit("the third run did not come")
    time.sleep(0.05)
p.send_signal(signal.SIGINT)
open("code", "w").write(str(p.wait(100)))
END
    code=$(cat code)
    ends "Ctrl-C" 130 "interrupted after 2 runs"
    judge "Ctrl-C" 'assert len(d["runs"]) == 2 and d["interrupted"] is True'
    [ "$(wc -l <c)" = 3 ] || broken "Ctrl-C: $(cat c)"
    [ "$(tr -d '\n' <log)" = pcpcpc ] || broken "Ctrl-C: hooks: $(cat log)"
    none_left "Ctrl-C"
}

# Wherever it comes, it is said in one line, and the exit status is the signal's.
early_interrupt() {
    python3 - "$besom" <<'END' || broken "a signal at the start"
import signal, subprocess, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    for delay in (0.01, 0.02, 0.04, 0.08, 0.16, 0.32):
        p = subprocess.Popen([sys.argv[1], "bench", "--alloc", "glibc", "-r", "1", "--", "sleep", "60"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(delay)
        p.send_signal(number)
        said = p.communicate(timeout=100)[1]
        # Before the launcher becomes Python, the signal itself ends it.
        if p.returncode not in (128 + number, -number) or "interrupted" not in said and p.returncode > 0 \
                or said.count("\n") > 1:
            sys.exit(f"bench.sh: {number!r} after {delay} s: exit status {p.returncode}, {said!r}")
END
    count=$((count + 1))
}

# A standard output that takes nothing is said in one line, and costs no file.
streams() {
    for to in /dev/full '&-' '/dev/null <&-'; do
        for words in --help "--alloc glibc -r 1 --csv c -- true"; do
            rm -f c
            code=0
            eval "\"\$timeout\" 300 \"\$besom\" bench $words 2>err >$to" || code=$?
            case $to in
            */null*) ends "$words >$to" 0 ;;
            *)
                ends "$words >$to" 1 "cannot write"
                [ "$(wc -l <err)" = 1 ] || broken "$words >$to: $(cat err)"
                ;;
            esac
        done
        [ -s c ] || broken "no --csv >$to"
    done
    rm -f c
    code=0
    "$timeout" 300 "$besom" bench --alloc glibc -r 1 --csv c -- true >out 2>&- || code=$?
    ends "no standard error" 0
    [ -s c ] || broken "no --csv without a standard error"
    { "$timeout" 300 "$besom" bench --alloc glibc -r 1 --csv - -- true 2>err || echo $? >code; } | true
    code=$(cat code)
    ends "a pipe that nobody reads" 1 "cannot write to the standard output: Broken pipe"
    if grep -q Exception err; then broken "a pipe that nobody reads: $(cat err)"; fi
    count=$((count + 8))
}

arithmetic() {
    PYTHONDONTWRITEBYTECODE=1 python3 - "$top/tools/bench" <<'END' || broken "arithmetic"
import sys
sys.path.insert(0, sys.argv[1])
from options import size_kib
from report import sparkline
from sampler import MAX_SAMPLES, Series, thinned
from stats import interval, summarize
assert interval([3]) == (3, 3, 0.0)
assert interval(list(range(1, 6))) == (1, 5, 0.9375)
low, high, coverage = interval([7, 1, 2, 3, 4, 5, 6])
assert (low, high) == (1, 7) and abs(coverage - 0.984375) < 1e-9
low, high, coverage = interval(list(range(1, 10)))
assert (low, high) == (2, 8) and coverage > 0.96, (low, high, coverage)
def series(*samples):
    s = Series()
    for at, kib in samples:
        s.add(at, kib)
    return s
assert series((0, 10), (1, 10), (1, 30), (3, 30)).mean(4) == (10 + 3 * 30) / 4
assert series((0, 0), (2, 20)).mean(2) == 10
assert series().mean(1) is None
# A long run keeps its mean and its peak, and not its samples.
long = series(*((i, 100 if i == 7777 else 2 * (i % 2)) for i in range(50000)))
assert abs(long.mean(50000) - 1) < 0.01 and long.peak == 100, (long.mean(50000), long.peak)
assert len(long.samples) <= MAX_SAMPLES and max(k for _, k in long.samples) == 100
assert [at for at, _ in long.samples] == sorted(at for at, _ in long.samples)
many = [[i, i % 7] for i in range(100)]
assert len(thinned(many, 10)) == 10 and max(k for _, k in thinned(many, 10)) == 6
assert sparkline([[0, 0], [4, 8]], 4, 8, 8, 8) == "▁▄▆█", sparkline([[0, 0], [4, 8]], 4, 8, 8, 8)
assert size_kib("1.5G") == 1.5 * 2**20 and size_kib("300MiB") == 300 * 1024
from stats import KEYS
def run(round, name, value):
    return {**dict.fromkeys(KEYS), "round": round, "allocator": name, "wall_s": value}
# Ratios are of the same round: the machine is three times slower in the second.
s = summarize([run(1, "a", 1), run(1, "b", 2), run(2, "a", 3), run(2, "b", 6), run(3, "b", 9)],
              ["a", "b"], "a")
assert s["b"]["wall_s"]["ratio"]["low"] == s["b"]["wall_s"]["ratio"]["high"] == 2.0
assert s["b"]["wall_s"]["median"] == 6 and "mean_kib" not in s["a"]
END
    count=$((count + 1))
}

# Without arguments everything, else the parts that are named.
[ $# -gt 0 ] ||
    set -- arithmetic usage known_memory servers allocators failures files gates interrupt \
        interrupt_before early_interrupt streams
for part in "$@"; do
    "$part"
done

[ "$status" -ne 0 ] || echo "bench.sh: $count runs as promised"
exit "$status"
