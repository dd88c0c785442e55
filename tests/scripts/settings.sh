#!/bin/bash
# SPDX-License-Identifier: MIT
#
# settings.sh - the tests that change vm.overcommit_memory put it back also when all of them are ended at once
# because their time is over, as `timeout` does it: TERM to the whole group, KILL a little later. The program
# that a test waits for then has to end with it, or the test does not come to putting anything back. Here both
# run with a file in place of the setting and a program that does nothing; the setting itself is not touched.
#
# Called by `make check`. Exit status: 0 it is put back, 1 not.
set -u
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
cd "$scratch" || exit 1
status=0

mkdir .libs && touch .libs/libbesom-scans.so
# "Compiles" programs that sleep where they are run by a test, and say so.
cat >cc <<'END'
#!/bin/sh
while [ "$1" != -o ]; do shift; done
cat >"$2" <<'PROGRAM'
#!/bin/sh
case $0 in */victim) [ -n "${VICTIM_SCANS-}" ] || exit 0 ;; esac
unset LD_PRELOAD
touch "$STARTED"
exec sleep 1000
PROGRAM
chmod +x "$2"
END
chmod +x cc

# ended SCRIPT ARG...
ended() {
    local name=${1##*/} tries=0 group
    sed "s,/proc/sys/vm/overcommit_memory,$scratch/knob," "$1" >"$name"
    sed -i 's,/proc/meminfo,meminfo,' "$name"
    printf 'CommitLimit: 99000000 kB\nCommitted_AS: 0 kB\n' >meminfo
    shift
    echo 0 >knob
    rm -f started
    STARTED=$scratch/started BESOM_LIB=$scratch/.libs/libbesom-scans.so CC=$scratch/cc \
        setsid timeout --foreground 100 bash "$name" "$@" >out 2>&1 </dev/null &
    group=$!
    until [ -e started ] || [ $tries -eq 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    [ "$(cat knob)" = 2 ] || { echo "settings.sh: $name changes nothing: $(cat out)"; status=1; }
    kill -TERM -- "-$group"
    tries=0
    until [ "$(cat knob)" = 0 ] || [ $tries -eq 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    [ "$(cat knob)" = 0 ] || { echo "settings.sh: $name leaves the setting at $(cat knob)"; status=1; }
    kill -KILL -- "-$group" 2>/dev/null
    wait "$group" 2>/dev/null
}

ended "$here/overcommit.sh"
ended "$here/../preload/scan_hostile.sh" overcommit
exit "$status"
