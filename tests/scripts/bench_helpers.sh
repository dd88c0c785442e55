#!/bin/sh
# SPDX-License-Identifier: MIT
#
# bench_helpers.sh - read by bench.sh and bench_errors.sh, which test `besom bench`: runs it, looks at what it said,
# and compiles a program whose memory is known. Leaves a scratch folder as the working one.
#
# BESOM, BESOM_LIB, CC and top_builddir from the environment. Exit status: 99 there is nothing to test.
# shellcheck disable=SC2034  # what is not used here is used by those who read this
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
    echo "${0##*/}: $*"
    status=1
}

# bench ARG...: besom bench within 300 s; leaves $code, out and err.
bench() {
    count=$((count + 1))
    code=0
    "$timeout" 300 "$besom" bench "$@" >out 2>err </dev/null || code=$?
}

# signalled SIGNAL COMMAND ARG...: besom bench, which is sent the signal when a process whose command line begins with
# COMMAND is there; leaves $code, out and err.
signalled() {
    count=$((count + 1))
    python3 - "$besom" "$@" <<'END' || broken "$1: the test itself"
import signal, subprocess, sys, time
besom, name, command, *args = sys.argv[1:]
if name != "KILL":
    signal.signal(signal.Signals["SIG" + name], signal.SIG_DFL) # nohup ignores SIGHUP, and who is started inherits that
with open("out", "w") as out, open("err", "w") as err:
    p = subprocess.Popen([besom, "bench", *args], stdout=out, stderr=err)
until = time.monotonic() + 100
while subprocess.run(["pgrep", "-f", "^" + command], stdout=subprocess.DEVNULL).returncode:
    if time.monotonic() > until:
        sys.exit(f"{command} did not come")
    time.sleep(0.05)
p.send_signal(signal.Signals["SIG" + name])
open("code", "w").write(str(p.wait(100)))
END
    code=$(cat code)
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
    # (What is not installed is told besides, where all are asked for.)
    [ "$(grep -cv ': left out: .*: not installed' err)" -le 2 ] || broken "$what: more than a line: $(cat err)"
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
        print(f"${0##*/}: {sys.argv[1]}: {what} is {value}, not {wanted} within {slack}")
        sys.exit(1)
mib = lambda key: None if first[key] is None else first[key] / 1024
# The longest time without a look at the memory: what is seldom looked at is not known.
looks = [0] + [at for at, kib in first["samples"]] + [first["whole_s"]] if first else [0]
gap = max((b - a for a, b in zip(looks, looks[1:])), default=0)
def skip_if(condition, why):
    if condition:
        print(f"${0##*/}: skipped: {sys.argv[1]}: {why}: the machine is too busy")
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
/* Above 100 MiB 30 more, in a child, after another one has been dead for a while. */
static void beside_dead(void) {
    hold(100);
    if (fork() == 0)
        _exit(0);
    rest(2.0);
    if (fork() == 0) {
        hold(30);
        rest(1.0);
        _exit(0);
    }
    wait(NULL);
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
    } else if (strcmp(mode, "dead") == 0) {
        beside_dead();
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

nobody_can() {
    [ "$(id -u)" = 0 ] && chmod 711 "$tmp" && runuser -u nobody -- "$besom" --version >/dev/null 2>&1
}

# as_nobody ARG...: as bench, by the user nobody.
as_nobody() {
    count=$((count + 1))
    code=0
    "$timeout" 300 runuser -u nobody -- "$besom" bench "$@" >out 2>err </dev/null || code=$?
}
