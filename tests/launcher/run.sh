#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh -- the promises of `besom run`: exit codes, signals, environment, refusals.
#
# One check a promise; each runs the real launcher on a real program and compares exit status and
# text. Not here: what the library does once it is mapped (tests/preload), and whether real
# programs work on it (tests/compat).
#
# BESOM names the launcher, BESOM_LIB the library; by default those of the build tree in build/.
# Called by `make check`. What this machine cannot do (no static libc, not root) is skipped aloud.
# Exit status: 0 all checks passed, 1 a check failed, 99 there is no launcher or no library.
# shellcheck disable=SC2016  # programs in single quotes are expanded by the shell that is run
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
besom=${BESOM:-$top/build/besom}
lib=$(realpath -e -- "${BESOM_LIB:-$top/build/libbesom.so}" || true)
if [ ! -x "$besom" ] || [ -z "$lib" ]; then
    echo "launcher: '$besom' or '${BESOM_LIB:-$top/build/libbesom.so}' is missing;" \
        "run ./bootstrap build or set BESOM and BESOM_LIB" >&2
    exit 99
fi
besom=$(realpath -- "$besom")
unset LD_PRELOAD BESOM_CONF BESOM_LIB

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$dir"
cd "$dir"

passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)); }

skip() {
    skipped=$((skipped + 1))
    echo "launcher: skipped: $1: $2"
}

bad() {
    failed=$((failed + 1))
    echo "launcher: FAILED: $1: $2" >&2
    sed 's/^/    out: /' out >&2
    sed 's/^/    err: /' err >&2
}

# run ARGS...: besom run -l LIB ARGS..., within 120 s; leaves $status, out and err.
run() {
    status=0
    timeout 120 "$besom" run -l "$lib" "$@" >out 2>err </dev/null || status=$?
}

