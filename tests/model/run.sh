#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh - lets spin search all interleavings of idle.pml for a broken assertion or a deadlock; then
# plants each bug the model names and demands that spin finds it, so that the search is known to look.
#
# Called by `make check`; takes top_srcdir and CC from the environment. Exit status: 0 the model holds and all
# bugs are found, 1 not, 77 spin is not installed.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
model=$(realpath "$top/tests/model/idle.pml")
bugs='NO_STACK NO_LOCK NO_RELOOK LATE_GIVE NO_BARRIER LEAVE_UNLOCKED'
status=0

command -v spin >/dev/null || { echo "run.sh: SKIP: spin is not installed"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

# search FLAG...: the number of errors that spin finds, -1 if it could not search everything.
search() {
    rm -f pan*
    spin -a "$@" "$model" >spin.out 2>&1 || { cat spin.out >&2; echo -1; return; }
    # CC may hold options.
    # shellcheck disable=SC2086
    ${CC:-cc} -O2 -w -DSAFETY -DMEMLIM=2048 -DVECTORSZ=2048 -o pan pan.c
    timeout 600 ./pan -m1000000 >pan.out 2>&1 || { tail -n 20 pan.out >&2; echo -1; return; }
    ! grep -q -e 'max search depth too small' -e 'out of memory' pan.out || { echo -1; return; }
    sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.out
}

errors=$(search)
states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.out)
if [ "$errors" != 0 ]; then
    echo "run.sh: the protocol is broken ($errors); spin says:"
    cat pan.out
    if [ -e idle.pml.trail ]; then spin -t -p -g "$model" | tail -n 80; fi
    status=1
fi
for bug in $bugs; do
    errors=$(search "-D$bug")
    [ "$errors" -gt 0 ] || {
        echo "run.sh: the planted bug $bug was not found ($errors)"
        status=1
    }
done
[ "$status" -ne 0 ] || echo "run.sh: $states states without a fault; all planted bugs found: $bugs"
exit "$status"
