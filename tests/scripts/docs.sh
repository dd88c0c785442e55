#!/bin/sh
# SPDX-License-Identifier: MIT
#
# docs.sh - besom.conf(5) describes every option of src/options.def and every counter of
# src/stats.def, each by an item of its own, not in passing.
#
# Called by `make check`; takes top_srcdir from the environment. Exit status: 0 complete, 1 not.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
man=$top/doc/besom.conf.5
status=0
count=0

[ -r "$man" ] || { echo "docs.sh: $man cannot be read"; exit 1; }

# names FILE MACROS: the first argument of each line that calls one of the macros.
names() {
    sed -n "s/^$2(\([A-Za-z0-9_]*\).*/\1/p" "$1"
}

# described KIND NAME: an item or a subsection of the page names it.
described() {
    count=$((count + 1))
    grep -E -q "^\.(It|Ss) (.*[^A-Za-z0-9_])?$2([^A-Za-z0-9_]|\$)" "$man" || {
        echo "docs.sh: $1 $2 has no item in besom.conf.5"
        status=1
    }
}

options=$(names "$top/src/options.def" 'BS_OPT_[A-Z]*')
stats=$(names "$top/src/stats.def" 'BS_STAT')
[ -n "$options" ] || { echo "docs.sh: no option found in options.def"; exit 1; }
[ -n "$stats" ] || { echo "docs.sh: no counter found in stats.def"; exit 1; }
for name in $options; do
    described option "$name"
done
for name in $stats; do
    described counter "$name"
done
[ "$status" -ne 0 ] || echo "docs.sh: $count names described"
exit "$status"