# expect NAME STATUS [PATTERN]: the last run ended so, and stderr matches the pattern (if given).
expect() {
    if [ "$status" != "$2" ]; then
        bad "$1" "exit status $status, expected $2"
    elif [ $# -gt 2 ] && ! grep -Eq -- "$3" err; then
        bad "$1" "stderr does not match: $3"
    else
        ok
    fi
}

# expect_out NAME TEXT: the last run succeeded and printed exactly this.
expect_out() {
    if [ "$status" != 0 ]; then
        bad "$1" "exit status $status"
    elif [ "$(cat out)" != "$2" ]; then
        bad "$1" "expected on stdout: $2"
    else
        ok
    fi
}

exit_codes() {
    run -- /bin/true
    expect "exit status 0" 0
    run -- sh -c 'exit 42'
    expect "exit status of the program" 42
    run -- ./no-such-program
    expect "missing program" 127 "^besom: cannot run './no-such-program': No such file"
    run -- no-such-program-in-path
    expect "missing program in PATH" 127 "^besom: cannot run 'no-such-program-in-path'"
    echo text >plain-file
    run -- ./plain-file
    expect "program that is not executable" 126 "^besom: cannot run './plain-file': Permission"
    run -- "$dir"
    expect "a directory as program" 126 "^besom: cannot run"
    run -- ./plain-file/prog
    expect "program below a file" 127 "^besom: cannot run './plain-file/prog': Not a directory"
    mkdir -p first/prog second third
    echo text >second/prog
    printf '#!/bin/sh\necho found\n' >third/prog
    chmod +x third/prog
    PATH=first:second:third:$PATH run -- prog
    expect_out "folders and plain files in PATH are passed over" "found"
    PATH=$PATH:first:second run -- prog
    expect "a program in PATH that is not executable" 126 "^besom: cannot run 'prog': Permission"
    run -- env -u PATH "$besom" run -l "$lib" -- ls -d /
    expect_out "without PATH the system's folders are searched" "/"
    run -- /bin/echo one 'two  three' --help -o
    expect_out "arguments are passed on untouched" "one two  three --help -o"
    run /bin/echo -n -- x
    expect_out "the -- may be left out" "-- x"
}

# The launcher must become the program: a parent sees the signal itself, not a code 128+n.
signals() {
    local signal seen
    for signal in TERM KILL SEGV ABRT; do
        seen=$(/usr/bin/python3 - "$besom" "$lib" "$signal" <<'PY'
import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
besom, lib, signal = sys.argv[1:]
print(-subprocess.run([besom, "run", "-l", lib, "--", "sh", "-c", f"kill -{signal} $$"],
                      timeout=120).returncode)
PY
        )
        : >out
        : >err
        if [ "$(kill -l "$seen" 2>/dev/null)" = "$signal" ]; then
            ok
        else
            bad "death by SIG$signal" "the parent saw $seen"
        fi
    done
}

environment() {
    local show='echo "$LD_PRELOAD|$BESOM_CONF"'
    local other
    other=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p | awk '/libm\.so\.6/ { print $NF; exit }')

    run -- sh -c "$show"
    expect_out "LD_PRELOAD is set" "$lib|"
    LD_PRELOAD=$other run -- sh -c "$show"
    expect_out "LD_PRELOAD is prepended to" "$lib:$other|"
    LD_PRELOAD='' BESOM_CONF='' run -o log:stderr -- sh -c "$show"
    expect_out "what is set and empty is not joined" "$lib|log:stderr"
    ln -sf "$other" notlibbesom.so
    LD_PRELOAD=$dir/notlibbesom.so run -- sh -c "$show"
    expect_out "a library whose name ends alike stays" "$lib:$dir/notlibbesom.so|"
    LD_PRELOAD="$lib $other:/no/such/libbesom-scan.so:" run -s -- sh -c "$show" # started under besom
    expect_out "besom is there once" "$(dirname "$lib")/libbesom-scan.so:$other|"
    run -o log:stderr,trace:sweep+scavenge -o log_at:exit -- sh -c 'echo "$BESOM_CONF"'
    expect_out "options are joined" "log:stderr,trace:sweep+scavenge,log_at:exit"
    BESOM_CONF=background:off run -o log:/dev/null -- sh -c 'echo "$BESOM_CONF"'
    expect_out "options come after those in BESOM_CONF" "background:off,log:/dev/null"
    scan=$(dirname "$lib")/libbesom-scan.so
    run --scan -- sh -c "$show"
    expect_out "with --scan it is the library that scans" "$scan|"
    run -o scan:off,scan:leak -- sh -c "$show"
    expect_out "scan:leak asks for it" "$scan|scan:off,scan:leak"
    run -o scan:leak,scan:off -- sh -c "$show"
    expect_out "scan:off does not" "$lib|scan:leak,scan:off"
    BESOM_SCAN=leak run -- sh -c "$show"
    expect_out "BESOM_SCAN asks for it" "$scan|"
    BESOM_SCAN=off run -o scan:leak -- sh -c "$show"
    expect_out "BESOM_SCAN wins" "$lib|scan:leak"
    BESOM_SCAN='' run -o scan:leak -- sh -c "$show"
    expect_out "an empty BESOM_SCAN says nothing" "$scan|scan:leak"
    run -s -- grep -c -F "$scan" /proc/self/maps
    if [ "$status" = 0 ] && [ "$(cat out)" -gt 0 ]; then
        ok
    else
        bad "the library that scans is mapped in the program" "not in /proc/self/maps"
    fi
    run -- grep -c -F "$lib" /proc/self/maps
    if [ "$status" = 0 ] && [ "$(cat out)" -gt 0 ]; then
        ok
    else
        bad "the library is mapped in the program" "not in /proc/self/maps"
    fi
}

# Copies found beside the executable, in ../lib, by BESOM_LIB (which wins), and by nobody.
library_search() {
    mkdir -p tree/bin tree/lib beside
    cp "$besom" tree/bin/besom
    cp "$lib" tree/lib/libbesom.so
    cp "$besom" beside/besom
    cp "$lib" beside/libbesom.so

    status=0
    tree/bin/besom run -- sh -c 'echo "$LD_PRELOAD"' >out 2>err || status=$?
    expect_out "library in ../lib" "$dir/tree/lib/libbesom.so"
    status=0
    beside/besom run -- sh -c 'echo "$LD_PRELOAD"' >out 2>err || status=$?
    expect_out "library beside the executable" "$dir/beside/libbesom.so"
    status=0
    BESOM_LIB=tree/lib/libbesom.so beside/besom run -- sh -c 'echo "$LD_PRELOAD"' \
        >out 2>err || status=$?
    expect_out "BESOM_LIB wins, and is made absolute" "$dir/tree/lib/libbesom.so"

    status=0
    beside/besom run --scan -- true >out 2>err || status=$?
    expect "libbesom-scan.so that is missing" 125 \
        "cannot preload .*/beside/libbesom-scan.so': No such file.* it must lie beside .*/libbesom.so"

    run -l ./missing.so -- /bin/true
    expect "library that is missing" 125 "cannot find the library ./missing.so: No such file.*; that is what -l says$"
    status=0
    BESOM_LIB=gone.so "$besom" run -- true >out 2>err || status=$?
    expect "library of BESOM_LIB that is missing" 125 "library gone.so: No such file.*; that is what BESOM_LIB says$"
    echo text >text.so
    run -l ./text.so -- /bin/true
    expect "library that is no ELF file" 125 "text.so': it is not an ELF file"
    mkfifo fifo.so
    run -l ./fifo.so -- /bin/true
    expect "library that is a FIFO" 125 "fifo.so': it is not an ELF file"
    mkdir noexec
    status=0
    unshare -rm sh -c 'mount -t tmpfs -o noexec none noexec && cp "$2" noexec/libbesom.so || exit 77
        exec "$1" run -l noexec/libbesom.so -- /bin/true' sh "$besom" "$lib" >out 2>err || status=$?
    if [ "$status" = 1 ] || [ "$status" = 77 ]; then
        skip "library on a noexec mount" "no mount in a namespace of its own"
    else
        expect "library on a noexec mount" 125 "noexec/libbesom.so': it lies on a file system.* noexec"
    fi
    run -l /bin/true -- /bin/true
    expect "library that is a program" 125 "true': it is not a shared library"
    head -c 100 "$lib" >short.so
    run -l ./short.so -- /bin/true
    expect "library that is cut off" 125 "short.so': it is not an ELF file"
    mkdir 'a dir'
    cp "$lib" 'a dir/libbesom.so'
    run -l 'a dir/libbesom.so' -- /bin/true
    expect "library path with a space" 125 "has a space or a colon"
}

