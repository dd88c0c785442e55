#!/bin/bash
# SPDX-License-Identifier: MIT
#
# demo.sh -- what besom does to the memory of a real server, in under two minutes.
#
# Finds the library and a scratch directory and hands over to demo.py, which tells the story: a
# Redis server is filled, four fifths of it are deleted, it idles; under glibc's malloc, under
# Debian's jemalloc and under besom. Needs no terminal, no network (Unix sockets only) and no root.
# `./bootstrap demo` builds first and then calls this. NOT a benchmark: see bench/.
#
# Usage: demo.sh [LIBRARY]     default: $BESOM_LIB, else build/libbesom.so
# BESOM_CONF may hold options for the library; those for the log are added after them.
set -eu

case ${1-} in
-h | --help)
    sed -n 's/^# Usage: /usage: /p; s/^# BESOM_CONF/BESOM_CONF/p' "$0"
    exit 0
    ;;
esac
if [ $# -gt 1 ]; then
    echo "demo: one library at most, not: $*" >&2
    exit 1
fi
top=$(cd "$(dirname "$0")/.." && pwd)
library=${1:-${BESOM_LIB:-$top/build/libbesom.so}}
if [ ! -r "$library" ]; then
    echo "demo: no library $library; run ./bootstrap build, or name one" >&2
    exit 1
fi
for program in redis-server python3; do
    if ! command -v "$program" >/dev/null; then
        echo "demo: no $program here; apt-get install $program" >&2
        exit 1
    fi
done

directory=$(mktemp -d /tmp/besom-demo.XXXXXX)
story=""
# shellcheck disable=SC2317  # called by the trap
finish() {
    if [ -n "$story" ]; then
        kill -TERM "$story" 2>/dev/null || true
        wait "$story" 2>/dev/null || true
    fi
    rm -rf "$directory"
}
trap finish EXIT
trap 'exit 130' HUP INT TERM

unset LD_PRELOAD BESOM_LIB
python3=python3
[ ! -x /usr/bin/python3 ] || python3=/usr/bin/python3
status=0
timeout -k 5 118 "$python3" "$top/tools/demo.py" "$(realpath -- "$library")" "$directory" &
story=$!
wait "$story" || status=$?
story=""
if [ "$status" = 124 ] || [ "$status" = 137 ]; then # 137: it had to be killed
    echo "demo: out of time; the machine is too busy" >&2
fi
exit "$status"
