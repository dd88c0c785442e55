#!/bin/sh
# SPDX-License-Identifier: MIT
#
# cgroup.sh - in a real memory cgroup of 300 MB, without any option: a program with 200 MiB live that
# leaves 600 MiB of holes behind (tests/preload/limit_holds.c) is killed with libc's malloc and lives
# with besom's; its log names a limit below the cgroup's. With a CPU quota beside it, if that can be had.
#
# Skipped (77), aloud, where no memory cgroup can be made: not root, or no controller. The cgroups
# are removed however the script ends. Nothing else is changed.
# Called by `make check`; takes BESOM_LIB, CC, top_srcdir. Exit status: 0 all right, 1 not.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
lib=$(realpath "${BESOM_LIB:?cgroup.sh: BESOM_LIB must name libbesom.so}")
group=besom-test-$$
dirs=
tmp=$(mktemp -d)
# shellcheck disable=SC2317  # called by the trap
clean() {
    for dir in $dirs; do
        # killed processes leave a moment later
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            rmdir "$dir" 2>/dev/null && break
            sleep 0.2
        done
        [ ! -d "$dir" ] || echo "cgroup.sh: $dir could not be removed"
    done
    rm -rf "$tmp"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM

skip() {
    echo "cgroup.sh: SKIP: $*"
    exit 77
}

# mount_of TYPE OPTION: where a hierarchy of this type (and this super-option) is mounted.
mount_of() {
    awk -v type="$1" -v option="$2" '{
        for (i = 7; $i != "-"; i++) continue
        if ($(i + 1) == type && (option == "" || ("," $(i + 3) ",") ~ ("," option ","))) {
            print $5
            exit
        }
    }' /proc/self/mountinfo
}

# make_group DIR: makes a cgroup that is removed at the end.
make_group() {
    mkdir "$1" 2>/dev/null || return 1
    dirs="$dirs $1"
}

bytes=300000000
memory=$(mount_of cgroup memory)
unified=$(mount_of cgroup2 '')
if [ -n "$memory" ]; then
    version=1 memory=$memory/$group
    make_group "$memory" || skip "a memory cgroup cannot be made here"
    echo $bytes >"$memory/memory.limit_in_bytes" 2>/dev/null || skip "its limit cannot be set"
    [ ! -e "$memory/memory.memsw.limit_in_bytes" ] ||
        echo $bytes >"$memory/memory.memsw.limit_in_bytes"
elif [ -n "$unified" ]; then
    version=2 memory=$unified/$group
    grep -q -w memory "$unified/cgroup.subtree_control" 2>/dev/null ||
        skip "the memory controller is not enabled at $unified"
    make_group "$memory" || skip "a cgroup cannot be made here"
    echo $bytes >"$memory/memory.max" 2>/dev/null || skip "its limit cannot be set"
    [ ! -e "$memory/memory.swap.max" ] || echo 0 >"$memory/memory.swap.max"
else
    skip "no memory controller is mounted"
fi

# A quota of half a CPU in version 1, where the controller is by itself; it may be missing.
cpu=$(mount_of cgroup cpu)
if [ -n "$cpu" ] && make_group "$cpu/$group"; then
    cpu=$cpu/$group
    echo 50000 >"$cpu/cpu.cfs_quota_us" 2>/dev/null || cpu=
else
    cpu=
fi

${CC:-cc} -std=gnu11 -O1 -fno-builtin -I"$top/tests/preload" -o "$tmp/holds" \
    "$top/tests/preload/limit_holds.c" || { echo "cgroup.sh: no program"; exit 1; }
libc=$(ldd "$tmp/holds" | awk '/libc\.so/ { print $3 }')

# inside LOG-CONF LIB [QUOTA]: runs the program in the cgroup; its exit status in $code.
inside() {
    code=0
    # the file of processes takes the shell that writes to it, which then becomes the program
    # shellcheck disable=SC2016  # that shell expands
    timeout 300 sh -c 'for dir in $1; do echo $$ >"$dir/cgroup.procs" || exit 99; done
        shift; exec env "$@"' sh "$memory ${3-}" BESOM_CONF="$1" PROMISE_LIB="$2" \
        ${preload:+"LD_PRELOAD=$2"} "$tmp/holds" 286 >"$tmp/out" 2>"$tmp/err" || code=$?
}
# The argument 286: MiB of the cgroup, less than which RSS must stay.

status=0
preload=
inside log:stderr "$(realpath "$libc")"
if [ "$code" -eq 137 ]; then
    echo "cgroup.sh: version $version: libc's malloc was killed in it"
else
    echo "cgroup.sh: libc's malloc ended with $code: this cgroup proves nothing: $(cat "$tmp/err")"
    status=1
fi

# lives WHAT CONF [QUOTA]
lives() {
    preload=yes
    inside "$2" "$lib" "${3-}"
    limit=$(sed -n 's/.*exit: .* limit \([0-9]*\) .*/\1/p' "$tmp/err" | head -n 1)
    if [ "$code" -ne 0 ]; then
        echo "cgroup.sh: $1: ended with $code: $(cat "$tmp/out" "$tmp/err")"
        status=1
    elif [ "${limit:-0}" -le 75000000 ] || [ "$limit" -gt 285000000 ]; then
        echo "cgroup.sh: $1: the limit found is ${limit:-none}: $(cat "$tmp/err")"
        status=1
    else
        echo "cgroup.sh: $1: lives, limit $limit, $(cat "$tmp/out")"
    fi
}
lives "defaults" log:stderr
lives "background:off" background:off,log:stderr
[ -z "$cpu" ] || lives "half a CPU" log:stderr "$cpu"
exit $status
