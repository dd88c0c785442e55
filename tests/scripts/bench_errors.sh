#!/bin/sh
# SPDX-License-Identifier: MIT
#
# bench_errors.sh - `besom bench` used wrongly, interrupted, on a machine that refuses: one line says what is wrong,
# with the exit status that besom(1) promises; what was measured is written, what was there is kept, and no
# process is left.
#
# It is NOT about what is measured (bench.sh). `bench_errors.sh PART...` runs only these parts.
# Called by `make check`; BESOM, BESOM_LIB, CC and top_builddir from the environment. Exit status:
# 0 all right, 1 not, 99 there is nothing to test.
# shellcheck disable=SC2317  # parts are called by their names, from "$@"
# shellcheck disable=SC1091,SC2034,SC2154  # bench_helpers.sh is read on its own
set -eu
. "$(dirname "$0")/bench_helpers.sh"

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
        ("'300': that is in bytes", "--max-rss besom=300 -- true"),
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
        ("--stop needs --for or --load", "--stop INT -- true"),
        ("--gate needs --baseline", "--gate peak -- true"),
        ("--tolerance needs --baseline", "--tolerance 10 --max-rss 1G -- true"),
        ("more than 0", "--timeout 0 -- true"),
        ("too short", "--interval 0.5 -- true")]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options.parse(line.split())
        sys.exit(f"bench_errors.sh: {line}: taken")
    except SystemExit as end:
        said = said.getvalue()
        if end.code != 2 or words not in said or said.count("\n") != 1:
            sys.exit(f"bench_errors.sh: {line}: exit status {end.code}, {said!r}")
args = options.parse(["-r3", "--alloc", "a=/x,glibc", "cmd", "-r", "--", "x"])
assert args.command == ["cmd", "-r", "--", "x"] and args.rounds == 3, args
assert options.parse(["--", "cmd", "--", "-w"]).command == ["cmd", "--", "-w"]
END
    refused "no command" "no command given" -r 1
    for option in --baseline --json --plot --besom; do
        refused "$option ''" "argument $option: '': give a name" "$option" '' -- touch ran
    done
    refused "a command that is not there" "there is no such program" --alloc glibc -- ./no-such
    refused "a command in one word" "write its arguments as words of their own" --alloc glibc -- "sh report.sh"
    refused "a folder" "cannot run '/tmp': it is a folder" --alloc glibc -- /tmp
    refused "a file that is not executable" "not executable" --alloc glibc -- ./steps.c
    printf '#!/no/such/sh\n' >orphan
    chmod +x orphan
    refused "a script without its interpreter" "cannot run ./orphan: its interpreter is missing" \
        --alloc glibc -- ./orphan
    refused "an unknown allocator" "hoard: unknown; there are glibc," --alloc glibc,hoard -- touch ran
    refused "a library that is missing" "there is no file /no/such.so" --alloc x=/no/such.so -- \
        touch ran
    refused "a library that is none" ": invalid ELF header" --alloc x=./steps.c -- touch ran
    cp "$BESOM_LIB" foreign.so # AArch64 in its head
    printf '\267\000' | dd of=foreign.so bs=1 seek=18 conv=notrunc status=none
    refused "a library for another machine" "foreign.so: it is built for another machine than " \
        --alloc x=./foreign.so -- touch ran
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

# Results are written whatever the command, the disk and the folder are, and an earlier one is not lost.
odd_files() {
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
        echo "bench_errors.sh: skipped: a full disk: no mount in a namespace of its own"
    fi
    # 60 MB of errors where there is room for 40: what was said is not kept.
    if unshare -rm sh -c "mount -t tmpfs -o size=40m none room && export TMPDIR=\$PWD/room || exit 1
        '$besom' bench --alloc glibc -r 1 -- sh -c 'for i in \$(seq 60); do head -c 1000000 /dev/zero >&2; sleep 0.1; done
            echo >&2; echo why >&2; exit 5' >out 2>err
        echo \$? >code" 2>/dev/null; then
        code=$(cat code)
        ends "60 MB of errors" 1 "exit status 5: why"
    else
        echo "bench_errors.sh: skipped: a program with much to say: no mount in a namespace of its own"
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
        echo "bench_errors.sh: skipped: a folder that takes no file: not root, or nobody cannot run besom"
    fi
    # Bytes that are no UTF-8, and line breaks.
    odd=$(printf 'exit 0\n\n# \377\376')
    bench --alloc glibc -r 1 --json j --markdown m --plot odd -- sh -c "$odd"
    ends "a command that is no text" 0
    [ -s m ] || broken "a command that is no text: no Markdown"
}

# What became another user's process can be seen in part, and not be killed.
another_user() {
    if ! nobody_can || findmnt -n -o OPTIONS -T "$tmp" | grep -qw nosuid; then
        echo "bench_errors.sh: skipped: another user's process: not root, or nobody cannot run besom here"
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

# The machine refuses: one line, wherever it happens.
descriptors() {
    for limit in 8 9 10; do
        code=0
        "$timeout" 300 prlimit --nofile="$limit" "$besom" bench --alloc glibc -r 1 -- true >out 2>err || code=$?
        if [ "$code" != 0 ]; then ends "$limit descriptors" 2 "Too many open files"; fi
        [ "$(wc -l <err)" -le 1 ] || broken "$limit descriptors: $(cat err)"
    done
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

# A preparation has children, which Ctrl-C ends too; an earlier result is kept where there is none yet.
interrupt_before() {
    printf earlier >j
    signalled HUP "$steps sleep 61" --alloc glibc -r 1 --json j --prepare "$steps sleep 61; true" -- true
    ends "Ctrl-C in a preparation" 129 "before the first run had ended; nothing is written"
    [ "$(cat j)" = earlier ] || broken "Ctrl-C in a preparation: $(cat j)"
    none_left "Ctrl-C in a preparation"
    count=$((count + 1))
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
            sys.exit(f"bench_errors.sh: {number!r} after {delay} s: exit status {p.returncode}, {said!r}")
END
    count=$((count + 1))
}

# Without arguments everything, else the parts that are named.
[ $# -gt 0 ] ||
    set -- usage odd_files another_user descriptors streams interrupt_before early_interrupt
for part in "$@"; do
    "$part"
done

[ "$status" -ne 0 ] || echo "bench_errors.sh: $count runs as promised"
exit "$status"
