#!/bin/sh
# SPDX-License-Identifier: MIT
#
# lists.sh - every source, script and expectation is named in the Makefile.am of its folder (those
# of compat/, launcher/ and scripts/ in that of tests/): a test that no list names never runs, and
# a file that no list names is missing in the distribution.
#
# Called by `make check`; takes top_srcdir from the environment. Exit status: 0 complete, 1 not.
set -eu

cd "${top_srcdir:-$(dirname "$0")/../..}"
status=0
count=0

# listed MAKEFILE PREFIX FILE...: each FILE, less PREFIX, stands in the list, with or without .c.
listed() {
    makefile=$1 prefix=$2
    shift 2
    for file in "$@"; do
        [ -e "$file" ] || continue
        count=$((count + 1))
        name=${file#"$prefix"}
        tr -s '[:blank:]' '[\n*]' <"$makefile" | grep -q -x -F -e "$name" \
            -e "${name%.c}" || { echo "lists.sh: $file is not named in $makefile"; status=1; }
    done
}

for dir in src preload tools bench tests tests/preload tests/stress; do
    listed "$dir/Makefile.am" "$dir/" "$dir"/*.[ch] "$dir"/*.cc "$dir"/*.def "$dir"/*.map \
        "$dir"/*.conf "$dir"/*.sh "$dir"/*.md
done
listed tests/Makefile.am tests/ tests/compat/*.* tests/compat/programs/* tests/launcher/* tests/model/* \
    tests/scripts/*
listed bench/Makefile.am bench/ bench/run bench/rss bench/start bench/scale bench/floor bench/newer-peers bench/*.py bench/*.rb bench/traces/*
listed tools/Makefile.am tools/ tools/bench/*.py
listed Makefile.am '' doc/*

[ "$status" -ne 0 ] || echo "lists.sh: $count files listed"
exit "$status"