refusals() {
    echo 'int main(void) { return 0; }' >main.c
    if gcc -static -o static main.c 2>err; then
        run -- ./static
        expect "static program" 125 \
            "^besom: cannot preload into './static': it is a static executable.*dynamically linked"
        printf '#!%s/static\n' "$dir" >static-script
        chmod +x static-script
        run -- ./static-script
        expect "script of a static interpreter" 125 \
            "static', the interpreter of './static-script': it is a static"
        for line in "/usr/bin/env -S$dir/static" "/usr/bin/env -S A=b $dir/static" "$dir/static-script"; do
            printf '#!%s\n' "$line" >static-script-2
            chmod +x static-script-2
            run -- ./static-script-2
            expect "a static interpreter by $line" 125 "static', the interpreter of './static-script-2': it is a static"
        done
        gcc -static-pie -o static-pie main.c 2>err && run -- ./static-pie
        expect "static PIE" 125 "it is a static executable"
    else
        skip "static program" "no static libc (package libc6-dev)"
    fi
    local loader
    loader=$(readelf -l /bin/true | sed -n 's/.*program interpreter: \(.*\)\]/\1/p')
    run -- "$loader" /bin/echo loaded
    expect_out "the dynamic loader itself" "loaded"
    if gcc -o lost main.c -Wl,--dynamic-linker=/no/such/loader 2>err; then
        run -- ./lost
        expect "program whose loader is missing" 127 "'./lost': the dynamic loader that it names is missing"
    fi
    head -c 100 /bin/true >cut-off
    chmod +x cut-off
    run -- ./cut-off
    if grep -q 'static executable' err; then bad "program that is cut off" "is called static"; else ok; fi
    # The same file, its machine changed to AArch64 and its class to 32-bit.
    cp /bin/true foreign
    printf '\267\000' | dd of=foreign bs=1 seek=18 conv=notrunc status=none
    run -- ./foreign
    expect "program for another machine" 125 "foreign': it is built for arm64 \(64-bit\) and .* for"
}

# Run by root, so the bits count on copies that belong to somebody else.
privileges() {
    cp /bin/true suid
    cp /bin/true sgid
    if [ "$(id -u)" != 0 ]; then
        skip "setuid and setgid programs" "needs root"
        return
    fi
    if findmnt -n -o OPTIONS -T "$dir" | grep -qw nosuid; then
        skip "setuid and setgid programs" "$dir is mounted nosuid"
        return
    fi
    chown nobody suid
    chmod 4755 suid
    run -- ./suid
    expect "setuid program" 125 \
        "^besom: cannot preload into './suid': it is setuid to user nobody.*LD_PRELOAD is ignored"
    chgrp nogroup sgid
    chmod 2755 sgid
    run -- ./sgid
    expect "setgid program" 125 "'./sgid': it is setgid to group nogroup"
    cp /bin/true locked
    chgrp nogroup locked
    chmod 2745 locked
    run -- ./locked
    expect "a setgid bit without execution is no obstacle" 0
    run -- setpriv --no-new-privs "$besom" run -l "$lib" -- ./suid
    expect "a setuid bit that no_new_privs disarms is no obstacle" 0
    cp /bin/true root-suid
    chmod 4755 root-suid
    run -- ./root-suid
    expect "setuid to the same user is no obstacle" 0
    if ! command -v setcap >/dev/null || ! setcap cap_net_raw+ep sgid; then
        skip "file capabilities" "no setcap here (package libcap2-bin)"
        return
    fi
    chmod 755 sgid
    status=0
    cp "$besom" "$lib" "$dir/"
    runuser -u nobody -- "./${besom##*/}" run -l "./${lib##*/}" -- ./sgid >out 2>err || status=$?
    expect "file capabilities" 125 "'./sgid': it has file capabilities"
}

