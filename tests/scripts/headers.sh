#!/bin/sh
# SPDX-License-Identifier: MIT
#
# headers.sh - each src/*.h compiles alone, and twice in one file: it includes what it needs and
# has a guard, so no file depends on the order of its includes.
#
# Called by `make check`; takes top_srcdir, top_builddir (for config.h) and CC from the environment.
# Exit status: 0 all compile, 1 one does not (the compiler's message is printed).
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
build=${top_builddir:-$top/build}
[ -r "$build/config.h" ] || {
    echo "headers.sh: $build/config.h is missing; run configure"
    exit 1
}
status=0
count=0

for header in "$top"/src/*.h; do
    name=$(basename "$header")
    count=$((count + 1))
    # CC may hold options.
    # shellcheck disable=SC2086
    printf '#include "%s"\n#include "%s"\n' "$name" "$name" |
        ${CC:-cc} -std=gnu11 -D_GNU_SOURCE= -DHAVE_CONFIG_H -I"$build" -I"$top/src" -Wall -Wextra \
            -Werror -fsyntax-only -x c - || { echo "$name: does not compile alone"; status=1; }
done
[ "$status" -ne 0 ] || echo "headers.sh: $count headers compile alone"
exit "$status"
