#!/bin/sh
# SPDX-License-Identifier: MIT
#
# secure.sh - in a program that runs with another user's rights (AT_SECURE) besom ignores the
# environment: no log and no record is written, no option is read. The loader itself drops LD_PRELOAD there,
# so a small program is linked with the library and made setuid; run as what it is and as setuid.
# Needs root and a file system that honours setuid; skipped aloud without.
set -eu
lib=${BESOM_LIB:?secure.sh: BESOM_LIB must name libbesom.so}
cc=${CC:-cc}
user=nobody

skip() {
    echo "secure.sh: skipped: $1"
    exit 77
}
fail() {
    echo "secure.sh: $1" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || skip "only root can make a program setuid to another user"
id "$user" >/dev/null 2>&1 || skip "there is no user $user"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
cp "$lib" "$dir/libbesom.so"
cat >"$dir/secure.c" <<'PROGRAM'
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
int main(void) {
    char *p = malloc(100);
    free(p);
    return getauxval(AT_SECURE) != 0 ? 42 : 41;
}
PROGRAM
# shellcheck disable=SC2086  # CC may hold options
$cc -o "$dir/secure" "$dir/secure.c" "$dir/libbesom.so" -Wl,--no-as-needed -Wl,-rpath,"$dir"

mkdir -m 777 "$dir/logs"
run() {
    status=0
    BESOM_CONF="log:$dir/logs/$1,log_at:exit,record:$dir/logs/$1.record" BESOM_NOSUCHKEY=1 \
        "$dir/secure" 2>"$dir/stderr" ||
        status=$?
    echo "$status"
}

[ "$(run plain)" = 41 ] || fail "the plain program does not run: $(cat "$dir/stderr")"
[ -s "$dir/logs/plain" ] || fail "the plain program wrote no log: the test shows nothing"
[ -s "$dir/logs/plain.record" ] || fail "the plain program was not recorded: the test shows nothing"
grep -q nosuchkey "$dir/stderr" || fail "the plain program read no options: the test shows nothing"

chown "$user" "$dir/secure"
chmod 4755 "$dir/secure"
status=$(run secure)
[ "$status" != 41 ] || skip "setuid has no effect on this file system"
[ "$status" = 42 ] || fail "the setuid program ended with $status: $(cat "$dir/stderr")"
[ ! -e "$dir/logs/secure" ] || fail "a setuid program wrote the log that the environment named"
[ ! -e "$dir/logs/secure.record" ] || fail "a setuid program wrote the record that the environment named"
[ ! -s "$dir/stderr" ] || fail "a setuid program read options: $(cat "$dir/stderr")"
echo "secure.sh: a setuid program ignores BESOM_CONF and BESOM_*"