scripts() {
    printf '#!/bin/sh\necho "script $1 $LD_PRELOAD"\n' >script
    printf '#!/usr/bin/env sh\necho "env $1"\n' >env-script
    printf 'echo "bare $1"\n' >bare
    printf '#!/no/such/interpreter\n' >orphan
    chmod +x script env-script bare orphan
    run -- ./script a
    expect_out "script with #!" "script a $lib"
    run -- ./env-script a
    expect_out "script with #!/usr/bin/env" "env a"
    run -- ./bare a
    expect_out "script without #!" "bare a"
    run -- ./orphan
    expect "script whose interpreter is missing" 127 "its interpreter '/no/such/interpreter'"
    printf '#!sh\necho relative\n' >relative # a path to the kernel, not searched in PATH
    printf '#!/bin/sh\r\necho cr\r\n' >crlf
    chmod +x relative crlf
    run -- ./relative
    expect "script whose interpreter is no path" 127 "'./relative': its interpreter 'sh': No such file"
    run -- ./crlf
    expect "script with CR LF" 127 "'./crlf': its first line ends in CR LF.*LF alone$"
}

bad_usage() {
    run -o verbose -- /bin/true
    expect "option without a colon" 125 "option -o: 'verbose' has no colon; write key:value"
    run -o log: -- /bin/true
    expect "option without a value" 125 "option -o: 'log:' has no value"
    run -o Log:x -- /bin/true
    expect "option with a bad key" 125 "the key of 'Log:x' is not a word"
    run -o a:b,,c:d -- /bin/true
    expect "option with a stray comma" 125 "option -o: empty pair"
    run -l '' -- /bin/true
    expect "-l without a name" 125 "option '-l' has an empty value"
    run -o
    expect "-o without a value" 125 "option '-o' needs a value"
    run --frobnicate -- /bin/true
    expect "unknown option" 125 "unknown option '--frobnicate'"
    run -Zs -- /bin/true
    expect "unknown option before another in its word" 125 "unknown option '-Zs'"
    run -o log_interval:10,trace:none -- sh -c 'exit 3'
    expect "a report without a log" 3 "^besom: option log_interval: there is no log.* add log:stderr or log:FILE$"
    run -o scan:leak -- true
    expect "scans without a log" 0 "^besom: option scan: there is no log"
    for words in log_interval:10,log:/dev/null sample:off,trace:none,log_interval:0 scan:leak,leak_exit_code:3; do
        run -o "$words" -- true
        if [ -s err ]; then bad "no log is missing for $words" "said"; else ok; fi
    done
    run -- "$(printf 'no\nsuch')"
    expect "a name of two lines" 127 "^besom: cannot run 'no\?such': No such file"
    run
    expect "no program" 125 "no program given"
    status=0
    "$besom" frobnicate >out 2>err || status=$?
    expect "unknown command" 125 "unknown command 'frobnicate'"
    status=0
    "$besom" >out 2>err || status=$?
    expect "no command" 125 "no command given"
    status=0
    "$besom" --help >/dev/full 2>err || status=$?
    expect "--help to a full device" 125 "cannot write to the standard output"
    status=0
    "$besom" --help >out 2>err || status=$?
    if grep -q '^Usage: besom run' out; then expect "--help" 0; else bad "--help" "no usage"; fi
    for words in "run --help" "run -o log:stderr -h" "symbolize --help"; do
        status=0
        # shellcheck disable=SC2086
        "$besom" $words >out 2>err || status=$?
        if grep -q '^Usage: besom run' out; then expect "$words" 0; else bad "$words" "no usage"; fi
    done
    status=0
    "$besom" run --version >out 2>err || status=$?
    if grep -q '^besom [0-9(]' out; then expect "run --version" 0; else bad "run --version" "no version"; fi
    status=0
    "$besom" --version >out 2>err || status=$?
    if grep -q '^besom [0-9(]' out; then expect "--version" 0; else bad "--version" "no version"; fi
}

exit_codes
signals
environment
library_search
refusals
privileges
scripts
bad_usage

echo "launcher: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
